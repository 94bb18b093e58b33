// Everything that can go wrong with a request, in one type.

/// Why a request to the server has failed.
///
/// ``kind`` says whether the server refused the request or there was no answer. If the server refused it, ``type`` says
/// why, in a form for programs:
///
/// ```swift
/// do {
///     try await client.enqueue(letter, to: "mail")
/// } catch let error as EMQError where error.type == .queueFull {
///     …
/// }
/// ```
public struct EMQError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What has failed.
    public enum Kind: Sendable, Equatable {
        /// The server refused the request, which has changed nothing.
        case refused
        /// The client could not reach the server, or lost the connection. The request has changed nothing, or it would
        /// do no harm to send it again.
        case connection
        /// The time for the request ran out. As with ``connection``, you may send it again.
        case timeout
        /// The connection broke or the time ran out after the request was sent, so the server may have done what the
        /// request asks for, and doing it again may do it twice.
        case outcomeUnknown
        /// The answer is not one of an emq server. Check the URL.
        case unexpectedAnswer
        /// An argument, an option or a variable of the environment is wrong. Nothing was sent.
        case invalidArgument
        /// The task was no longer held when the work on it ended.
        case leaseLost
        /// The client was closed.
        case closed
    }

    /// What has failed.
    public var kind: Kind
    /// The type of the server's refusal; nil if it is none.
    public var type: ProblemType?
    /// The status of the server's answer; nil without an answer.
    public var status: Int?
    /// The name of the type, for people.
    public var title: String?
    /// What is wrong and what would be right, for people.
    public var detail: String
    /// The field or parameter at fault.
    public var field: String?
    /// How long the server asks to wait before the next try.
    public var retryAfter: Duration?
    /// The request, such as `POST /enqueue/mail`; nil if there was none.
    public var request: String?
    /// The server's URL or socket, without a token; nil if there was no request.
    public var server: String?

    /// Whether an earlier try of the request may have arrived.
    var isRepeated = false

    init(_ kind: Kind, _ detail: String) { (self.kind, self.detail) = (kind, detail) }

    /// A sentence with the request and the server. It never has the token.
    public var description: String {
        guard let request, let server else { return detail }
        let status = status.map { " (status \($0))" } ?? ""
        return "\(request) at \(server): \(detail)\(status)"
    }
}

/// The type of a refusal, such as `urn:emq:error:queue-full`. The list of errors in emq's documentation explains each.
public struct ProblemType: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// The URN.
    public var rawValue: String

    /// A type by its URN.
    public init(rawValue: String) { self.rawValue = rawValue }

    private init(_ word: String) { rawValue = "urn:emq:error:\(word)" }

    /// The last word of the URN.
    public var description: String { rawValue.split(separator: ":").last.map(String.init) ?? rawValue }

    /// A field has a wrong type or value.
    public static let invalidField = ProblemType("invalid-field")
    /// A query parameter has a wrong value.
    public static let invalidParameter = ProblemType("invalid-parameter")
    /// The name of a queue or source is not valid.
    public static let invalidName = ProblemType("invalid-name")
    /// This is not the id of a task.
    public static let invalidID = ProblemType("invalid-id")
    /// The body nests arrays and objects too deep.
    public static let jsonTooDeep = ProblemType("json-too-deep")
    /// The request has more items than one may have.
    public static let tooManyItems = ProblemType("too-many-items")
    /// An array has more tasks than the queue may hold.
    public static let batchTooLong = ProblemType("batch-too-long")
    /// The server has tokens, and the client has none.
    public static let authenticationRequired = ProblemType("authentication-required")
    /// The server does not know the token.
    public static let unknownToken = ProblemType("unknown-token")
    /// The token has expired.
    public static let expiredToken = ProblemType("expired-token")
    /// The token does not allow such requests.
    public static let permissionMissing = ProblemType("permission-missing")
    /// The token does not allow this queue.
    public static let queueNotAllowed = ProblemType("queue-not-allowed")
    /// The server may not send tasks.
    public static let pushDisabled = ProblemType("push-disabled")
    /// The server may not connect to this address.
    public static let destinationNotAllowed = ProblemType("destination-not-allowed")
    /// The queue belongs to a legacy system.
    public static let queueReserved = ProblemType("queue-reserved")
    /// There is nothing at this path.
    public static let noSuchPath = ProblemType("no-such-path")
    /// There is no such task, or it has ended and is not kept.
    public static let noSuchTask = ProblemType("no-such-task")
    /// No task has the key.
    public static let noSuchKey = ProblemType("no-such-key")
    /// There is no such source.
    public static let noSuchSource = ProblemType("no-such-source")
    /// The last task of the previous page is no longer in this queue and state.
    public static let pageGone = ProblemType("page-gone")
    /// Another task has the key.
    public static let keyTaken = ProblemType("key-taken")
    /// The key belongs to an unfinished task.
    public static let taskUnfinished = ProblemType("task-unfinished")
    /// The body is too large.
    public static let bodyTooLarge = ProblemType("body-too-large")
    /// The request changes too much at once.
    public static let changeTooLarge = ProblemType("change-too-large")
    /// The queue has its maximum length.
    public static let queueFull = ProblemType("queue-full")
    /// The server has started and still reads its journal.
    public static let recovering = ProblemType("recovering")
    /// The server is stopping.
    public static let stopping = ProblemType("stopping")
    /// The memory for tasks is used up.
    public static let memoryFull = ProblemType("memory-full")
    /// The server's system has no memory for the request.
    public static let addressSpaceFull = ProblemType("address-space-full")
    /// The memory for requests and responses is used up.
    public static let buffersFull = ProblemType("buffers-full")
    /// The journal has no room.
    public static let diskFull = ProblemType("disk-full")
    /// The server has as many tasks as it can have.
    public static let tooManyTasks = ProblemType("too-many-tasks")
    /// The server has as many sources as it can have.
    public static let tooManySources = ProblemType("too-many-sources")
    /// Too many purges, kicks and moves are in progress.
    public static let tooManySweeps = ProblemType("too-many-sweeps")
    /// The server's system has no library for this.
    public static let libraryMissing = ProblemType("library-missing")
}
