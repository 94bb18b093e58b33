// Where push may send requests: the option --push.

import Bytes
import Net

/// Which addresses may be reached, and under which host names. What is reached in no case: `SpecialAddresses`, and the server's
/// own listeners.
public struct DestinationPolicy: Sendable {
    /// A word of the option, and what it admits.
    private static var words: [String] { ["public", "private", "loopback"] }

    private var admitsPublic = false
    private var networks: [IPNetwork] = []
    private var hosts: Set<String> = []
    /// What the names below a domain end in, such as `.example.com`.
    private var suffixes: [String] = []

    /// Where the server listens, which is never reached. The names among these are looked up when they are set, which may wait for
    /// a name server. An empty host is every address of the machine.
    public var ownListeners: [Address] = [] {
        didSet { listeners = ownListeners.compactMap(Listener.init) }
    }
    private var listeners: [Listener] = []

    /// Any address but those that are never reached.
    public static var everywhere: DestinationPolicy {
        var policy = DestinationPolicy()
        policy.networks = SpecialAddresses.everything
        return policy
    }

    private init() {}

    /// Reads the values of `--push`, each a list separated by commas: `public`, `private`, `loopback`, networks such as
    /// `10.1.0.0/16`, addresses, and hosts' names, `hooks.example.com` or `*.example.com`, the latter for all names below that one.
    /// Upper and lower case are the same. A name with a full stop at its end is never taken for a word.
    ///
    /// - Throws: `DestinationPolicyError` with a sentence that says what would be right.
    public init(_ list: [String]) throws(DestinationPolicyError) {
        for value in list {
            for element in value.split(separator: ",", omittingEmptySubsequences: false) {
                // A shell's word may have been "public, private".
                let words = element.split(separator: " ")
                try admit(words.joined(separator: " ").lowercased())
            }
        }
    }

    /// Why an address may not be reached.
    ///
    /// Asks the kernel for the machine's addresses if the port is that of a listener at all of them; else O(number of entries).
    ///
    /// - Parameters:
    ///   - address: what is connected to.
    ///   - port: its port.
    ///   - host: the URL's host: a name in lower case, or an address as text.
    /// - Returns: a sentence; nil if the address may be reached.
    public func refusal(of address: IPAddress, port: UInt16, host: String) -> String? {
        let name = DestinationPolicy.withoutFinalStop(host)
        let subject = IPAddress(name) == nil ? "\(name) (\(address))" : "\(address)"
        if let reason = SpecialAddresses.reasonNeverToReach(address) { return "\(subject) is never reached: \(reason)" }
        if SpecialAddresses.readings(of: address).contains(where: { isOwn($0, port) }) {
            return "\(subject) is never reached at port \(port): this server listens there itself"
        }
        func isAmong(_ networks: [IPNetwork]) -> Bool { networks.contains { $0.contains(address) } }
        let isPublic = SpecialAddresses.isGloballyReachable(address)
        if admitsPublic && isPublic || isAmong(networks) || hosts.contains(name)
            || suffixes.contains(where: { name.hasSuffix($0) && name != $0 })
        {
            return nil
        }
        var missing = "its network"
        if isPublic { missing = "public" }
        if isAmong(SpecialAddresses.privateUse) { missing = "private" }
        if isAmong(SpecialAddresses.loopback) { missing = "loopback" }
        return "\(subject) may not be reached: --push does not name \(missing)"
    }

    // MARK: Listeners

    /// A TCP port that the server listens at.
    private struct Listener {
        let port: UInt16
        /// Nil: every address of the machine.
        let addresses: [IPAddress]?

        init?(_ address: Address) {
            guard case .tcp(let host, let port) = address else { return nil }
            self.port = port
            // A name that cannot be looked up may stand for any of them. The unspecified address does.
            let found = host.isEmpty ? nil : MachineAddresses.of(host: host)
            let isEvery = found?.contains { $0.bytes.allSatisfy { $0 == 0 } } ?? true
            addresses = isEvery ? nil : found
        }
    }

    private func isOwn(_ address: IPAddress, _ port: UInt16) -> Bool {
        listeners.contains { listener in
            guard listener.port == port else { return false }
            if let addresses = listener.addresses { return addresses.contains(address) }
            if SpecialAddresses.loopback.contains(where: { $0.contains(address) }) { return true }
            // If the system does not tell, any address may be one of the machine's.
            return MachineAddresses.all()?.contains(address) ?? true
        }
    }

