// The outcome of a request of htq: its status, and the response as clients see it, which is the task's result.

import Bytes
import JSON
import Net
import Queues
import UID

/// The status of a request.
enum HtqStatus: String, CaseIterable {
    /// It waits to be sent.
    case queued
    /// It is being sent.
    case pending
    /// A response came, whatever its code.
    case success
    /// No response came.
    case error
    /// No response came in time.
    case timeout
    case canceled

    init(_ task: borrowing TaskView) {
        switch task.state {
        case .ready, .delayed: self = .queued
        case .dispatched: self = .pending
        case .cancelled: self = .canceled
        case .done, .expired, .dead:
            let result = task.result
            let usual: HtqStatus = task.state == .done ? .success : task.state == .expired ? .timeout : .error
            self = Self.allCases.first { result.starts(with: $0.json.dropLast()) } ?? usual
        }
    }

    /// The status alone, which is all that remains of a deleted response.
    var json: [UInt8] { Array("{\"status\": \"\(rawValue)\"}".utf8) }
}

/// Makes the responses that clients see, and reads them from tasks.
enum HtqResponse {
    /// The response of a request: an empty object if it was deleted or the request cancelled, and nil while there is
    /// none.
    static func json(of task: borrowing TaskView) -> [UInt8]? {
        if task.state.isUnfinished { return nil }
        guard isThere(task) else { return Array("{}".utf8) }
        switch task.state {
        case .expired:
            return json(of: .timeout, "the request expired after a day", unixMilliseconds: task.finished ?? 0)
        case .dead:
            let reason =
                task.error.isEmpty ? "the request was given up" : String(decoding: task.error, as: UTF8.self)
            return json(of: .error, reason, unixMilliseconds: task.finished ?? 0)
        default: return task.result
        }
    }

    /// Whether a request has a response that can be deleted. A request that was never sent shows a made-up one, which
    /// counts until a status replaces it.
    static func isThere(_ task: borrowing TaskView) -> Bool {
        switch task.state {
        case .ready, .delayed, .dispatched, .cancelled: false
        case .expired, .dead: task.result.isEmpty
        case .done: task.result.count > HtqStatus(task).json.count
        }
    }

    /// The response of a request that received none.
    static func json(of status: HtqStatus, _ message: String, unixMilliseconds: Int64) -> [UInt8] {
        var json = status.json.dropLast() + Array(", \"time\": \(unixMilliseconds), \"message\": ".utf8)
        JSONWriter.write(message, to: &json)
        json.append(UInt8(ascii: "}"))
        return json
    }

    /// The response of a request that received one.
    ///
    /// - Parameters:
    ///   - response: the response.
    ///   - id: the request.
    ///   - elapsedMilliseconds: how long it took.
    ///   - keepsBody: whether there is room for its body.
    ///   - unixMilliseconds: when the request was sent.
    /// - Returns: an object of JSON.
    static func json(
        of response: borrowing ClientResponse, to id: UID, elapsedMilliseconds: Int64, keepsBody: Bool,
        unixMilliseconds: Int64
    ) -> [UInt8] {
        var json = Array(
            "{\"status\": \"success\", \"time\": \(unixMilliseconds), \"code\": \(response.status), \"reason\": ".utf8)
        JSONWriter.write(TextEncoding.utf8OrLatin1(response.reason), to: &json)
        json += ", \"elapsed\": \(elapsedMilliseconds), \"uuid\": \"\(id.uuidString)\", \"headers\": {".utf8
        var contentType = ""
        for (index, field) in response.joinedFields.enumerated() {
            if field.name.lowercased() == "content-type" { contentType = field.value }
            if index > 0 { json += ", ".utf8 }
            JSONWriter.write(field.name, to: &json)
            json += ": ".utf8
            JSONWriter.write(field.value, to: &json)
        }
        json += "}, \"data\": ".utf8
        let body = keepsBody ? response.body : Span()
        let text = TextEncoding.text(of: body, contentType: contentType, isTruncated: response.isTruncated)
        JSONWriter.write(text, to: &json)
        if response.isTruncated || !keepsBody && !response.body.isEmpty { json += ", \"truncated\": true".utf8 }
        json.append(UInt8(ascii: "}"))
        return json
    }
}
