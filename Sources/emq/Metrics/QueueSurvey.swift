// Looking at all queues for the metrics, without delaying other clients: a slice in each turn of the loop.

import Queues

/// Walks through all queues for those who ask. Whoever asks while a walk is under way gets the next one, so that one
/// walk serves all.
final class QueueSurvey {
    /// One who has asked.
    struct Look {
        /// Receives each queue's name and statistics; nil if only the oldest task matters.
        var visit: ((Span<UInt8>, QueueStatistics) -> Void)?
        /// Whether whoever asked has left.
        var isAbandoned: () -> Bool = { false }
        /// Called at the end of the walk, with the time since when the oldest of the first ready tasks of all queues
        /// that are not paused has been ready; nil if no task is ready there.
        let end: (_ oldestReady: Int64?) -> Void
    }

    /// How many places of the table of queues a turn looks at, in all and for each who asks for each queue, whose token
    /// may have a hundred patterns: about a millisecond.
    static let placesPerTurn = 4096
    static let placesPerVisit = 512
    /// How many may ask at once, and how many of them for each queue, which costs time and memory.
    private static let maximumLooks = 100
    private static let maximumVisits = 8

    private var walk = QueueWalk()
    private var oldestReady: Int64?
    private var present: [Look] = []
    private var waiting: [Look] = []
    /// Those whose walk is over.
    private var ending: [Look] = []
    private var endingOldestReady: Int64?

    /// Whether turns are needed. Unchecked, because each turn reads it; each access is one read or write of a flag.
    var isUnderWay: Bool { unsafe uncheckedIsUnderWay }
    @exclusivity(unchecked) private var uncheckedIsUnderWay = false

    /// Whether too many have asked, or too many for each queue.
    func isCrowded(forVisits: Bool) -> Bool {
        let looks = present + waiting + ending
        return forVisits
            ? looks.count { $0.visit != nil } >= Self.maximumVisits : looks.count >= Self.maximumLooks
    }

    /// Takes part in a walk. The look ends before this returns if there are few queues, otherwise in a later turn.
    ///
    /// - Returns: whether it has ended.
    func begin(_ look: Look, on broker: isolated Broker) -> Bool {
        let places = Self.places(forVisits: look.visit == nil ? 0 : 1)
        if broker.queuePlaceCount > places {
            waiting.append(look)
            unsafe uncheckedIsUnderWay = true
            return false
        }
        var (walk, oldest): (QueueWalk, Int64?) = (QueueWalk(), nil)
        _ = broker.continueWalk(&walk, limit: places) { _, name, statistics in
            Self.note(statistics, &oldest)
            look.visit?(name, statistics)
        }
        look.end(oldest)
        return true
    }

    /// Goes on with a walk. Call this in each turn while it is under way.
    func turn(on broker: isolated Broker) {
        defer { unsafe uncheckedIsUnderWay = !(present.isEmpty && waiting.isEmpty && ending.isEmpty) }
        if let look = ending.popLast() {
            // One in a turn: its answer may be large.
            look.end(endingOldestReady)
            return
        }
        present.removeAll { $0.isAbandoned() }
        waiting.removeAll { $0.isAbandoned() }
        if present.isEmpty {
            if waiting.isEmpty { return }
            (present, waiting) = (waiting, [])
            (walk, oldestReady) = (QueueWalk(), nil)
        }
        let visits = present.compactMap(\.visit)
        let places = Self.places(forVisits: visits.count)
        let isOver = broker.continueWalk(&walk, limit: places) { _, name, statistics in
            Self.note(statistics, &oldestReady)
            for visit in visits { visit(name, statistics) }
        }
        guard isOver else { return }
        (ending, endingOldestReady) = (present, oldestReady)
        present = []
    }

    private static func places(forVisits count: Int) -> Int {
        count == 0 ? placesPerTurn : placesPerVisit / count
    }

    private static func note(_ statistics: QueueStatistics, _ oldest: inout Int64?) {
        if let time = statistics.oldestReady, !statistics.isPaused { oldest = min(oldest ?? .max, time) }
    }
}
