// Replaces httpqueue, a delay queue that posts a text to a callback, and retries after 10, 20, 40 … seconds until the
// answer says {"code": 100}. A topic is a queue, `httpqueue/TOPIC`; each of its tasks has its own URL.

import Bytes
import Delivery
import JSON
import Net
import Queues
import UID

/// The interface for clients of httpqueue.
final class Httpqueue: FrontEnd {
    /// How long a task lives after its time.
    static let lifeMilliseconds: Int64 = 86_400_000
    /// The pause before the n-th retry is 10 s, doubled n − 1 times.
    static let backoff = Backoff(minimumMilliseconds: 10_000, maximumMilliseconds: maximumMilliseconds)

    /// All of its requests are POSTs.
    func cost(_ request: borrowing Request) -> Cost {
        if request.path.equals("/query") { return .reads }
        return request.path.equals("/delete") ? .frees : .grows(Cost.queueBytes)
    }

    func answer(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let path = request.path
        guard path.equals("/create") || path.equals("/delete") || path.equals("/query") else {
            throw Problem(.noSuchPath, "unknown path; the paths are /create, /delete and /query")
        }
        guard request.method == .post else { throw Problem(.methodNotAllowed, legacyStatus: 400, "use POST") }
        try context.body.read(request)
        if path.equals("/create") {
            try create(request, &responses, &context, on: broker)
        } else if path.equals("/delete") {
            try delete(request, &responses, context, on: broker)
        } else {
            try query(request, &responses, context, on: broker)
        }
        return .answered
    }

    func write(_ problem: Problem, to responses: inout ResponseStream) {
        problem.begin("text/plain; charset=utf-8", to: &responses)
        let line = Array("\(problem.detail)\n".utf8)
        responses.append(line.span)
        responses.end()
    }

    /// Begins a successful answer. The original's server takes JSON for text.
    private func begin(estimatedCount: Int, _ responses: inout ResponseStream) {
        responses.begin(status: 200, contentType: "text/plain; charset=utf-8")
        responses.beginBody(estimatedCount: estimatedCount)
    }

    // MARK: Requests

    private func create(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) {
        var topic: [UInt8] = []
        var callback: [UInt8] = []
        var content: Range<Int>?
        var delaySeconds: Int64 = 0
        var retries: UInt32 = 0
        let bytes = request.body
        try context.body.forEach(
            in: bytes, known: ["topic", "delay", "retry", "callback", "content"], isLenient: true
        ) { (place, value) throws(Problem) in
            switch place {
            case 0: topic = try value.string(maximumBytes: QueueName.maximumByteCount)
            case 1: delaySeconds = Int64(try readCount(value))
            case 2: retries = try readCount(value)
            case 3: callback = try value.string(maximumBytes: HTTPURL.maximumLength)
            default:
                guard value.kind == .string else { throw value.flaw("a string") }
                content = value.range
            }
        }
        guard !topic.isEmpty else { throw Problem(.missingField, "topic is missing; send a string", field: "topic") }
        guard !callback.isEmpty else {
            throw Problem(.missingField, "callback is missing; send an http:// URL", field: "callback")
        }
        let url = try context.readURL(callback, field: "callback")
        let options = TaskOptions()
        options.request = PushOptions.request(to: url, timeoutMilliseconds: HttpqueueCourier.timeoutMilliseconds)
        options.retryLimit = .limited(retries)
        options.backoff = Self.backoff
        let id = context.makeID()
        let task = NewTask(
            id: id, content: content ?? 0..<2, due: context.now + delaySeconds * 1000,
            expiry: .after(milliseconds: Self.lifeMilliseconds), options: options)
        let nothing = Array("\"\"".utf8)
        try context.add(
            task, content: content == nil ? nothing.span : bytes, to: LegacySystem.httpqueue.queueName(topic),
            on: broker
        )
        begin(estimatedCount: 45, &responses)
        responses.append("{\"id\":\"")
        let text = id.uuidText
        responses.append(text.span)
        responses.append("\"}")
        responses.end()
    }

    /// Reads a number of seconds or retries. As in the original, any integer will do: one below 0 counts as 0, and one
    /// that is too large as the maximum.
    private func readCount(_ value: borrowing FieldValue) throws(Problem) -> UInt32 {
        guard value.kind == .number, let number = try? JSONValue.integer(value.bytes) else {
            throw value.flaw(describeWholeNumber(0...Int64(UInt32.max)))
        }
        return UInt32(clamping: number)
    }

    private func delete(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ context: borrowing Context,
        on broker: isolated Broker
    ) throws(Problem) {
        if let id = try readID(request, context), isOurs(id, now: context.now, on: broker) {
            // A dead task is deleted too, so that nobody can kick it.
            _ = broker.cancelTask(id, now: context.now) || broker.deleteRecord(id, now: context.now)
        }
        responses.begin(status: 200, contentType: nil)
        responses.beginBody(estimatedCount: 0)
        responses.end()
    }

    private func query(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ context: borrowing Context,
        on broker: isolated Broker
    ) throws(Problem) {
        var isFound = false
        if let id = try readID(request, context) {
            broker.withTask(id: id, now: context.now) { task in
                guard LegacySystem.httpqueue.owns(task.queueName), task.state.isUnfinished else { return }
                isFound = true
                write(task, to: &responses)
            }
        }
        guard isFound else { throw Problem(.noSuchTask, "there is no such task, or it no longer exists") }
        try context.gate.admitAnswer(responses)
        responses.end()
    }

    /// Reads the id of the task; nil if it is not a valid id.
    private func readID(_ request: borrowing Request, _ context: borrowing Context) throws(Problem) -> UID? {
        var id: [UInt8] = []
        try context.body.forEach(in: request.body, known: ["id"], isLenient: true) { (_, value) throws(Problem) in
            id = try value.string(maximumBytes: 1000)
        }
        guard !id.isEmpty else { throw Problem(.missingField, "id is missing; send the id of a task", field: "id") }
        return UID(text: id.span)
    }

    private func isOurs(_ id: UID, now: Int64, on broker: isolated Broker) -> Bool {
        broker.withTask(id: id, now: now) { LegacySystem.httpqueue.owns($0.queueName) } ?? false
    }

    private func write(_ task: borrowing TaskView, to responses: inout ResponseStream) {
        let options = PushOptions(stored: task.request, of: .task)
        let id = task.id.uuidText
        begin(estimatedCount: 300, &responses)
        responses.append("{\"id\":\"")
        responses.append(id.span)
        responses.append("\",\"topic\":")
        JSONWriter.writeString(LegacySystem.httpqueue.part(of: task.queueName), to: &responses)
        writeCount(",\"execute_time\":", Int(executeTime(of: task)), to: &responses)
        writeCount(",\"max_retry\":", task.retryLimit ?? 0, to: &responses)
        writeCount(",\"has_retry\":", Int(task.retries), to: &responses)
        responses.append(",\"callback\":")
        JSONWriter.write(options.url?.description ?? "", to: &responses)
        responses.append(",\"content\":")
        responses.append(task.content)
        writeCount(",\"creat_time\":", Int(task.enqueued / 1000), to: &responses)
        responses.append("}")
    }

    /// The time for which the client asked, in Unix seconds. The expiry tells it, because retries do not change that.
    private func executeTime(of task: borrowing TaskView) -> Int64 {
        (task.expires.map { $0 - Self.lifeMilliseconds } ?? task.enqueued) / 1000
    }
}