    // MARK: Reading

    private mutating func admit(_ element: String) throws(DestinationPolicyError) {
        switch element {
        case "public": admitsPublic = true
        case "private": networks += SpecialAddresses.privateUse
        case "loopback": networks += SpecialAddresses.loopback
        case "": throw DestinationPolicyError("--push names nothing between two commas, or at all; \(Self.choice)")
        case "*", "all", "any", "anything", "anywhere", "everything", "everywhere", "unrestricted":
            throw DestinationPolicyError("--push names every address as 0.0.0.0/0,::/0, not as '\(element)'")
        case "none", "nothing", "nowhere", "no", "off", "false", "never", "disabled":
            throw DestinationPolicyError("--push says where tasks may be sent; without it, none are")
        case "yes", "on", "true", "enabled", "default", "allow":
            throw DestinationPolicyError("--push says where tasks may be sent, not '\(element)'; \(Self.choice)")
        case "internet", "external", "global", "world", "www", "web": throw Self.otherWord(element, for: "public")
        case "internal", "intranet", "lan", "network", "vpc", "vpn": throw Self.otherWord(element, for: "private")
        case "local", "self", "host", "lo": throw Self.otherWord(element, for: "loopback")
        default:
            if IPAddress(String(element.prefix { $0 != "/" })) != nil {
                networks.append(try IPNetwork(element))
            } else {
                try admitHost(element)
            }
        }
    }

    private mutating func admitHost(_ element: String) throws(DestinationPolicyError) {
        let isPattern = element.hasPrefix("*.")
        let name = Self.withoutFinalStop(isPattern ? String(element.dropFirst(2)) : element)
        let labels = name.split(separator: ".", omittingEmptySubsequences: false)
        // RFC 1123 section 2.1, and the underscore, which container networks use.
        let isName =
            name.utf8.count <= 253
            && labels.allSatisfy { label in
                (1...63).contains(label.utf8.count) && !label.hasPrefix("-") && !label.hasSuffix("-")
                    && label.utf8.allSatisfy {
                        (0x61...0x7A).contains($0) || $0.isDigit || $0 == 0x2D || $0 == 0x5F
                    }
            }
        // A URL's host that ends in a number is an IPv4 address or nothing (URL Standard, "ends in a number").
        guard isName, labels.last?.utf8.isDecimal == false else {
            throw DestinationPolicyError("--push does not take '\(element)'; \(Self.choice)")
        }
        if !isPattern, labels.count == 1, name == element, let word = Self.word(meantBy: name) {
            throw Self.otherWord(name, for: word)
        }
        if isPattern { suffixes.append("." + name) } else { hosts.insert(name) }
    }

    /// What a name without a full stop was probably meant to be; nil if it may well be a host's.
    private static func word(meantBy name: String) -> String? {
        // Hosts are numbered at their end, and `localhost` is one.
        if name == "localhost" || name.utf8.last?.isDigit ?? false { return nil }
        func isNear(_ word: String) -> Bool { editDistance(Array(word.utf8), Array(name.utf8)) <= 2 }
        if let word = words.first(where: isNear) { return word }
        if ["everywhere", "everything", "anywhere", "anything"].contains(where: isNear) { return "0.0.0.0/0,::/0" }
        return isNear("localhost") ? "localhost" : nil
    }

    private static func otherWord(_ name: String, for word: String) -> DestinationPolicyError {
        DestinationPolicyError(
            "--push knows no '\(name)'; did you mean '\(word)'? A host of that name is written '\(name).'")
    }

    private static var choice: String {
        "it takes \(words.joined(separator: ", ")), networks such as 10.1.0.0/16, and hosts without ports such as "
            + "hooks.example.com or *.example.com"
    }

    private static func withoutFinalStop(_ name: String) -> String {
        name.hasSuffix(".") ? String(name.dropLast()) : name
    }
}

/// An element of `--push` that cannot be read, with a sentence for the person who wrote it.
public struct DestinationPolicyError: Error, CustomStringConvertible {
    /// What would be right, and what was got.
    public let description: String

    init(_ description: String) { self.description = description }
}
