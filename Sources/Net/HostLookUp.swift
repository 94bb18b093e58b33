// The only place that asks the system for a host's addresses. `NameResolver` calls it without blocking the event loop.

import Glibc

extension SocketAddress {
    /// The addresses of a host name, the best first (RFC 6724), all with port 0; `flags` are those of `getaddrinfo`.
    /// Blocks.
    ///
    /// - Throws: `SystemError` if there is no address, or no name server answers.
    static func addresses(ofHost host: String, flags: Int32 = 0) throws(SystemError) -> [SocketAddress] {
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        unsafe hints.ai_flags = flags
        var found: UnsafeMutablePointer<addrinfo>?
        let status = unsafe getaddrinfo(host, nil, &hints, &found)
        guard status == 0 else {
            // EAI_SYSTEM means that errno has the error; the other codes have their own messages.
            if status == EAI_SYSTEM { throw SystemError("find the host '\(host)'") }
            throw SystemError("find the host '\(host)'", reason: unsafe String(cString: gai_strerror(status)))
        }
        defer { unsafe freeaddrinfo(found) }
        var addresses: [SocketAddress] = []
        var next = unsafe found
        while let info = unsafe next {
            unsafe next = info.pointee.ai_next
            guard let name = unsafe info.pointee.ai_addr else { continue }
            let bytes = unsafe UnsafeRawBufferPointer(start: name, count: Int(info.pointee.ai_addrlen))
            unsafe addresses.append(SocketAddress(bytes))
        }
        if addresses.isEmpty { throw SystemError("find the host '\(host)'", reason: "it has no address") }
        return addresses
    }
}

extension IPAddress {
    /// The addresses of a host name, the best first (RFC 6724). Blocks.
    ///
    /// - Throws: `SystemError` if there is no address, or no name server answers.
    public static func addresses(ofHost host: String) throws(SystemError) -> [IPAddress] {
        try SocketAddress.addresses(ofHost: host).compactMap(\.ipAddress)
    }
}

extension Address {
    /// Connects to this address, or to the first of the host's addresses that answers. Blocks.
    ///
    /// - Returns: The descriptor of a blocking socket, which the caller closes.
    /// - Throws: `SystemError` if the host has no address, or none of them answers.
    public func connectedSocket() throws(SystemError) -> Int32 {
        var names: [SocketAddress]
        switch self {
        case .unix(let path): names = [SocketAddress(path: path)]
        case .tcp(let host, let port):
            names = try SocketAddress.addresses(ofHost: host.isEmpty ? "localhost" : host)
            for index in names.indices { names[index].port = port }
        }
        var failure = SystemError("connect to \(self)", code: ENOENT)
        for name in names {
            let descriptor = socket(name.family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            if descriptor >= 0, unsafe name.withPointer({ unsafe connect(descriptor, $0, $1) }) == 0 {
                var one: Int32 = 1
                // This fails on a Unix-domain socket, which does not need it.
                unsafe setsockopt(
                    descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
                return descriptor
            }
            failure = SystemError("connect to \(self)")
            if descriptor >= 0 { close(descriptor) }
        }
        throw failure
    }
}
