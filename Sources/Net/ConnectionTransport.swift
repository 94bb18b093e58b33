// The transports that a connection can have. `Listener.transport` and `ClientConnection` choose one.

/// The transport of one connection.
///
/// An enumeration and not `any Transport`: a plain connection pays no dynamic call, and its bytes pass nothing of TLS.
enum ConnectionTransport: Transport {
    case socket(SocketTransport)
    case tls(TLSTransport)

    /// Whether it is encrypted.
    var isSecure: Bool { if case .tls = self { true } else { false } }

    var descriptor: Int32 {
        switch self {
        case .socket(let socket): socket.descriptor
        case .tls(let tls): tls.descriptor
        }
    }

    @inline(__always)
    func receive(into buffer: inout Buffer, atMost size: Int) -> ReceiveResult {
        switch self {
        case .socket(let socket): socket.receive(into: &buffer, atMost: size)
        case .tls(let tls): tls.receive(into: &buffer, atMost: size)
        }
    }

    var hasInput: Bool {
        switch self {
        case .socket(let socket): socket.hasInput
        case .tls(let tls): tls.hasInput
        }
    }

    @inline(__always)
    func send(_ bytes: Span<UInt8>) -> SendResult {
        switch self {
        case .socket(let socket): socket.send(bytes)
        case .tls(let tls): tls.send(bytes)
        }
    }

    func send(_ first: Span<UInt8>, _ second: Span<UInt8>) -> SendResult {
        switch self {
        case .socket(let socket): socket.send(first, second)
        case .tls(let tls): tls.send(first, second)
        }
    }

    func takeConnectResult() -> ConnectResult? {
        switch self {
        case .socket(let socket): socket.takeConnectResult()
        case .tls(let tls): tls.takeConnectResult()
        }
    }

    func unacknowledged() -> Unacknowledged {
        switch self {
        case .socket(let socket): socket.unacknowledged()
        case .tls(let tls): tls.unacknowledged()
        }
    }

    var failure: TLSError? {
        switch self {
        case .socket(let socket): socket.failure
        case .tls(let tls): tls.failure
        }
    }

    var hasFailed: Bool {
        switch self {
        case .socket(let socket): socket.hasFailed
        case .tls(let tls): tls.hasFailed
        }
    }

    var keepsOutputForPeer: Bool {
        switch self {
        case .socket(let socket): socket.keepsOutputForPeer
        case .tls(let tls): tls.keepsOutputForPeer
        }
    }

    func endOutput() {
        switch self {
        case .socket(let socket): socket.endOutput()
        case .tls(let tls): tls.endOutput()
        }
    }

    func close(isReset: Bool) {
        switch self {
        case .socket(let socket): socket.close(isReset: isReset)
        case .tls(let tls): tls.close(isReset: isReset)
        }
    }
}
