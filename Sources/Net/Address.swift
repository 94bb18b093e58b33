// The address of a listener as a user writes it: `:8080`, `localhost:8080`, `[::1]:8080`, `unix:/run/emq.sock`.

import Bytes
import Glibc

/// A place to listen at.
public enum Address: Equatable, Sendable, CustomStringConvertible {
    /// A TCP port on a host's addresses. An empty host means every address of the machine, IPv6 and IPv4.
    case tcp(host: String, port: UInt16)
    /// A Unix-domain socket.
    case unix(path: String)

    /// The longest path of a Unix-domain socket on Linux, in bytes.
    static let maximumPathLength = 107

    /// Reads an address.
    ///
    /// - Parameters:
    ///   - text: the address.
    ///   - defaultPort: the port if `text` is just a host; nil if `text` must name one.
    /// - Throws: `AddressError`, which says what would be right.
    public init(_ text: String, defaultPort: UInt16? = nil) throws(AddressError) {
        if text.hasPrefix("unix:") {
            let path = String(text.dropFirst(5))
            guard !path.isEmpty, path.utf8.count <= Address.maximumPathLength, !path.utf8.contains(0) else {
                throw AddressError(
                    "unix: must be followed by a path of 1 to \(Address.maximumPathLength) bytes, not '\(path)'")
            }
            self = .unix(path: path)
            return
        }
        let shape = "an address must be HOST:PORT, :PORT or unix:PATH, not '\(text)'"
        var address = text
        if let defaultPort, !text.isEmpty, UInt16(text) == nil, !text.contains(":") || text.hasSuffix("]") {
            address += ":\(defaultPort)"
        }
        guard let colon = address.lastIndex(of: ":") else {
            let isPort = UInt16(text) != nil
            throw AddressError(isPort ? "\(shape); did you mean ':\(text)'?" : shape)
        }
        if text.contains("/") || text.contains(",") { throw AddressError(shape) }
        var host = String(address[..<colon])
        let digits = address[address.index(after: colon)...]
        guard let port = UInt16(decimal: digits.utf8) else {
            throw AddressError("a port must be a number from 0 to 65535, not '\(digits)'")
        }
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(where: { "[]:".contains($0) }) {
            throw AddressError("an IPv6 address must stand in brackets, as in [::1]:8080, not '\(text)'")
        } else if host == "*" {
            throw AddressError("write ':\(port)' for every address of the machine, not '\(text)'")
        }
        self = .tcp(host: host, port: port)
    }

    /// Whether other machines may reach it: not a Unix-domain socket, nor `localhost` or an address of loopback.
    public var isReachableFromOutside: Bool {
        guard case .tcp(let host, _) = self, host.lowercased() != "localhost" else { return false }
        guard let address = IPAddress(host) else { return true }
        return !(address.isIPv4 ? address.bytes[0] == 127 : address == IPAddress("::1"))
    }

    /// The address of a socket that another program has opened.
    ///
    /// - Throws: `AddressError` if nobody listens on it, or if it is no stream socket of TCP or of the Unix domain.
    public init(ofListener descriptor: Int32) throws(AddressError) {
        func option(_ name: Int32) -> Int32? {
            var value: Int32 = 0
            var length = socklen_t(MemoryLayout<Int32>.size)
            return unsafe getsockopt(descriptor, SOL_SOCKET, name, &value, &length) == 0 ? value : nil
        }
        guard let name = SocketAddress(of: descriptor), option(SO_TYPE) == Int32(SOCK_STREAM.rawValue),
            option(SO_ACCEPTCONN) == 1
        else { throw AddressError("it is not a stream socket that listens") }
        if let path = name.path {
            self = .unix(path: path)
        } else if let address = name.ipAddress {
            let isUnspecified = address.bytes.allSatisfy { $0 == 0 }
            self = .tcp(host: isUnspecified ? "" : address.description, port: name.port)
        } else {
            throw AddressError("it is neither a TCP nor a Unix-domain socket")
        }
    }

    /// The address as a user writes it.
    public var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }
}

/// An invalid address, with a sentence for its author.
public struct AddressError: Error, CustomStringConvertible {
    /// What would be right, and what was given.
    public let description: String

    init(_ description: String) { self.description = description }
}
