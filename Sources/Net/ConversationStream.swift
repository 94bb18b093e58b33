// Answers whose bodies go on until the connection closes, such as streams of events: their parts, and whether the
// client takes them.

extension Conversation {
    /// Whether answers are held or the kernel has not accepted them, but for one whose client decides when it ends.
    var hasUnsentAnswers: Bool { responses.unsentAnswerByteCount > 0 }

    /// Adds a part to the body of the answer that is owed.
    mutating func extend(on server: HTTPServer, _ body: (inout ResponseStream) -> Void) {
        if responses.sendableCount == 0 { lastProgress = server.loop.now }
        responses.release(upTo: server.releasedMark)
        responses.beginPart()
        body(&responses)
        count(on: server, unit: Self.countedUnit)
    }

    /// Whether the peer has not taken all that was written. Gives up a peer that has taken nothing for too long.
    mutating func hasUntakenParts(_ limits: ServerLimits, now: Int64) -> Bool {
        // What the kernel has not accepted has its own deadline.
        if responses.count > 0 { return true }
        let unacknowledged = transport.unacknowledged()
        if unacknowledged.byteCount == 0 || unacknowledged.backlog < backlog { lastProgress = now }
        backlog = unacknowledged.backlog
        if now - lastProgress >= limits.sendTimeoutMilliseconds { giveUp() }
        return unacknowledged.byteCount > 0
    }
}

extension HTTPServer {
    /// Adds a part to the body of an owed answer that goes on until its connection closes
    /// (`ResponseStream.beginStream`). It can be held as an answer can. `answer` ends the body.
    ///
    /// - Returns: false, without a call of `body`, if the client has left.
    @discardableResult
    public func extend(_ ticket: Ticket, _ body: (inout ResponseStream) -> Void) -> Bool {
        loop.checkIsolated()
        guard let connection = connection(owing: ticket) else { return false }
        connection.conversation.extend(on: self, body)
        queue(connection)
        return true
    }

    /// Whether the client of such an answer has not taken all of its body so far, as far as its kernel tells. A client
    /// that takes nothing for `ServerLimits.sendTimeoutMilliseconds` loses its connection. One system call.
    ///
    /// - Returns: nil if the client has left.
    public func hasUntakenParts(_ ticket: Ticket) -> Bool? {
        guard let connection = connection(owing: ticket) else { return nil }
        let hasParts = connection.conversation.hasUntakenParts(limits, now: loop.now)
        if connection.conversation.isBroken { queue(connection) }
        return hasParts
    }

    /// How many bytes of such an answer the kernel has not accepted. O(1).
    public func unsentByteCount(_ ticket: Ticket) -> Int {
        connection(owing: ticket)?.conversation.responses.count ?? 0
    }
}
