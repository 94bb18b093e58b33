// Finds peers that are too slow for the memory they occupy, while memory is short.

extension Conversation {
    /// A peer's progress at one time.
    struct Review {
        let time: Int64
        /// Whether the peer receives answers. If not, it sends the request that `serial` identifies.
        let isTaking: Bool
        let serial: UInt64
        /// How many bytes the peer has accepted or sent.
        let bytes: Int64
    }

    /// The progress of a peer is measured over about this time.
    private static let reviewMilliseconds: Int64 = 2_000

    /// Checks the peer's progress when the server's memory for requests and answers is used up. Gives up a peer that
    /// accepts answers more slowly than `ServerLimits.answerBytesPerSecond`, and refuses a request that arrives more
    /// slowly than `ServerLimits.bodyBytesPerSecond`.
    ///
    /// - Returns: Whether to close or visit the connection.
    mutating func review<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on server: HTTPServer, now: Int64
    ) -> Bool {
        if countedBytes == 0 || isLingering { return false }
        let isTaking = responses.sendableCount > 0
        if isTaking {
            // The kernel reports room only when much of its buffer is free; a slow peer may have taken less than that.
            send(now: now)
            if isBroken || responses.sendableCount == 0 { return true }
        } else if isOwing || isPostponed || isClosing || isReadable || input.isEmpty || responses.count > 0 {
            return false
        }
        let review = Review(
            time: now, isTaking: isTaking, serial: isTaking ? 0 : serial,
            bytes: isTaking ? Int64(responses.sent) : Int64(input.count))
        let elapsed = now - (lastReview?.time ?? 0)
        // An old review belongs to an earlier shortage.
        guard let last = lastReview, last.isTaking == isTaking, last.serial == review.serial,
            elapsed < 2 * Self.reviewMilliseconds
        else {
            lastReview = review
            return false
        }
        if elapsed < Self.reviewMilliseconds { return false }
        lastReview = review
        let least = isTaking ? server.limits.answerBytesPerSecond : server.limits.bodyBytesPerSecond
        if (review.bytes - last.bytes) * 1000 >= least * elapsed { return false }
        if isTaking {
            giveUp()
        } else {
            let refusal = Refusal(
                .noMemory, "the server's memory for requests is used up, and this one arrives too slowly")
            refuse(refusal, &handler, server.statistics)
            // A body's memory is free at once, so that the server refuses no more requests than it must.
            if parser.isReadingBody { input = Buffer() }
            count(on: server)
        }
        return true
    }
}
