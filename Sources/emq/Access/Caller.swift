// Who sends a request, and what that sender may do.

import Queues
import UID

/// The sender of a request.
enum Caller {
    /// The server has no tokens, so everybody may do everything.
    case anyone
    /// The holder of a valid token.
    case holder(Token)
    /// Somebody without a valid token, who may do only what needs none.
    case stranger(Reason)

    /// Why a sender is a stranger.
    enum Reason: CaseIterable {
        case missing, malformed, unknown, damaged, expired
    }

    /// Whether the sender has shown a valid token.
    var hasToken: Bool { if case .holder = self { true } else { false } }

    /// Whether the sender may concern itself with all queues.
    var coversAllQueues: Bool {
        switch self {
        case .anyone: true
        case .holder(let token): token.coversAllQueues
        case .stranger: false
        }
    }

    /// Whether the sender may concern itself with a queue. O(patterns of the token).
    @inline(__always)
    func covers(_ queueName: Span<UInt8>) -> Bool {
        switch self {
        case .anyone: true
        case .holder(let token): token.covers(queueName)
        case .stranger: false
        }
    }

    /// Whether the sender has a permission for a queue. O(patterns of the token).
    func has(_ permission: Permission, in queueName: Span<UInt8>) -> Bool {
        switch self {
        case .anyone: true
        case .holder(let token): token.permissions.contains(permission) && token.covers(queueName)
        case .stranger: false
        }
    }

    /// Whether the sender may concern itself with the same queues as another one; false if that is hard to tell.
    func coversSame(as other: Caller) -> Bool {
        if case .holder(let token) = self, case .holder(let otherToken) = other, token === otherToken { return true }
        return coversAllQueues && other.coversAllQueues
    }

    /// Checks that the sender has a permission for a queue.
    ///
    /// - Throws: 403, or 401 for a stranger.
    @inline(__always)
    func check(_ permission: Permission, in queueName: Span<UInt8>) throws(Problem) {
        if case .anyone = self { return }
        try checkToken(permission, in: queueName)
    }

    private func checkToken(_ permission: Permission, in queueName: Span<UInt8>) throws(Problem) {
        let token = try token
        guard token.permissions.contains(permission) else {
            throw token.lacks(permission, " for the queue '\(String(decoding: queueName))'")
        }
        guard token.covers(queueName) else {
            throw Problem(
                .queueNotAllowed,
                "the token '\(token.name)' has the permission '\(permission.name)', but not for the queue "
                    + "'\(String(decoding: queueName))'; its queues are \(token.queuesText)")
        }
    }

    /// Checks that the sender has a permission, whatever queues it has it for.
    ///
    /// - Throws: 403, or 401 for a stranger.
    func check(_ permission: Permission) throws(Problem) {
        if case .anyone = self { return }
        let token = try token
        guard token.permissions.contains(permission) else { throw token.lacks(permission) }
    }

    /// Checks that the sender has a permission for all queues.
    ///
    /// - Parameters:
    ///   - permission: the permission.
    ///   - what: what needs it, to begin a sentence.
    /// - Throws: 403, or 401 for a stranger.
    func checkAllQueues(_ permission: Permission, for what: StaticString) throws(Problem) {
        if case .anyone = self { return }
        let token = try token
        guard token.permissions.contains(permission) else { throw token.lacks(permission, " for all queues") }
        guard token.coversAllQueues else {
            throw Problem(
                .queueNotAllowed,
                "\(what) concerns all queues, but the token '\(token.name)' has the permission '\(permission.name)' "
                    + "only for \(token.queuesText)")
        }
    }

    private var token: Token {
        get throws(Problem) {
            switch self {
            case .holder(let token): return token
            case .stranger(let reason): throw Problem(reason)
            // The callers have returned before this.
            case .anyone: throw Problem(.missing)
            }
        }
    }
}

extension Token {
    fileprivate func lacks(_ permission: Permission, _ place: String = "") -> Problem {
        Problem(
            .permissionMissing,
            "the token '\(name)' lacks the permission '\(permission.name)'\(place); it has \(permissionsText)")
    }

    /// What it allows, for people.
    var permissionsText: String {
        Permission.allCases.filter(permissions.contains).map { "'\($0.name)'" }.joined(separator: ", ")
    }

