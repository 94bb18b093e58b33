// The legacy systems with an interface for clients: their names, ports and queues.

/// A legacy system that has an interface for clients.
///
/// The names of its queues are reserved for it, even while the server does not replace it. Nothing else is sent from
/// them, because receivers would get its tasks in a form that they do not know.
enum LegacySystem: String, CaseIterable {
    case httpqueue
    case delayTasks = "delay-tasks"
    case htq

    /// The system for which a queue's name is reserved; nil if the name is not reserved.
    init?(of queueName: Span<UInt8>) {
        for system in LegacySystem.allCases where system.owns(queueName) {
            self = system
            return
        }
        return nil
    }

    /// The system's default port.
    var port: UInt16 {
        switch self {
        case .httpqueue: 2356
        case .delayTasks: 7080
        case .htq: 5000
        }
    }

    /// The option that makes the server replace it. Its value is an address; for delay-tasks, it may be a file.
    var flag: String { "--\(rawValue)" }

    /// The two halves of its adapter.
    func makeAdapter(_ options: Options) -> (frontEnd: any FrontEnd, courier: (any QueueCourier)?) {
        switch self {
        case .httpqueue: (Httpqueue(), HttpqueueCourier())
        case .delayTasks:
            (
                DelayTasks(attempts: options.delayTasksFile?.attempts ?? DelayTasksFile.usualAttempts),
                DelayTasksCourier(
                    timeoutMilliseconds: options.delayTasksTimeoutMilliseconds, file: options.delayTasksFile)
            )
        case .htq: (Htq(workers: options.htqWorkers), HtqCourier(workers: options.htqWorkers))
        }
    }

    /// Whether a queue with this name belongs to the system.
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

    /// The topic or category of a queue.
    @_lifetime(copy queueName)
    func part(of queueName: Span<UInt8>) -> Span<UInt8> { queueName.extracting(droppingFirst: rawValue.utf8.count + 1) }
}
