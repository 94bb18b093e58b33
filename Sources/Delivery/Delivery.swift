// Push: takes tasks from the broker as a worker would, sends them to URLs, and acknowledges or refuses them by the
// responses.
//
// Queues take turns to start one task each, until every queue has nothing to send, has as many tasks in flight as it
// may, or waits for its rate. So a queue with a million tasks for a slow host holds up no other queue. Nor do many
// queues for one slow host, because a host gets only a share of the tasks in flight. `Delivery` keeps no record of a
// queue that has nothing to send.

import Net
import Queues
import UID

/// Sends a broker's tasks. Make all calls in the broker's isolation.
public final class Delivery {
    /// An outcome that waits until there is room to write it down.
    struct WaitingOutcome {
        let key: DispatchKey
        let outcome: Attempt.Outcome
    }

    let sender: any RequestSender
    let makeID: (_ now: Int64) -> UID
    let courier: (_ queueName: [UInt8]) -> (any Courier)?
    var queues: [QueueIndex: SendingQueue] = [:]
    /// The attempts in flight, by the keys of their dispatches.
    var attempts: [UInt64: Attempt] = [:]
    /// The queues that may have something to start, in the order of their turns.
    var active: [SendingQueue] = []
    /// The queues that wait for their rate; the next one is last.
    var paced: [(time: Int64, queue: SendingQueue)] = []
    var held: [SendingQueue] = []
    /// The queues that wait until other names are looked up, in order. The first `resolvedCount` of them are to try
    /// again.
    var unresolved: [SendingQueue] = []
    var resolvedCount = 0
    /// The number of attempts in flight to each host and port.
    var inFlightCounts: [[UInt8]: Int] = [:]
    /// The queues whose next task is for a host and port that has as many attempts in flight as it may.
    var crowds: [[UInt8]: [SendingQueue]] = [:]
    /// The maximum number of attempts in flight, of all queues together and to one host and port. It equals the number
    /// of connections, so no attempt spends its timeout waiting for a connection.
    let maximumInFlight: Int
    let maximumInFlightPerHost: Int
    var waitingOutcomes: [WaitingOutcome] = []
    /// The size of the outcomes that wait for room.
    public internal(set) var waitingOutcomeBytes = 0
    /// The size of all bodies in flight.
    var bodyBytes = 0
    /// How the requests ended so far, apart from those that were aborted.
    public internal(set) var requestCounts = RequestCounts()

    /// The maximum size of all bodies in flight together; each is a copy of its task's. A single body may be larger.
    public var maximumBodyBytes = Int.max
    /// How far the wall clock is ahead of the broker's time, in milliseconds. Receivers compare times with their own
    /// clocks.
    public var wallClockLeadMilliseconds: Int64 = 0
    /// The sequence of the journal's last safe frame. A task is sent only when the change that made it ready is safe.
    public var safeSequence = UInt64.max
    /// Whether memory is short. Then results are kept without their bodies.
    public var isShortOfMemory = false
    /// Whether to start no more attempts. Those in flight go on to their end.
    public var isStopping = false
    /// Whether dead-letter notifications wait: each is a task, which takes memory and space on disk.
    public var postponesNotifications = false

    /// The number of attempts that are in flight or whose outcomes wait for room.
    public var inFlightCount: Int { attempts.count + waitingOutcomes.count }

    /// The circuit breaker of a queue; nil if its options ask for none. O(1), or O(size of the options) for a queue
    /// that has had nothing to send since the start.
    public func circuitBreaker(of index: QueueIndex, on broker: isolated Broker, now: Int64) -> CircuitBreaker? {
        let text = broker.push(of: index)
        if text.isEmpty { return nil }
        guard let queue = queues[index], queue.name == broker.name(of: index) else {
            return PushOptions(stored: text, of: .queue).circuit.map { CircuitBreaker($0) }
        }
        queue.update(text, now: now)
        return queue.breaker
    }

    /// A delivery that knows no queue yet.
    ///
    /// - Parameters:
    ///   - sender: sends the requests.
    ///   - limits: the sender's limits on connections.
    ///   - broker: the broker; it holds no tasks yet.
    ///   - makeID: makes the id of a new task.
    ///   - courier: the courier of a queue, always the same one; nil if the queue's tasks are not sent.
    public init(
        sender: any RequestSender, limits: ClientLimits = ClientLimits(), on broker: isolated Broker,
        makeID: @escaping (_ now: Int64) -> UID, courier: @escaping (_ queueName: [UInt8]) -> (any Courier)?
    ) {
        self.sender = sender
        maximumInFlight = limits.connections
        maximumInFlightPerHost = limits.connectionsPerHost
        self.makeID = makeID
        self.courier = courier
        broker.beginSending()
    }

    /// Ends attempts whose requests have ended, and aborts those whose tasks are no longer to be sent. Call this at the
    /// beginning of a turn. Skipping a call is safe: everything stays as it is.
    ///
    /// - Parameters:
    ///   - broker: the broker.
    ///   - now: the time.
    ///   - hasRoom: whether there is room for a change of so many bytes. If not, outcomes wait.
    public func beginTurn(on broker: isolated Broker, now: Int64, hasRoom: (_ byteCount: Int) -> Bool = { _ in true }) {
        abortEndedSends(on: broker)
        applyWaitingOutcomes(on: broker, now: now, hasRoom)
        takeOutcomes(on: broker, now: now, hasRoom)
    }

    /// Adds dead-letter notifications, and starts as many attempts as possible. Call this at the end of a turn, before
    /// its changes are written.
    ///
    /// - Returns: when the next turn must begin at the latest; nil for no such time.
    public func endTurn(on broker: isolated Broker, now: Int64) -> Int64? {
        var notificationBytes = 0
        addNotifications(on: broker, now: now, &notificationBytes)
        activateWaitingQueues(now: now)
        if !isStopping { start(on: broker, now: now) }
        // Tasks that can never be sent have died.
        addNotifications(on: broker, now: now, &notificationBytes)
        if broker.hasUnreportedDeadTasks, !postponesNotifications { return now }
        // A client has ended tasks that are being sent, such as by cancelling them.
        if broker.hasEndedSends, !isStopping { return now }
        if !active.isEmpty || resolvedCount > 0, !isStopping, attempts.count < maximumInFlight { return now }
        return paced.last?.time
    }
}
