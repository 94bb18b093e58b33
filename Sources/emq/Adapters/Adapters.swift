// The legacy systems that this server replaces.
//
// An adapter has an inbound half, a front end (`FrontEnd`), and, if its system sends, an outbound half, a courier
// (`QueueCourier`). It only translates: it has no tasks and no timers of its own.

import Bytes
import Delivery
import Net
import Queues

/// The legacy systems that this server replaces.
final class Adapters {
    /// The front ends. The service of a request (`Request.service`) is the index of its front end, counted from 1.
    let frontEnds: [any FrontEnd]
    /// The names of their systems, in the same order.
    let names: [String]
    let taskqueue: Taskqueue?
    private let couriers: [any QueueCourier]
    /// Whether the server replaces no system.
    let isEmpty: Bool
    /// Whether tasks may be sent. Until the orphans are released, their tasks would die, because they have no URL.
    private(set) var isSendingSafe = false
    /// Orphans: queues of systems that are no longer replaced, whose tasks go to workers instead; nil before the
    /// search.
    private var orphans: [[UInt8]]?
    private var hasBegun = false

    init(
        frontEnds: [any FrontEnd] = [], names: [String] = [], couriers: [any QueueCourier] = [],
        taskqueue: Taskqueue? = nil
    ) {
        self.frontEnds = frontEnds
        self.names = names
        self.taskqueue = taskqueue
        self.couriers = couriers + (taskqueue.map { [$0] } ?? [])
        isEmpty = frontEnds.isEmpty && self.couriers.isEmpty
    }

    /// The adapters that the options ask for.
    convenience init(_ options: Options) {
        let adapters = options.systems.map { $0.makeAdapter(options) }
        self.init(
            frontEnds: adapters.map(\.frontEnd), names: options.systems.map(\.rawValue),
            couriers: adapters.compactMap(\.courier),
            taskqueue: options.taskqueueFile.map { Taskqueue($0) })
    }

    /// The courier of a legacy system that sends the tasks of a queue. O(couriers).
    func owner(of queueName: Span<UInt8>) -> (any QueueCourier)? {
        for courier in couriers where courier.owns(queueName) { return courier }
        return nil
    }

    /// Checks that a queue accepts tasks from all clients, not only from those of its legacy system.
    ///
    /// - Throws: 403 if it does not.
    func checkEnqueue(in queueName: Span<UInt8>) throws(Problem) {
        guard let owner = owner(of: queueName), !owner.acceptsEnqueue else { return }
        throw Problem(
            .queueReserved,
            "this queue belongs to a legacy system, so only its clients can add tasks; use another queue")
    }

    /// Prepares the queues of all systems. Call this in each turn after the tasks of an earlier process are recovered.
    func beginTurn(on broker: isolated Broker) {
        if hasBegun { return }
        isSendingSafe = isSendingSafe || releaseOrphans(on: broker)
        hasBegun = isSendingSafe && couriers.allSatisfy { $0.begin(on: broker) }
    }

    /// Releases the tasks of orphans to workers.
    ///
    /// - Returns: whether all orphans are released.
    private func releaseOrphans(on broker: isolated Broker) -> Bool {
        if orphans == nil {
            var found: [[UInt8]] = []
            broker.forEachQueueName { name in
                if isOrphan(name, on: broker) { found.append(Array(copying: name)) }
            }
            orphans = found
        }
        while let name = orphans?.last {
            // An operator may have set a URL in the meantime.
            if isOrphan(name.span, on: broker), let queue = broker.existingQueue(named: name.span),
                var configuration = broker.configuration(of: queue)
            {
                configuration.isPushed = false
                do throws(BrokerError) { try broker.configure(queue, configuration) } catch { return false }
            }
            orphans?.removeLast()
        }
        return true
    }

    private func isOrphan(_ queueName: Span<UInt8>, on broker: isolated Broker) -> Bool {
        guard owner(of: queueName) == nil, let queue = broker.existingQueue(named: queueName),
            broker.configuration(of: queue)?.isPushed == true
        else { return false }
        return PushOptions(stored: broker.push(of: queue), of: .queue).url == nil
    }
}
