// How much a client may take.

/// The limits of a client.
public struct ClientLimits: Sendable {
    /// The most connections at once. One that is being opened counts once, even while it tries two addresses.
    public var connections = 4_000
    /// The most connections to one host and port.
    public var connectionsPerHost = 1_000
    /// The most idle connections; beyond that, those idle longest are closed.
    public var idleConnections = 1_000
    /// How long a connection may be idle, in milliseconds.
    public var idleTimeoutMilliseconds: Int64 = 10_000
    /// After how many seconds of silence the kernel asks whether the peer is still there; nil for never. Requests whose
    /// answers take long need it: a peer whose machine is gone says nothing.
    public var probeSeconds: Int32?
    /// How long an attempt to connect runs before the host's next address is tried too, in milliseconds (RFC 8305
    /// section 5).
    public var attemptDelayMilliseconds: Int64 = 250
    /// The longest head of a response, in bytes.
    public var headBytes = 64 * 1024
    /// The largest number of a response's fields.
    public var fields = 200
    /// How much memory the requests and responses in flight may take before the bodies of responses are cut, in bytes.
    public var bufferBytes = Int.max

    /// The default limits.
    public init() {}

    func response(to request: borrowing ClientRequest) -> ResponseLimits {
        ResponseLimits(
            head: headBytes, fields: fields, body: min(max(request.bodyLimit, 0), ResponseLimits.maximumBody),
            streamsBody: request.streamsBody)
    }
}
