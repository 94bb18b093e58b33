// Adding tasks.

import Bytes
import JSON

/// What an enqueue has added.
public struct Enqueued: Sendable, Hashable {
    /// The id of the task: of the new one, or of the one that has the key.
    public let id: String
    /// Whether a task has the key already, so that nothing was added. If the client sent the request again because its
    /// first try got no answer, this may be true though the first try added the task.
    public let existing: Bool
}

/// A task to add, for an enqueue of many.
public struct NewTask: Sendable {
    /// The content.
    public var content: RawJSON
    /// What the task has beside it.
    public var options: TaskOptions

    /// A task.
    ///
    /// - Parameters:
    ///   - content: The content, which is written as JSON.
    ///   - options: What the task has beside it.
    /// - Throws: `EncodingError` if the content cannot be JSON.
    public init(_ content: some Encodable, options: TaskOptions = TaskOptions()) throws {
        (self.content, self.options) = (try RawJSON(encoding: content), options)
    }
}

extension EMQClient {
    /// The most tasks of one request.
    public static let maximumBatchCount = 10_000

    /// Adds a task to the back of a queue.
    ///
    /// If the connection breaks before the answer, the client sends the task again, provided that this cannot add it
    /// twice: the task has no key of yours, or it has one with a `uniqueFor` that lasts longer than the call, and does
    /// not replace or reject.
    ///
    /// - Parameters:
    ///   - content: The content, which is written as JSON.
    ///   - queue: The queue, 1 to 255 bytes without control characters.
    ///   - options: What the task has beside its content.
    /// - Returns: The task's id, and whether it was there before.
    /// - Throws: `EncodingError` if the content cannot be JSON; ``EMQError``, with ``EMQError/Kind/outcomeUnknown`` if
    ///   the task may have been added.
    @discardableResult
    public nonisolated(nonsending) func enqueue(
        _ content: some Encodable, to queue: String, options: TaskOptions = TaskOptions()
    ) async throws -> Enqueued {
        let task = PreparedTask(try JSONEncoding.encode(content), options, settings.timeoutMilliseconds)
        let call = try enqueueCall(task.body, to: queue, [task], options)
        let answer = try await perform(call)
        if let enqueued = Enqueued(usual: answer.body) { return enqueued }
        guard let tape = try? JSONTape(answer.body), let enqueued = Enqueued(tape, hasOwnKey: task.hasKeyOfClient)
        else {
            throw strange(answer, to: call, "it has no id")
        }
        return enqueued
    }

    /// Adds many tasks to the back of a queue: all of them or, if one is wrong, none.
    ///
    /// - Parameters:
    ///   - tasks: 1 to 10,000 tasks. For an empty array, nothing is sent.
    ///   - queue: The queue.
    /// - Returns: For each task its id, and whether it was there before.
    /// - Throws: ``EMQError``. Its `field` names the first wrong task, as in `[1].retry`.
    @discardableResult
    public nonisolated(nonsending) func enqueue(_ tasks: [NewTask], to queue: String) async throws -> [Enqueued] {
        guard let first = tasks.first else { return [] }
        guard tasks.count <= Self.maximumBatchCount else {
            let limit = Self.maximumBatchCount
            throw EMQError(.invalidArgument, "an enqueue has at most \(limit) tasks, not \(tasks.count)")
        }
        let prepared = tasks.map { PreparedTask($0.content.bytes, $0.options, settings.timeoutMilliseconds) }
        var body: [UInt8] = [UInt8(ascii: "[")]
        for (index, task) in prepared.enumerated() {
            if index > 0 { body.append(UInt8(ascii: ",")) }
            body += task.body
        }
        body.append(UInt8(ascii: "]"))
        let call = try enqueueCall(body, to: queue, prepared, first.options)
        let answer = try await perform(call)
        let ids = try read(EnqueuedIDs.self, from: answer, to: call)
        guard ids.ids.count == tasks.count else {
            throw strange(answer, to: call, "it has \(ids.ids.count) ids for \(tasks.count) tasks")
        }
        let existing = Set(ids.existing ?? [])
        return ids.ids.indices.map { index in
            Enqueued(id: ids.ids[index], existing: existing.contains(index) && !prepared[index].hasKeyOfClient)
        }
    }

