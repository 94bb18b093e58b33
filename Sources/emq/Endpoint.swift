// An address in an option, which may begin with a scheme: `localhost:8080`, `https://:8443`, `unix:/run/emq.sock`.

import Net

/// An address, and whether TLS is spoken there.
struct Endpoint: Equatable, CustomStringConvertible {
    let address: Address
    /// Whether its scheme is `https`; nil if it has none.
    let isSecure: Bool?
    /// The listening socket, if another program has opened it.
    let descriptor: Int32?

    init(_ address: Address, isSecure: Bool? = nil, descriptor: Int32? = nil) {
        self.address = address
        self.isSecure = isSecure
        self.descriptor = descriptor
    }

    /// Reads an address. A slash at its end is dropped if it has a scheme.
    ///
    /// - Parameters:
    ///   - text: the address, as a user has written it.
    ///   - defaultPort: the port if `text` has none; nil if it must have one.
    /// - Throws: `UsageError`, which says what would be right.
    init(_ text: String, defaultPort: UInt16? = nil) throws(UsageError) {
        descriptor = nil
        isSecure = Endpoint.scheme(of: text)
        guard let isSecure else {
            do throws(AddressError) { address = try Address(text, defaultPort: defaultPort) } catch {
                let beginning = text.prefix { $0 != ":" }.lowercased()
                if beginning == "http" || beginning == "https" || text.dropFirst(beginning.count).hasPrefix("://") {
                    throw UsageError("a scheme is http:// or https://, as in https://localhost:8443, not '\(text)'")
                }
                let isName =
                    defaultPort == nil && !text.isEmpty && UInt16(text) == nil
                    && !text.contains { ":/, *".contains($0) }
                throw UsageError(isName ? "\(error); did you mean '\(text):8080'?" : "\(error)")
            }
            return
        }
        var rest = text.dropFirst(isSecure ? 8 : 7)
        if rest.hasPrefix("unix:") {
            throw UsageError("a Unix-domain socket has no TLS and no scheme; write '\(rest)', not '\(text)'")
        }
        if rest.hasSuffix("/") { rest = rest.dropLast() }
        if let path = rest.firstIndex(where: { "/?#".contains($0) }) {
            throw UsageError("an address has no path; write '\(text.prefix { $0 != ":" })://\(rest[..<path])'")
        }
        do throws(AddressError) { address = try Address(String(rest), defaultPort: defaultPort) } catch {
            if let port = UInt16(rest) {
                let meant = Endpoint(.tcp(host: "", port: port), isSecure: isSecure)
                throw UsageError("an address must be HOST:PORT or :PORT, not '\(rest)'; did you mean '\(meant)'?")
            }
            let port = Endpoint.defaultPort(isSecure: isSecure)
            // With a port, an address that lacks only that is right.
            let whole = defaultPort == nil ? try? Address(String(rest), defaultPort: port) : nil
            let hint = whole.map { "; did you mean '\(Endpoint($0, isSecure: isSecure))'?" } ?? ""
            throw UsageError("\(error)\(hint)")
        }
    }

    /// Whether the scheme of an address is `https`; nil if it has none.
    static func scheme(of text: String) -> Bool? {
        // Schemes are case-insensitive (RFC 3986 section 3.1).
        let beginning = text.prefix(8).lowercased()
        return beginning == "https://" ? true : beginning.hasPrefix("http://") ? false : nil
    }

    /// The port that a URL without one has (RFC 9110 sections 4.2.1 and 4.2.2).
    static func defaultPort(isSecure: Bool) -> UInt16 { isSecure ? 443 : 80 }

    var isLocal: Bool { if case .unix = address { true } else { false } }

    /// The host that a client connects to.
    var host: String { if case .tcp(let host, _) = address, !host.isEmpty { host } else { "localhost" } }

    /// The host and port in a client's requests.
    var authority: String {
        if case .tcp(_, let port) = address { Address.tcp(host: host, port: port).description } else { host }
    }

    var description: String { isSecure.map { "\($0 ? "https" : "http")://\(address)" } ?? "\(address)" }

    /// The URL of the server there, for the log.
    var link: String {
        switch address {
        case .tcp("", let port):
            "\(Endpoint(.tcp(host: "localhost", port: port), isSecure: isSecure)) (every address of this machine)"
        default: description
        }
    }
}
