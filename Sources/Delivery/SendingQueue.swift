// What is known of a queue from which tasks are sent: how it wants that done, and how many are under way.

import Bytes
import Net
import Queues

/// A queue from which tasks are sent.
public final class SendingQueue {
    /// Why nothing is started from it at the moment, or that something may be.
    enum Standing {
        /// It may have something to send.
        case active
        /// There is nothing to send.
        case idle
        /// As many tasks are under way as may be.
        case full
        /// Its rate allows the next one at a later time.
        case paced
        /// The next one is for a host to which as many are in flight as may be.
        case crowded
        /// The host of the next one has to be looked up, and too many others are.
        case unresolved
        /// The next one may not be sent yet, or it is not known which it is: the next turn will tell.
        case held
    }

    let index: QueueIndex
    let courier: any Courier
    /// Its name.
    public let name: [UInt8]
    /// The name, percent-encoded (RFC 3986, all but unreserved characters).
    public let encodedName: [UInt8]
    var standing = Standing.idle
    var inFlightCount = 0
    /// The host and port that it waits for when it is crowded.
    var crowdedAuthority: [UInt8] = []
    /// What its configuration says of how tasks are sent.
    public private(set) var options = PushOptions()
    private(set) var bucket: TokenBucket?
    /// The header lines that its options ask for.
    private var text: [UInt8] = []

    init(index: QueueIndex, name: [UInt8], courier: any Courier) {
        self.index = index
        self.courier = courier
        self.name = name
        var encodedName: [UInt8] = []
        PercentEncoding.encode(name.span, into: &encodedName)
        self.encodedName = encodedName
    }

    var concurrency: Int { options.concurrency ?? courier.concurrency }

    /// Looks whether the queue's options have changed. O(1) if not.
    func update(_ text: [UInt8], now: Int64) {
        if text == self.text { return }
        self.text = text
        let rate = options.rate
        options = PushOptions(stored: text, of: .queue)
        // The same rate goes on where it was: setting other options starts nothing early.
        if options.rate != rate { bucket = options.rate.map { TokenBucket(rate: $0, now: now) } }
    }

    /// When the next task may be started.
    func nextTime(now: Int64) -> Int64 { bucket?.nextTime(now: now) ?? now }

    /// Notes that a task is started.
    func noteStart(now: Int64) {
        inFlightCount += 1
        _ = bucket?.take(now: now)
    }

    /// Whether nothing is lost if it is forgotten.
    var isForgettable: Bool {
        standing == .idle && inFlightCount == 0 && bucket == nil
    }
}
