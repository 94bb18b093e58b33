// What a receiver of tasks gets, and what its response means: the same from the server's push and from `emq work --http`.

import Bytes
import JSON
import Net

/// The delivery of a task by an HTTP request.
public enum TaskDelivery {
    /// The timeout of a request if nothing else is said.
    public static let defaultTimeoutMilliseconds: Int64 = 30_000
    private static let pathBytesShown = 500

    /// What the response of a receiver means.
    public enum Verdict {
        /// The task is done.
        case done
        /// The receiver works, but does not want the task: it dies.
        case unwanted(error: String)
        /// The attempt has failed. The receiver may ask for a pause in place of the backoff.
        case failed(error: String, pauseMilliseconds: Int64?)
    }

    /// Appends the fields that tell the receiver about the task.
    ///
    /// - Parameters:
    ///   - id: the task's id.
    ///   - encodedQueue: the queue's name, percent-encoded.
    ///   - attempt: the number of this attempt; 1 for the first.
    ///   - fields: what to append to.
    public static func appendFields(
        id: Span<UInt8>, encodedQueue: [UInt8], attempt: Int64, to fields: inout [UInt8]
    ) {
        fields += "Emq-Task-Id: ".utf8
        fields.append(id)
        fields += "\r\nEmq-Queue: ".utf8
        fields += encodedQueue
        fields += "\r\nEmq-Attempt: ".utf8
        JSONWriter.writeInteger(attempt, to: &fields)
        fields += "\r\n".utf8
    }

    /// The meaning of a response: a status of 2xx is a success, and 410 wants no retry.
    ///
    /// - Parameters:
    ///   - response: the response.
    ///   - place: the URL for the error (`place(of:)`).
    ///   - now: the wall-clock time in milliseconds since the Unix epoch, for a Retry-After that is a date.
    /// - Returns: what becomes of the task.
    public static func verdict(on response: borrowing ClientResponse, from place: String, now: Int64) -> Verdict {
        if (200...299).contains(response.status) { return .done }
        let error = Answer.error(response, from: place)
        if response.status == 410 { return .unwanted(error: error) }
        return .failed(error: error, pauseMilliseconds: Answer.pauseMilliseconds(response, now: now))
    }

    /// The response as the task's result: a JSON object with its status, its fields and its body.
    public static func result(of response: borrowing ClientResponse, elapsedMilliseconds: Int64) -> [UInt8] {
        Answer.result(response, elapsedMilliseconds: elapsedMilliseconds, keepsBody: true)
    }

    /// A URL for error messages. It leaves out the query, which may be long and may hold secrets.
    public static func place(of url: HTTPURL) -> String {
        let path = url.target.prefix { $0 != UInt8(ascii: "?") }
        let isLong = path.count > pathBytesShown
        return String(decoding: url.origin + path.prefix(pathBytesShown), as: UTF8.self) + (isLong ? "…" : "")
    }
}
