// The command line of the health check.

import Bytes
import Net

/// The options of `emq check`.
struct CheckOptions {
    /// Where the server is.
    enum Place {
        case url(HTTPURL)
        case socket(path: String)
    }

    var place: Place
    /// The path of issuers that are trusted beside the system's.
    var issuersPath: String?
    /// The token to send; nil to send none.
    var token: String?
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

    private static let url = CommandOption(
        "--url", "URL", "the server: http://localhost:8080 (default, or EMQ_URL), https://… or unix:/path")
    private static let issuers = CommandOption(
        "--ca", "FILE", completion: .file, "trust these issuers too (PEM), for an https URL")
    private static let health = CommandOption(
        "--health", "check only whether the server is up, as a container's health check does")
    private static let queue = CommandOption(
        "--queue", "PATTERN", completion: .queue,
        "check only queues whose names match, such as 'mail*' (* stands for any characters), by the age of their oldest "
            + "ready task, whether or not workers wait")
    private static let warning = CommandOption("--oldest-warn", "SECS", "from which age on to warn (default 60)")
    private static let critical = CommandOption(
        "--oldest-critical", "SECS", "from which age on it is critical (default 300)")
    private static let timeout = CommandOption("--timeout", "SECS", "how long all of it may take (default 10)")
    private static let json = CommandOption("--json", "print a JSON object instead of one line")

    static let command = Command(
        name: "check", section: .server, summary: "check a running server, as Nagios does",
        text: [
            "EMQ_TOKEN is sent as a bearer token. The exit status is 0 (OK), 1 (WARNING), 2 (CRITICAL, also if the "
                + "server cannot be reached) or 3 (UNKNOWN)."
        ],
        options: [url, issuers, health, queue, warning, critical, timeout, json],
        examples: [
            CommandExample("emq check --health", "see whether the server is up"),
            CommandExample(
                "emq check --queue 'mail*' --oldest-warn 60", "warn when mail has waited for over a minute"),
        ], run: Check.run)

    /// Reads the values of a command line.
    ///
    /// - Throws: `UsageError` with one line that says what is wrong.
    init(_ invocation: Invocation) throws(UsageError) {
        place = try Self.place(
            invocation.value(of: Self.url) ?? invocation.variable("EMQ_URL") ?? "http://localhost:8080")
        if let path = invocation.value(of: Self.issuers) {
            guard case .url(let url) = place, url.isSecure else { throw UsageError("--ca requires an https URL") }
            issuersPath = try Options.path(path, of: "--ca")
        }
        token = invocation.variable("EMQ_TOKEN")
        if let token, !ClientRequest.isFieldValue(Array(token.utf8).span) {
            throw UsageError("EMQ_TOKEN has a control character")
        }
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
        let (warning, critical) = (invocation.value(of: Self.warning), invocation.value(of: Self.critical))
        if let warning { oldestWarning = try Self.seconds(warning, of: Self.warning) }
        if let critical { oldestCritical = try Self.seconds(critical, of: Self.critical) }
        for option in [Self.warning, Self.critical] where invocation.has(option) && pattern == nil {
            throw UsageError("\(option.flag) requires --queue")
        }
        // One of them alone moves the other.
        if warning == nil { oldestWarning = min(oldestWarning, oldestCritical) }
        if critical == nil { oldestCritical = max(oldestWarning, oldestCritical) }
        if oldestWarning > oldestCritical { throw UsageError("--oldest-warn must not exceed --oldest-critical") }
        if let seconds = invocation.value(of: Self.timeout) {
            timeoutMilliseconds = Int64(try Self.seconds(seconds, of: Self.timeout, least: 0.001) * 1000)
        }
    }

    /// Whether the check is about this queue.
    func isAbout(_ queue: String) -> Bool { glob?.matches(queue.utf8Span.span) ?? true }

    private static func place(_ text: String) throws(UsageError) -> Place {
        if text.hasPrefix("unix:") {
            do throws(AddressError) {
                if case .unix(let path) = try Address(text) { return .socket(path: path) }
            } catch {
                throw UsageError("--url: \(error)")
            }
        }
        var bytes = Array(text.utf8)
        // `/stats/` and the like follow.
        while bytes.last == UInt8(ascii: "/") { bytes.removeLast() }
        let url: HTTPURL
        do throws(HTTPURLError) { url = try HTTPURL(bytes.span) } catch { throw UsageError("--url: \(error)") }
        if url.target.contains(UInt8(ascii: "?")) { throw UsageError("--url: leave out the query") }
        return .url(url)
    }

    private static func seconds(
        _ value: String, of option: CommandOption, least: Double = 0
    ) throws(UsageError) -> Double {
        guard let seconds = Double(value), (least...4_294_967_295).contains(seconds) else {
            throw UsageError("\(option.flag) must be a number of seconds, not '\(value)'")
        }
        return seconds
    }
}
