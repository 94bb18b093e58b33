// A socket's address in the kernel's form: the bytes of a sockaddr.

import CLinux
import Glibc

/// The bytes of a `sockaddr_in`, `sockaddr_in6` or `sockaddr_un`.
struct SocketAddress {
    private(set) var bytes: [UInt8]

    /// Its address family, such as `AF_INET`.
    var family: Int32 { bytes.count < 2 ? AF_UNSPEC : Int32(bytes[0]) | Int32(bytes[1]) << 8 }

    /// The port of an IP address. It has the same offset in both families' structures, in network byte order.
    var port: UInt16 {
        get { bytes.count < 4 ? 0 : UInt16(bytes[2]) << 8 | UInt16(bytes[3]) }
        set { bytes.replaceSubrange(2..<4, with: [UInt8(newValue >> 8), UInt8(newValue & 0xFF)]) }
    }

    /// The IP address; nil for other families.
    var ipAddress: IPAddress? {
        switch family {
        case AF_INET where bytes.count >= 8: IPAddress(bytes: Array(bytes[4..<8]))
        case AF_INET6 where bytes.count >= 24: IPAddress(bytes: Array(bytes[8..<24]))
        default: nil
        }
    }

    /// A `sockaddr_in`, `sockaddr_in6` or `sockaddr_un`.
    init<Name>(_ name: Name) {
        bytes = unsafe withUnsafeBytes(of: name) { unsafe Array($0) }
    }

    init(_ address: IPAddress, port: UInt16) {
        if address.isIPv4 {
            self.init(sockaddr_in())
            setFamily(AF_INET)
            bytes.replaceSubrange(4..<8, with: address.bytes)
        } else {
            self.init(sockaddr_in6())
            setFamily(AF_INET6)
            bytes.replaceSubrange(8..<24, with: address.bytes)
        }
        self.port = port
    }

    /// The address of a Unix-domain socket. `Address` has checked that the path and its final zero fit.
    init(path: String) {
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &name.sun_path) { field in
            for (index, byte) in path.utf8.enumerated() where index < field.count - 1 { unsafe field[index] = byte }
        }
        self.init(name)
    }

    /// A name in the abstract namespace of Unix-domain sockets (unix(7)). The length of the address says where it ends.
    init(abstractName name: some Sequence<UInt8>) {
        self.init(sockaddr_un())
        setFamily(AF_UNIX)
        bytes = bytes.prefix(2) + [0] + name
    }

    /// The address that a socket is bound to; nil if the descriptor is no socket.
    init?(of descriptor: Int32) { unsafe self.init(filledBy: { unsafe getsockname(descriptor, $0, $1) }) }

    /// The address of the other end of a socket; nil if it has none.
    init?(ofPeer descriptor: Int32) { unsafe self.init(filledBy: { unsafe getpeername(descriptor, $0, $1) }) }

    /// The address that a system call fills in; nil if that fails.
    private init?(filledBy ask: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32) {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let status = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe ask($0, &length) }
        }
        guard status == 0 else { return nil }
        self.init(storage)
        bytes.removeLast(max(0, bytes.count - Int(length)))
    }

    /// The path of a Unix-domain socket, or `@` and its name in the abstract namespace; nil if it has none.
    var path: String? {
        guard family == AF_UNIX, bytes.count > 2 else { return nil }
        let isAbstract = bytes[2] == 0
        let name = isAbstract ? bytes[3...] : bytes[2...].prefix { $0 != 0 }
        return name.isEmpty ? nil : (isAbstract ? "@" : "") + String(decoding: name, as: UTF8.self)
    }

    private mutating func setFamily(_ family: Int32) {
        bytes.replaceSubrange(0..<2, with: [UInt8(family & 0xFF), UInt8(family >> 8)])
    }

    /// The address and port for people; `unix` for a Unix-domain socket.
    var text: String? {
        if let ipAddress { return Address.tcp(host: "\(ipAddress)", port: port).description }
        return family == AF_UNIX ? "unix" : nil
    }

    /// Passes the address to a system call.
    func withPointer(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        unsafe bytes.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return -1 }
            return unsafe body(base.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
        }
    }

    /// Copies the bytes of an address from the C library.
    init(_ name: UnsafeRawBufferPointer) { bytes = unsafe Array(name) }
}
