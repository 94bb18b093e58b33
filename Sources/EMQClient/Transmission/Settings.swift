// What a client knows about its server, and how it reports what goes wrong with it.

import Bytes
import Glibc
import JSON
import Net

/// The settings of a client, which never change.
final class Settings: Sendable {
    /// The most connections of a client.
    static let connectionRange = 2...10_000

    private static let bodyLimit = 1 << 30
    /// The most URLs that are remembered, of targets without a query.
    private static let maximumURLs = 256

    private let urls = Locked<[String: HTTPURL]>([:])
    let server: ServerURL
    /// The issuers whose certificates are accepted; nil for plain connections.
    let trust: TLSTrust?
    let timeoutMilliseconds: Int64
    let tries: Int
    let connections: Int
    let onProblem: (@Sendable (EMQClient.Problem) -> Void)?
    /// The fields of every request, and those with a JSON body.
    let fields: [UInt8]
    private let bodyFields: [UInt8]

    /// Checks everything that a program's author or operator may have got wrong.
    init(_ url: String?, _ options: EMQClient.Options) throws(EMQError) {
        let isNamed = url != nil
        let text = url ?? Self.variable("EMQ_URL") ?? "http://localhost:8080"
        do throws(HTTPURLError) {
            server = try ServerURL(text, allowsToken: true)
            _ = try HTTPURL((server.base + "/").utf8Span.span)
        } catch {
            throw EMQError(.invalidArgument, "\(isNamed ? "the server's URL" : "EMQ_URL"): \(error)")
        }
        let token = options.token ?? Self.variable("EMQ_TOKEN") ?? server.token
        if let token, token.isEmpty || !token.utf8.allSatisfy({ 0x20 < $0 && $0 < 0x7F }) {
            throw EMQError(.invalidArgument, "a token is visible ASCII characters without blanks")
        }
        trust = try Self.trust(for: server, options.issuersPath)
        guard options.timeout > .zero else { throw EMQError(.invalidArgument, "the timeout must be above 0") }
        guard options.tries > 0 else { throw EMQError(.invalidArgument, "a request needs at least one try") }
        guard Self.connectionRange.contains(options.connections) else {
            let range = "\(Self.connectionRange.lowerBound) to \(Self.connectionRange.upperBound)"
            throw EMQError(.invalidArgument, "a client has \(range) connections, not \(options.connections)")
        }
        timeoutMilliseconds = options.timeout.milliseconds
        (tries, connections, onProblem) = (options.tries, options.connections, options.onProblem)
        let authorization = token.map { "Authorization: Bearer \($0)\r\n" } ?? ""
        fields = Array("User-Agent: EMQClient-Swift\r\n\(authorization)".utf8)
        bodyFields = fields + Array("Content-Type: application/json\r\n".utf8)
    }

    private static func variable(_ name: String) -> String? {
        guard let value = unsafe getenv(name) else { return nil }
        return unsafe value[0] == 0 ? nil : String(cString: value)
    }

    private static func trust(for server: ServerURL, _ path: String?) throws(EMQError) -> TLSTrust? {
        guard server.isSecure else {
            if path == nil { return nil }
            throw EMQError(.invalidArgument, "a file of issuers requires an https URL, and \(server.name) is not one")
        }
        do {
            guard let path else { return try TLSTrust() }
            let pem = try File.read(path, maximumByteCount: 4 << 20)
            return try TLSTrust(authorities: pem, source: "the issuers in \(path)")
        } catch let error as FileError {
            throw EMQError(.invalidArgument, "cannot read the issuers in '\(path ?? "")': \(error)")
        } catch {
            throw EMQError(.invalidArgument, "no TLS\(path.map { " with the issuers in '\($0)'" } ?? ""): \(error)")
        }
    }

    func fields(contentType: String) -> [UInt8] {
        contentType == "application/json" ? bodyFields : fields + Array("Content-Type: \(contentType)\r\n".utf8)
    }

    /// The URL of a target.
    func url(_ target: String) throws(HTTPURLError) -> HTTPURL {
        if let known = urls.with({ $0[target] }) { return known }
        let url = try HTTPURL((server.base + target).utf8Span.span)
        if !target.utf8.contains(UInt8(ascii: "?")) {
            urls.with { urls in
                if urls.count >= Self.maximumURLs { urls = [:] }
                urls[target] = url
            }
        }
        return url
    }

    /// A request for a call.
    ///
    /// - Parameters:
    ///   - call: The call.
    ///   - wait: How long the server may wait, in milliseconds, if the call asks for that.
    ///   - timeout: The limit for the request, in milliseconds.
    /// - Returns: The request.
    /// - Throws: `HTTPURLError` if the target makes no URL, as one that is too long.
    func request(
        for call: Call, wait: Int64?, timeoutMilliseconds timeout: Int64
    ) throws(HTTPURLError) -> ClientRequest {
        var target = call.target
        var body = call.body
        if let wait {
            switch call.waitPlace {
            case .body: body?.append(contentsOf: ",\"timeout\":\(wait)}".utf8)
            case .query: target += "\(target.utf8.contains(UInt8(ascii: "?")) ? "&" : "?")timeout=\(wait)"
            }
        }
        var request = ClientRequest(
            url: try url(target), method: call.method,
            fields: body == nil ? fields : fields(contentType: call.contentType), body: body)
        if !call.fields.isEmpty { request.fields += call.fields }
        request.socketPath = server.socketPath
        request.bodyLimit = Self.bodyLimit
        request.connectTimeoutMilliseconds = min(10_000, max(timeout, 1))
        request.timeoutMilliseconds = max(timeout, 1)
        return request
    }

    // MARK: Errors

    func error(_ kind: EMQError.Kind, _ detail: String, _ call: Call) -> EMQError {
        var error = EMQError(kind, detail)
        (error.request, error.server) = (call.name, server.name)
        return error
    }

    func timeout(_ call: Call, isUnknown: Bool = false) -> EMQError {
        let milliseconds = clampedSum(call.timeoutMilliseconds ?? timeoutMilliseconds, call.waitMilliseconds ?? 0)
        return error(
            isUnknown ? .outcomeUnknown : .timeout,
            "no answer within \(Duration.milliseconds(milliseconds))"
                + (isUnknown ? "; whether the server has done it is not known" : ""), call)
    }

    func failure(_ failure: ClientFailure, _ call: Call) -> EMQError {
        let advice = failure.isRefused ? "; is the server running?" : ""
        switch failure {
        case .timeout(.whole, _, _): return timeout(call)
        case .timeout: return error(.timeout, "\(failure)", call)
        case .malformed, .redirect, .redirectLimit: return error(.unexpectedAnswer, "\(failure)", call)
        default: return error(.connection, "\(failure)\(advice)", call)
        }
    }

    /// Why a response without a success is one.
    func refusal(_ answer: Answer, _ call: Call) -> EMQError {
        let problem = try? JSONDecoding.decode(ProblemDetails.self, from: answer.body)
        var error: EMQError
        if let problem, let type = problem.type, type.hasPrefix("urn:emq:error:") {
            error = self.error(.refused, problem.detail ?? problem.title ?? "the server refuses this", call)
            error.type = ProblemType(rawValue: type)
            (error.title, error.field) = (problem.title, problem.field)
        } else if call.target == "/healthz" {
            error = self.error(.refused, "the server is not ready", call)
        } else {
            error = self.error(.unexpectedAnswer, "the answer does not come from an emq server; check the URL", call)
        }
        error.status = answer.status
        error.retryAfter = answer.retryAfterSeconds.map { .seconds($0) }
        return error
    }

    func result(of outcome: borrowing ClientOutcome, _ call: Call) -> Result<Answer, any Error> {
        switch outcome.result {
        case .success(let response):
            let answer = Answer(response)
            return answer.isSuccess ? .success(answer) : .failure(refusal(answer, call))
        case .failure(let failure): return .failure(self.failure(failure, call))
        }
    }
}

/// The members of an error's body (RFC 9457).
private struct ProblemDetails: Decodable {
    let type: String?
    let title: String?
    let detail: String?
    let field: String?
}

extension EMQError {
    /// Whether the same request may succeed later.
    var isTemporary: Bool {
        guard status == 429 || status == 503 else { return false }
        return type != .libraryMissing && type != .tooManySources && type != .addressSpaceFull
    }

