// How the tasks of a queue become requests, and what their answers mean: the one part of sending in which queues differ.

import Net
import Queues
import UID

/// Makes the requests of tasks, and reads the answers. All calls are made in the broker's isolation.
public protocol Courier: AnyObject {
    /// How many tasks of a queue are in flight at once if its configuration does not say.
    var concurrency: Int { get }

    /// The request of a task that is about to be dispatched.
    ///
    /// - Parameters:
    ///   - task: the task, as it is before.
    ///   - queue: its queue.
    ///   - unixMilliseconds: the time on the wall.
    /// - Returns: the request.
    /// - Throws: `TaskRequestError` if none can be made; the task is dead then.
    func request(
        for task: borrowing TaskView, of queue: SendingQueue, unixMilliseconds: Int64
    ) throws(TaskRequestError) -> ClientRequest

    /// What becomes of a task whose request has ended like this.
    func verdict(on outcome: borrowing ClientOutcome, of landing: Landing) -> Verdict

    /// Who is to be told of the death of a task.
    ///
    /// - Parameters:
    ///   - task: the task, which may be in another queue by now, as a dead letter.
    ///   - queueName: the name of the queue where it died.
    ///   - push: what that queue's configuration says of how tasks are sent.
    /// - Returns: the news; nil if nobody is.
    func notification(of task: borrowing TaskView, in queueName: [UInt8], push: PushOptions) -> DeadLetterNotification?
}

/// A task whose request has ended.
public struct Landing {
    /// The task.
    public let task: UID
    /// Its queue.
    public let queue: SendingQueue
    /// Where it was sent.
    public let url: HTTPURL
    /// Whether anybody wants to know its result.
    public let isResultWanted: Bool
    /// Whether there is room for the answer's body in it.
    public let keepsBody: Bool
    /// The time on the wall.
    public let unixMilliseconds: Int64

    /// The answer as the task's result, if that is wanted; empty if not.
    public func result(of response: borrowing ClientResponse, elapsedMilliseconds: Int64) -> [UInt8] {
        if !isResultWanted { return [] }
        return Answer.result(response, elapsedMilliseconds: elapsedMilliseconds, keepsBody: keepsBody)
    }

    /// What becomes of a task whose attempt has failed unless there is an answer without a flaw.
    ///
    /// - Parameters:
    ///   - outcome: how its request has ended.
    ///   - flaw: what is wrong with an answer, as it is to stand behind "… answered 200"; nil if it is a success.
    /// - Returns: the verdict.
    public func verdict(
        on outcome: borrowing ClientOutcome, flaw: (_ response: borrowing ClientResponse) -> String?
    ) -> Verdict {
        switch outcome.result {
        case .failure(let failure): return verdict(on: failure)
        case .success(let response):
            let result = result(of: response, elapsedMilliseconds: outcome.elapsedMilliseconds)
            guard let flaw = flaw(response) else { return .done(result: result) }
            return .failed(.failed, error: "\(place) answered \(response.status)\(flaw)", result: result)
        }
    }

    /// What becomes of a task that got no answer: a failed attempt, or the last one if another would come to the same.
    public func verdict(on failure: ClientFailure) -> Verdict {
        // Trying again would come to the same addresses, which may not be reached.
        if case .refusedAddress = failure { return .failed(.dead, error: error(failure)) }
        return .failed(.failed, error: error(failure))
    }

    /// Where a task was sent, and why it got no answer. A redirect may have led elsewhere, so the reason names its host itself.
    public func error(_ failure: ClientFailure) -> String {
        // Whoever refuses an address gives the reason as a whole sentence.
        if case .refusedAddress(_, _, let reason) = failure { return "\(place): \(reason)" }
        return "\(place): \(failure)"
    }

    /// Where it was sent, as it stands in a sentence: without the query, which may be long, and no business of those who read it.
    public var place: String {
        let path = url.target.prefix { $0 != UInt8(ascii: "?") }
        let isLong = path.count > Self.pathBytesShown
        return "http://" + String(decoding: url.authority + path.prefix(Self.pathBytesShown), as: UTF8.self)
            + (isLong ? "…" : "")
    }

    private static let pathBytesShown = 500
}

/// What becomes of a task that was sent.
public enum Verdict {
    /// It is done. The result is JSON, or empty for none.
    case done(result: [UInt8])
    /// It is given back.
    case failed(NakAction, error: String, result: [UInt8] = [])

    /// About how many bytes it adds to its task.
    var byteCount: Int {
        switch self {
        case .done(let result): result.count
        case .failed(_, let error, let result): error.utf8.count + result.count
        }
    }
}

/// What somebody is told of the death of a task.
public struct DeadLetterNotification {
    /// Where it goes, by POST.
    public let url: HTTPURL
    /// The content, JSON.
    public let content: [UInt8]
    /// The pause before it is tried again, which it is until it expires; nil leaves it to the queue.
    public let backoff: Backoff?

    /// A notification for a URL.
    public init(url: HTTPURL, content: [UInt8], backoff: Backoff? = .ofSentTasks) {
        self.url = url
        self.content = content
        self.backoff = backoff
    }
}

/// Why a task can never be sent.
public struct TaskRequestError: Error {
    /// A sentence without capital and full stop.
    public let description: String

    /// An error with its reason.
    public init(_ description: String) { self.description = description }
}
