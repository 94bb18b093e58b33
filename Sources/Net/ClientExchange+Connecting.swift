// How an exchange gets a new connection: it looks up the host, and tries its addresses, or connects to a Unix-domain
// socket.

import Glibc

extension ClientExchange {
    /// When a Unix-domain socket is tried again whose queue of new connections is full.
    private static let fullQueueDelayMilliseconds: Int64 = 10

    /// Starts to open a new connection.
    func begin() {
        phase = .starting
        phaseDeadline = loop.time(in: request.connectTimeoutMilliseconds)
        client.queue(self)
    }

    func lookUp() {
        phase = .lookingUp
        let url = request.url
        if url.isSecure, host.key.trust == nil {
            let error = request.socketPath == nil ? client.trustFailure : TLSError("a Unix-domain socket needs http")
            return fail(.tls(authority: authority, error))
        }
        if request.socketPath != nil {
            answer = .success([])
        } else if let address = url.address {
            answer = .success([address])
        } else {
            answer = client.resolver.lookUp(url.host, for: self, now: loop.now)
        }
        connect()
    }

    /// Receives the addresses of the host.
    func take(_ answer: NameResolver.Answer) {
        self.answer = answer
        client.queue(self)
    }

    func connect() {
        switch answer {
        case nil: return
        case .success(let addresses): candidates = addresses[...]
        case .failure(let error): return fail(.lookUp(host: request.url.host, reason: error.reason))
        }
        answer = nil
        attemptFailure = nil
        refusal = nil
        phase = .connecting
        connectToNext()
    }

    /// Starts to connect to the next permitted address; fails if there is none and no attempt is under way.
    private func connectToNext() {
        nextAttemptTime = .max
        let url = request.url
        if let path = request.socketPath, attemptFailure == nil { return connect(toSocket: path) }
        while let address = candidates.popFirst() {
            if let reason = client.refusal(address, url.port, url.host) {
                refusal = .refusedAddress(host: url.host, address: address, reason: reason)
                continue
            }
            do throws(SystemError) {
                try attempt(.address(address))
            } catch {
                attemptFailure = .connect(authority: authority, address: address, code: error.code)
                continue
            }
            if !candidates.isEmpty { nextAttemptTime = loop.now + client.limits.attemptDelayMilliseconds }
            return
        }
        if !attempts.isEmpty { return }
        fail(attemptFailure ?? refusal ?? .lookUp(host: url.host, reason: "it has no address"))
    }

    private func connect(toSocket path: String) {
        do throws(SystemError) {
            try attempt(.path(path))
        } catch {
            // The kernel does not say when the queue has room.
            if error.code == EAGAIN {
                nextAttemptTime = loop.now + Self.fullQueueDelayMilliseconds
            } else {
                fail(.connect(authority: authority, address: nil, code: error.code))
            }
        }
    }

    private func attempt(_ peer: ClientConnection.Peer) throws(SystemError) {
        let attempt = try ClientConnection(client: client, host: host, peer: peer, url: request.url)
        attempt.exchange = self
        attempts.append(attempt)
    }

    func reviewAttempts() {
        var hasFailed = false
        for attempt in attempts {
            guard let result = attempt.takeConnectResult() else { continue }
            attempts.removeAll { $0 === attempt }
            switch result {
            case .connected:
                for other in attempts { other.close() }
                attempts = []
                nextAttemptTime = .max
                run(on: attempt)
                return exchangeBytes()
            case .failed(let code):
                attemptFailure = .connect(authority: authority, address: attempt.address, code: code)
            case .refused(let error): attemptFailure = .tls(authority: authority, error)
            }
            attempt.close()
            hasFailed = true
        }
        if hasFailed || loop.now >= nextAttemptTime { connectToNext() }
    }
}

extension EventLoop {
    /// The time in so many milliseconds; never beyond the last one that there is.
    func time(in milliseconds: Int64) -> Int64 {
        let (time, isTooLate) = now.addingReportingOverflow(milliseconds)
        return isTooLate ? .max : time
    }
}
