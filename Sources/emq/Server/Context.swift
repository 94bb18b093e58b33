// The context in which front ends answer a request: the time, ids for new tasks, the JSON of the body, the gate, and
// the server through which they answer later.

import Bytes
import Delivery
import JSON
import Net
import Queues
import UID

/// The server as front ends see it. There is one, and each request borrows it.
struct Context: ~Copyable {
    private let pin = Pin()
    /// The time of the turn, and when the server started, in milliseconds since the Unix epoch.
    var now: Int64
    let started: Int64
    /// Reads the JSON of the current request.
    var body = Members()
    /// Admits requests and answers.
    var gate: Gate
    /// Writes dispatched tasks into answers.
    let dispatchWriter: DispatchWriter
    /// The metrics that have no other home.
    let metrics: Metrics
    /// The legacy systems that the server replaces.
    let adapters: Adapters
    /// The server's certificate; nil if it speaks plain HTTP only.
    let certificate: ServerCertificate?
    /// The tokens that the server knows; nil if it needs none.
    let access: Access?
    /// The sender of the current request.
    var caller = Caller.anyone
    /// What the log says of the current request; nil if it says nothing, or if the handler writes it.
    var audit: AuditRecord?
    /// How many tasks the current request has changed, for the log; nil if it changes none.
    var auditedTaskCount: Int?
    private let shutdown: Shutdown
    private var ids = UIDGenerator()
    private var random = KernelRandom()

    init(
        gate: Gate, shutdown: Shutdown, metrics: Metrics, adapters: Adapters, certificate: ServerCertificate?,
        access: Access? = nil
    ) {
        now = gate.server.loop.now
        started = now
        self.gate = gate
        dispatchWriter = DispatchWriter(gate.server)
        self.metrics = metrics
        self.adapters = adapters
        self.certificate = certificate
        self.access = access
        self.shutdown = shutdown
    }

    /// The sources of tasks from RabbitMQ.
    var sources: Sources { gate.sources }

    /// The HTTP server, through which answers are written later (`HTTPServer.answer`).
    var server: HTTPServer { gate.server }

    /// Whether the server is stopping. Then it accepts no tasks, dispatches none, and has no waiters.
    var isStopping: Bool { shutdown.isAsked }

    /// Makes an id for a new task.
    mutating func makeID() -> UID { ids.next(unixMilliseconds: UInt64(now), using: &random) }

    /// Checks that the server still accepts tasks.
    ///
    /// - Throws: 503 if it is stopping.
    func checkAcceptsTasks() throws(Problem) {
        if isStopping { throw Problem(.stopping, "the server is stopping and accepts no more tasks") }
    }

    /// Whether the server sends the tasks of a queue.
    func sends(_ queueName: Span<UInt8>) -> Bool { gate.push?.sends(queueName) ?? false }

    /// Adds a task, or finds the task that has its key. The request must have been admitted.
    ///
    /// - Parameters:
    ///   - task: the task.
    ///   - content: the bytes that hold its content.
    ///   - queueName: the name of its queue, which is created if it does not exist.
    ///   - isLimited: whether a full queue refuses it. Pass false for a task that replaces another, which needs no
    ///     room.
    ///   - broker: the broker.
    /// - Throws: 503, 429, and 400 for an invalid name.
    func add(
        _ task: NewTask, content: Span<UInt8>, to queueName: [UInt8], isLimited: Bool = true,
        on broker: isolated Broker
    ) throws(Problem) {
        try checkAcceptsTasks()
        if let flaw = QueueName.flaw(in: queueName.span) { throw Problem(.invalidName, flaw) }
        do throws(BrokerError) {
            let queue = try broker.queue(named: queueName.span)
            _ = try broker.enqueue(task, content: content, in: queue, isLimited: isLimited, now: now)
        } catch {
            throw Problem(error)
        }
    }

    /// Reads the URL to which a task is to be sent.
    ///
    /// - Throws: 400 for an invalid URL, and for an address to which the server never sends.
    func readURL(_ text: [UInt8], field: String) throws(Problem) -> HTTPURL {
        let url: HTTPURL
        do throws(HTTPURLError) { url = try HTTPURL(text.span) } catch {
            throw Problem(.invalidField, "\(field): \(error)", field: field)
        }
        if let address = url.address,
            let refusal = gate.push?.policy.refusal(of: address, port: url.port, host: url.host)
        {
            throw Problem(.destinationNotAllowed, legacyStatus: 400, "\(field): \(refusal)", field: field)
        }
        return url
    }
}

extension Problem {
    /// The problem of a request that has reached a limit of the broker.
    init(_ error: BrokerError) {
        switch error {
        case .tooManyTasks:
            self.init(.tooManyTasks, "the server has no room for more tasks; try again when some are finished")
        case .tooManyQueues:
            self.init(.tooManyQueues, "1,000,000 queues are in use, which is the most that the server can have")
        case .outOfMemory:
            self.init(
                .addressSpaceFull,
                "there is no room for this task's content in the server's address space; raise it with `ulimit -v` or "
                    + "`--address-space` if one of them limits it")
        case .keyTaken:
            self.init(
                .keyTaken,
                "another task in this queue has this key; it is unfinished, or still reserves its key (unique_for)",
                field: "key")
        case .batchTooLong:
            self.init(
                .batchTooLong, "the array has more new tasks than the queue may hold (max_length); send fewer at once")
        case .queueFull: self.init(.queueFull, "the queue is full, as its configuration says (max_length); try again")
        case .tooManySettings:
            self.init(.tooManySources, "the server has 1,000 settings, which is the most that it can have")
        case .unsupportedSetting: self.init(.invalidField, "this is too long to be kept")
        case .tooManySweeps: self.init(.tooManySweeps, "too many purges, kicks and moves are in progress; try again")
        }
    }
}
