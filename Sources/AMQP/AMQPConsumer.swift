// The thread that consumes a queue of a RabbitMQ, so that the event loop never waits for it.
//
// The thread sleeps in poll on its socket and an eventfd. What it takes waits in `State` until the owner takes it; what
// the owner asks for waits there until the thread reads it.

import Bytes
import CLinux
import Glibc
import Net

/// What to consume, and how.
public struct AMQPSettings: Sendable {
    /// The broker.
    public var url: AMQPURL
    /// The name of its queue.
    public var queue: [UInt8]
    /// How many messages may be unacknowledged at a time.
    public var prefetch: UInt16
    /// Whether a missing queue is declared: durable, not exclusive, not deleted by itself, without arguments.
    public var declaresQueue: Bool
    /// The name under which the broker shows the connection.
    public var name: String
    /// The largest content of a message as JSON, in bytes.
    public var maximumContentByteCount: Int
    /// While the owner has messages with more bytes than this, no more are read, except one.
    public var maximumHeldByteCount: Int
    /// The memory that messages of all consumers may take.
    public var budget: MessageBudget

    /// Makes settings.
    public init(
        url: AMQPURL, queue: [UInt8], prefetch: UInt16, declaresQueue: Bool, name: String,
        maximumContentByteCount: Int, maximumHeldByteCount: Int, budget: MessageBudget
    ) {
        self.url = url
        self.queue = queue
        self.prefetch = prefetch
        self.declaresQueue = declaresQueue
        self.name = name
        self.maximumContentByteCount = maximumContentByteCount
        self.maximumHeldByteCount = maximumHeldByteCount
        self.budget = budget
    }

    /// The queue's name for messages to people.
    var queueText: String { String(decoding: queue, as: UTF8.self) }
}

/// Consumes a queue over one connection, on a thread of its own. When the connection ends, so does the consumer.
@safe public final class AMQPConsumer: Sendable {
    /// What has happened since the last call of `takeNews`.
    public struct News: Sendable {
        /// The messages that have arrived, in their order.
        public fileprivate(set) var messages: [AMQPMessage] = []
        /// Whether the broker has accepted the consumer.
        public fileprivate(set) var isConsuming = false
        /// How many messages are ready in the broker's queue; nil if that is not known yet.
        public fileprivate(set) var readyCount: Int?
        /// Whether the connection has ended. There is no more news then.
        public fileprivate(set) var hasEnded = false
        /// Why it has ended, or why it gives no more messages although it has not (`AMQPFailure.isFinal`); nil if it
        /// was to end.
        public fileprivate(set) var failure: AMQPFailure?
    }

    private struct State {
        var news = News()
        /// The bytes of messages that the owner has not released yet.
        var heldByteCount = 0
        /// Messages up to this delivery are to be acknowledged.
        var acknowledgedTag: UInt64 = 0
        var isStopping = false
        /// What `interrupt` breaks; nil while there is none.
        var socket: BrokerSocket?
    }

    /// How often the messages in the broker's queue are counted.
    private static let countMilliseconds: Int64 = 5000
    /// The size of the thread's stack, in bytes. librabbitmq decodes nested tables recursively, and a producer of
    /// messages chooses how deep they are: up to 26,000 levels, which take 4 MiB.
    static let stackByteCount = 16 << 20
    /// The longest sleep, so that heartbeats are sent and missed in time: a quarter of their interval.
    private static let sleepMilliseconds: Int64 = 2500
    /// The first pause before it looks again for room that others give back; each is twice the one before.
    private static let retryMilliseconds: Int64 = 50
    /// The event of `poll` that the peer has closed the connection. The Glibc module has only the name that it has for
    /// epoll; Linux gives both the same value.
    private static let peerEnd = Int16(EPOLLRDHUP.rawValue)
    /// The messages that are given to the owner at once.
    private static let batchCount = 256

    private let settings: AMQPSettings
    private let library: RabbitMQ
    private let trust: TLSTrust?
    private let refusal: @Sendable (_ address: IPAddress, _ port: UInt16, _ host: String) -> String?
    private let notify: @Sendable () -> Void
    private let state = Locked(State())
    /// An eventfd that ends the thread's sleep.
    private let wakeUp: Int32

