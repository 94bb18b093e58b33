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

    static let help = """
        emq check: check a running emq from a shell, as Nagios does

        usage: emq check [options]

          --url URL             the server: http://localhost:8080 (default, or EMQ_URL), https://… or unix:/path
          --ca FILE             trust these issuers too (PEM), for an https URL
          --health              check only whether the server is up, as a container's health check does
          --queue PATTERN       check only queues whose names match, such as 'mail*' (* stands for any
                                characters), by the age of their oldest ready task, whether or not workers wait
          --oldest-warn SECS    from which age on to warn (default 60)
          --oldest-critical SECS  from which age on it is critical (default 300)
          --timeout SECS        how long all of it may take (default 10)
          --json                print a JSON object instead of one line

        EMQ_TOKEN is sent as a bearer token. The exit status is 0 (OK), 1 (WARNING), 2 (CRITICAL, also if the
        server cannot be reached) or 3 (UNKNOWN).
        """

    private static let flags = [
        "--url", "--ca", "--health", "--queue", "--oldest-warn", "--oldest-critical", "--timeout", "--json", "--help",
    ]

    /// Reads the command line after `check`.
    ///
    /// - Throws: `UsageError` with one line that says what is wrong.
    init(_ arguments: [String], environment: (String) -> String?) throws(UsageError) {
        var rest = arguments[...]
        var given: [String: String] = [:]
        while let argument = rest.popFirst() {
            let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let flag = String(parts[0])
            guard flag.hasPrefix("-") else { throw UsageError("unknown argument '\(argument)'; give options only") }
            guard Self.flags.contains(flag) else {
                throw UsageError("unknown option '\(flag)'; \(nearestName(to: flag, among: Self.flags))")
            }
            if given[flag] != nil { throw UsageError("\(flag) is given twice; give it once") }
            if flag == "--json" || flag == "--health" {
                if parts.count > 1 { throw UsageError("\(flag) takes no value") }
                given[flag] = ""
                continue
            }
            guard let value = parts.count > 1 ? String(parts[1]) : rest.popFirst() else {
                throw UsageError("\(flag) needs a value")
            }
            given[flag] = value
        }
        let variable = environment("EMQ_URL").flatMap { $0.isEmpty ? nil : $0 }
        place = try Self.place(given["--url"] ?? variable ?? "http://localhost:8080")
        if let path = given["--ca"] {
            guard case .url(let url) = place, url.isSecure else { throw UsageError("--ca requires an https URL") }
            issuersPath = try Options.path(path, of: "--ca")
        }
        token = environment("EMQ_TOKEN").flatMap { $0.isEmpty ? nil : $0 }
        if let token, !ClientRequest.isFieldValue(Array(token.utf8).span) {
            throw UsageError("EMQ_TOKEN has a control character")
        }
        (isJSON, isHealthOnly) = (given["--json"] != nil, given["--health"] != nil)
        pattern = given["--queue"]
        if let pattern {
            if pattern.isEmpty { throw UsageError("--queue needs a pattern such as 'mail*'") }
            glob = GlobPattern(pattern.utf8Span.span)
            if glob == nil {
                throw UsageError("--queue: a pattern may have \(GlobPattern.maximumByteCount) bytes, as a queue's name")
            }
        }
        if isHealthOnly, pattern != nil { throw UsageError("--health checks no queue; leave out --queue") }
        if let seconds = given["--oldest-warn"] { oldestWarning = try Self.seconds(seconds, of: "--oldest-warn") }
        if let seconds = given["--oldest-critical"] {
            oldestCritical = try Self.seconds(seconds, of: "--oldest-critical")
        }
        for flag in ["--oldest-warn", "--oldest-critical"] where given[flag] != nil && pattern == nil {
            throw UsageError("\(flag) requires --queue")
        }
        // One of them alone moves the other.
        if given["--oldest-warn"] == nil { oldestWarning = min(oldestWarning, oldestCritical) }
        if given["--oldest-critical"] == nil { oldestCritical = max(oldestWarning, oldestCritical) }
        if oldestWarning > oldestCritical { throw UsageError("--oldest-warn must not exceed --oldest-critical") }
        if let seconds = given["--timeout"] {
            timeoutMilliseconds = Int64(try Self.seconds(seconds, of: "--timeout", least: 0.001) * 1000)
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

    private static func seconds(_ value: String, of flag: String, least: Double = 0) throws(UsageError) -> Double {
        guard let seconds = Double(value), (least...4_294_967_295).contains(seconds) else {
            throw UsageError("\(flag) must be a number of seconds, not '\(value)'")
        }
        return seconds
    }
}
