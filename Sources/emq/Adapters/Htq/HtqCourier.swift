// The requests that htq sends for its clients, and their outcomes.

import Delivery
import Net
import Queues

/// Sends the requests of htq's clients. Each is sent once, and its outcome is the task's result, whatever it is.
final class HtqCourier: QueueCourier {
    let concurrency: Int

    /// - Parameter workers: the number of requests in flight at once.
    init(workers: Int) { concurrency = workers }

    func owns(_ queueName: Span<UInt8>) -> Bool { LegacySystem.htq.owns(queueName) }

    func request(
        for task: borrowing TaskView, of queue: SendingQueue, unixMilliseconds: Int64
    ) throws(TaskRequestError) -> ClientRequest {
        guard let stored = HtqRequest(stored: task.content) else {
            throw TaskRequestError("its content is not a request of htq")
        }
        do throws(HtqFlaw) {
            return try stored.clientRequest()
        } catch {
            let result = HtqResponse.json(of: .error, error.message, unixMilliseconds: unixMilliseconds)
            throw TaskRequestError(error.message, result: result)
        }
    }

    func outcome(of attempt: Attempt, after clientOutcome: borrowing ClientOutcome) -> Attempt.Outcome {
        // The original notes the time of sending.
        let time = attempt.endUnixMilliseconds - clientOutcome.elapsedMilliseconds
        switch clientOutcome.result {
        case .success(let response):
            return .done(
                result: HtqResponse.json(
                    of: response, to: attempt.task, elapsedMilliseconds: clientOutcome.elapsedMilliseconds,
                    keepsBody: attempt.keepsBody, unixMilliseconds: time))
        case .failure(let failure):
            let (status, message): (HtqStatus, String) =
                switch failure {
                case .timeout: (.timeout, "\(failure)")
                case .redirectLimit(_, let limit): (.error, "Exceeded \(limit) redirects.")
                default: (.error, "\(failure)")
                }
            return .done(result: HtqResponse.json(of: status, message, unixMilliseconds: time))
        }
    }
}
