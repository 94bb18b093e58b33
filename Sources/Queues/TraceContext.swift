// What ties a task to the request that added it.

import Bytes

/// What the client that added a task says about its request, for tracing the request through several programs. The
/// broker keeps it and does not look at it.
public struct TraceContext: Hashable, Sendable {
    /// The client's name for the request, as in the field X-Request-Id; empty for none.
    public private(set) var requestID: [UInt8] = []
    /// The request's place in a trace, as in the field traceparent of W3C Trace Context; empty for none.
    public private(set) var traceparent: [UInt8] = []

    /// A context with nothing in it.
    public init() {}

    /// A context with the values that are usable (`isRequestID`, `isTraceparent`). O(*n*).
    public init(requestID: Span<UInt8>, traceparent: Span<UInt8>) {
        if requestID.isRequestID { self.requestID = Array(copying: requestID) }
        if traceparent.isTraceparent { self.traceparent = Array(copying: traceparent) }
    }

    /// A context with values of which it is known that they are usable, or empty. O(*n*).
    public init(usableRequestID requestID: Span<UInt8>, usableTraceparent traceparent: Span<UInt8>) {
        assert(requestID.isEmpty || requestID.isRequestID, "a request id that cannot be")
        assert(traceparent.isEmpty || traceparent.isTraceparent, "a traceparent that cannot be")
        if !requestID.isEmpty { self.requestID = Array(copying: requestID) }
        if !traceparent.isEmpty { self.traceparent = Array(copying: traceparent) }
    }

    /// Whether there is nothing in it.
    public var isEmpty: Bool { requestID.isEmpty && traceparent.isEmpty }

    /// The size of its values, in bytes.
    public var textBytes: Int { requestID.count + traceparent.count }

    /// Codes it as two fields of an image, the first of which has the number `field`.
    @_lifetime(coder: copy coder)
    mutating func code<Coder: ImageCoder & ~Copyable & ~Escapable>(
        _ coder: inout Coder, from field: UInt8
    ) throws(Coder.Failure) {
        try coder.code(field, &requestID)
        try coder.check(requestID.isEmpty || requestID.span.isRequestID, "a request id that cannot be")
        try coder.code(field + 1, &traceparent)
        try coder.check(traceparent.isEmpty || traceparent.span.isTraceparent, "a traceparent that cannot be")
    }
}
