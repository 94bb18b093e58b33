// What a health check has found, and how it is shown.

import JSON

/// The result of a health check.
struct CheckReport {
    /// How bad something is. The raw value is the exit status.
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

    /// One thing that is wrong.
    struct Problem {
        let level: Level
        /// What it is, in a word for programs.
        let kind: String
        /// In words, for people.
        let text: String
        /// The queue that it is about; nil if it is about the server.
        var queue: String?
    }

    /// A number for graphs, with the limits from which on it is a problem, as Nagios's plugins show it.
    private struct Measure {
        let name: String
        let value: Double
        var unit = ""
        var warning: Double?
        var critical: Double?
        var maximum: Double?
    }

    private static let textsLimit = 5
    /// The usual limits, for servers.
    private static let stalledSeconds = 300.0
    private static let backlog = (count: 1000.0, seconds: 3600.0)
    private static let memoryParts = (warning: 0.8, critical: 0.95)
    private static let certificateSeconds = 14.0 * 86_400
    private static let pauseSeconds = 86_400.0

    private(set) var problems: [Problem] = []
    private var measures: [Measure] = []
    /// What is said if there is no problem.
    private var praise = "all is well"
    private var queueCount = 0
    private var sums = (ready: 0.0, dead: 0.0, paused: 0.0, oldest: 0.0)

    /// The exit status.
    var level: Level { problems.map(\.level).max { $0.weight < $1.weight } ?? .ok }

    // MARK: Finding

    mutating func add(_ level: Level, _ kind: String, _ text: String, queue: String? = nil) {
        problems.append(Problem(level: level, kind: kind, text: text, queue: queue))
    }

    /// Looks at the response to `/healthz`.
    ///
    /// - Returns: whether the server answers other requests.
    mutating func readHealth(status: Int, _ body: JSONPart?, now: Double) -> Bool {
        guard let state = body?["status"]?.text else {
            let hint = status == 400 ? "; if the server speaks TLS, the URL begins with https://" : ""
            add(.unknown, "response", "the response to /healthz has status \(status) and is not emq's\(hint)")
            return false
        }
        if state == "ok" {
            readCertificate(body, now: now)
            return true
        }
        add(.warning, state, body?["detail"]?.text.map { "the server is \($0)" } ?? "the server is \(state)")
        return false
    }

    private mutating func readCertificate(_ body: JSONPart?, now: Double) {
        guard let end = body?["certificate_end"]?.number else { return }
        let rest = end - now
        measures.append(
            Measure(
                name: "certificate", value: rest.rounded(), unit: "s", warning: Self.certificateSeconds, critical: 0))
        if rest <= 0 {
            add(.critical, "certificate", "the certificate has ended")
        } else if rest < Self.certificateSeconds {
            add(.warning, "certificate", "the certificate ends in \(Self.duration(rest))")
        }
    }

    /// Looks at a page of the response to `/stats/`.
    ///
    /// - Parameters:
    ///   - body: the page.
    ///   - options: what to look for.
    ///   - now: the time, in Unix seconds.
    ///   - isFirst: whether it is the first page, which has the figures of the server.
    ///   - isLast: whether no page follows.
    mutating func readStatistics(
        _ body: JSONPart, _ options: CheckOptions, now: Double, isFirst: Bool = true, isLast: Bool = true
    ) {
        guard let queues = body["queues"], queues.kind == .object else {
            return add(.unknown, "response", "the response to /stats/ is not emq's")
        }
        readQueues(queues.members, options, now: now)
        if isLast { addMeasures(options) }
        if isFirst, options.pattern == nil { readServer(body) }
    }

    private mutating func readQueues(
        _ queues: [(name: String, value: JSONPart)], _ options: CheckOptions, now: Double
    ) {
        for (name, queue) in queues where options.isAbout(name) {
            queueCount += 1
            var members: [String: JSONPart] = [:]
            for (member, value) in queue.members { members[member] = value }
            let age = members["oldest_ready"]?.number ?? 0
            let isPaused = members["paused"]?.kind == .true
            sums.ready += members["ready"]?.number ?? 0
            if isPaused { sums.paused += 1 } else { sums.oldest = max(sums.oldest, age) }
            let waits = "the oldest ready task of '\(name)' has waited for \(Self.duration(age))"
            if options.pattern != nil {
                if age >= options.oldestWarning, !isPaused {
                    add(age >= options.oldestCritical ? .critical : .warning, "queue_late", waits, queue: name)
                }
            } else if age > Self.stalledSeconds, !isPaused, members["waiters"]?.number == 0 {
                add(.critical, "queue_stalled", "\(waits), and no worker waits", queue: name)
            }
            let ready = members["ready"]?.number ?? 0
            if ready > Self.backlog.count, age > Self.stalledSeconds, !isPaused, let rates = members["rates"] {
                let gained = (rates["done"]?.number ?? 0) - (rates["enqueued"]?.number ?? 0)
                if gained * Self.backlog.seconds < ready {
                    let text = "the \(Self.whole(ready)) ready tasks of '\(name)' will not be done within an hour"
                    add(.warning, "queue_backlog", text, queue: name)
                }
            }
            if let since = members["paused_since"]?.number, now - since >= Self.pauseSeconds {
                let text = "'\(name)' has been paused for \(Self.duration(now - since))"
                add(.warning, "queue_paused", text, queue: name)
            }
            if let count = members["dead"]?.number, count > 0 {
                sums.dead += count
                add(.warning, "dead_tasks", "'\(name)' has \(Self.count(count, "dead task"))", queue: name)
            }
            if let circuit = members["circuit"], let state = circuit["state"]?.text, state != "closed" {
                let count = Self.count(circuit["failures"]?.number ?? 0, "failure")
                add(.warning, "push", "the receiver of '\(name)' fails (\(count) in a row)", queue: name)
            }
        }
    }

