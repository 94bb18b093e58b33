// The part of sending in which queues differ: how a task becomes a request, and what the response means.

import Net
import Queues

/// Makes the requests of tasks and interprets their responses. `Delivery` makes all calls in the broker's isolation.
public protocol Courier: AnyObject {
    /// The number of tasks of a queue in flight at once, unless its configuration says otherwise.
    var concurrency: Int { get }

    /// Whether a rate spreads the starts of requests evenly, instead of allowing bursts. By default it does not.
    var spreadsStarts: Bool { get }

    /// The request for a task that is about to be dispatched.
    ///
    /// - Parameters:
    ///   - task: the task, as it is before the dispatch.
    ///   - queue: its queue.
    ///   - unixMilliseconds: the wall-clock time.
    /// - Returns: the request.
    /// - Throws: `TaskRequestError` if the task can never be sent; it is dead then, or done with the error's result.
    func request(
        for task: borrowing TaskView, of queue: SendingQueue, unixMilliseconds: Int64
    ) throws(TaskRequestError) -> ClientRequest

    /// The outcome of an attempt whose request has ended.
    ///
    /// - Parameters:
    ///   - attempt: the attempt.
    ///   - clientOutcome: the response, or the reason why there is none.
    /// - Returns: what becomes of the task.
    func outcome(of attempt: Attempt, after clientOutcome: borrowing ClientOutcome) -> Attempt.Outcome

    /// The dead-letter notification for a task that has died. By default there is none.
    ///
    /// - Parameters:
    ///   - task: the task. It may be in another queue by now, as a dead letter.
    ///   - queueName: the name of the queue where it died.
    ///   - push: the push options of that queue.
    /// - Returns: nil if there is no URL to notify.
    func deadLetterNotification(
        for task: borrowing TaskView, in queueName: [UInt8], push: PushOptions
    ) -> DeadLetterNotification?
}

extension Courier {
    /// Bursts are allowed.
    public var spreadsStarts: Bool { false }

    /// No notification.
    public func deadLetterNotification(
        for task: borrowing TaskView, in queueName: [UInt8], push: PushOptions
    ) -> DeadLetterNotification? { nil }
}

/// A message that tells a URL that a task has died.
public struct DeadLetterNotification {
    /// The URL to which it is sent, by POST.
    public let url: HTTPURL
    /// The content, as JSON.
    public let content: [UInt8]
    /// The backoff between attempts, which go on until the notification expires; nil for the queue's.
    public let backoff: Backoff?

    /// A notification for a URL.
    public init(url: HTTPURL, content: [UInt8], backoff: Backoff? = .ofSentTasks) {
        self.url = url
        self.content = content
        self.backoff = backoff
    }
}

/// The reason why a task can never be sent.
public struct TaskRequestError: Error {
    /// A sentence without a capital and a full stop.
    public let description: String
    /// The result of the task, which is done with it; nil if the task dies.
    public let result: [UInt8]?

    /// An error with its reason.
    public init(_ description: String, result: [UInt8]? = nil) {
        self.description = description
        self.result = result
    }
}
