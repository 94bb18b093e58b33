// What the client knows of one host and port: the connections that are idle, and the exchanges that wait for one.

/// A host and port that requests go to.
final class ClientHost {
    let authority: [UInt8]
    /// How many connections are open or being opened.
    var connectionCount = 0
    /// Idle connections; the one that was used last is the last.
    var idle: [ClientConnection] = []
    /// It stands in the client's list of hosts that wait because of the bound in all.
    var isStarving = false

    /// Those that wait, in order, from `next` on. Some may have ended since. None of the others is kept here: exchanges keep
    /// their host, and would keep each other.
    private var line: [ClientExchange?] = []
    private var next = 0
    /// How many wait.
    private(set) var waitingCount = 0

    init(authority: [UInt8]) { self.authority = authority }

    /// Lets go of those who wait and of the idle connections, which keep their host.
    func close() {
        line = []
        for connection in idle { connection.close() }
        idle = []
    }

    /// Whether nothing goes on here.
    var isUnused: Bool { connectionCount == 0 && waitingCount == 0 }

    func append(_ exchange: ClientExchange) {
        if line.count > 2 * waitingCount + 16 {
            line = line[next...].filter { $0?.isWaiting ?? false }
            next = 0
        }
        line.append(exchange)
        waitingCount += 1
    }

    /// Takes the exchange that has waited longest out of the line.
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

    /// An exchange in the line has stopped waiting.
    func noteLeft() {
        waitingCount -= 1
        guard waitingCount == 0 else { return }
        line.removeAll(keepingCapacity: line.capacity <= 1024)
        next = 0
    }
}