    /// Starts the thread. It ends after `stop` or when the connection fails, which `News.hasEnded` tells.
    ///
    /// - Parameters:
    ///   - settings: what to consume.
    ///   - library: the library.
    ///   - trust: the issuers whose certificates are accepted; nil for the system's.
    ///   - refusal: why emq may not connect to an address; nil if it may. It is called on the thread.
    ///   - notify: is called on the thread when there is news.
    /// - Throws: `AMQPFailure` if the system has no descriptor or no thread left.
    public init(
        _ settings: AMQPSettings, library: RabbitMQ, trust: TLSTrust?,
        refusal: @escaping @Sendable (_ address: IPAddress, _ port: UInt16, _ host: String) -> String?,
        notify: @escaping @Sendable () -> Void
    ) throws(AMQPFailure) {
        self.settings = settings
        self.library = library
        self.trust = trust
        self.refusal = refusal
        self.notify = notify
        wakeUp = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard wakeUp >= 0 else { throw AMQPFailure("\(SystemError("make an eventfd"))") }
        // The thread keeps the consumer alive.
        do throws(SystemError) { try DetachedThread.start(stackByteCount: Self.stackByteCount, run) } catch {
            throw AMQPFailure("\(error)")
        }
    }

    deinit { close(wakeUp) }

    // MARK: For the owner

    /// Takes what has happened since the last call. O(1).
    public func takeNews() -> News {
        state.with { state in
            let news = state.news
            state.news.messages = []
            return news
        }
    }

    /// Says that messages are stored or dropped, so that as much as their bytes may be read. O(1).
    public func release(byteCount: Int) {
        state.with { $0.heldByteCount -= byteCount }
        settings.budget.add(-byteCount)
        wake()
    }

    /// Acknowledges all messages up to a delivery, soon. O(1).
    public func acknowledge(through deliveryTag: UInt64) {
        state.with { $0.acknowledgedTag = max($0.acknowledgedTag, deliveryTag) }
        wake()
    }

    /// Ends the connection after the acknowledgements so far. Messages without one go back to the broker. O(1).
    public func stop() {
        state.with { $0.isStopping = true }
        wake()
    }

    /// Breaks the connection, if `stop` takes too long. O(1).
    public func interrupt() {
        state.with {
            $0.isStopping = true
            $0.socket?.interrupt()
        }
        wake()
    }

    private func wake() {
        var one: UInt64 = 1
        // It fails only when the counter is full, and then the thread is being woken.
        _ = unsafe write(wakeUp, &one, 8)
    }

    // MARK: On the thread

    private func run() {
        var failure: AMQPFailure?
        do throws(AMQPFailure) { try consume() } catch { failure = error }
        state.with { state in
            state.news.hasEnded = true
            if !state.isStopping { state.news.failure = failure }
        }
        notify()
    }

    private var isStopping: Bool { state.with { $0.isStopping } }

    private func consume() throws(AMQPFailure) {
        let socket = try BrokerSocket(to: settings.url, trust: trust, refusal: refusal) { self.isStopping }
        state.with {
            $0.socket = socket
            // `interrupt` has not seen the socket if it came before.
            if $0.isStopping { socket.interrupt() }
        }
        defer { state.with { $0.socket = nil } }
        let session = try AMQPSession(library, over: socket, settings)
        let ready = try session.consume()
        publish([]) { news in
            news.isConsuming = true
            news.readyCount = ready
        }
        try withExtendedLifetime(session) { () throws(AMQPFailure) in
            try exchange(session, socket)
            session.close()
        }
    }

    private func publish(_ messages: [AMQPMessage], _ change: (inout News) -> Void = { _ in }) {
        let byteCount = messages.reduce(0) { $0 + $1.byteCount }
        state.with { state in
            state.news.messages += messages
            state.heldByteCount += byteCount
            change(&state.news)
        }
        notify()
    }

