// The deadlines of a connection, and what happens when one passes.

extension Conversation {
    /// How often a closing connection asks the transport what has arrived.
    private static let acknowledgementPollMilliseconds: Int64 = 50

    /// Gives up a peer that accepts its answers too slowly.
    mutating func giveUp() {
        leaveToLocalPeer()
        isBroken = true
        isGivenUp = true
    }

    /// Sets the deadline for the next event.
    mutating func setDeadline(_ round: Round) {
        // Each limit is read from the server: the struct with all of them would be copied.
        if responses.sendableCount > 0 {
            deadline = lastProgress + round.limits.sendTimeoutMilliseconds
        } else if isLingering {
            deadline =
                responses.deliveries.isEmpty
                ? since + round.limits.lingerTimeoutMilliseconds : round.now + Self.acknowledgementPollMilliseconds
        } else if isOwing || isPostponed || responses.heldMark != 0 {
            deadline = .max
        } else if parser.isReadingBody {
            let received = Int64(parser.receivedBody.count)
            deadline = since + round.limits.bodyTimeoutMilliseconds + received * 1000 / round.limits.bodyBytesPerSecond
        } else if !input.isEmpty {
            deadline = since + round.limits.headTimeoutMilliseconds
        } else {
            deadline = since + round.limits.idleTimeoutMilliseconds
        }
    }

    /// Acts on a deadline that has passed.
    mutating func timeOut<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, _ round: Round
    ) {
        if responses.sendableCount > 0 {
            // The kernel reports room only when much of its buffer is free; a slow peer may have accepted less than
            // that.
            send(now: round.now)
            if round.now - lastProgress >= round.limits.sendTimeoutMilliseconds { giveUp() }
        } else if input.isEmpty, !parser.isReadingBody {
            isClosing = true
        } else {
            refuse(Refusal(.timeout, "the request took too long to arrive"), &handler, round.server.statistics)
        }
    }
}
