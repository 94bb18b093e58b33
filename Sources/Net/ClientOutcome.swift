// The outcome of a request: a response, or why there is none.

import Bytes
import Glibc

/// The outcome of an exchange. Its spans are valid only during the call that receives it.
public struct ClientOutcome: ~Escapable {
    /// The time from `HTTPClient.send` to the outcome.
    public let elapsedMilliseconds: Int64
    /// Whether the server may have the whole request. If not, it has not done what the request asks for.
    public let mayHaveArrived: Bool
    /// The response, or why there is none.
    public let result: Result<ClientResponse, ClientFailure>

    @_lifetime(copy result)
    init(
        _ result: consuming Result<ClientResponse, ClientFailure>, mayHaveArrived: Bool = true,
        elapsedMilliseconds: Int64
    ) {
        self.result = result
        self.mayHaveArrived = mayHaveArrived
        self.elapsedMilliseconds = elapsedMilliseconds
    }
}

/// A response. Its spans refer to the client's buffer; nothing is copied.
public struct ClientResponse: ~Escapable {
    private let bytes: Span<UInt8>
    private let head: ResponseHead

    @_lifetime(copy bytes)
    init(bytes: Span<UInt8>, head: ResponseHead) {
        self.bytes = bytes
        self.head = head
    }

    /// The status code, 200 to 999.
    public var status: Int { head.status }

    /// The reason phrase as it was received; often empty.
    public var reason: Span<UInt8> {
        @_lifetime(copy self) get { bytes.extracting(head.reason) }
    }

    /// The content, without its transfer coding.
    public var body: Span<UInt8> {
        @_lifetime(copy self) get { bytes.extracting(head.body) }
    }

    /// Whether the content was longer than `ClientRequest.bodyLimit`.
    public var isTruncated: Bool { head.isTruncated }

    /// The fields in the order received. The values of fields with the same name, ignoring case, are joined with commas
    /// (RFC 9110 section 5.3). O(n).
    public var joinedFields: [(name: String, value: String)] {
        var fields: [(name: String, value: String)] = []
        var places: [[UInt8]: Int] = [:]
        forEachField { name, value in
            let text = String(decoding: value)
            let key = Array(copying: name).lowercasedASCII
            if let place = places[key] {
                fields[place].value += ", " + text
            } else {
                places[key] = fields.count
                fields.append((String(decoding: name), text))
            }
        }
        return fields
    }

    /// Calls `body` with the name and the value of each field in the order received. The value has no blanks around it.
    public func forEachField(_ body: (_ name: Span<UInt8>, _ value: Span<UInt8>) -> Void) {
        for field in head.fields { body(bytes.extracting(field.name), bytes.extracting(field.value)) }
    }
}

/// Why there is no response. The authority is the host and port, or the path of the Unix-domain socket.
public enum ClientFailure: Error, Equatable, Sendable, CustomStringConvertible {
    /// What a deadline was for.
    public enum Phase: Sendable {
        /// Looking up the host and connecting to it.
        case connecting
        /// The first byte of the response.
        case firstByte
        /// The next byte to be sent or received.
        case nextByte
        /// The whole exchange.
        case whole
    }

    /// The host has no address, or the look-up failed.
    case lookUp(host: String, reason: String)
    /// None of the host's addresses may be connected to; this is the last of them.
    case refusedAddress(host: String, address: IPAddress, reason: String)
    /// None of the host's addresses could be connected to: `errno` of the last attempt. The address is nil if it was a
    /// Unix-domain socket.
    case connect(authority: String, address: IPAddress?, code: Int32)
    /// The TLS handshake failed, or there is no OpenSSL for it.
    case tls(authority: String, TLSError)
    /// The TLS connection broke after its handshake.
    case brokenTLS(authority: String, TLSError)
    /// A deadline has passed.
    case timeout(Phase, authority: String, milliseconds: Int64)
    /// The connection ended before the response was complete.
    case broken(authority: String, isReset: Bool)
    /// The response is malformed or over the limits.
    case malformed(authority: String, detail: String)
    /// The system has no memory for the request's head, so that nothing was sent, or for the response.
    case noMemory(authority: String)
    /// There are more redirects than the request follows.
    case redirectLimit(authority: String, limit: Int)
    /// The target of a redirect is not a URL that the client can request.
    case redirect(authority: String, detail: String)

    /// Whether the host refused the connection, because nothing listens at the port or socket.
    public var isRefused: Bool { if case .connect(_, _, ECONNREFUSED) = self { true } else { false } }

    /// A sentence without an initial capital and a full stop.
    public var description: String {
        switch self {
        case .lookUp(let host, let reason): "the host '\(host)' cannot be found: \(reason)"
        case .refusedAddress(let host, let address, let reason):
            host == address.description
                ? "\(host) may not be reached: \(reason)" : "\(host) at \(address) may not be reached: \(reason)"
        case .connect(let authority, let address, let code):
            "cannot connect to \(Self.place(authority, address)): \(unsafe String(cString: strerror(code)))"
        case .tls(let authority, let error): "no secure connection to \(authority): \(error)"
        case .brokenTLS(let authority, let error): "the connection to \(authority) broke: \(error)"
        case .timeout(.connecting, let authority, let milliseconds):
            "no connection to \(authority) within \(Self.seconds(milliseconds))"
        case .timeout(.firstByte, let authority, let milliseconds):
            "no response from \(authority) within \(Self.seconds(milliseconds))"
        case .timeout(.nextByte, let authority, let milliseconds):
            "\(authority) neither took nor sent anything for \(Self.seconds(milliseconds))"
        case .timeout(.whole, let authority, let milliseconds):
            "the exchange with \(authority) did not finish within \(Self.seconds(milliseconds))"
        case .broken(let authority, let isReset):
            "\(authority) \(isReset ? "reset" : "closed") the connection before its response was complete"
        case .malformed(let authority, let detail): "the response from \(authority) is malformed: \(detail)"
        case .noMemory(let authority): "the system has no memory for the exchange with \(authority)"
        case .redirectLimit(let authority, let limit): "\(authority) redirects again, after \(limit) redirects"
        case .redirect(let authority, let detail): "the redirect from \(authority) cannot be followed: \(detail)"
        }
    }

    /// The authority, and the address unless that is the authority's host.
    private static func place(_ authority: String, _ address: IPAddress?) -> String {
        guard let address else { return authority }
        let literals = ["\(address)", "\(address):", "[\(address)]"]
        let isLiteral = authority == literals[0] || literals[1...].contains(where: authority.hasPrefix)
        return isLiteral ? authority : "\(authority) at \(address)"
    }

    private static func seconds(_ milliseconds: Int64) -> String {
        milliseconds % 1000 == 0 ? "\(milliseconds / 1000) s" : "\(milliseconds) ms"
    }
}
