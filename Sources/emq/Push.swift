// The program's side of push: the client that requests go through, where they may go, and when in a turn of the loop that is
// worked on.

import Delivery
import Glibc
import Net
import Queues
import UID

/// The sending of tasks by this server.
final class Push {
    /// Whether what clients ask for is sent, and not only what legacy systems send.
    let sendsOwn: Bool
    private let delivery: Delivery
    private let client: HTTPClient
    private let adapters: Adapters
    private let destinations: Destinations

    /// Where requests may go. A class, because it is known where the server listens only when it does.
    private final class Destinations {
        var policy: DestinationPolicy

        init(_ policy: DestinationPolicy) { self.policy = policy }
    }

    /// - Parameters:
    ///   - policy: where requests may go; nil if only what legacy systems send is sent.
    ///   - adapters: the legacy systems.
    ///   - loop: what they are sent on.
    ///   - connections: how many connections there may be.
    ///   - maximumBodyBytes: how many bytes the bodies in flight may have.
    ///   - broker: whose tasks are sent.
    ///   - sender: what sends in place of an HTTP client.
    init(
        _ policy: DestinationPolicy?, for adapters: Adapters, loop: EventLoop, connections: Int, maximumBodyBytes: Int,
        on broker: isolated Broker, sender: (any RequestSender)? = nil
    ) {
        var limits = ClientLimits()
        // One host that does not answer keeps three quarters for others.
        limits.connections = connections
        limits.connectionsPerHost = max(1, connections / 4)
        // Beside the bodies that are sent, half as much for what comes back.
        limits.bufferBytes = maximumBodyBytes + maximumBodyBytes / 2
        let destinations = Destinations(policy ?? .everywhere)
        self.destinations = destinations
        let sendsOwn = policy != nil
        self.sendsOwn = sendsOwn
        self.adapters = adapters
        client = HTTPClient(loop: loop, limits: limits) { address, port, host in
            destinations.policy.refusal(of: address, port: port, host: host)
        }
        let courier = OwnCourier { task in
            var json: [UInt8] = []
            TaskWriter.writeWhole(task, isSending: true, to: &json)
            return json
        }
        var ids = UIDGenerator()
        var random = KernelRandom()
        delivery = Delivery(
            sender: sender ?? client, limits: limits, on: broker,
            makeID: { ids.next(unixMilliseconds: UInt64($0), using: &random) },
            courier: { name in
                if let owner = adapters.owner(of: name.span) { return owner }
                return sendsOwn && LegacySystem(of: name.span) == nil ? courier : nil
            })
        delivery.maximumBodyBytes = maximumBodyBytes
    }

    var policy: DestinationPolicy {
        get { destinations.policy }
        set { destinations.policy = newValue }
    }

    /// Whether the tasks of a queue that are to be sent are.
    func sends(_ queueName: Span<UInt8>) -> Bool {
        adapters.owner(of: queueName) != nil || sendsOwn && LegacySystem(of: queueName) == nil
    }

    /// How many tasks are being sent, and how much memory that takes, in bytes.
    var inFlightCount: Int { delivery.inFlightCount }
    var bufferBytes: Int { client.bufferBytes + delivery.waitingOutcomeBytes }

    /// Takes in what came back, as far as there is room for it.
    func beginTurn(_ durability: (any Durability)?, isShortOfMemory: Bool, on broker: isolated Broker, now: Int64) {
        delivery.isShortOfMemory = isShortOfMemory
        client.isShortOfMemory = isShortOfMemory
        delivery.safeSequence = durability?.safeSequence ?? .max
        // The loop's time does not follow a clock that is set.
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        delivery.wallClockLeadMilliseconds = Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000 - now
        if durability?.isBusy(broker) == true { return }
        delivery.beginTurn(on: broker, now: now) { byteCount in
            durability?.hasSpace(for: byteCount, on: broker) ?? true
        }
    }

    /// Sends what can be sent.
    ///
    /// - Returns: when the next turn must begin at the latest; nil for no such time.
    func endTurn(_ durability: (any Durability)?, isStopping: Bool, on broker: isolated Broker, now: Int64) -> Int64? {
        let isBusy = durability?.isBusy(broker) == true
        delivery.isStopping = isStopping || isBusy
        delivery.postponesNotifications = isBusy || delivery.isShortOfMemory
        return delivery.endTurn(on: broker, now: now)
    }
}