    /// Its queues, for people.
    var queuesText: String {
        let shown = queues.prefix(5).map { "'\($0.text)'" }.joined(separator: ", ")
        return queues.isEmpty ? "all" : queues.count > 5 ? "\(shown) and others" : shown
    }
}

extension Problem {
    /// The problem of a sender without a valid token.
    init(_ reason: Caller.Reason) {
        let sending = "Authorization: Bearer TOKEN, or Basic with the token as the password"
        switch reason {
        case .missing:
            self.init(.authenticationRequired, "this server requires a token; send the header \(sending)")
        case .malformed: self.init(.malformedAuthorization, "send one Authorization header: \(sending)")
        case .unknown:
            self.init(.unknownToken, "this server does not know the token; the server's operator may have removed it")
        case .damaged: self.init(.damagedToken, "the token is incomplete or mistyped: its checksum is wrong")
        case .expired: self.init(.expiredToken, "the token has expired; the server's operator can give you a new one")
        }
    }
}

extension Context {
    /// Whether the sender of the current request may concern itself with a task. False for a task that does not exist.
    /// O(patterns of the token).
    @inline(__always)
    func covers(_ id: UID, on broker: isolated Broker) -> Bool {
        if case .anyone = caller { return true }
        return coversTask(id, on: broker)
    }

    private func coversTask(_ id: UID, on broker: isolated Broker) -> Bool {
        if caller.coversAllQueues { return true }
        return broker.withTask(id: id, now: now) { caller.covers($0.queueName) } ?? false
    }

    /// Whether the content of a task is hidden from the sender of the current request: its queue hides it, or the queue
    /// where it died, and the sender lacks the permission `admin` for that queue. O(patterns of the token).
    func hidesContent(of task: borrowing TaskView, on broker: isolated Broker) -> Bool {
        if case .anyone = caller { return false }
        if hidesContent(in: task.queueName, on: broker) { return true }
        let origin = task.origin
        return !origin.isEmpty && hidesContent(in: origin.span, on: broker)
    }

    private func hidesContent(in queueName: Span<UInt8>, on broker: isolated Broker) -> Bool {
        !caller.has(.admin, in: queueName) && broker.hidesContent(ofQueueNamed: queueName)
    }

    /// Checks that a move lets nobody look at content that is hidden from the sender of the current request.
    ///
    /// - Parameters:
    ///   - source: the name of the queue from which tasks would move, or where they died.
    ///   - target: the name of the queue to which they would move.
    ///   - broker: the broker.
    /// - Throws: 403.
    func checkContent(from source: Span<UInt8>, to target: Span<UInt8>, on broker: isolated Broker) throws(Problem) {
        if case .anyone = caller { return }
        guard hidesContent(in: source, on: broker), !broker.hidesContent(ofQueueNamed: target) else { return }
        let (hiding, showing) = (String(decoding: source), String(decoding: target))
        throw Problem(
            .permissionMissing,
            "the queue '\(hiding)' hides the content of its tasks, and '\(showing)' would show it; such a move needs the "
                + "permission 'admin' for '\(hiding)'")
    }

    /// Checks that a return of any dead letters of a queue to their origins lets nobody look at content that is hidden
    /// from the sender of the current request. The origins are unknown, so each could be one that shows it.
    ///
    /// - Parameters:
    ///   - source: the name of the queue from which dead letters would return.
    ///   - broker: the broker.
    /// - Throws: 403.
    func checkContent(from source: Span<UInt8>, on broker: isolated Broker) throws(Problem) {
        if case .anyone = caller { return }
        guard hidesContent(in: source, on: broker) else { return }
        let hiding = String(decoding: source)
        throw Problem(
            .permissionMissing,
            "the queue '\(hiding)' hides the content of its tasks, and the queues where they died may show it; "
                + "'to=origin' needs the permission 'admin' for '\(hiding)', or kick tasks by their ids (POST /kick/)")
    }
}

extension Broker {
    /// Whether a queue's configuration, or the defaults for all queues, hide the content of its tasks.
    fileprivate func hidesContent(ofQueueNamed name: Span<UInt8>) -> Bool {
        // A queue that emq has forgotten has no configuration of its own.
        guard let queue = existingQueue(named: name) else { return defaults?.showsContent == false }
        return hidesContent(of: queue)
    }
}
