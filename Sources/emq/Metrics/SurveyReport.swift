// The answers to `/errors/` and `/workers/`, which are made of a census of all tasks.

import Bytes
import JSON
import Net
import Queues
import UID

/// An answer that is made of a census, a slice at a time.
class SurveyReport: PendingAnswer {
    /// What a group, a holding or a worker takes, and a step of `QueueViews` or a comparison, in steps of a census.
    static let stepsPerRow = 20
    static let stepsPerLook = 5
    /// The most bytes of a path and a query by which clients share an answer.
    private static let maximumTargetBytes = 512

    let caller: Caller
    let ticket: Ticket
    /// The path and the query, by which clients share an answer.
    let target: [UInt8]
    /// Whether others may get the same text. Those who may see only some queues share none.
    let isShared: Bool
    /// The number of the first look of which it may be made.
    var firstLook = 0
    private(set) var isWithdrawn = false
    /// The JSON of the answer, as far as it is made.
    var text: [UInt8] = []
    private let requestByteCount: Int

    init(of request: borrowing Request, by caller: Caller) {
        self.caller = caller
        ticket = request.ticket
        let byteCount = request.path.count + 1 + request.query.count
        isShared = caller.coversAllQueues && byteCount <= Self.maximumTargetBytes
        target = isShared ? Array(copying: request.path) + [UInt8(ascii: "?")] + Array(copying: request.query) : []
        // It may have copies of the query's values.
        requestByteCount = 500 + 2 * byteCount
        super.init(nil)
    }

    override func withdraw(on broker: isolated Broker) { isWithdrawn = true }

    /// The approximate memory of the answer, in bytes. O(1).
    final var byteCount: Int { requestByteCount + text.count + draftByteCount }

    /// The approximate memory of what it has found of the census, in bytes. O(1).
    var draftByteCount: Int { 0 }

    /// Whether it may take much longer than others.
    var mayTakeLong: Bool { false }

    /// Goes on with making the answer.
    ///
    /// - Parameters:
    ///   - census: the census, which is complete, and the same in each call.
    ///   - time: when the census was begun.
    ///   - steps: how much to do, at most; reduced by what was done.
    /// - Returns: whether `text` is complete.
    func extend(_ census: TaskCensus, asOf time: Int64, steps: inout Int) -> Bool {
        preconditionFailure("every report knows what it shows")
    }
}

extension SurveyReport {
    func append(_ member: StaticString, _ string: [UInt8]) {
        text.append(member)
        JSONWriter.writeString(string.span, to: &text)
    }

    func append(_ member: StaticString, _ number: Int) {
        text.append(member)
        JSONWriter.writeInteger(Int64(number), to: &text)
    }

    func append(_ member: StaticString, time milliseconds: Int64) {
        text.append(member)
        JSONWriter.writeSeconds(milliseconds: milliseconds, to: &text)
    }

    func append(_ member: StaticString, _ id: UID) {
        text.append(member)
        text.append("\"")
        let characters = id.text
        text.append(characters.span)
        text.append("\"")
    }
}