    private nonisolated func enqueueCall(
        _ body: [UInt8], to queue: String, _ tasks: [PreparedTask], _ options: TaskOptions
    ) throws(EMQError) -> Call {
        var call = Call(Call.target("/enqueue/", name: queue), json: body)
        call.isRepeatable = tasks.allSatisfy(\.isRepeatable)
        call.isSafeWithinCall = tasks.contains(where: \.hasKeyOfClient)
        call.fields = try Self.field("X-Request-Id", options.requestID) + Self.field("traceparent", options.traceparent)
        return call
    }

    private static func field(_ name: String, _ value: String?) throws(EMQError) -> [UInt8] {
        guard let value else { return [] }
        guard !value.isEmpty, value.utf8.allSatisfy({ 0x20 < $0 && $0 < 0x7F }) else {
            throw EMQError(.invalidArgument, "\(name) must be visible ASCII characters, not '\(value)'")
        }
        return Array("\(name): \(value)\r\n".utf8)
    }
}

/// A task as the server takes it.
private struct PreparedTask {
    let body: [UInt8]
    /// Whether the key is one of the client's.
    let hasKeyOfClient: Bool
    let isRepeatable: Bool

    init(_ content: [UInt8], _ options: TaskOptions, _ timeoutMilliseconds: Int64) {
        // The server refuses the others without a key; with one of the client's they would mean something.
        hasKeyOfClient =
            options.key == nil && options.isRepeatable && options.onConflict == nil && options.uniqueFor == nil
        let needed = Duration.milliseconds(clampedSum(timeoutMilliseconds, 60_000))
        let validity = min(max(RepetitionKey.validity, needed), RepetitionKey.longestValidity)
        if options.key == nil {
            isRepeatable = hasKeyOfClient
        } else {
            let isKept = options.onConflict == nil || options.onConflict == .keep
            isRepeatable = isKept && (options.uniqueFor ?? .zero) > .milliseconds(timeoutMilliseconds)
        }
        var body = RequestBody()
        body.add("content", json: content)
        body.add("retry", options.lease)
        body.add("expiry", options.expiry)
        body.add("delay", options.delay)
        body.add("eta", json: options.eta.map { Array("\($0)".utf8) })
        body.add("priority", options.priority)
        body.add("max_retries", options.maxRetries)
        body.add("max_crashes", options.maxCrashes)
        body.add("backoff", interface: options.backoff)
        body.add("key", hasKeyOfClient ? RepetitionKey.next() : options.key)
        body.add("on_conflict", options.onConflict?.rawValue)
        body.add("unique_for", hasKeyOfClient ? validity : options.uniqueFor)
        body.add("keep", options.keep)
        body.add("metadata", interface: options.metadata)
        body.add("request", interface: options.request)
        self.body = body.finished()
    }
}

private struct EnqueuedIDs: Decodable {
    let ids: [String]
    let existing: [Int]?
}

extension Enqueued {
    private static let beginning = Array("{\"id\":\"".utf8)
    private static let end = Array("\"}\n".utf8)

    /// Reads what is usual, without looking at it as JSON: an object with nothing but an id.
    fileprivate init?(usual body: [UInt8]) {
        let idCount = 22
        guard body.count == Self.beginning.count + idCount + Self.end.count, body.starts(with: Self.beginning),
            body.suffix(Self.end.count).elementsEqual(Self.end)
        else { return nil }
        let id = body[Self.beginning.count..<Self.beginning.count + idCount]
        guard id.allSatisfy({ $0.isLetter || $0.isDigit || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_") })
        else { return nil }
        self.init(id: String(decoding: id, as: UTF8.self), existing: false)
    }

    fileprivate init?(_ tape: JSONTape, hasOwnKey: Bool) {
        guard tape.nodes[0].kind == .object else { return nil }
        var (id, existing): (String?, Bool) = (nil, false)
        tape.forEachMember(of: 0) { name, value in
            if tape.isName(name, "id") { id = tape.text(value) }
            if tape.isName(name, "existing") { existing = tape.nodes[value].kind == .true }
        }
        guard let id else { return nil }
        self.init(id: id, existing: existing && !hasOwnKey)
    }
}
