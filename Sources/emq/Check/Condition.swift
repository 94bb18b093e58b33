// What may be wrong with the server or with a queue. `emq check` and `GET /alerts/` both go by this.

/// Something that is wrong, or about to be.
struct Condition {
    /// How bad something is. The raw value is the exit status of `emq check`.
    enum Level: Int32 {
        case ok, warning, critical, unknown

        var name: String {
            switch self {
            case .ok: "ok"
            case .warning: "warning"
            case .critical: "critical"
            case .unknown: "unknown"
            }
        }

        /// Something critical counts more than something unknown.
        var weight: Int { self == .critical ? 4 : Int(rawValue) }
    }

    let level: Level
    /// What it is, in a word for programs.
    let kind: String
    /// In words, for people.
    let text: String
    /// The queue that it is about; nil if it is about the server.
    var queue: String?

    // MARK: The server

    /// From which used parts of the memory on there is a warning, or it is critical.
    static let memoryParts = (warning: 0.8, critical: 0.95)
    /// For how long before the end of a certificate there is a warning.
    static let certificateSeconds = 14.0 * 86_400

    /// The memory, if much of it is used; both numbers are in bytes.
    static func memory(used: Double, limit: Double) -> Condition? {
        guard limit > 0, used > memoryParts.warning * limit else { return nil }
        return Condition(
            level: used > memoryParts.critical * limit ? .critical : .warning, kind: "memory",
            text: "\(whole(used / limit * 100)) % of the memory is used")
    }

    /// The journal, which has a problem.
    static func journal(_ problem: String) -> Condition {
        Condition(level: .critical, kind: "journal", text: "the journal: \(problem)")
    }

    /// A source, if it takes no messages although it should.
    static func source(_ name: String, state: String) -> Condition? {
        guard state == "retrying" || state == "stopped" else { return nil }
        return Condition(level: .warning, kind: "source", text: "the source '\(name)' is \(state)")
    }

    /// The server's certificate, if it ends so many seconds from now, or has ended.
    static func certificate(rest: Double) -> Condition? {
        guard rest < certificateSeconds else { return nil }
        if rest <= 0 { return Condition(level: .critical, kind: "certificate", text: "the certificate has ended") }
        return Condition(
            level: .warning, kind: "certificate", text: "the certificate ends in \(duration(rest))")
    }

    // MARK: Words

    /// A whole number. What answers may not be emq, so that a number may be too large for one.
    static func whole(_ number: Double) -> Int { Int(max(-1e15, min(number, 1e15))) }

    /// The longest unit that leaves at least two of it.
    static func duration(_ seconds: Double) -> String {
        for (unit, length) in [("days", 86_400.0), ("hours", 3600), ("minutes", 60)] where seconds >= 2 * length {
            return "\(whole(seconds / length)) \(unit)"
        }
        return "\(whole(seconds)) s"
    }

    /// A number of things.
    static func count(_ number: Double, _ noun: String) -> String {
        "\(whole(number)) \(noun)\(number == 1 ? "" : "s")"
    }
}

/// The figures of a queue that say whether something is wrong with it. Those that are not known are nil.
struct QueueFigures {
    var ready = 0.0
    var dead = 0.0
    var waiters: Double?
    /// How many tasks workers hold.
    var held = 0.0
    /// Whether its tasks are sent, or at least all that are ready, so that they need no worker.
    var isPushed = false
    /// For how long the oldest ready task has been ready, in seconds.
    var oldestReadySeconds = 0.0
    /// How many tasks a second were enqueued and done lately.
    var rates: (enqueued: Double, done: Double)?
    var isPaused = false
    /// For how long it has been paused, in seconds.
    var pausedSeconds: Double?
    /// How many attempts to send a task have failed in a row; nil unless its circuit is open or half-open.
    var failures: Double?
}

/// Something that is wrong with a queue. Its number says how much.
enum QueueCondition {
    /// Its tasks wait, and no worker waits for them or holds one; for how many seconds.
    case stalled(Double)
    /// Its tasks wait while workers hold others; for how many seconds.
    case busy(Double)
    /// Its tasks wait for longer than somebody wants; for how many seconds.
    case late(Double, isCritical: Bool)
    /// Its ready tasks will not be done soon; how many there are.
    case backlog(Double)
    /// It has been paused for many seconds.
    case paused(Double)
    /// It has dead tasks.
    case dead(Double)
    /// Its receiver fails; how often in a row.
    case receiver(Double)

    static let stalledSeconds = 300.0
    private static let backlogLimits = (count: 1000.0, seconds: 3600.0)
    private static let pauseSeconds = 86_400.0

    /// What is wrong with a queue.
    ///
    /// - Parameters:
    ///   - figures: its figures.
    ///   - ages: from which age of the oldest ready task on, in seconds, it is late, whatever workers do.
    /// - Returns: nothing for a queue that is well.
    static func found(in figures: QueueFigures, ages: (warning: Double, critical: Double)? = nil) -> [QueueCondition] {
        var found: [QueueCondition] = []
        let age = figures.oldestReadySeconds
        if let ages {
            if age >= ages.warning, !figures.isPaused { found.append(.late(age, isCritical: age >= ages.critical)) }
        } else if age > stalledSeconds, !figures.isPaused, figures.waiters == 0 {
            if figures.isPushed {
                found.append(.late(age, isCritical: false))
            } else {
                found.append(figures.held > 0 ? .busy(age) : .stalled(age))
            }
        }
        if figures.ready > backlogLimits.count, age > stalledSeconds, !figures.isPaused, let rates = figures.rates,
            (rates.done - rates.enqueued) * backlogLimits.seconds < figures.ready
        {
            found.append(.backlog(figures.ready))
        }
        if let seconds = figures.pausedSeconds, seconds >= pauseSeconds { found.append(.paused(seconds)) }
        if figures.dead > 0 { found.append(.dead(figures.dead)) }
        if let failures = figures.failures { found.append(.receiver(failures)) }
        return found
    }

    var level: Condition.Level {
        switch self {
        case .stalled: .critical
        case .late(_, let isCritical): isCritical ? .critical : .warning
        default: .warning
        }
    }

    /// How it is said of a queue with a name.
    func condition(of name: String) -> Condition {
        let waits = { (age: Double) in
            "the oldest ready task of '\(name)' has waited for \(Condition.duration(age))"
        }
        let (kind, text) =
            switch self {
            case .stalled(let age): ("queue_stalled", "\(waits(age)), and no worker waits for tasks or holds one")
            case .busy(let age): ("queue_late", "\(waits(age)); its workers are busy")
            case .late(let age, _): ("queue_late", waits(age))
            case .backlog(let count):
                (
                    "queue_backlog",
                    "the \(Condition.whole(count)) ready tasks of '\(name)' will not be done within an hour"
                )
            case .paused(let seconds): ("queue_paused", "'\(name)' has been paused for \(Condition.duration(seconds))")
            case .dead(let count): ("dead_tasks", "'\(name)' has \(Condition.count(count, "dead task"))")
            case .receiver(let count):
                ("push", "the receiver of '\(name)' fails (\(Condition.count(count, "failure")) in a row)")
            }
        return Condition(level: level, kind: kind, text: text, queue: name)
    }
}
