// What front ends work with while they answer a request: the time, ids for new tasks, the JSON of a body, the gate, and the
// way to answer later.

import Delivery
import JSON
import Net
import Queues
import UID

/// The server as front ends see it. There is one, and each request borrows it.
struct Context: ~Copyable {
    /// The time of the turn, in milliseconds since the Unix epoch.
    var now: Int64
    /// Reads the JSON of the request in hand.
    var body = Members()
    /// Admits requests and answers.
    var gate: Gate
    /// Writes dispatched tasks into answers.
    let dispatchWriter: DispatchWriter
    /// The legacy systems that the server stands in for.
    let adapters: Adapters
    private let shutdown: Shutdown
    private var ids = UIDGenerator()
    private var random = KernelRandom()

    init(gate: Gate, shutdown: Shutdown, adapters: Adapters) {
        now = gate.server.loop.now
        self.gate = gate
        dispatchWriter = DispatchWriter(gate.server)
        self.adapters = adapters
        self.shutdown = shutdown
    }

    /// The HTTP server, through which answers are written later (`HTTPServer.answer`).
    var server: HTTPServer { gate.server }

    /// Whether the server is stopping: it accepts no tasks, dispatches none, and nobody waits for anything.
    var isStopping: Bool { shutdown.isAsked }

    /// Makes the id of a task that is about to be added.
    mutating func makeID() -> UID { ids.next(unixMilliseconds: UInt64(now), using: &random) }

    /// Checks that the server still accepts tasks.
    ///
    /// - Throws: 503 if it is stopping.
    func checkAcceptsTasks() throws(Problem) {
        if isStopping { throw Problem(503, "the server is stopping and accepts no more tasks") }
    }

    /// Whether the server sends the tasks of a queue that are to be sent.
    func sends(_ queueName: Span<UInt8>) -> Bool { gate.push?.sends(queueName) ?? false }

    /// Adds a task, or finds the task that has its key. The request must have been admitted.
    ///
    /// - Parameters:
    ///   - task: the task.
    ///   - content: the bytes that hold its content.
    ///   - queueName: the name of its queue, which is made if it does not exist.
    ///   - isLimited: whether a full queue refuses it. A task that replaces another needs no room of its own.
    ///   - broker: the broker.
    /// - Throws: 503, 429, and 400 for an invalid name.
    func add(
        _ task: NewTask, content: Span<UInt8>, to queueName: [UInt8], isLimited: Bool = true,
        on broker: isolated Broker
    ) throws(Problem) {
        try checkAcceptsTasks()
        if let flaw = QueueName.flaw(in: queueName.span) { throw Problem(400, flaw) }
        do throws(BrokerError) {
            let queue = try broker.queue(named: queueName.span)
            _ = try broker.enqueue(task, content: content, in: queue, isLimited: isLimited, now: now)
        } catch {
            throw Problem(error)
        }
    }

    /// Reads a URL that a task is to be sent to.
    ///
    /// - Throws: 400 for an invalid URL, and for an address that the server never sends to.
    func readURL(_ text: [UInt8], field: String) throws(Problem) -> HTTPURL {
        let url: HTTPURL
        do throws(HTTPURLError) { url = try HTTPURL(text.span) } catch {
            throw Problem(400, "\(field): \(error)", field: field)
        }
        if let address = url.address,
            let refusal = gate.push?.policy.refusal(of: address, port: url.port, host: url.host)
        {
            throw Problem(400, "\(field): \(refusal)", field: field)
        }
        return url
    }
}

extension Problem {
    /// A limit of the broker that a request has met.
    init(_ error: BrokerError) {
        switch error {
        case .tooManyTasks: self.init(503, "the server holds as many tasks as it has room for")
        case .tooManyQueues: self.init(503, "1,000,000 queues are in use; there is no room for another")
        case .outOfMemory:
            self.init(
                503,
                "there is no room for this task's content in the server's address space; raise it with `ulimit -v` or "
                    + "`--address-space` if one of them limits it")
        case .keyTaken:
            self.init(
                409,
                "this key is taken by a task of this queue that is unfinished, or that keeps its key for a while (unique_for)",
                field: "key")
        case .batchTooLong:
            self.init(400, "the array has more new tasks than the queue's configuration ever allows (max_length)")
        case .queueFull: self.init(429, "the queue has as many tasks as its configuration allows (max_length)")
        case .tooManySweeps: self.init(503, "too many purges, kicks and moves are in progress; try again")
        }
    }
}
