// The certificates of the tests of TLS, which the openssl tool makes.

import Foundation
import Synchronization

/// Makes certificates in a temporary directory, each once in a run and only if a test asks for it.
///
/// `Tests/Clients/certificates` makes them, and says what each kind is.
public final class Certificates: Sendable {
    /// What is special about a certificate. All are for `localhost` and `127.0.0.1` unless the kind says otherwise.
    public enum Kind: String, CaseIterable, Sendable {
        /// For `localhost`, 127.0.0.1 to 127.0.0.4, ::1, and a few names that end in `.test`.
        case good
        /// As `good`, with another key, made anew each time.
        case renewed
        /// As `good`, with an RSA key of 2048 bits.
        case rsa
        /// As `good`, with a key that has a password.
        case encrypted
        /// It ended an hour ago.
        case expired
        /// It begins in a day.
        case notYetValid = "not-yet-valid"
        /// It ends in five days.
        case endingSoon = "ending-soon"
        /// For `elsewhere.test` only.
        case wrongHost = "wrong-host"
        /// `localhost` is its common name, and it has no alternative names.
        case commonNameOnly = "common-name-only"
        /// For `*.emq.test` only.
        case wildcard
        /// For 127.0.0.1 only.
        case ipAddress = "ip-address"
        /// Issued by an authority that nobody trusts.
        case unknownIssuer = "unknown-issuer"
        /// Issued by itself.
        case selfSigned = "self-signed"
        /// Without its intermediate certificate.
        case missingIntermediate = "missing-intermediate"
        /// Its intermediate certificate ended an hour ago.
        case expiredIntermediate = "expired-intermediate"
        /// Issued by a certificate that may not issue any.
        case leafIssued = "leaf-issued"
        /// For clients only.
        case client
        /// For clients only, issued by an authority that nobody trusts.
        case foreignClient = "foreign-client"
    }

    /// The paths of PEM files.
    public struct Pair: Sendable {
        /// The certificate, followed by its intermediate.
        public let chain: String
        /// The private key.
        public let key: String
    }

    /// Whether this machine has the openssl tool.
    public static let isAvailable = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        .contains { access("\($0)/openssl", X_OK) == 0 }

    /// The certificates of this run. The end of the process removes them.
    public static let shared = Certificates()

    private let directory = FileManager.default.temporaryDirectory.appending(path: "emq-\(UUID().uuidString)").path

    /// The kinds made so far; nil before the authority is made.
    private let made = Mutex<Set<Kind>?>(nil)

    private init() {
        atexit { try? FileManager.default.removeItem(atPath: Certificates.shared.directory) }
    }

    /// A certificate and its key, which are made if they do not exist yet.
    ///
    /// - Throws: `Failure` if the openssl tool is missing or fails.
    public func pair(_ kind: Kind) throws -> Pair {
        try make([kind])
        return Pair(chain: "\(directory)/\(kind.rawValue).pem", key: "\(directory)/\(kind.rawValue).key")
    }

    /// The path of the issuer that both sides trust.
    ///
    /// - Throws: `Failure` if the openssl tool is missing or fails.
    public var authorityFile: String {
        get throws {
            try make([])
            return directory + "/authority.pem"
        }
    }

    /// The path of the issuer that nobody trusts.
    ///
    /// - Throws: `Failure` if the openssl tool is missing or fails.
    public var foreignAuthorityFile: String {
        get throws {
            _ = try pair(.unknownIssuer)
            return directory + "/foreign.pem"
        }
    }

    private func make(_ kinds: [Kind]) throws {
        // The lock is held meanwhile, so that tests wait for the certificates that another one makes.
        try made.withLock { made in
            if made?.isSuperset(of: kinds) == true, !kinds.contains(.renewed) { return }
            let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            let process = Process()
            process.executableURL = tests.appending(path: "Clients/certificates")
            process.arguments = [directory] + kinds.map(\.rawValue)
            try process.start()
            process.waitUntilExit()
            guard process.terminationStatus == 0 else {
                throw Failure(description: "Tests/Clients/certificates could not make \(kinds)")
            }
            made = (made ?? []).union(kinds)
        }
    }
}
