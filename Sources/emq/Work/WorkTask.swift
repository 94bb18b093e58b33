// A task as a worker has it.

import Bytes
import JSON

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
    let requestID: String?
    let metadata: [(name: String, value: String)]
    /// The length of the lease, in milliseconds.
    let leaseMilliseconds: Int64

    /// Reads a task of the response to `/wait/`; nil if it is none.
    init?(_ json: JSONPart) {
        self.init(json, moreAttempts: 0)
        if receipt.isEmpty { return nil }
    }

    /// Reads a task of the response to `/peek/`, which nobody holds, as it will be when a worker takes it; nil if it is
    /// none.
    init?(peeked json: JSONPart) { self.init(json, moreAttempts: 1) }

    private init?(_ json: JSONPart, moreAttempts: Int) {
        // One look at a content that may be large.
        let fields = Dictionary(json.members.map { ($0.name, $0.value) }) { first, _ in first }
        guard let id = fields["id"]?.text, let queue = fields["queue"]?.text else { return nil }
        (self.id, self.queue, receipt) = (id, queue, fields["receipt"]?.text ?? "")
        attempt = fields["attempt"]?.number.flatMap { Int(exactly: $0) }.map { $0 &+ moreAttempts } ?? 1
        content = Array((fields["content"]?.source ?? "null").utf8)
        // The key of a file's request means nothing for the task.
        key = fields["key"]?.text.flatMap { $0.hasPrefix(TaskBatch.keyPrefix) ? nil : $0 }
        traceparent = fields["traceparent"]?.text
        requestID = fields["request_id"]?.text
        metadata = fields["metadata"]?.members.map { ($0.name, $0.value.text ?? "") } ?? []
        // A lease is at most 136 years, so the product is exact.
        leaseMilliseconds = Int64(min(max(fields["retry"]?.number ?? 300, 0), 4_294_967_295) * 1000)
    }

    /// What a command reads from its standard input: a string's text, or the content's JSON.
    var input: [UInt8] {
        guard let text = JSONPart(content[...])?.text else { return content }
        return Array(text.utf8)
    }

    /// The line that a process gets for the task: its fields as a JSON object, without those that it does not have.
    /// `leaseEnd` is in milliseconds since the Unix epoch.
    func line(leaseEnd: Int64) -> [UInt8] {
        var line = Array("{\"id\":".utf8)
        func append(_ name: String, _ text: String) {
            line += Array(",\"\(name)\":".utf8)
            JSONWriter.write(text, to: &line)
        }
        JSONWriter.write(id, to: &line)
        append("queue", queue)
        line += Array(",\"attempt\":\(attempt)".utf8)
        if let key { append("key", key) }
        line += Array(",\"lease_until\":\(leaseEnd / 1000)".utf8)
        if !metadata.isEmpty {
            line += Array(",\"metadata\":{".utf8)
            for (index, (name, value)) in metadata.enumerated() {
                if index > 0 { line.append(UInt8(ascii: ",")) }
                JSONWriter.write(name, to: &line)
                line.append(UInt8(ascii: ":"))
                JSONWriter.write(value, to: &line)
            }
            line.append(UInt8(ascii: "}"))
        }
        if let traceparent { append("traceparent", traceparent) }
        line += Array(",\"content\":".utf8)
        // A line break in JSON is white space between its parts; strings have none.
        line += content.map { $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r") ? UInt8(ascii: " ") : $0 }
        line += Array("}\n".utf8)
        return line
    }
}