    private mutating func addMeasures(_ options: CheckOptions) {
        // The pattern may be mistyped, or the queues are not in use.
        if let pattern = options.pattern, queueCount == 0 { praise = "no queue in use matches '\(pattern)'" }
        measures += [
            Measure(name: "ready", value: sums.ready), Measure(name: "dead", value: sums.dead, warning: 0),
            Measure(name: "paused_queues", value: sums.paused),
            Measure(
                name: "oldest_ready", value: sums.oldest, unit: "s",
                warning: options.pattern == nil ? nil : options.oldestWarning,
                critical: options.pattern == nil ? Self.stalledSeconds : options.oldestCritical),
        ]
    }

    private mutating func readServer(_ body: JSONPart) {
        if let used = body["memory"]?["used"]?.number, let limit = body["memory"]?["limit"]?.number, limit > 0 {
            let (warning, critical) = (Self.memoryParts.warning * limit, Self.memoryParts.critical * limit)
            measures.append(
                Measure(
                    name: "memory", value: used, unit: "B", warning: warning.rounded(), critical: critical.rounded(),
                    maximum: limit))
            if used > warning {
                add(
                    used > critical ? .critical : .warning, "memory",
                    "\(Self.whole(used / limit * 100)) % of the memory is used")
            }
        }
        if let problem = body["journal"]?["problem"]?.text { add(.critical, "journal", "the journal: \(problem)") }
        for (name, source) in body["sources"]?.members ?? [] {
            guard let state = source["state"]?.text, state == "retrying" || state == "stopped" else { continue }
            add(.warning, "source", "the source '\(name)' is \(state)")
        }
        if let tasks = body["tasks"]?.number { measures.append(Measure(name: "tasks", value: tasks)) }
    }

    // MARK: Showing

    /// A whole number. What answers may not be emq, so that a number may be too large for one.
    private static func whole(_ number: Double) -> Int { Int(max(-1e15, min(number, 1e15))) }

    /// The longest unit that leaves at least two of it.
    private static func duration(_ seconds: Double) -> String {
        for (unit, length) in [("days", 86_400.0), ("hours", 3600), ("minutes", 60)] where seconds >= 2 * length {
            return "\(whole(seconds / length)) \(unit)"
        }
        return "\(whole(seconds)) s"
    }

    private static func count(_ number: Double, _ noun: String) -> String {
        "\(whole(number)) \(noun)\(number == 1 ? "" : "s")"
    }

    /// A number without a fraction of zero.
    private static func text(_ number: Double) -> String {
        Int(exactly: number).map { "\($0)" } ?? "\((number * 1000).rounded() / 1000)"
    }

    /// One line: the level, the worst problems, and the measures.
    var line: String {
        let sorted = problems.sorted { $0.level.weight > $1.level.weight }
        var texts = sorted.prefix(Self.textsLimit).map(\.text)
        if sorted.count > Self.textsLimit { texts.append("and \(sorted.count - Self.textsLimit) more") }
        // A bar would begin the measures.
        let text = String(texts.joined(separator: "; ").map { $0 == "|" ? "/" : $0 })
        let shown = measures.map { measure in
            let limits = [measure.warning, measure.critical, 0, measure.maximum].map { $0.map(Self.text) ?? "" }
            var fields = [Self.text(measure.value) + measure.unit] + limits
            while fields.last?.isEmpty == true { fields.removeLast() }
            return "\(measure.name)=\(fields.joined(separator: ";"))"
        }
        return "EMQ \(level.name.uppercased()) - \(text.isEmpty ? praise : text)"
            + (shown.isEmpty ? "" : " | \(shown.joined(separator: " "))")
    }

    /// The same as a JSON object.
    var json: String {
        var output = Array("{\"status\":\"\(level.name)\",\"code\":\(level.rawValue),\"problems\":[".utf8)
        func write(_ member: String, _ text: String) {
            output += Array(member.utf8)
            JSONWriter.writeString(Array(text.utf8).span, to: &output)
        }
        for (index, problem) in problems.enumerated() {
            write("\(index > 0 ? "," : ""){\"level\":", problem.level.name)
            write(",\"kind\":", problem.kind)
            if let queue = problem.queue { write(",\"queue\":", queue) }
            write(",\"text\":", problem.text)
            output.append(UInt8(ascii: "}"))
        }
        let shown = measures.map { "\"\($0.name)\":\(Self.text($0.value))" }
        output += Array("],\"measures\":{\(shown.joined(separator: ","))}}".utf8)
        return String(decoding: output, as: UTF8.self)
    }
}