    /// Takes messages and sends acknowledgements until it is told to stop.
    private func exchange(_ session: AMQPSession, _ socket: BrokerSocket) throws(AMQPFailure) {
        let clock = EventLoop.steadyClock()
        var nextCount = clock() + Self.countMilliseconds
        var nextHeartbeat = Int64.max
        var acknowledged: UInt64 = 0
        // Whether the next message can never be taken.
        var isStuck = false
        // What the budget has given for the message that is arriving.
        var granted = 0
        defer { settings.budget.add(-granted) }
        var retry = Self.retryMilliseconds
        while true {
            let (tag, isStopping) = state.with { ($0.acknowledgedTag, $0.isStopping) }
            if tag > acknowledged {
                try session.acknowledge(through: tag)
                acknowledged = tag
            }
            if isStopping { return }
            var result = Reading.full
            if !isStuck {
                do throws(AMQPFailure) { result = try receive(session, &granted) } catch {
                    guard error.isFinal else { throw error }
                    // The messages before that one can still be acknowledged.
                    isStuck = true
                    publish([]) { $0.failure = error }
                }
            }
            guard result == .empty || result == .more else {
                // Nobody else sends heartbeats while nothing is read.
                if nextHeartbeat == .max { nextHeartbeat = clock() }
                if clock() >= nextHeartbeat {
                    try session.sendHeartbeat()
                    nextHeartbeat = clock() + Self.sleepMilliseconds
                }
                let pause = result == .full ? Self.sleepMilliseconds : retry
                if sleep(socket.descriptor, until: Self.peerEnd, milliseconds: pause) { throw session.closedByBroker }
                retry = min(2 * retry, Self.sleepMilliseconds)
                continue
            }
            nextHeartbeat = .max
            retry = Self.retryMilliseconds
            if clock() >= nextCount {
                try session.requestReadyCount()
                nextCount = clock() + Self.countMilliseconds
            } else if result == .empty {
                _ = sleep(socket.descriptor, until: Int16(POLLIN), milliseconds: Self.sleepMilliseconds)
            }
        }
    }

    /// How reading ended.
    private enum Reading {
        /// There is no room for more until the owner releases something.
        case full
        /// There is no room for more until the owner of another consumer releases something.
        case short
        /// Nothing more has arrived.
        case empty
        /// There may be more.
        case more
    }

    /// Takes what has arrived and there is room for, up to a batch.
    private func receive(_ session: AMQPSession, _ granted: inout Int) throws(AMQPFailure) -> Reading {
        var messages: [AMQPMessage] = []
        var held = state.with { $0.heldByteCount }
        // What has arrived before a failure is for the owner all the same.
        defer { if !messages.isEmpty { publish(messages) } }
        while messages.count < Self.batchCount {
            let wanted = session.arrivingByteCount
            if wanted > granted {
                guard held <= 0 || held + wanted <= settings.maximumHeldByteCount else { return .full }
                guard settings.budget.take(wanted) else { return .short }
                granted = wanted
            }
            switch try session.receive() {
            case .message(let message):
                settings.budget.add(message.byteCount - granted)
                granted = 0
                held += message.byteCount
                messages.append(message)
            case .readyCount(let count): publish([]) { $0.readyCount = count }
            case .part: break
            case .nothing: return .empty
            }
        }
        return .more
    }

    /// Sleeps until something happens to the socket, or the owner wants something.
    ///
    /// - Parameters:
    ///   - descriptor: the socket.
    ///   - event: POLLIN, or `peerEnd` to hear only of that.
    ///   - milliseconds: the longest sleep.
    /// - Returns: whether something happened to the socket.
    private func sleep(_ descriptor: Int32, until event: Int16, milliseconds: Int64) -> Bool {
        var states = [
            pollfd(fd: wakeUp, events: Int16(POLLIN), revents: 0),
            pollfd(fd: descriptor, events: event, revents: 0),
        ]
        let count = unsafe poll(&states, 2, Int32(milliseconds))
        var wakes: UInt64 = 0
        _ = unsafe read(wakeUp, &wakes, 8)
        return count > 0 && states[1].revents != 0
    }
}
