// The host names that a browser may use. A browser lets a web page exchange anything with the page's own host, and a
// domain's owner can point a name in it at any address, even while the page is open (DNS rebinding). So a page of
// evil.example could reach a server on its reader's machine or network as "evil.example". Hosts that outsiders cannot
// redirect are safe: addresses, names without a dot, this machine's own names, and names that an operator has allowed.

import Bytes
import Glibc
import Net

/// The hosts under which a browser may reach the server.
struct BrowserHosts {
    /// In lower case and without a final dot.
    private let names: Set<String>

    /// Allows the names of this machine and others.
    ///
    /// - Parameters:
    ///   - others: names as `name(_:)` returns them.
    ///   - machineNames: the machine's own names.
    init(_ others: [String] = [], machineNames: [String] = Self.machineNames) {
        names = Set(others + machineNames)
    }

    /// Allows the names of this machine, those of `--host`, and those in the addresses on which the server listens.
    init(_ options: Options) {
        let listeners = options.endpoints.compactMap { endpoint in
            if case .tcp(let host, _) = endpoint.address { BrowserHosts.name(host) } else { nil }
        }
        self.init(options.hostNames + listeners)
    }

    /// A host's name in the form for comparison: in lower case, without a final dot; nil if it is not a name.
    static func name(_ text: String) -> String? {
        let name = withoutFinalDot(text.lowercased())
        let isName =
            (1...253).contains(name.utf8.count) && !name.hasPrefix(".")
            && name.utf8.allSatisfy {
                (0x61...0x7A).contains($0) || $0.isDigit || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F
            }
        return isName ? name : nil
    }

    /// Whether a host, with or without a port, is allowed. O(length).
    func admits(_ authority: Span<UInt8>) -> Bool {
        let host = BrowserHosts.host(of: authority)
        if host.hasPrefix("[") { return host.hasSuffix("]") && IPAddress(String(host.dropFirst().dropLast())) != nil }
        guard let name = BrowserHosts.name(host) else { return false }
        // A name with a final dot is a public name.
        return !host.contains(".") || IPAddress(name) != nil || name == "localhost" || name.hasSuffix(".localhost")
            || names.contains(name)
    }

    /// Why a browser's request was refused, and what helps, in a sentence.
    static func refusal(of authority: Span<UInt8>) -> String {
        let host = host(of: authority)
        let help =
            name(host).map { "if the name is this server's own, start emq with --host \($0)" }
            ?? "use an address, localhost, or a name that was given with --host"
        return "a browser may not use this server as '\(host.prefix(253))': a web page's owner may have pointed that "
            + "name here; \(help)"
    }

    private static func host(of authority: Span<UInt8>) -> String {
        let authority = text(authority)
        // The port follows the last colon outside brackets.
        guard let colon = authority.lastIndex(of: ":"), !authority[colon...].contains("]") else { return authority }
        return String(authority[..<colon])
    }

    private static func withoutFinalDot(_ name: String) -> String {
        name.hasSuffix(".") ? String(name.dropLast()) : name
    }

    // MARK: The machine's names

    /// This machine's names: its host name, the names on the same line of /etc/hosts, and the host name in each search
    /// domain. Asks no name server.
    static var machineNames: [String] {
        var name = [CChar](repeating: 0, count: 256)
        guard unsafe gethostname(&name, name.count - 1) == 0 else { return [] }
        return machineNames(String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)) {
            path in contents(of: path)
        }
    }

    /// A machine's names, from a host name and files that need not be this machine's.
    ///
    /// - Parameters:
    ///   - hostName: the host name from the kernel.
    ///   - read: returns the text of a file, or an empty text if it does not exist.
    /// - Returns: names as `name(_:)` returns them.
    static func machineNames(_ hostName: String, _ read: (_ path: String) -> String) -> [String] {
        guard let own = name(hostName), own != "localhost" else { return [] }
        var names = [own]
        func lines(_ path: String) -> [[Substring]] {
            read(path).split(separator: "\n").map { line in
                line.prefix { $0 != "#" }.split { $0 == " " || $0 == "\t" }
            }
        }
        // hosts(5): an address, and its names.
        for line in lines("/etc/hosts") {
            let found = line.dropFirst().compactMap { name(String($0)) }
            if found.contains(own) { names += found }
        }
        // resolv.conf(5): the domains in which names without a dot are looked up. The last such line counts.
        if !own.contains("."),
            let line = lines("/etc/resolv.conf").last(where: { ["search", "domain"].contains($0.first) })
        {
            names += line.dropFirst().compactMap { name("\(own).\($0)") }
        }
        return names
    }

    private static func contents(of path: String) -> String {
        // Some machines have long lists of blocked hosts there; the first 64 KiB contain their own names.
        let bytes = try? File.read(path, maximumByteCount: 65_536)
        return String(decoding: bytes ?? [], as: UTF8.self)
    }
}

extension BrowserHosts {
    /// Checks a request that looks like a browser's. Two kinds come from web pages that must not use this server: a
    /// request from another site that would change something, and a request to a host name that the page's owner has
    /// pointed here.
    ///
    /// - Parameters:
    ///   - request: the request.
    ///   - hasToken: whether it has a valid token. A page that somebody has pointed here cannot know one, so the host
    ///     may have any name.
    /// - Throws: 403.
    func check(_ request: borrowing Request, hasToken: Bool) throws(Problem) {
        let host = request.authority
        guard hasToken || admits(host) else { throw Problem(.hostNotAllowed, BrowserHosts.refusal(of: host)) }
        switch request.method {
        case .get, .head: return
        case .options where request.service == 0: return
        default: break
        }
        var foreign: StaticString?
        let isSecure = request.isSecure
        request.forEachField { name, value in
            switch name.count {
            case 6 where name.equalsIgnoringCase("Origin"):
                if !isSameHost(origin: value, host: host) {
                    foreign = "its Origin is not the Host of the request"
                } else if isSecure, !value.extracting(first: min(8, value.count)).equalsIgnoringCase("https://") {
                    // Others could have changed such a page on its way, and the browser may have a client certificate.
                    foreign = "it was not loaded over TLS, as the request was"
                }
            case 14 where name.equalsIgnoringCase("Sec-Fetch-Site"):
                if value.equals("cross-site") { foreign = "its Sec-Fetch-Site is cross-site" }
            default: break
            }
        }
        if let foreign { throw Problem(.crossSiteRequest, "a web page of another site may not do this: \(foreign)") }
    }
}

/// Whether an Origin (RFC 6454 section 7), without its scheme, is the host and port of a request.
private func isSameHost(origin: Span<UInt8>, host: Span<UInt8>) -> Bool {
    var start = 0
    while start + 2 < origin.count {
        if origin[start] == UInt8(ascii: ":"), origin[start + 1] == UInt8(ascii: "/"),
            origin[start + 2] == UInt8(ascii: "/")
        {
            return origin.extracting(start + 3..<origin.count).equalsIgnoringCase(host)
        }
        start += 1
    }
    return false
}
