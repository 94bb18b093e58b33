// One attempt to send a task, and its outcome.

import Net
import Queues
import UID

/// An attempt to send a task: in flight at first, then ended.
public struct Attempt {
    /// The task.
    public let task: UID
    /// The task's queue.
    public let queue: SendingQueue
    /// The URL to which the task is sent.
    public let url: HTTPURL
    /// The size of the request's body.
    let bodyByteCount: Int

    /// Whether the task's result is kept or waited for. Known when the attempt has ended.
    public internal(set) var isResultWanted = false
    /// Whether there is room for the response's body in the result. Known when the attempt has ended.
    public internal(set) var keepsBody = false
    /// The wall-clock time when the attempt ended.
    public internal(set) var endUnixMilliseconds: Int64 = 0

    init(task: UID, queue: SendingQueue, url: HTTPURL, bodyByteCount: Int) {
        self.task = task
        self.queue = queue
        self.url = url
        self.bodyByteCount = bodyByteCount
    }

    /// What becomes of the task.
    public enum Outcome {
        /// The task is done. The result is JSON, or empty for none.
        case done(result: [UInt8])
        /// The receiver works, but does not want the task: it dies.
        case unwanted(error: String, result: [UInt8])
        /// The task goes back to its queue, or dies, as the action says.
        case failed(NakAction, error: String, result: [UInt8] = [])

        /// Whether the attempt failed.
        var isFailure: Bool {
            if case .failed = self { true } else { false }
        }

        /// Roughly the number of bytes that the outcome adds to its task.
        var byteCount: Int {
            switch self {
            case .done(let result): result.count
            case .unwanted(let error, let result), .failed(_, let error, let result): error.utf8.count + result.count
            }
        }
    }

    /// The response as the task's result; empty if the result is not wanted.
    public func result(of response: borrowing ClientResponse, elapsedMilliseconds: Int64) -> [UInt8] {
        if !isResultWanted { return [] }
        return Answer.result(response, elapsedMilliseconds: elapsedMilliseconds, keepsBody: keepsBody)
    }

    /// The outcome after a request: done if there is a response without a flaw, failed otherwise.
    ///
    /// - Parameters:
    ///   - clientOutcome: the response, or the reason why there is none.
    ///   - flaw: returns nil if the response means success; if not, the rest of the sentence "… answered 200", which
    ///     may be empty.
    /// - Returns: the outcome.
    public func outcome(
        after clientOutcome: borrowing ClientOutcome, flaw: (_ response: borrowing ClientResponse) -> String?
    ) -> Outcome {
        switch clientOutcome.result {
        case .failure(let failure): return outcome(after: failure)
        case .success(let response):
            let result = result(of: response, elapsedMilliseconds: clientOutcome.elapsedMilliseconds)
            guard let flaw = flaw(response) else { return .done(result: result) }
            return .failed(.failed, error: "\(place) answered \(response.status)\(flaw)", result: result)
        }
    }

    /// The outcome after a request without a response: a failed attempt. The task dies if a retry would fail for the
    /// same reason.
    public func outcome(after failure: ClientFailure) -> Outcome {
        // A retry would meet the same forbidden addresses.
        if case .refusedAddress = failure { return .failed(.dead, error: error(failure)) }
        return .failed(.failed, error: error(failure))
    }

    /// The URL of the request and the reason why there was no response. After a redirect the reason names another host.
    public func error(_ failure: ClientFailure) -> String {
        // The reason for refusing an address is a whole sentence already.
        if case .refusedAddress(_, _, let reason) = failure { return "\(place): \(reason)" }
        return "\(place): \(failure)"
    }

    /// The URL for error messages. It leaves out the query, which may be long and may hold secrets.
    public var place: String { TaskDelivery.place(of: url) }
}
