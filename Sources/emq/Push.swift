// The program's side of push: the client that sends requests, where they may go, and when `Delivery` works in a turn of
// the loop.

import Delivery
import Glibc
import Net
import Queues
import UID

/// Sends tasks for this server.
final class Push {
    /// Whether clients may have tasks sent. If not, only legacy systems send theirs.
    let sendsOwn: Bool
    private let delivery: Delivery
    private let client: HTTPClient
    /// The courier of a queue; nil if nothing is sent from it.
    private let courierOf: (Span<UInt8>) -> (any Courier)?
    private let destinations: Destinations

    /// Where requests may go. A class, because the server's own listeners are known only once it listens.
    private final class Destinations {
        var policy: DestinationPolicy

        init(_ policy: DestinationPolicy) { self.policy = policy }
    }

    /// - Parameters:
    ///   - policy: where requests may go; nil if only legacy systems send tasks.
    ///   - adapters: the legacy systems.
    ///   - loop: the loop of the HTTP client.
    ///   - connections: the maximum number of connections.
    ///   - maximumBodyBytes: the maximum size of all bodies in flight.
    ///   - broker: the broker whose tasks are sent.
    ///   - trust: the issuers whose certificates the client accepts; nil for the system's.
    ///   - sender: replaces the HTTP client in tests.
    init(
        _ policy: DestinationPolicy?, for adapters: Adapters, loop: EventLoop, connections: Int, maximumBodyBytes: Int,
        on broker: isolated Broker, trust: TLSTrust? = nil, sender: (any RequestSender)? = nil
    ) {
        var limits = ClientLimits()
        // One host that does not respond leaves three quarters to others.
        limits.connections = connections
        limits.connectionsPerHost = max(1, connections / 4)
        // The bodies that are sent, and half as much for responses.
        limits.bufferBytes = maximumBodyBytes + maximumBodyBytes / 2
        let destinations = Destinations(policy ?? .everywhere)
        self.destinations = destinations
        let sendsOwn = policy != nil
        self.sendsOwn = sendsOwn
        client = HTTPClient(loop: loop, limits: limits) { address, port, host in
            destinations.policy.refusal(of: address, port: port, host: host)
        }
        client.trust = trust
        let courier = OwnCourier { task in
            var json: [UInt8] = []
            TaskWriter.writeWhole(task, isSending: true, to: &json)
            return json
        }
        let courierOf = { (name: Span<UInt8>) -> (any Courier)? in
            if let owner = adapters.owner(of: name) { return owner }
            return sendsOwn && LegacySystem(of: name) == nil ? courier : nil
        }
        self.courierOf = courierOf
        var ids = UIDGenerator()
        var random = KernelRandom()
        delivery = Delivery(
            sender: sender ?? client, limits: limits, on: broker,
            makeID: { ids.next(unixMilliseconds: UInt64($0), using: &random) }, courier: { courierOf($0.span) })
        delivery.maximumBodyBytes = maximumBodyBytes
    }

    var policy: DestinationPolicy {
        get { destinations.policy }
        set { destinations.policy = newValue }
    }

    /// Whether a queue has a courier, so that its pushed tasks are sent.
    func sends(_ queueName: Span<UInt8>) -> Bool { courierOf(queueName) != nil }

    /// The circuit breaker of a queue; nil if its push asks for none.
    func circuitBreaker(of queue: QueueIndex, on broker: isolated Broker, now: Int64) -> CircuitBreaker? {
        delivery.circuitBreaker(of: queue, on: broker, now: now)
    }

    /// The number of attempts that are in flight or whose outcomes wait for room.
    var inFlightCount: Int { delivery.inFlightCount }
    /// How requests have ended.
    var requestCounts: RequestCounts { delivery.requestCounts }
    /// The memory that sending takes, in bytes.
    var bufferBytes: Int { client.bufferBytes + client.keptBytes + delivery.waitingOutcomeBytes }

    /// Ends attempts whose requests have ended, as far as there is room for their outcomes.
    func beginTurn(_ durability: (any Durability)?, isShortOfMemory: Bool, on broker: isolated Broker, now: Int64) {
        delivery.isShortOfMemory = isShortOfMemory
        client.isShortOfMemory = isShortOfMemory
        delivery.safeSequence = durability?.safeSequence ?? .max
        // The loop's time does not change when somebody sets the clock.
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        delivery.wallClockLeadMilliseconds = Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000 - now
        if durability?.isBusy(broker) == true { return }
        delivery.beginTurn(on: broker, now: now) { byteCount in
            durability?.hasSpace(for: byteCount, on: broker) ?? true
        }
    }

    /// Starts as many attempts as possible.
    ///
    /// - Returns: when the next turn must begin at the latest; nil for no such time.
    func endTurn(_ durability: (any Durability)?, isStopping: Bool, on broker: isolated Broker, now: Int64) -> Int64? {
        let isBusy = durability?.isBusy(broker) == true
        delivery.isStopping = isStopping || isBusy
        delivery.postponesNotifications = isBusy || delivery.isShortOfMemory
        return delivery.endTurn(on: broker, now: now)
    }
}
