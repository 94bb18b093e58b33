// What the system says of addresses: this machine's own, and those of a host.

import Glibc
import Net

/// Addresses as the system knows them.
enum MachineAddresses {
    /// The addresses of this machine's interfaces; nil if the system does not say. Asks the kernel; O(number of interfaces).
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

    /// The addresses that a host's name has, or the one that it is; nil if there are none. May ask a name server, and wait for it.
    static func of(host: String) -> [IPAddress]? {
        if let address = IPAddress(host) { return [address] }
        return try? IPAddress.addresses(ofHost: host)
    }

    /// The IP address in a structure that the C library made; nil for other families.
    private static func address(in structure: UnsafeMutablePointer<sockaddr>?) -> IPAddress? {
        guard let structure = unsafe structure else { return nil }
        // The family says which structure it is that begins here.
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
