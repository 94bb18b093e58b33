// The end of a connection, and what has arrived by then: lingering, deliveries, closing.

extension Conversation {
    // MARK: Lingering

    /// Ends this side, then waits for the peer to acknowledge all tracked answers. A peer that may still be sending
    /// must also end its side: a reset in response to unread bytes could destroy the last answer in flight (RFC
    /// 9112 section 9.6).
    mutating func beginLingering(now: Int64) {
        isLingering = true
        since = now
        pausedSince = nil
        lastProgress = now
        let mayBeSending = !input.isEmpty || isReadable || parser.isReadingBody
        input.consume(input.count)
        if mayBeSending || !responses.deliveries.isEmpty {
            transport.endOutput()
        } else {
            inputHasEnded = true
        }
    }

    /// Reads and drops input.
    mutating func drain() -> Next {
        var drained = 0
        while isReadable, drained < Self.bytesPerVisit {
            let count = receive(atMost: Self.readSize)
            input.consume(input.count)
            // Without memory, input cannot be read, and no event announces when it can be.
            if input.isExhausted { isBroken = true }
            if count <= 0 { break }
            drained += count
        }
        input = Buffer()
        return isReadable ? .again : .rest
    }

    // MARK: What has arrived

    /// Whether all tracked answers have arrived. Gives up a peer that has accepted nothing for too long.
    mutating func hasArrived(_ limits: ServerLimits, now: Int64) -> Bool {
        let before = backlog
        forgetDelivered()
        if backlog < before { lastProgress = now }
        if now - lastProgress >= limits.sendTimeoutMilliseconds { giveUp() }
        return responses.deliveries.isEmpty
    }

    /// Forgets the deliveries that the peer's kernel has acknowledged, or that the peer on a Unix-domain socket has
    /// read.
    mutating func forgetDelivered() {
        if responses.deliveries.isEmpty { return }
        let unacknowledged = transport.unacknowledged()
        backlog = unacknowledged.backlog
        responses.forgetDelivered(unacknowledged: unacknowledged.byteCount)
    }

    /// Forgets the deliveries that a living peer can still read after this side has closed: they cannot be taken back,
    /// so they do not count as lost.
    mutating func leaveToLocalPeer() {
        guard transport.keepsOutputForPeer, !isBroken, !transport.hasFailed else { return }
        responses.forgetDelivered(unacknowledged: 0)
    }

    // MARK: Closing

    /// Closes the connection and tells the handler which deliveries did not reach the peer.
    mutating func end<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on owner: isolated Handler.Owner
    ) {
        if let withdrawal { handler.withdraw(withdrawal, on: owner) }
        isOwing = false
        withdrawal = nil
        if transport.keepsOutputForPeer { leaveToLocalPeer() } else { forgetDelivered() }
        // A reset keeps lost answers from arriving later, and frees what the kernel holds for a slow peer.
        let isReset = isGivenUp || !responses.deliveries.isEmpty
        // In reverse, so that tasks which return to the front of a queue keep their order.
        if !responses.deliveries.isEmpty {
            handler.undelivered(responses.deliveries.reversed().map(\.key), on: owner)
        }
        close(isReset: isReset)
    }

    /// Sends what it can and closes the connection when the server stops. It reads the peer's input first: bytes left
    /// unread would make the kernel reset the connection, and destroy the last answer on its way.
    mutating func leave(_ releasedMark: UInt64, now: Int64) {
        responses.release(upTo: releasedMark)
        send(now: now)
        transport.endOutput()
        isReadable = true
        _ = drain()
        close(isReset: false)
    }

    /// Closes a connection that cannot be served.
    mutating func discard() { close(isReset: false) }

    /// Closes the connection and frees its memory, because the server's lists may retain the object for a while.
    private mutating func close(isReset: Bool) {
        transport.close(isReset: isReset)
        input = Buffer()
        responses.discard()
        let streamed = responses.streamedByteCount
        owedRecord?.end(status: streamed == nil ? nil : 200, byteCount: streamed ?? 0, isSent: streamed != nil)
        owedRecord = nil
    }
}
