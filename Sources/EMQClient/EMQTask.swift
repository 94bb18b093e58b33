// A task as a worker has it.

import Bytes
import JSON

/// A task that was taken from its queue, for the time of its lease.
public struct EMQTask: Sendable, Identifiable {
    /// The task's id, of 22 characters.
    public let id: String
    /// What stands for this dispatch of the task. A worker whose lease has run out cannot end the next one with it.
    public let receipt: String
    /// The queue.
    public let queue: String
    /// The content, as it was sent.
    public let content: RawJSON
    /// 1 at the first dispatch, and more at each later one.
    public let attempt: Int
    /// How long the task may be held. Extending the lease begins it anew.
    public let lease: Duration
    /// The key, if the task was enqueued with one.
    public let key: String?
    /// The metadata; empty if there is none.
    public let metadata: [String: String]
    /// The name of the request that enqueued the task, if it has one (`X-Request-Id`).
    public let requestID: String?
    /// The place in a trace of the request that enqueued the task, if it has one.
    public let traceparent: String?

    /// Reads the content.
    ///
    /// - Parameter type: The type of the content.
    /// - Returns: The content.
    /// - Throws: `DecodingError`, with the coding path.
    public func decode<Content: Decodable>(_ type: Content.Type = Content.self) throws -> Content {
        try content.decode(type)
    }

    var leaseMilliseconds: Int64 { lease.milliseconds }

    /// Reads a task of an answer; nil if it is none.
    init?(_ tape: JSONTape, _ node: Int) {
        guard tape.nodes[node].kind == .object else { return nil }
        var (id, receipt, queue, key, requestID, traceparent): (String?, String?, String?, String?, String?, String?)
        var content: RawJSON?
        var attempt = 1
        var leaseMilliseconds: Int64 = 300_000
        var metadata: [String: String] = [:]
        tape.forEachMember(of: node) { name, value in
            if tape.isName(name, "id") {
                id = tape.text(value)
            } else if tape.isName(name, "receipt") {
                receipt = tape.text(value)
            } else if tape.isName(name, "queue") {
                queue = tape.text(value)
            } else if tape.isName(name, "content") {
                content = RawJSON(checked: tape.source(value))
            } else if tape.isName(name, "attempt") {
                attempt = (try? tape.integer(value)).map(Int.init) ?? 1
            } else if tape.isName(name, "retry") {
                leaseMilliseconds = (try? tape.milliseconds(value)) ?? leaseMilliseconds
            } else if tape.isName(name, "key") {
                key = tape.text(value)
            } else if tape.isName(name, "request_id") {
                requestID = tape.text(value)
            } else if tape.isName(name, "traceparent") {
                traceparent = tape.text(value)
            } else if tape.isName(name, "metadata") {
                tape.forEachMember(of: value) { name, value in
                    if let name = tape.text(name), let text = tape.text(value) { metadata[name] = text }
                }
            }
        }
        guard let id, let receipt, let queue else { return nil }
        (self.id, self.receipt, self.queue, self.attempt) = (id, receipt, queue, attempt)
        self.content = content ?? .null
        lease = .milliseconds(leaseMilliseconds)
        self.key = key.flatMap { $0.hasPrefix(RepetitionKey.prefix) ? nil : $0 }
        (self.requestID, self.traceparent, self.metadata) = (requestID, traceparent, metadata)
    }
}

/// The answer to a wait.
struct WaitAnswer {
    /// The tasks; nil for places without one.
    let places: [EMQTask?]

    /// - Throws: An error if the bytes are no answer to a wait.
    init(_ bytes: [UInt8]) throws {
        let tape = try JSONTape(bytes)
        guard tape.nodes[0].kind == .array else { throw StrangeAnswer(description: "it is not an array") }
        places = try tape.elements(of: 0).map { node in
            if tape.nodes[node].kind == .null { return nil }
            guard let task = EMQTask(tape, node) else { throw StrangeAnswer(description: "an element is not a task") }
            return task
        }
    }

    var tasks: [EMQTask] { places.compactMap { $0 } }
    var receipts: [String] { tasks.map(\.receipt) }
}

/// What is wrong with an answer.
struct StrangeAnswer: Error, CustomStringConvertible {
    let description: String
}
