// The option --push: where push may send requests.

import Bytes
import Net

/// Decides which addresses and host names push may connect to. Some addresses are never allowed: those of
/// `SpecialAddresses`, and the server's own listeners.
public struct DestinationPolicy: Sendable {
    /// The words of the option.
    private static var words: [String] { ["public", "private", "loopback"] }

    private var admitsPublic = false
    private var networks: [IPNetwork] = []
    private var hosts: Set<String> = []
    /// The endings of all names below a domain, such as `.example.com`.
    private var suffixes: [String] = []

    /// The addresses where the server listens, which are never allowed. Setting them looks up the names among them,
    /// which may wait for a name server. An empty host means every address of the machine.
    public var ownListeners: [Address] = [] {
        didSet { listeners = ownListeners.compactMap(Listener.init) }
    }
    private var listeners: [Listener] = []

    /// Allows every address except those that are never allowed.
    public static var everywhere: DestinationPolicy {
        var policy = DestinationPolicy()
        policy.networks = SpecialAddresses.everything
        return policy
    }

    private init() {}

    /// Reads the values of `--push`. Each is a list, separated by commas, of `public`, `private`, `loopback`, networks
    /// such as `10.1.0.0/16`, addresses, and host names. `*.example.com` stands for all names below `example.com`. Case
    /// does not matter. A name that ends in a full stop is never read as a word.
    ///
    /// - Throws: `DestinationPolicyError`, which says what would be right.
    public init(_ list: [String]) throws(DestinationPolicyError) {
        for value in list {
            for element in value.split(separator: ",", omittingEmptySubsequences: false) {
                // The list may be written with spaces: "public, private".
                let words = element.split(separator: " ")
                try admit(words.joined(separator: " ").lowercased())
            }
        }
    }

    /// The reason why a connection is not allowed.
    ///
    /// Asks the kernel for the machine's addresses if a listener at all of them has this port; otherwise O(number of
    /// entries).
    ///
    /// - Parameters:
    ///   - address: the address to connect to.
    ///   - port: the port.
    ///   - host: the URL's host: a name in lower case, or an address as text.
    /// - Returns: a sentence; nil if the connection is allowed.
    public func refusal(of address: IPAddress, port: UInt16, host: String) -> String? {
        let name = DestinationPolicy.withoutFinalStop(host)
        let subject = IPAddress(name) == nil ? "\(name) (\(address))" : "\(address)"
        if let reason = SpecialAddresses.reasonToForbid(address) { return "\(subject) is never allowed: \(reason)" }
        if SpecialAddresses.readings(of: address).contains(where: { isOwn($0, port) }) {
            return "\(subject) is never allowed at port \(port): this server listens there itself"
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
        return "\(subject) is not allowed: --push does not include \(missing)"
    }

    // MARK: Listeners

    /// A TCP port where the server listens.
    private struct Listener {
        let port: UInt16
        /// The addresses; nil for every address of the machine.
        let addresses: [IPAddress]?

        init?(_ address: Address) {
            guard case .tcp(let host, let port) = address else { return nil }
            self.port = port
            // A name that cannot be looked up may mean any address. The unspecified address means all of them.
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
            // If the kernel does not report the addresses, any address may be the machine's.
            return MachineAddresses.all()?.contains(address) ?? true
        }
    }

    // MARK: Reading

    private mutating func admit(_ element: String) throws(DestinationPolicyError) {
        switch element {
        case "public": admitsPublic = true
        case "private": networks += SpecialAddresses.privateUse
        case "loopback": networks += SpecialAddresses.loopback
        case "": throw DestinationPolicyError("--push has an empty element; \(Self.choice)")
        case "*", "all", "any", "anything", "anywhere", "everything", "everywhere", "unrestricted":
            throw DestinationPolicyError("--push does not take '\(element)'; write 0.0.0.0/0,::/0 for every address")
        case "none", "nothing", "nowhere", "no", "off", "false", "never", "disabled":
            throw DestinationPolicyError("--push does not take '\(element)'; leave --push out to send no tasks")
        case "yes", "on", "true", "enabled", "default", "allow":
            throw DestinationPolicyError("--push does not take '\(element)'; \(Self.choice)")
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
        // RFC 1123 section 2.1, plus the underscore, which container networks use.
        let isName =
            name.utf8.count <= 253
            && labels.allSatisfy { label in
                (1...63).contains(label.utf8.count) && !label.hasPrefix("-") && !label.hasSuffix("-")
                    && label.utf8.allSatisfy {
                        (0x61...0x7A).contains($0) || $0.isDigit || $0 == 0x2D || $0 == 0x5F
                    }
            }
        // A URL's host that ends in a number must be an IPv4 address (URL Standard, "ends in a number").
        guard isName, labels.last?.utf8.isDecimal == false else {
            throw DestinationPolicyError("--push does not take '\(element)'; \(Self.choice)")
        }
        if !isPattern, labels.count == 1, name == element, let word = Self.word(meantBy: name) {
            throw Self.otherWord(name, for: word)
        }
        if isPattern { suffixes.append("." + name) } else { hosts.insert(name) }
    }

    /// The word that a name without a full stop probably stands for; nil if it may well be a host's name.
    private static func word(meantBy name: String) -> String? {
        // Host names often end in a number, and `localhost` is a host.
        if name == "localhost" || name.utf8.last?.isDigit ?? false { return nil }
        func isNear(_ word: String) -> Bool { editDistance(Array(word.utf8), Array(name.utf8)) <= 2 }
        if let word = words.first(where: isNear) { return word }
        if ["everywhere", "everything", "anywhere", "anything"].contains(where: isNear) { return "0.0.0.0/0,::/0" }
        return isNear("localhost") ? "localhost" : nil
    }

    private static func otherWord(_ name: String, for word: String) -> DestinationPolicyError {
        DestinationPolicyError(
            "--push does not take '\(name)'; did you mean '\(word)'? Write a host of that name as '\(name).'")
    }

    private static var choice: String {
        "it takes \(words.joined(separator: ", ")), networks such as 10.1.0.0/16, and hosts without ports such as "
            + "hooks.example.com or *.example.com"
    }

    private static func withoutFinalStop(_ name: String) -> String {
        name.hasSuffix(".") ? String(name.dropLast()) : name
    }
}

/// The error for an element of `--push` that cannot be read, for the person who wrote it.
public struct DestinationPolicyError: Error, CustomStringConvertible {
    /// What would be right, and what was given.
    public let description: String

    init(_ description: String) { self.description = description }
}
