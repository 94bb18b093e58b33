// The client's view of one origin: its idle connections and the exchanges that wait for one.

/// A host, port and scheme that the client sends requests to. Requests that trust other issuers go to another one, so
/// that no connection carries a request which would refuse the host's certificate; so do requests that go through a
/// Unix-domain socket.
final class ClientHost {
    /// What identifies it.
    struct Key: Hashable {
        let origin: [UInt8]
        /// The issuers of acceptable certificates; nil for plain connections.
        let trust: TLSTrust?
        /// The path of the Unix-domain socket to connect to; nil to connect to the host.
        let socketPath: String?
    }

    let key: Key
    /// What messages call it: its host and port, or the path of its socket.
    let authority: [UInt8]
    /// How many connections are open or being opened.
    var connectionCount = 0
    /// The idle connections; the one used most recently is last.
    var idle: [ClientConnection] = []
    /// The host is in the client's list of hosts that wait because of the limit on all connections.
    var isStarving = false

    /// The waiting exchanges in order, from `next` on; some may have ended. Only waiting exchanges are kept here:
    /// exchanges retain their host, so each one kept forms a reference cycle.
    private var line: [ClientExchange?] = []
    private var next = 0
    /// The number of waiting exchanges.
    private(set) var waitingCount = 0

    init(authority: [UInt8], key: Key) {
        self.authority = authority
        self.key = key
    }

    /// Drops the waiting exchanges and the idle connections, which retain their host.
    func close() {
        line = []
        for connection in idle { connection.close() }
        idle = []
    }

    /// Whether the host has no connections and no waiting exchanges.
    var isUnused: Bool { connectionCount == 0 && waitingCount == 0 }

    func append(_ exchange: ClientExchange) {
        if line.count > 2 * waitingCount + 16 {
            line = line[next...].filter { $0?.isWaiting ?? false }
            next = 0
        }
        line.append(exchange)
        waitingCount += 1
    }

    /// Removes the exchange that has waited longest.
    func popWaiting() -> ClientExchange? {
        while next < line.count {
            let exchange = line[next]
            line[next] = nil
            next += 1
            if let exchange, exchange.isWaiting {
                noteLeft()
                return exchange
            }
        }
        return nil
    }

    /// Notes that an exchange has stopped waiting.
    func noteLeft() {
        waitingCount -= 1
        guard waitingCount == 0 else { return }
        line.removeAll(keepingCapacity: line.capacity <= 1024)
        next = 0
    }
}
