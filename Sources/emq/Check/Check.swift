// `emq check`: asks a running server how it is, and tells a monitoring system.

import Bytes
import Net

enum Check {
    /// Why there is no usable response.
    private struct Failure: Error {
        let level: CheckReport.Level
        let reason: String
    }

    private typealias Response = (status: Int, body: [UInt8])

    /// The largest response that is read, in bytes.
    private static let bodyLimit = 1 << 30

    /// Runs the command, and prints what it has found.
    static func run(_ invocation: Invocation) throws(UsageError) -> ExitCode {
        let options = try CheckOptions(invocation)
        let report = report(options)
        Emq.print(options.isJSON ? report.json : report.line)
        return ExitCode(rawValue: report.level.rawValue)
    }

    private static func report(_ options: CheckOptions) -> CheckReport {
        var report = CheckReport()
        do throws(Failure) {
            let clock = EventLoop.steadyClock()
            let deadline = clock() + options.timeoutMilliseconds
            let health = try get("/healthz", options, deadline: deadline)
            let now = Double(clock()) / 1000
            let isUp = report.readHealth(status: health.status, JSONPart(health.body[...]), now: now)
            if !isUp || options.isHealthOnly { return report }
            var after: String?
            repeat {
                let page = try statistics(after: after, options, deadline: deadline)
                let next = page["next"]?.text
                report.readStatistics(page, options, now: now, isFirst: after == nil, isLast: next == nil)
                after = next
            } while after != nil
        } catch {
            report.add(error.level, error.level == .critical ? "unreachable" : "response", error.reason)
        }
        return report
    }

    /// A page of the response to `/stats/`: the first one, or the one that follows `after`.
    private static func statistics(
        after: String?, _ options: CheckOptions, deadline: Int64
    ) throws(Failure) -> JSONPart {
        var path = Array("/stats/?n=1000".utf8)
        if let pattern = options.pattern {
            path += Array("&match=".utf8)
            PercentEncoding.encode(Array(pattern.utf8).span, into: &path)
        }
        if let after {
            path += Array("&after=".utf8)
            PercentEncoding.encode(Array(after.utf8).span, into: &path)
        }
        let response = try get(String(decoding: path, as: UTF8.self), options, deadline: deadline)
        guard response.status == 200, let body = JSONPart(response.body[...]) else {
            let detail = JSONPart(response.body[...])?["detail"]?.text.map { ": \($0)" } ?? ""
            throw Failure(level: .unknown, reason: "the response to /stats/ has status \(response.status)\(detail)")
        }
        return body
    }

    // MARK: Asking

    private static func get(
        _ path: String, _ options: CheckOptions, deadline: Int64
    ) throws(Failure) -> Response {
        var fields = "User-Agent: emq-check/\(Options.version)\r\nConnection: close\r\n"
        if let token = options.place.token { fields += "Authorization: Bearer \(token)\r\n" }
        let client: HTTPClient
        let loop: EventLoop
        let url: HTTPURL
        do {
            url = try HTTPURL(Array((options.place.base + path).utf8).span)
            loop = try EventLoop()
            client = HTTPClient(loop: loop) { _, _, _ in nil }
            if url.isSecure { client.trust = try TLSTrust(additionalFile: options.place.issuersPath, option: "--ca") }
        } catch {
            throw Failure(level: .unknown, reason: "\(error)")
        }
        var request = ClientRequest(url: url, method: Array("GET".utf8), fields: Array(fields.utf8), body: nil)
        request.socketPath = options.place.socketPath
        request.bodyLimit = bodyLimit
        request.timeoutMilliseconds = max(1, deadline - loop.now)
        request.connectTimeoutMilliseconds = request.timeoutMilliseconds
        client.send(request, key: 1)
        var result: Result<Response, ClientFailure>?
        while result == nil {
            client.advance { _, outcome in
                switch outcome.result {
                case .success(let response): result = .success((response.status, Array(copying: response.body)))
                case .failure(let failure): result = .failure(failure)
                }
            }
            if result == nil { loop.turn(until: nil) }
        }
        switch result {
        case .success(let response)?: return response
        case .failure(.timeout(let phase, let authority, _))?:
            // The rest of the time is odd: people know the option's value.
            let failure = ClientFailure.timeout(phase, authority: authority, milliseconds: options.timeoutMilliseconds)
            throw Failure(level: .critical, reason: "\(failure)")
        case .failure(.connect(let path, nil, let code))?:
            // As the address is written in `--url`.
            throw Failure(level: .critical, reason: "\(SystemError("connect to unix:\(path)", code: code))")
        case .failure(.malformed(let path, _))? where options.place.socketPath != nil:
            throw Failure(level: .unknown, reason: "what answers at \(path) is not emq")
        case .failure(let failure)?: throw Failure(level: .critical, reason: "\(failure)")
        case nil: throw Failure(level: .unknown, reason: "there is no response")
        }
    }
}
