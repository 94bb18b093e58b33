// What a conversation notes of each request beside its answer: counts, records, and the fields that the answer returns.

extension Conversation {
    /// Notes what the answer to the request at the front of the input returns of it.
    mutating func noteReturnedFields<Handler: RequestHandler & ~Copyable>(_ handler: borrowing Handler) {
        guard parser.head.hasTraceFields, handler.returnsTraceFields(ofService: service) else { return }
        parser.head.writeReturnedFields(of: input, to: &responses.returnedFields)
    }

    /// Counts the answer to the request at the front of the input, which was just written, and records the request.
    ///
    /// - Parameters:
    ///   - handler: the handler.
    ///   - statistics: what the server counts.
    ///   - hasHead: whether the request has a valid head.
    mutating func noteAnswer<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, _ statistics: RequestStatistics, hasHead: Bool = true
    ) {
        statistics.noteAnswer(in: responses)
        if handler.recordsRequests, let record = record(&handler, hasHead: hasHead) { responses.end(record) }
    }

    /// A record of the request at the front of the input. Without a valid head, it has the fields that have been read.
    func record<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, hasHead: Bool = true
    ) -> RequestRecord? {
        var head = hasHead ? parser.head : parser.head.onlyFields(within: input.count)
        return Self.withRequest(input, &head, service: service, descriptor: transport.descriptor) { handler.record($0) }
    }
}
