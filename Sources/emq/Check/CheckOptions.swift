// The command line of the health check.

import Bytes

/// The options of `emq check`.
struct CheckOptions {
    /// The server to check.
    let place: ServerPlace
    /// Whether to ask only whether the server is up.
    var isHealthOnly = false
    /// Check only the queues whose names match this pattern (`GlobPattern`); nil for all, with the usual limits.
    var pattern: String?
    private var glob: GlobPattern?
    /// From which age of a queue's oldest ready task on the check warns, or fails, in seconds.
    var oldestWarning = 60.0
    var oldestCritical = 300.0
    var timeoutMilliseconds: Int64 = 10_000
    var isJSON = false

    private static let health = CommandOption(
        "--health", "check only whether the server is up, as a container's health check does")
    private static let queue = CommandOption(
        "--queue", "PATTERN", completion: .queue,
        "check only queues whose names match, such as 'mail*' (* stands for any characters), by the age of their oldest "
            + "ready task, whether or not workers wait")
    private static let warning = CommandOption("--oldest-warn", "TIME", "from which age on to warn (default 1m)")
    private static let critical = CommandOption(
        "--oldest-critical", "TIME", "from which age on it is critical (default 5m)")
    private static let timeout = CommandOption("--timeout", "TIME", "how long all of it may take (default 10s)")
    private static let json = CommandOption("--json", "print a JSON object instead of one line")

    static let command = Command(
        name: "check", section: .server, summary: "check a running server, as Nagios does",
        text: [
            "The exit status is 0 (OK), 1 (WARNING), 2 (CRITICAL, also if the server cannot be reached) or 3 (UNKNOWN)."
        ],
        options: [health, queue, warning, critical, timeout, json] + ServerPlace.options,
        examples: [
            CommandExample("emq check --health", "see whether the server is up"),
            CommandExample(
                "emq check --queue 'mail*' --oldest-warn 1m", "warn when mail has waited for over a minute"),
        ], run: Check.run)

    /// Reads the values of a command line.
    ///
    /// - Throws: `UsageError` with one line that says what is wrong.
    init(_ invocation: Invocation) throws(UsageError) {
        place = try ServerPlace(invocation)
        (isJSON, isHealthOnly) = (invocation.has(Self.json), invocation.has(Self.health))
        pattern = invocation.value(of: Self.queue)
        if let pattern {
            if pattern.isEmpty { throw UsageError("--queue needs a pattern such as 'mail*'") }
            glob = GlobPattern(pattern.utf8Span.span)
            if glob == nil {
                throw UsageError("--queue: a pattern may have \(GlobPattern.maximumByteCount) bytes, as a queue's name")
            }
        }
        if isHealthOnly, pattern != nil { throw UsageError("--health checks no queue; leave out --queue") }
        let warning = try invocation.milliseconds(of: Self.warning)
        let critical = try invocation.milliseconds(of: Self.critical)
        if let warning { oldestWarning = Double(warning) / 1000 }
        if let critical { oldestCritical = Double(critical) / 1000 }
        for option in [Self.warning, Self.critical] where invocation.has(option) && pattern == nil {
            throw UsageError("\(option.flag) requires --queue")
        }
        // One of them alone moves the other.
        if warning == nil { oldestWarning = min(oldestWarning, oldestCritical) }
        if critical == nil { oldestCritical = max(oldestWarning, oldestCritical) }
        if oldestWarning > oldestCritical { throw UsageError("--oldest-warn must not exceed --oldest-critical") }
        if let timeout = try invocation.milliseconds(of: Self.timeout) {
            if timeout == 0 { throw UsageError("--timeout must be longer than 0") }
            timeoutMilliseconds = timeout
        }
    }

    /// Whether the check is about this queue.
    func isAbout(_ queue: String) -> Bool { glob?.matches(queue.utf8Span.span) ?? true }
}
