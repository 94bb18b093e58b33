// What a health check has found, and how it is shown.

import JSON

/// The result of a health check.
struct CheckReport {
    typealias Level = Condition.Level

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

    private(set) var problems: [Condition] = []
    private var measures: [Measure] = []
    /// What is said if there is no problem.
    private var praise = "all is well"
    private var queueCount = 0
    private var sums = (ready: 0.0, dead: 0.0, paused: 0.0, oldest: 0.0)

    /// The exit status.
    var level: Level { problems.map(\.level).max { $0.weight < $1.weight } ?? .ok }

    // MARK: Finding

    mutating func add(_ level: Level, _ kind: String, _ text: String) {
        problems.append(Condition(level: level, kind: kind, text: text))
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
                name: "certificate", value: rest.rounded(), unit: "s", warning: Condition.certificateSeconds,
                critical: 0))
        if let condition = Condition.certificate(rest: rest) { problems.append(condition) }
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
        let ages = options.pattern == nil ? nil : (warning: options.oldestWarning, critical: options.oldestCritical)
        for (name, queue) in queues where options.isAbout(name) {
            queueCount += 1
            let figures = QueueFigures(queue, now: now)
            sums.ready += figures.ready
            sums.dead += figures.dead
            if figures.isPaused { sums.paused += 1 } else { sums.oldest = max(sums.oldest, figures.oldestReadySeconds) }
            problems += QueueCondition.found(in: figures, ages: ages).map { $0.condition(of: name) }
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
                critical: options.pattern == nil ? QueueCondition.stalledSeconds : options.oldestCritical),
        ]
    }

    private mutating func readServer(_ body: JSONPart) {
        if let used = body["memory"]?["used"]?.number, let limit = body["memory"]?["limit"]?.number, limit > 0 {
            let parts = Condition.memoryParts
            measures.append(
                Measure(
                    name: "memory", value: used, unit: "B", warning: (parts.warning * limit).rounded(),
                    critical: (parts.critical * limit).rounded(), maximum: limit))
            if let condition = Condition.memory(used: used, limit: limit) { problems.append(condition) }
        }
        if let problem = body["journal"]?["problem"]?.text { problems.append(.journal(problem)) }
        for (name, source) in body["sources"]?.members ?? [] {
            guard let state = source["state"]?.text else { continue }
            if let condition = Condition.source(name, state: state) { problems.append(condition) }
        }
        if let tasks = body["tasks"]?.number { measures.append(Measure(name: "tasks", value: tasks)) }
    }

    // MARK: Showing

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

extension QueueFigures {
    /// The figures of a queue in the response to `/stats/`.
    fileprivate init(_ queue: JSONPart, now: Double) {
        var members: [String: JSONPart] = [:]
        for (member, value) in queue.members { members[member] = value }
        ready = members["ready"]?.number ?? 0
        dead = members["dead"]?.number ?? 0
        waiters = members["waiters"]?.number
        held = (members["dispatched"]?.number ?? 0) - (members["sending"]?.number ?? 0)
        isPushed = members["pushed"]?.kind == .true
        oldestReadySeconds = members["oldest_ready"]?.number ?? 0
        rates = members["rates"].map { ($0["enqueued"]?.number ?? 0, $0["done"]?.number ?? 0) }
        isPaused = members["paused"]?.kind == .true
        pausedSeconds = members["paused_since"]?.number.map { now - $0 }
        if let circuit = members["circuit"], let state = circuit["state"]?.text, state != "closed" {
            failures = circuit["failures"]?.number ?? 0
        }
    }
}
