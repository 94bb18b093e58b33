// Which queues a client asks for, and in which order.

import Bytes
import Queues

/// Decides by its name whether a queue is in a listing. Every listing of queues asks it, and nothing else.
struct QueueFilter {
    /// Who asks. Nobody sees queues with which they may not concern themselves.
    let caller: Caller
    /// What the names begin with.
    var prefix: [UInt8] = []
    /// What the whole names match; nil for anything.
    var pattern: GlobPattern?

    /// Whether a queue is listed. O(length of the name), for usual patterns.
    func admits(_ name: Span<UInt8>) -> Bool {
        hasPrefix(name) && pattern?.matches(name) ?? true && caller.covers(name)
    }

    /// Whether a name begins as it should.
    func hasPrefix(_ name: Span<UInt8>) -> Bool {
        name.count >= prefix.count && name.extracting(first: prefix.count).equals(prefix.span)
    }

    /// Whether both list the same queues, whatever queues there are.
    func isSame(as other: QueueFilter) -> Bool {
        prefix == other.prefix && pattern == other.pattern && caller.coversSame(as: other.caller)
    }

    /// Whether every queue is listed.
    var admitsAll: Bool { prefix.isEmpty && pattern == nil && caller.coversAllQueues }

    /// About how long `admits` takes, in steps of `QueueViews`.
    func steps(for name: Span<UInt8>) -> Int {
        var patternByteCount = pattern?.byteCount ?? 0
        if case .holder(let token) = caller { patternByteCount += token.patternByteCount }
        return 1 + patternByteCount * name.count / 64
    }
}

/// A request for a page of queues.
struct QueuePageQuery {
    /// The most queues in a page, and how many of them there are if the client does not say.
    static let maximumCount = 1000
    static let usualStatisticsCount = 100
    static let offsets: ClosedRange<Int64> = 0...Int64(Int32.max)
    static let switches = ["0": false, "1": true]

    var filter: QueueFilter
    var order = QueueOrder.name
    /// How many queues; nil for all.
    var count: Int?
    /// Behind which queue the page begins; nil for the first page.
    var after: QueueListing.Cursor?
    /// How many of the queues that are listed precede the page; nil for a page that does not count them.
    var offset: Int?
    /// Which history of the server is in the first page of statistics; nil for none.
    var history: HistoryInterval?
    /// Whether a page of statistics shows how many tasks of each queue were ready lately.
    var hasTrend = false
    /// Up to where the names of queues in a group are the same; nil for a page without groups.
    var delimiter: [UInt8]?

    /// Reads a query.
    ///
    /// - Throws: 400.
    init(_ query: borrowing Query, usualCount: Int?, _ caller: Caller) throws(Problem) {
        filter = QueueFilter(caller: caller)
        if let prefix = query["prefix"] { filter.prefix = Array(prefix.utf8) }
        filter.pattern = try query.pattern("match")
        order = try query.word("sort", QueueOrder.named) ?? .name
        count = try query.integer("n", 1...Int64(Self.maximumCount)).map { Int($0) } ?? usualCount
        history = try query.word("history", HistoryInterval.named)
        hasTrend = try query.word("trend", Self.switches) ?? false
        if let text = query["delimiter"] {
            guard !text.isEmpty, text.utf8.count <= QueueName.maximumByteCount else {
                throw Problem(
                    .invalidParameter, "delimiter has 1 to \(QueueName.maximumByteCount) bytes, such as /",
                    field: "delimiter")
            }
            delimiter = Array(text.utf8)
        }
        offset = try query.integer("offset", Self.offsets).map { Int($0) }
        if offset != nil, query["after"] != nil {
            throw Problem(.invalidParameter, "give either after or offset, not both", field: "offset")
        }
        if let text = query["after"] {
            guard let cursor = QueueListing.Cursor(text, order: order) else {
                throw Problem(
                    .invalidParameter, "after must be what the page before gave as next, for the same sort",
                    field: "after")
            }
            after = cursor
        }
    }
}

extension QueuePageQuery {
    /// Which queues are a group; nil for a page without groups.
    var grouping: QueueGroups.Grouping? {
        delimiter.map {
            QueueGroups.Grouping(prefix: filter.prefix, delimiter: $0, order: order, hasTrends: hasTrend)
        }
    }
}

extension QueueOrder {
    /// The orders as clients name them.
    static let named: [String: QueueOrder] = [
        "name": .name, "ready": .ready, "oldest_ready": .oldestReady, "delayed": .delayed, "dispatched": .dispatched,
        "dead": .dead, "rate": .rate, "enqueued": .enqueued, "done": .done, "failed": .failed, "waiters": .waiters,
        "paused": .paused,
    ]
}

/// The text of a cursor: a name if the listing is sorted by name, and otherwise a number and a name.
extension QueueListing.Cursor {
    fileprivate init?(_ text: String, order: QueueOrder) {
        if order == .name {
            self.init(number: 0, name: Array(text.utf8))
            return
        }
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, let number = UInt64(parts[0]) else { return nil }
        self.init(number: number, name: Array(parts[1].utf8))
    }

    /// What a client sends as `after`.
    func text(order: QueueOrder) -> [UInt8] {
        order == .name ? name : Array("\(number):".utf8) + name
    }
}
