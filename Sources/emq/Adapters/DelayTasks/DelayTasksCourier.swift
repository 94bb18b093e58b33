// The calls of delay-tasks: the request to a handler, and the meaning of its response.

import Bytes
import Delivery
import JSON
import Net
import Queues

/// Calls the handlers of delay-tasks.
final class DelayTasksCourier: QueueCourier {
    /// The longest time that a handler may take, unless an option says otherwise.
    static let usualTimeoutMilliseconds: Int64 = 5000
    /// The number of categories that a log line names.
    private static let namedCategories = 10

    /// The original calls the handlers of all due tasks at once.
    let concurrency = 100
    private let timeoutMilliseconds: Int64
    private let handlersPath: String
    /// The handlers of the original that are still to be registered.
    private var handlers: ArraySlice<DelayTasksFile.Handler>
    /// The categories whose handlers have been registered.
    private var registered: [String] = []

    init(timeoutMilliseconds: Int64 = usualTimeoutMilliseconds, file: DelayTasksFile? = nil) {
        self.timeoutMilliseconds = timeoutMilliseconds
        handlersPath = file?.handlersPath ?? ""
        handlers = (file?.handlers ?? [])[...]
    }

    func owns(_ queueName: Span<UInt8>) -> Bool { LegacySystem.delayTasks.owns(queueName) }

    /// Registers the original's handlers for the categories that have none. Those that have one got it later.
    func begin(on broker: isolated Broker) -> Bool {
        while let handler = handlers.first {
            do throws(BrokerError) {
                let queueName = LegacySystem.delayTasks.queueName(Array(handler.category.utf8))
                if try DelayTasks.register(handler.url, of: queueName, replaces: false, on: broker) {
                    registered.append(handler.category)
                }
            } catch {
                return false
            }
            handlers.removeFirst()
        }
        if !registered.isEmpty {
            let names = registered.prefix(Self.namedCategories).map { "'\($0)'" }.joined(separator: ", ")
            let rest = registered.count - Self.namedCategories
            Log.standard.info(
                "registered the handlers in '\(handlersPath)' of these categories, which had none: \(names)"
                    + (rest > 0 ? " and \(rest) more" : ""))
        }
        registered = []
        return true
    }

    func request(
        for task: borrowing TaskView, of queue: SendingQueue, unixMilliseconds: Int64
    ) throws(TaskRequestError) -> ClientRequest {
        guard let called = DelayTask(task) else {
            throw TaskRequestError("no client of delay-tasks added this task, so it cannot be sent")
        }
        guard let url = PushOptions(stored: task.request, of: .task).url ?? queue.options.url else {
            throw TaskRequestError("neither the task nor its category has a handler")
        }
        var body = Array("{\"cate\":".utf8)
        JSONWriter.writeString(LegacySystem.delayTasks.part(of: task.queueName), to: &body)
        body += ",\"key\":\(called.key),\"params\":".utf8
        body.append(task.content)
        body += ",\"inAdvance\":\(called.isInAdvance)}".utf8
        return ClientRequest(
            posting: body, to: url, contentType: "application/json; charset=UTF-8",
            timeoutMilliseconds: timeoutMilliseconds)
    }

    /// Any response means success.
    func outcome(of attempt: Attempt, after clientOutcome: borrowing ClientOutcome) -> Attempt.Outcome {
        attempt.outcome(after: clientOutcome) { _ in nil }
    }
}
