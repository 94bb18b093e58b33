// The transports that a connection can have. `Listener.transport` and `ClientConnection` choose one.

/// The transport of one connection.
///
/// An enumeration and not `any Transport`: a plain connection pays no dynamic call and no memory for the others.
enum ConnectionTransport: Transport {
    case socket(SocketTransport)

    var descriptor: Int32 {
        switch self {
        case .socket(let socket): socket.descriptor
        }
    }

    @inline(__always)
    func receive(into buffer: inout Buffer, atMost size: Int) -> ReceiveResult {
        switch self {
        case .socket(let socket): socket.receive(into: &buffer, atMost: size)
        }
    }

    var hasInput: Bool {
        switch self {
        case .socket(let socket): socket.hasInput
        }
    }

    @inline(__always)
    func send(_ bytes: Span<UInt8>) -> SendResult {
        switch self {
        case .socket(let socket): socket.send(bytes)
        }
    }

    func send(_ first: Span<UInt8>, _ second: Span<UInt8>) -> SendResult {
        switch self {
        case .socket(let socket): socket.send(first, second)
        }
    }

    func takeConnectResult() -> Int32? {
        switch self {
        case .socket(let socket): socket.takeConnectResult()
        }
    }

    func unacknowledged() -> Unacknowledged {
        switch self {
        case .socket(let socket): socket.unacknowledged()
        }
    }

    var hasFailed: Bool {
        switch self {
        case .socket(let socket): socket.hasFailed
        }
    }

    var keepsOutputForPeer: Bool {
        switch self {
        case .socket(let socket): socket.keepsOutputForPeer
        }
    }

    func endOutput() {
        switch self {
        case .socket(let socket): socket.endOutput()
        }
    }

    func close(isReset: Bool) {
        switch self {
        case .socket(let socket): socket.close(isReset: isReset)
        }
    }
}
