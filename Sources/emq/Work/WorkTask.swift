// A task as a worker has it.

import Bytes

/// A task that was taken from the server.
struct WorkTask {
    let id: String
    let receipt: String
    let queue: String
    let attempt: Int
    /// The content, as JSON.
    let content: [UInt8]
    let key: String?
    let traceparent: String?
    let metadata: [(name: String, value: String)]
    /// The length of the lease, in milliseconds.
    let leaseMilliseconds: Int64

    /// Reads a task of the response to `/wait/`; nil if it is none.
    init?(_ json: JSONPart) {
        guard let receipt = json["receipt"]?.text else { return nil }
        self.init(json, receipt: receipt)
    }

    /// Reads a task of the response to `/peek/`, which nobody holds; nil if it is none.
    init?(peeked json: JSONPart) { self.init(json, receipt: "") }

    private init?(_ json: JSONPart, receipt: String) {
        guard let id = json["id"]?.text, let queue = json["queue"]?.text else { return nil }
        (self.id, self.receipt, self.queue) = (id, receipt, queue)
        attempt = Int(json["attempt"]?.number ?? 1)
        content = Array((json["content"]?.source ?? "null").utf8)
        key = json["key"]?.text
        traceparent = json["traceparent"]?.text
        metadata = json["metadata"]?.members.map { ($0.name, $0.value.text ?? "") } ?? []
        // A lease is at most 136 years, so the product is exact.
        leaseMilliseconds = Int64(min(max(json["retry"]?.number ?? 300, 0), 4_294_967_295) * 1000)
    }

    /// What a command reads from its standard input: a string's text, or the content's JSON.
    var input: [UInt8] {
        guard let text = JSONPart(content[...])?.text else { return content }
        return Array(text.utf8)
    }
}
