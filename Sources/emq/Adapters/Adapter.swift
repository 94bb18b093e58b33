// The legacy systems that emq stands in for: what each has to say for itself, and which of them is responsible for a queue.
//
// An adapter translates: requests of its system's clients into calls on the broker, and tasks into requests to its system's
// receivers. It keeps no tasks and no times of its own.

import Bytes
import Delivery
import Net
import Queues

/// A legacy system, as far as its queues and receivers are concerned.
protocol Adapter: Courier {
    /// Whether a queue of this name is the system's.
    func owns(_ queueName: Span<UInt8>) -> Bool

    /// Fills in what a configuration of one of its queues leaves unsaid.
    func complete(_ configuration: inout QueueConfiguration, of queueName: Span<UInt8>)

    /// Gets its queues ready. Called when all tasks of an earlier process are there, again and again until it is done.
    ///
    /// - Returns: whether it is.
    func begin(on broker: isolated Broker) -> Bool
}

extension Adapter {
    func complete(_ configuration: inout QueueConfiguration, of queueName: Span<UInt8>) {}

    func begin(on broker: isolated Broker) -> Bool { true }
}

/// A legacy system with an interface for clients.
protocol AdapterService: Adapter {
    /// Answers a request as the system would.
    ///
    /// - Throws: `Problem`, which `write` tells the client of.
    func answer(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ api: inout API, on broker: isolated Broker
    ) throws(Problem) -> Outcome

    /// What a request costs beside the texts that it wants kept.
    func cost(_ request: borrowing Request) -> Cost

    /// Tells the client of a problem, as the system would.
    func write(_ problem: Problem, to responses: inout ResponseStream)
}

extension AdapterService {
    func cost(_ request: borrowing Request) -> Cost {
        switch request.method {
        case .get, .head: .looks
        case .delete: .frees
        default: .grows(Cost.queueBytes)
        }
    }
}

/// The systems with an interface of their own.
enum LegacySystem: String, CaseIterable {
    case httpqueue
    case delayTasks = "delay-tasks"
    case htq

    /// The system that a queue's name is kept for. Nothing else is sent from there, also while the system is not served: what
    /// it has left there would reach its receivers in a form that they do not know.
    init?(of queueName: Span<UInt8>) {
        for system in LegacySystem.allCases where system.owns(queueName) {
            self = system
            return
        }
        return nil
    }

    /// The port that it used to listen at.
    var port: UInt16 {
        switch self {
        case .httpqueue: 2356
        case .delayTasks: 7080
        case .htq: 5000
        }
    }

    /// Whether a queue of this name is its own.
    func owns(_ queueName: Span<UInt8>) -> Bool {
        let name = Array(rawValue.utf8)
        guard queueName.count >= name.count, queueName.extracting(first: name.count).equals(name.span) else {
            return false
        }
        return self == .htq
            ? queueName.count == name.count : queueName.count > name.count && queueName[name.count] == UInt8(ascii: "/")
    }

    /// The queue of a topic or category.
    func queueName(_ part: [UInt8]) -> [UInt8] { Array("\(rawValue)/".utf8) + part }

    /// What follows the system's own name in that of a queue.
    @_lifetime(copy queueName)
    func part(of queueName: Span<UInt8>) -> Span<UInt8> { queueName.extracting(droppingFirst: rawValue.utf8.count + 1) }
}

/// The systems that this server stands in for.
final class Adapters {
    /// Those with an interface. The service of a request (`Request.service`) is its place here, counted from 1.
    let services: [any AdapterService]
    let taskqueue: Taskqueue?
    let isEmpty: Bool
    private let all: [any Adapter]
    /// Whether tasks may be sent: those of queues that nobody sends any more would die, as there is no telling where to.
    private(set) var isSendingSafe = false
    /// The queues that nobody sends any more and that are not the workers' yet; nil before they were looked for.
    private var orphans: [[UInt8]]?
    private var hasBegun = false

    init(services: [any AdapterService] = [], taskqueue: Taskqueue? = nil) {
        self.services = services
        self.taskqueue = taskqueue
        all = services.map { $0 as any Adapter } + (taskqueue.map { [$0] } ?? [])
        isEmpty = all.isEmpty
    }

    /// Those that a server was asked to stand in for.
    convenience init(_ options: Options) {
        self.init(
            services: options.systems.map { system in
                switch system {
                case .httpqueue: Httpqueue()
                case .delayTasks: DelayTasks()
                case .htq: Htq(workers: options.htqWorkers)
                }
            }, taskqueue: options.taskqueueFile.map { Taskqueue($0) })
    }

    /// The system that a queue belongs to, if it is served.
    func owner(of queueName: Span<UInt8>) -> (any Adapter)? {
        for adapter in all where adapter.owns(queueName) { return adapter }
        return nil
    }

    /// Checks that tasks are not added behind a legacy system's back.
    ///
    /// - Throws: 403 if they would be.
    func checkEnqueue(in queueName: Span<UInt8>) throws(Problem) {
        guard let owner = owner(of: queueName), !(owner is Taskqueue) else { return }
        throw Problem(403, "this queue belongs to a legacy system that is served here: its clients add tasks to it")
    }

    /// To be called in each turn of the loop when the tasks of an earlier process are there.
    func beginTurn(on broker: isolated Broker) {
        if hasBegun { return }
        isSendingSafe = isSendingSafe || releaseOrphans(on: broker)
        hasBegun = isSendingSafe && all.allSatisfy { $0.begin(on: broker) }
    }

    /// Gives the tasks of queues to workers that were sent for a system that is not served any more: nobody could say where to.
    private func releaseOrphans(on broker: isolated Broker) -> Bool {
        if orphans == nil {
            var found: [[UInt8]] = []
            broker.forEachQueueName { name in
                if isOrphan(name, on: broker) { found.append(Array(copying: name)) }
            }
            orphans = found
        }
        while let name = orphans?.last {
            // An operator may have said since where to.
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
