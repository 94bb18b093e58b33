// Addresses that the system knows: this machine's own, and those of a host.

import Glibc
import Net

/// Asks the system for addresses.
enum MachineAddresses {
    /// The addresses of this machine's interfaces; nil if the kernel does not report them. O(number of interfaces).
    static func all() -> [IPAddress]? {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard unsafe getifaddrs(&list) == 0 else { return nil }
        defer { unsafe freeifaddrs(list) }
        var addresses: [IPAddress] = []
        var next = unsafe list
        while let interface = unsafe next {
            if let address = unsafe address(in: interface.pointee.ifa_addr) { addresses.append(address) }
            unsafe next = interface.pointee.ifa_next
        }
        return addresses
    }

    /// The addresses of a host, given as a name or an address; nil if there are none. May wait for a name server.
    static func of(host: String) -> [IPAddress]? {
        if let address = IPAddress(host) { return [address] }
        return try? IPAddress.addresses(ofHost: host)
    }

    /// The IP address in a structure from the C library; nil for other families.
    private static func address(in structure: UnsafeMutablePointer<sockaddr>?) -> IPAddress? {
        guard let structure = unsafe structure else { return nil }
        // The family tells which structure begins here.
        let start = UnsafeRawPointer(structure)
        switch unsafe Int32(structure.pointee.sa_family) {
        case AF_INET:
            let name = unsafe start.loadUnaligned(as: sockaddr_in.self)
            return unsafe withUnsafeBytes(of: name.sin_addr) { unsafe IPAddress(bytes: Array($0)) }
        case AF_INET6:
            let name = unsafe start.loadUnaligned(as: sockaddr_in6.self)
            return unsafe withUnsafeBytes(of: name.sin6_addr) { unsafe IPAddress(bytes: Array($0)) }
        default: return nil
        }
    }
}
