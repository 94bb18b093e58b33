// A queue whose tasks are sent: its options, its rate, its circuit breaker, and its number of tasks in flight.

import Bytes
import Net
import Queues

/// A queue whose tasks are sent.
public final class SendingQueue {
    /// Whether the queue can start an attempt now and, if not, what it waits for.
    enum Standing {
        /// The queue may have something to send.
        case active
        /// The queue has nothing to send.
        case idle
        /// As many tasks are in flight as the queue or its circuit breaker allows.
        case full
        /// The rate or the circuit breaker allows the next task only later.
        case paced
        /// The next task is for a host that has as many attempts in flight as it may.
        case crowded
        /// The next task's host must be looked up, and too many other lookups are in progress.
        case unresolved
        /// The next task cannot be sent yet, or is not known yet. The queue tries again in the next turn.
        case held
    }

    let index: QueueIndex
    let courier: any Courier
    /// The name.
    public let name: [UInt8]
    /// The percent-encoded name (RFC 3986, all but unreserved characters).
    public let encodedName: [UInt8]
    var standing = Standing.idle
    var inFlightCount = 0
    /// The origin that a crowded queue waits for.
    var crowdedOrigin: [UInt8] = []
    /// The push options of the queue's configuration.
    public private(set) var options = PushOptions()
    private(set) var bucket: TokenBucket?
    var breaker: CircuitBreaker?
    /// The stored text of the options.
    private var text: [UInt8] = []

    init(index: QueueIndex, name: [UInt8], courier: any Courier) {
        self.index = index
        self.courier = courier
        self.name = name
        var encodedName: [UInt8] = []
        PercentEncoding.encode(name.span, into: &encodedName)
        self.encodedName = encodedName
    }

    /// Whether one more task may be in flight.
    var hasPlace: Bool {
        inFlightCount < options.concurrency ?? courier.concurrency && breaker?.isTrying != true
    }

    /// Reads the queue's options again if they have changed. O(1) if they have not.
    func update(_ text: [UInt8], now: Int64) {
        if text == self.text { return }
        self.text = text
        let rate = options.rate
        options = PushOptions(stored: text, of: .queue)
        // The bucket stays if the rate is the same, so a change of other options starts nothing early.
        if options.rate != rate {
            bucket = options.rate.map { TokenBucket(rate: $0, spreadsStarts: courier.spreadsStarts, now: now) }
        }
        // A change of any option may be what makes the receiver work again.
        breaker = options.circuit.map { CircuitBreaker($0) }
    }

    /// When the next task may be started.
    func nextTime(now: Int64) -> Int64 { max(bucket?.nextTime(now: now) ?? now, breaker?.resumeTime ?? now) }

    /// Counts an attempt that starts.
    func noteStart(of attempt: UInt64, now: Int64) {
        inFlightCount += 1
        _ = bucket?.take(now: now)
        breaker?.noteStart(of: attempt)
    }

    /// Whether dropping this record loses nothing.
    var isForgettable: Bool {
        standing == .idle && inFlightCount == 0 && bucket == nil && breaker == nil
    }
}
