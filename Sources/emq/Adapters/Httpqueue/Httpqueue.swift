// In place of httpqueue: a delay queue that posts a text to a callback, and tries again after 10, 20, 40 … seconds until
// the answer says {"code": 100}. A topic is a queue, `httpqueue/TOPIC`; its tasks say themselves where they go.

import Bytes
import Delivery
import JSON
import Net
import Queues
import UID

/// The interface for clients of httpqueue, and the way to its receivers.
final class Httpqueue: AdapterService {
    /// How long a task lives from its time on.
    static let lifeMilliseconds: Int64 = 86_400_000
    /// How long a callback may take.
    static let timeoutMilliseconds: Int64 = 600_000
    /// The pause before the n-th retry is 10 s, doubled n − 1 times.
    static let backoff = Backoff(minimumMilliseconds: 10_000, maximumMilliseconds: maximumMilliseconds)

    /// As many as the original calls at once.
    let concurrency = 20

    func owns(_ queueName: Span<UInt8>) -> Bool { LegacySystem.httpqueue.owns(queueName) }

    /// All of its requests are POSTs.
    func cost(_ request: borrowing Request) -> Cost {
        if request.path.equals("/query") { return .looks }
        return request.path.equals("/delete") ? .frees : .grows(Cost.queueBytes)
    }

    func answer(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ api: inout API, on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let path = request.path
        guard path.equals("/create") || path.equals("/delete") || path.equals("/query") else {
            throw Problem(404, "there are /create, /delete and /query here")
        }
        guard request.method == .post else { throw Problem(400, "use POST") }
        try api.body.read(request)
        if path.equals("/create") {
            try create(request, &responses, &api, on: broker)
        } else if path.equals("/delete") {
            try delete(request, &responses, api, on: broker)
        } else {
            try query(request, &responses, api, on: broker)
        }
        return .answered
    }

    func write(_ problem: Problem, to responses: inout ResponseStream) {
        problem.begin("text/plain; charset=utf-8", to: &responses)
        let line = Array("\(problem.detail)\n".utf8)
        responses.append(line.span)
        responses.end()
    }

    // MARK: Requests

    private func create(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ api: inout API, on broker: isolated Broker
    ) throws(Problem) {
        var topic: [UInt8] = []
        var callback: [UInt8] = []
        var content: Range<Int>?
        var delaySeconds: Int64 = 0
        var retries: Int64 = 0
        let bytes = request.body
        try api.body.forEach(
            in: bytes, known: ["topic", "delay", "retry", "callback", "content"], isLenient: true
        ) { (place, value) throws(Problem) in
            switch place {
            case 0: topic = try value.string(maximumBytes: QueueName.maximumByteCount)
            case 1: delaySeconds = try value.integer(0...maximumMilliseconds / 1000)
            case 2: retries = try value.integer(0...Int64(UInt32.max))
            case 3: callback = try value.string(maximumBytes: HTTPURL.maximumLength)
            default:
                guard value.kind == .string else { throw value.flaw("a string") }
                content = value.range
            }
        }
        guard !topic.isEmpty else { throw Problem(400, "topic is missing", field: "topic") }
        guard !callback.isEmpty else { throw Problem(400, "callback is missing", field: "callback") }
        let url = try api.readURL(callback, field: "callback")
        let options = TaskOptions()
        options.request = PushOptions.request(to: url, timeoutMilliseconds: Self.timeoutMilliseconds)
        options.retryLimit = .limited(UInt32(retries))
        options.backoff = Self.backoff
        let id = api.makeID()
        let task = NewTask(
            id: id, content: content ?? 0..<2, due: api.now + delaySeconds * 1000,
            expiry: .after(milliseconds: Self.lifeMilliseconds), options: options)
        let nothing = Array("\"\"".utf8)
        try api.add(
            task, content: content == nil ? nothing.span : bytes, to: LegacySystem.httpqueue.queueName(topic),
            on: broker
        )
        responses.beginJSON(estimatedCount: 45)
        responses.append("{\"id\":\"")
        let text = id.uuidText
        responses.append(text.span)
        responses.append("\"}")
        responses.end()
    }

