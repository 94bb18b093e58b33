// The client: one server, its connections, and the thread that owns them.

import Net

/// A client of one emq server.
///
/// Any task may use it, and one client is enough for a program: it keeps and reuses its connections, and sends requests
/// again when that is safe. Its methods throw ``EMQError``, and `CancellationError` if the task is cancelled.
///
/// ```swift
/// let client = try EMQClient("http://localhost:8080")
/// try await client.enqueue(["to": "ann@example.org"], to: "mail")
/// try await client.work("mail", concurrency: 8) { task in
///     try await send(task.decode(Letter.self))
/// }
/// ```
///
/// The client has a thread of its own, which is its executor. If an actor has the same `unownedExecutor`, or a task
/// prefers ``taskExecutor``, then calls of the client change threads neither on the way there nor back. Work that
/// blocks does not belong there: it would hold up all requests of the client.
public actor EMQClient {
    /// How a client behaves. Each option has a default.
    public struct Options: Sendable {
        /// The token that the client sends with each request; nil for EMQ_TOKEN in the environment, or the user part of
        /// the URL. It has no blanks and no control characters.
        public var token: String?
        /// The file with the issuers (PEM) of which an https server must have a certificate; nil for those that the
        /// system trusts.
        public var issuersPath: String?
        /// How long a call may take in all, with all tries. The time that a request itself asks the server to wait
        /// comes on top of it.
        public var timeout: Duration
        /// How often a request is sent at most.
        public var tries: Int
        /// The most connections, 2 to 10,000. One of them is never used for requests that may take long, such as waits.
        public var connections: Int
        /// The client calls it when something goes wrong without a call failing, such as a try that failed or a lease
        /// that was lost. Any thread may call it, also the client's, so it must neither block nor wait for the client.
        public var onProblem: (@Sendable (Problem) -> Void)?

        /// Options for a client.
        ///
        /// - Parameters:
        ///   - token: The token; nil for EMQ_TOKEN, or the user part of the URL.
        ///   - issuersPath: The file with the issuers of an https server's certificate; nil for those of the system.
        ///   - timeout: The limit for a call without the time that the server is asked to wait.
        ///   - tries: How often a request is sent at most.
        ///   - connections: The most connections, 2 to 10,000.
        ///   - onProblem: The client calls it when something goes wrong without a call failing.
        public init(
            token: String? = nil, issuersPath: String? = nil, timeout: Duration = .seconds(30), tries: Int = 5,
            connections: Int = 64, onProblem: (@Sendable (Problem) -> Void)? = nil
        ) {
            (self.token, self.issuersPath, self.timeout) = (token, issuersPath, timeout)
            (self.tries, self.connections, self.onProblem) = (tries, connections, onProblem)
        }
    }

    /// What a program may want to log, though no call has failed.
    public enum Problem: Sendable {
        /// A request failed, and is sent again after a pause.
        case retrying(EMQError)
        /// A lease could not be extended now; the client tries again.
        case leaseNotExtended(EMQError)
        /// A task is no longer held: its lease ran out, or it was cancelled.
        case leaseLost(receipt: String)
        /// A worker could not tell the server what became of a task. The task comes back when its lease ends.
        case outcomeLost(receipt: String, EMQError)
        /// A worker gets no tasks now, and tries again.
        case notWorking(EMQError)
    }

    let loop: ClientLoop
    let settings: Settings
    private let loopTaskExecutor: LoopTaskExecutor

    /// A client without connections. They are opened when requests need them.
    ///
    /// - Parameters:
    ///   - url: `http://…`, `https://…`, `unix:///path`, or a host and a port; nil for EMQ_URL in the environment, or
    ///     `http://localhost:8080`.
    ///   - options: How the client behaves.
    /// - Throws: ``EMQError`` if the URL, an option or a file of issuers is wrong, or the system has no OpenSSL for
    ///   https or no room for a thread.
    public init(_ url: String? = nil, options: Options = Options()) throws {
        settings = try Settings(url, options)
        do throws(SystemError) { loop = try ClientLoop(settings) } catch {
            throw EMQError(.invalidArgument, "the client's thread cannot start: \(error)")
        }
        loopTaskExecutor = LoopTaskExecutor(loop)
    }

    deinit {
        loop.async { $0.close {} }
        loop.end()
    }

    /// The client's thread, for actors that live on it.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    /// The client's thread, for tasks that prefer it. Keep the client as long as such tasks run.
    public nonisolated var taskExecutor: any TaskExecutor { loopTaskExecutor }

    /// The server's URL or socket, without a token.
    public nonisolated var server: String { settings.server.name }

    /// Ends all calls, which throw ``EMQError`` with the kind ``EMQError/Kind/closed``, and closes all connections.
    /// Tasks that a wait was just about to return are given back to their queues; that takes at most some seconds. A
    /// client that nobody refers to any more does the same by itself.
    public nonisolated(nonsending) func close() async {
        await withCheckedContinuation { continuation in
            loop.async { transmitter in transmitter.close { continuation.resume() } }
        }
    }

    // MARK: Requests

    /// Sends a request, and waits for the answer.
    nonisolated(nonsending) func perform(_ call: Call) async throws -> Answer {
        try Task.checkCancellation()
        let progress = loop.quickExchange(call)
        if case .answered(let answer)? = progress, answer.isSuccess { return answer }
        let pending = PendingCall(call)
        return try await withTaskCancellationHandler {
            unsafe try await withUnsafeThrowingContinuation { continuation in
                pending.whenDone { unsafe continuation.resume(with: $0) }
                if let progress { loop.goOn(pending, from: progress) } else { loop.start(pending) }
            }
        } onCancel: {
            loop.async { $0.cancel(pending) }
        }
    }

    /// Sends a request, and reads the answer.
    nonisolated(nonsending) func perform<Value: Decodable>(_ call: Call, as type: Value.Type) async throws -> Value {
        try read(type, from: try await perform(call), to: call)
    }

    /// Reads an answer of the server's.
    nonisolated func read<Value: Decodable>(_ type: Value.Type, from answer: Answer, to call: Call) throws -> Value {
        do {
            return try JSONDecoding.decode(type, from: answer.body, style: .interface)
        } catch {
            throw strange(answer, to: call, "\(error)")
        }
    }

    /// Why an answer cannot be one of an emq server.
    nonisolated func strange(_ answer: Answer, to call: Call, _ reason: String) -> EMQError {
        var error = settings.error(
            .unexpectedAnswer, "the answer is not what an emq server sends; check the URL (\(reason))", call)
        error.status = answer.status
        return error
    }
}
