// Who may use the server: the tokens of --tokens, and how a request shows one.

import Bytes
import Delivery
import Net

/// The tokens that the server knows. It reads their file again when the file changes.
final class Access {
    /// The longest Authorization field with a token, in bytes.
    private static let maximumFieldByteCount = 512
    /// How many values of Authorization fields are remembered. A power of two.
    private static let rememberedCount = 256

    /// The value of an Authorization field that showed a token, so that the next one like it needs no hash.
    private struct Remembered {
        let value: [UInt8]
        let token: Token
    }

    private let path: String
    private let log: Log
    private(set) var tokens: [Token]
    private var look = FileLook()
    private var version: FileVersion?
    private var remembered: [Remembered?]
    /// The place of the value that was shown last. Most servers have few clients, so it is probably the next one, too.
    private var lastPlace = 0

    /// Reads the tokens.
    ///
    /// - Parameters:
    ///   - path: the path of the file.
    ///   - now: the time.
    ///   - log: the log.
    /// - Throws: `TokensFileError`.
    init(path: String, now: Int64, log: Log = .standard) throws(TokensFileError) {
        self.path = path
        self.log = log
        version = FileVersion(path)
        tokens = try TokensFile(path: path, now: now).tokens
        remembered = Array(repeating: nil, count: Self.rememberedCount)
    }

    // MARK: Requests

    /// Finds out who sends a request. O(1); O(tokens) for a value that is not remembered.
    func caller(of request: borrowing Request, now: Int64) -> Caller {
        switch request.authorizationCount {
        case 0: .stranger(.missing)
        case 1: caller(showing: request.authorization, now: now)
        default: .stranger(.malformed)
        }
    }

    /// Finds out who shows a value of an Authorization field.
    func caller(showing value: Span<UInt8>, now: Int64) -> Caller {
        guard value.count <= Self.maximumFieldByteCount else { return .stranger(.malformed) }
        if let last = remembered[lastPlace], isSame(last.value.span, value) { return holder(of: last.token, now: now) }
        // The place depends on a secret of this process, so nobody can learn from the time how much of a guess is
        // right.
        var hasher = Hasher()
        unsafe value.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
        let place = hasher.finalize() & (Self.rememberedCount - 1)
        if let known = remembered[place], isSame(known.value.span, value) {
            lastPlace = place
            return holder(of: known.token, now: now)
        }
        guard let text = TokenText.read(value) else { return .stranger(.malformed) }
        let hash = SHA256.hash(text.span)
        var found: Token?
        for token in tokens where token.hasHash(hash) { found = token }
        guard let found else { return .stranger(TokenText.isDamaged(text.span) ? .damaged : .unknown) }
        remembered[place] = Remembered(value: Array(copying: value), token: found)
        return holder(of: found, now: now)
    }

    /// A sender as the tokens are now: their file may have changed since its request, and its token may have ended.
    /// O(tokens).
    func current(_ caller: Caller, now: Int64) -> Caller {
        guard case .holder(let token) = caller else { return caller }
        let found = tokens.contains { $0 === token } ? token : tokens.first { $0.hasHash(token.hash) }
        return found.map { holder(of: $0, now: now) } ?? .stranger(.unknown)
    }

    private func holder(of token: Token, now: Int64) -> Caller {
        token.hasExpired(now: now) ? .stranger(.expired) : .holder(token)
    }

    // MARK: The file

    /// What the log says about the tokens when the server starts.
    func startEvents(now: Int64) -> [LogEvent] {
        [.info("read \(countText) from '\(path)'")] + expiredEvents(now: now)
    }

    /// Reads the file again if it has changed. Looks at it once a minute.
    ///
    /// - Parameters:
    ///   - isAsked: whether a signal asks to read the file now, whether it has changed or not.
    ///   - now: the time.
    /// - Returns: when the next turn must begin at the latest.
    func endTurn(isAsked: Bool, now: Int64) -> Int64 {
        if look.isDue(isAsked: isAsked, now: now) {
            let version = FileVersion(path)
            if isAsked || version != self.version {
                // Noted first, so that a change during the reading is noticed later.
                self.version = version
                reload(now: now)
            }
        }
        return look.next
    }

    private func reload(now: Int64) {
        do throws(TokensFileError) {
            tokens = try TokensFile(path: path, now: now).tokens
            remembered = Array(repeating: nil, count: Self.rememberedCount)
            log.info("read \(countText) from '\(path)' again")
            for event in expiredEvents(now: now) { log.write(event) }
        } catch {
            log.write(.warning("the tokens stay as they were: \(error.description)").repeated)
        }
    }

    private var countText: String { tokens.count == 1 ? "1 token" : "\(tokens.count) tokens" }

    private func expiredEvents(now: Int64) -> [LogEvent] {
        let expired = tokens.filter { $0.hasExpired(now: now) }
        if expired.isEmpty { return [] }
        let names = expired.prefix(10).map { "'\($0.name)'" }.joined(separator: ", ")
        let rest = expired.count > 10 ? " and \(expired.count - 10) more" : ""
        return [.warning("these tokens have expired and no longer work: \(names)\(rest)").repeated]
    }
}
