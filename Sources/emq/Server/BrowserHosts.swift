// Which host names a browser may use. A browser lets a web page read and send whatever goes to the page's own host, and
// whoever owns a domain can point a name in it at any address, also while the page is open (DNS rebinding). So a page of
// evil.example could use a server on its reader's machine or network as "evil.example". Names that nobody outside can point
// anywhere are safe: addresses, names without a dot, this machine's own names, and those that an operator has vouched for.

import Bytes
import Glibc
import Net

/// The hosts as which a browser may reach the server.
struct BrowserHosts {
    /// In lower case and without a final dot.
    private let names: Set<String>

    /// The names of this machine and others.
    ///
    /// - Parameters:
    ///   - others: names as `name(_:)` returns them.
    ///   - machineNames: what the machine is called.
    init(_ others: [String] = [], machineNames: [String] = Self.machineNames) {
        names = Set(others + machineNames)
    }

    /// The names of this machine, those that were given, and those of the addresses that the server listens at.
    init(_ options: Options) {
        let listeners = (options.addresses + options.services.map(\.address)).compactMap { address in
            if case .tcp(let host, _) = address { BrowserHosts.name(host) } else { nil }
        }
        self.init(options.hostNames + listeners)
    }

    /// A host's name as it is compared: in lower case, and without a final dot; nil for what is no name.
    static func name(_ text: String) -> String? {
        let name = withoutFinalDot(text.lowercased())
        let isName =
            (1...253).contains(name.utf8.count) && !name.hasPrefix(".")
            && name.utf8.allSatisfy {
                (0x61...0x7A).contains($0) || $0.isDigit || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F
            }
        return isName ? name : nil
    }

    /// Whether a host, with or without a port, is one of them. O(length).
    func admits(_ authority: Span<UInt8>) -> Bool {
        let host = BrowserHosts.host(of: authority)
        if host.hasPrefix("[") { return host.hasSuffix("]") && IPAddress(String(host.dropFirst().dropLast())) != nil }
        guard let name = BrowserHosts.name(host) else { return false }
        // With a final dot, a name is one of the whole world's.
        return !host.contains(".") || IPAddress(name) != nil || name == "localhost" || name.hasSuffix(".localhost")
            || names.contains(name)
    }

    /// Why a browser's request was refused, in a sentence that says what helps.
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
        // The port stands behind the last colon that is in no brackets.
        guard let colon = authority.lastIndex(of: ":"), !authority[colon...].contains("]") else { return authority }
        return String(authority[..<colon])
    }

    private static func withoutFinalDot(_ name: String) -> String {
        name.hasSuffix(".") ? String(name.dropLast()) : name
    }

    // MARK: The machine's names

    /// What this machine is called: its host name, those that /etc/hosts has on the same line, and those that the host name
    /// is looked up as. Asks no name server.
    static var machineNames: [String] {
        var name = [CChar](repeating: 0, count: 256)
        guard unsafe gethostname(&name, name.count - 1) == 0 else { return [] }
        return machineNames(String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)) {
            path in contents(of: path)
        }
    }

    /// The same, by a host name and files that need not be this machine's.
    ///
    /// - Parameters:
    ///   - hostName: what the kernel says.
    ///   - read: the text of a file, empty if there is none.
    /// - Returns: names as `name(_:)` returns them.
    static func machineNames(_ hostName: String, _ read: (_ path: String) -> String) -> [String] {
        guard let own = name(hostName), own != "localhost" else { return [] }
        var names = [own]
        func lines(_ path: String) -> [[Substring]] {
            read(path).split(separator: "\n").map { line in
                line.prefix { $0 != "#" }.split { $0 == " " || $0 == "\t" }
            }
        }
        // hosts(5): an address, and the names that it has.
        for line in lines("/etc/hosts") {
            let found = line.dropFirst().compactMap { name(String($0)) }
            if found.contains(own) { names += found }
        }
        // resolv.conf(5): the domains in which a name without a dot is looked for. The last such line counts.
        if !own.contains("."),
            let line = lines("/etc/resolv.conf").last(where: { ["search", "domain"].contains($0.first) })
        {
            names += line.dropFirst().compactMap { name("\(own).\($0)") }
        }
        return names
    }

    private static func contents(of path: String) -> String {
        // Some machines have long lists of blocked hosts there; 64 KiB are enough to find their own names.
        let bytes = try? File.read(path, maximumByteCount: 65_536)
        return String(decoding: bytes ?? [], as: UTF8.self)
    }
}

extension BrowserHosts {
    /// Checks a request that looks like a browser's. Two kinds come from web pages that must not use this server: a request of
    /// another site that would change something, and a request to a host name that the page's owner has pointed here.
    ///
    /// - Throws: 403.
    func check(_ request: borrowing Request) throws(Problem) {
        let host = request.authority
        guard admits(host) else { throw Problem(403, BrowserHosts.refusal(of: host)) }
        switch request.method {
        case .get, .head: return
        case .options where request.service == 0: return
        default: break
        }
        var foreign: StaticString?
        request.forEachField { name, value in
            switch name.count {
            case 6 where name.equalsIgnoringCase("Origin"):
                if !isSameHost(origin: value, host: host) { foreign = "its Origin is not the Host of the request" }
            case 14 where name.equalsIgnoringCase("Sec-Fetch-Site"):
                if value.equals("cross-site") { foreign = "its Sec-Fetch-Site is cross-site" }
            default: break
            }
        }
        if let foreign { throw Problem(403, "a web page of another site may not do this: \(foreign)") }
    }
}

/// Whether an Origin (RFC 6454 section 7), without its scheme, is the host and port that a request was sent to.
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
