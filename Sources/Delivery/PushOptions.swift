// The options for sending tasks, as the API has them: a queue's `push` and a task's `request`. The API reads, checks
// and shows them here, and `Delivery` reads them when it sends.

import Bytes
import Net

/// A queue's `push` or a task's `request`. An option that is nil is not set.
public struct PushOptions: Equatable, Sendable {
    /// The owner of the options, which decides the members that are allowed.
    public enum Kind: Sendable {
        /// The `push` of a queue's configuration.
        case queue
        /// The `request` of a task.
        case task
    }

    /// A header field of the request.
    public struct Header: Equatable, Sendable {
        /// The name, a token (RFC 9110 section 5.6.2).
        public var name: [UInt8]
        /// The value.
        public var value: [UInt8]
    }

    /// When to leave a receiver alone that fails.
    public struct Circuit: Equatable, Sendable {
        /// The number of failures in a row after which no attempt starts for a while.
        public var failures: Int
        /// How long no attempt starts.
        public var pauseMilliseconds: Int64
    }

    /// The maximum number of header fields.
    public static let maximumHeaders = 64
    /// The maximum size of all header names and values together.
    public static let maximumHeaderBytes = 16_384
    /// The maximum number of secrets.
    public static let maximumSecrets = 8
    /// The maximum size of a secret.
    public static let maximumSecretBytes = 1024
    /// The maximum size of the text with the issuers of certificates.
    public static let maximumIssuerBytes = 65_536
    /// The maximum value of `concurrency`.
    public static let maximumConcurrency = 1000
    /// The maximum timeout of a request.
    public static let maximumTimeoutMilliseconds: Int64 = 86_400_000
    /// The maximum number of failures before a circuit's pause.
    public static let maximumFailures = 1_000_000
    /// The maximum pause of a circuit.
    public static let maximumPauseMilliseconds: Int64 = 86_400_000

    /// The URL of the request.
    public var url: HTTPURL?
    /// The method.
    public var method: [UInt8]?
    /// Header fields to add to those that every request has.
    public var headers: [Header] = []
    /// The body, as JSON. Only tasks have one.
    public var body: [UInt8]?
    /// The timeout of the request.
    public var timeoutMilliseconds: Int64?
    /// The URL for a dead-letter notification when the task dies.
    public var onDead: HTTPURL?
    /// Whether the task is a dead-letter notification, whose own death causes none.
    public var isNotice = false
    /// The maximum number of tasks in flight at once. Only queues have this and the options below.
    public var concurrency: Int?
    /// The maximum rate of attempts.
    public var rate: Rate?
    /// When to leave a receiver alone that fails; nil for never.
    public var circuit: Circuit?
    /// How requests are signed; nil means ``Signature/emq``.
    public var signature: Signature?
    /// The secrets that sign requests. The first is the current one.
    public var secrets: [[UInt8]] = []
    /// The issuers of certificates, in PEM, that alone are accepted for https.
    public var ca: [UInt8]?

    /// The members that a task's `request` may have.
    static let taskMembers: [StaticString] = ["url", "method", "headers", "timeout", "on_dead", "body"]
    /// The members that a queue's `push` may have.
    public static let queueMembers: [StaticString] = [
        "url", "method", "headers", "timeout", "on_dead", "concurrency", "rate", "circuit", "signature", "secret",
        "secrets", "ca",
    ]
    /// The members of a queue's `circuit`.
    public static let circuitMembers: [StaticString] = ["failures", "pause"]

    /// What a member sets: `secret` and `secrets` are two names of one setting.
    public static func setting(_ member: String) -> String { member == "secret" ? "secrets" : member }

    /// Options with nothing set.
    public init() {}

    /// Stands for a value that is not shown.
    static let mask = Array("***".utf8)

    /// Replaces each `***` by the value in the previous options. A header keeps its value only for the same host and
    /// port: otherwise somebody who can set options but not see the value could have it sent elsewhere. A secret is
    /// never sent, so it is always kept. The masked secrets are the first of the previous ones, in their order, so a
    /// new secret can be put in front of them, and the last one can be left out.
    ///
    /// - Throws: `PushOptionsError` if there is no previous value, or if the URL leads to another host or port.
    public mutating func keepMaskedValues(of previous: PushOptions = PushOptions()) throws(PushOptionsError) {
        for index in headers.indices where headers[index].value == Self.mask {
            let name = headers[index].name
            let before = previous.headers.first { $0.name.lowercasedASCII == name.lowercasedASCII }
            let field = "headers.\(String(decoding: name, as: UTF8.self))"
            guard let before else {
                throw PushOptionsError(
                    field: field, detail: "*** keeps a header's current value, but this header has none",
                    kind: .masked)
            }
            guard url?.origin == previous.url?.origin else {
                throw PushOptionsError(
                    field: field,
                    detail:
                        "*** does not keep a header's value for another host or port; give the value again, or leave "
                        + "the header out (in a PATCH, set it to null)", kind: .masked)
            }
            headers[index].value = before.value
        }
        var kept = previous.secrets.makeIterator()
        for index in secrets.indices where secrets[index] == Self.mask {
            guard let before = kept.next() else {
                throw PushOptionsError(
                    field: secretField(index),
                    detail: previous.secrets.isEmpty
                        ? "*** keeps the current secret, but there is none; send the secret itself"
                        : "each *** keeps one of the current secrets, of which there are \(previous.secrets.count)",
                    kind: .masked)
            }
            secrets[index] = before
        }
    }

    /// Checks that requests can be signed as `signature` says. No value may be masked any more.
    ///
    /// - Throws: `PushOptionsError` for a secret or a header that the signature does not allow.
    public func checkSignature() throws(PushOptionsError) {
        guard signature == .standard else { return }
        let form = "whsec_ and 24 to 64 random bytes in base64; make one with: echo whsec_$(openssl rand -base64 32)"
        if secrets.isEmpty {
            throw PushOptionsError(
                field: "signature", detail: "a standard signature needs a secret: \(form)", kind: .missing)
        }
        for index in secrets.indices where Signature.standardKey(secrets[index]) == nil {
            throw PushOptionsError(
                field: secretField(index), detail: "the secret of a standard signature must be \(form)")
        }
        if let flaw = standardHeaderFlaw { throw flaw }
    }

    /// What is wrong with the headers for a standard signature; nil if nothing is.
    public var standardHeaderFlaw: PushOptionsError? {
        guard let header = headers.first(where: { Signature.standard.reserves($0.name) }) else { return nil }
        return PushOptionsError(
            field: "headers.\(String(decoding: header.name, as: UTF8.self))",
            detail: "headers that begin with webhook- are reserved for the signature of this queue's push")
    }

    private func secretField(_ index: Int) -> String { secrets.count == 1 ? "secret" : "secrets[\(index)]" }
}

/// An error in push options, for the person who wrote them.
public struct PushOptionsError: Error {
    /// The path of the wrong member in the options; empty for the options as a whole.
    public let field: String
    /// What is wrong, and what would be right.
    public let detail: String
    /// What a program can tell apart.
    public var kind = Kind.invalid
    /// The name and the known names, if the member is unknown.
    public var unknown: (name: String, known: [StaticString])?

    /// What is wrong with a member.
    public enum Kind: Sendable {
        /// Its value is wrong.
        case invalid
        /// Its name is unknown.
        case unknown
        /// It is given twice.
        case duplicate
        /// It contradicts another member.
        case conflicting
        /// It, or a member inside it, needs another one, which is not there.
        case missing
        /// Its value is `***`, and there is no value that this stands for.
        case masked
    }
}