    private func delete(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ api: borrowing API,
        on broker: isolated Broker
    ) throws(Problem) {
        if let id = try readID(request, api), isOurs(id, now: api.now, on: broker) {
            // One that has failed for good must not come back either, should somebody kick it.
            _ = broker.cancelTask(id, now: api.now) || broker.deleteRecord(id, now: api.now)
        }
        responses.begin(status: 200, contentType: nil)
        responses.beginBody(estimatedCount: 0)
        responses.end()
    }

    private func query(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ api: borrowing API,
        on broker: isolated Broker
    ) throws(Problem) {
        var isFound = false
        if let id = try readID(request, api) {
            broker.withTask(id: id, now: api.now) { task in
                guard owns(task.queueName), task.state.isUnfinished else { return }
                isFound = true
                write(task, now: api.now, to: &responses)
            }
        }
        guard isFound else { throw Problem(404, "there is no such task (any more)") }
        try api.admitAnswer(responses)
        responses.end()
    }

    /// Reads which task is meant; nil if it cannot be any.
    private func readID(_ request: borrowing Request, _ api: borrowing API) throws(Problem) -> UID? {
        var id: [UInt8] = []
        try api.body.forEach(in: request.body, known: ["id"], isLenient: true) { (_, value) throws(Problem) in
            id = try value.string(maximumBytes: 1000)
        }
        guard !id.isEmpty else { throw Problem(400, "id is missing", field: "id") }
        return UID(text: id.span)
    }

    private func isOurs(_ id: UID, now: Int64, on broker: isolated Broker) -> Bool {
        broker.withTask(id: id, now: now) { owns($0.queueName) } ?? false
    }

    private func write(_ task: borrowing TaskView, now: Int64, to responses: inout ResponseStream) {
        let options = PushOptions(stored: task.request, of: .task)
        let id = task.id.uuidText
        responses.beginJSON(estimatedCount: 300)
        responses.append("{\"id\":\"")
        responses.append(id.span)
        responses.append("\",\"topic\":")
        JSONWriter.writeString(LegacySystem.httpqueue.part(of: task.queueName), to: &responses)
        writeCount(",\"execute_time\":", Int(executeTime(of: task, now: now) / 1000), to: &responses)
        writeCount(",\"max_retry\":", task.retryLimit ?? 0, to: &responses)
        writeCount(",\"has_retry\":", Int(task.retries), to: &responses)
        responses.append(",\"callback\":")
        JSONWriter.write(options.url?.description ?? "", to: &responses)
        responses.append(",\"content\":")
        responses.append(task.content)
        writeCount(",\"creat_time\":", Int(task.enqueued / 1000), to: &responses)
        responses.append("}")
    }

    /// When the next attempt is, or the one that is under way began.
    private func executeTime(of task: borrowing TaskView, now: Int64) -> Int64 {
        if let due = task.due { return due }
        if task.retries == 0, let expires = task.expires { return expires - Self.lifeMilliseconds }
        return task.dispatched ?? now
    }

    // MARK: Receivers

    func request(
        for task: borrowing TaskView, of queue: SendingQueue, unixMilliseconds: Int64
    ) throws(TaskRequestError) -> ClientRequest {
        guard let url = PushOptions(stored: task.request, of: .task).url else {
            throw TaskRequestError("it has no callback")
        }
        let id = task.id.uuidText
        var body = Array("{\"id\":\"".utf8)
        body.append(id.span)
        body += "\",\"topic\":".utf8
        JSONWriter.writeString(LegacySystem.httpqueue.part(of: task.queueName), to: &body)
        body += ",\"content\":".utf8
        body.append(task.content)
        body += "}".utf8
        return ClientRequest(posting: body, to: url, timeoutMilliseconds: Self.timeoutMilliseconds)
    }

    func outcome(of attempt: Attempt, after clientOutcome: borrowing ClientOutcome) -> Attempt.Outcome {
        attempt.outcome(after: clientOutcome) { response in
            let code = Self.code(of: response.body)
            if code == 100 { return nil }
            return " with \(code.map { "code \($0)" } ?? "no code"), and 100 is success"
        }
    }

    /// The `code` of an answer; nil if it is no JSON object that has one.
    private static func code(of body: Span<UInt8>) -> Int64? {
        var members = Members()
        var code: Int64?
        try? members.read(body, kind: .object)
        try? members.forEach(in: body, known: ["code"], isLenient: true) { (_, value) throws(Problem) in
            code = try value.integer(.min ... .max)
        }
        return code
    }
}