    /// The same failure, if the server may have done what the request asks for.
    var withUnknownOutcome: EMQError {
        if kind == .outcomeUnknown { return self }
        var unknown = self
        unknown.kind = .outcomeUnknown
        unknown.detail += "; whether the server has done it is not known"
        return unknown
    }

    /// Whether a worker should go on: the server is away, or refuses for now.
    var isPassing: Bool {
        switch kind {
        case .connection, .timeout, .outcomeUnknown: true
        case .refused: status == 408 || status == 429 || (status ?? 0) >= 500
        case .unexpectedAnswer: (status ?? 0) >= 500
        case .invalidArgument, .leaseLost, .closed: false
        }
    }
}

extension ClientFailure {
    /// Whether another try may succeed.
    var isTemporary: Bool {
        switch self {
        case .lookUp, .connect, .timeout(.connecting, _, _), .broken, .brokenTLS, .noMemory: true
        case .tls(_, let error): error.isBroken
        case .refusedAddress, .timeout, .malformed, .redirectLimit, .redirect: false
        }
    }
}

extension Duration {
    /// Longer than anything that ends. The components of some longer ones stop the program.
    static let longest = Duration.seconds(Int64.max / 1000)

    /// Whole milliseconds, rounded up, within 0 and the largest number.
    var milliseconds: Int64 {
        if self <= .zero { return 0 }
        if self >= .longest { return .max }
        let (seconds, attoseconds) = components
        return seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000
    }
}

/// The sum of two numbers that are not negative; the largest number if it is too large.
func clampedSum(_ left: Int64, _ right: Int64) -> Int64 {
    let (sum, isTooLarge) = left.addingReportingOverflow(right)
    return isTooLarge ? .max : sum
}
