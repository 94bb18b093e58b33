// The callbacks of httpqueue: the request to a receiver, and the meaning of its response.

import Bytes
import Delivery
import JSON
import Net
import Queues

/// Sends the tasks of httpqueue to their callbacks.
final class HttpqueueCourier: QueueCourier {
    /// The longest time that a callback may take.
    static let timeoutMilliseconds: Int64 = 600_000
    /// The longest response in which the code is found, in bytes.
    static let maximumResponseBytes = 16 << 20

    /// The original makes this many calls at once.
    let concurrency = 20

    func owns(_ queueName: Span<UInt8>) -> Bool { LegacySystem.httpqueue.owns(queueName) }

    func request(
        for task: borrowing TaskView, of queue: SendingQueue, unixMilliseconds: Int64
    ) throws(TaskRequestError) -> ClientRequest {
        guard let url = PushOptions(stored: task.request, of: .task).url else {
            throw TaskRequestError("the task has no callback")
        }
        let id = task.id.uuidText
        var body = Array("{\"id\":\"".utf8)
        body.append(id.span)
        body += "\",\"topic\":".utf8
        JSONWriter.writeString(LegacySystem.httpqueue.part(of: task.queueName), to: &body)
        body += ",\"content\":".utf8
        body.append(task.content)
        body += "}".utf8
        var request = ClientRequest(posting: body, to: url, timeoutMilliseconds: Self.timeoutMilliseconds)
        request.bodyLimit = Self.maximumResponseBytes
        return request
    }

    func outcome(of attempt: Attempt, after clientOutcome: borrowing ClientOutcome) -> Attempt.Outcome {
        attempt.outcome(after: clientOutcome) { response in
            guard !response.isTruncated else {
                return " with more bytes than emq could read (\(response.body.count)); success is JSON with code 100"
            }
            do throws(JSONError) {
                switch try CallbackCode(in: response.body) {
                case .integer(100): return nil
                case .integer(let code): return " with code \(code); success is code 100"
                case .invalid(let range):
                    let code = response.body.extracting(range)
                    let shown = text(code.extracting(first: shownBytes)) + (code.count > shownBytes ? "…" : "")
                    return " with code \(shown); success is the integer 100"
                case .missing: return " with no code; success is code 100"
                }
            } catch {
                return " with invalid JSON (\(error)); success is JSON with code 100"
            }
        }
    }
}
