// How often things happened to tasks lately: in the last minute, in each of the last 60 minutes, and in each five
// minutes of the last day.

/// Events of a queue, or of all queues.
public struct EventCounts: Hashable, Sendable {
    /// Tasks added.
    public var enqueued: UInt64 = 0
    /// Dispatches that were acknowledged.
    public var done: UInt64 = 0
    /// Dispatches that failed, or whose lease ran out.
    public var failed: UInt64 = 0

    /// Makes counts of 0.
    public init() {}

    init(_ totals: borrowing QueueStatistics.Totals) {
        (enqueued, done, failed) = (totals.enqueued, totals.acked, totals.nacked &+ totals.timedOut)
    }

    /// All events together.
    public var sum: UInt64 { enqueued + done + failed }

    mutating func add(_ other: EventCounts) {
        enqueued += other.enqueued
        done += other.done
        failed += other.failed
    }

    /// How many events there were since `earlier` counts.
    func since(_ earlier: EventCounts) -> EventCounts {
        var difference = EventCounts()
        difference.enqueued = enqueued - min(enqueued, earlier.enqueued)
        difference.done = done - min(done, earlier.done)
        difference.failed = failed - min(failed, earlier.failed)
        return difference
    }
}

/// What happened in an interval, and how things were at its end.
public struct HistoryPoint: Hashable, Sendable {
    /// Tasks added.
    public var enqueued: UInt32 = 0
    /// Dispatches that were acknowledged.
    public var done: UInt32 = 0
    /// Dispatches that failed, or whose lease ran out.
    public var failed: UInt32 = 0
    /// Ready tasks.
    public var ready: UInt32 = 0
    /// Dead tasks.
    public var dead: UInt32 = 0
    /// How long the oldest ready task had been ready, in seconds.
    public var oldestReadySeconds: UInt32 = 0
    /// How long the tasks that were dispatched had been ready, in the mean.
    public internal(set) var waitMean = CodedDuration()
    /// How long one of them had been ready, at most.
    public internal(set) var waitMaximum = CodedDuration()
    /// How long the dispatches that were acknowledged had taken, in the mean.
    public internal(set) var runMean = CodedDuration()
    /// How long one of them had taken, at most.
    public internal(set) var runMaximum = CodedDuration()

    /// Makes a point at which nothing happened.
    public init() {}
}

/// How many tasks were ready at the end of each of the last minutes.
public struct ReadyTrend: Sendable {
    /// How many minutes it has.
    public static var count: Int { 30 }

    private var counts = InlineArray<30, UInt64>(repeating: 0)

    /// Makes a trend of 0.
    public init() {}

    /// The number of ready tasks at the end of a minute. The oldest minute has the index 0.
    public subscript(index: Int) -> UInt64 { counts[index] }

    fileprivate mutating func add(_ count: UInt32, at index: Int) { counts[index] &+= UInt64(count) }
}

/// What has happened in an interval that has not ended.
struct Happenings {
    var counts = EventCounts()
    var times = TaskTimes()

    var isEmpty: Bool { counts.sum == 0 && times == TaskTimes() }

    mutating func add(_ other: Happenings) {
        counts.add(other.counts)
        times.add(other.times)
    }

    /// Makes the point of the interval.
    ///
    /// - Parameter gauges: how things are at its end.
    /// - Returns: the point.
    func point(_ gauges: HistoryPoint = HistoryPoint()) -> HistoryPoint {
        var point = gauges
        point.enqueued = UInt32(clamping: counts.enqueued)
        point.done = UInt32(clamping: counts.done)
        point.failed = UInt32(clamping: counts.failed)
        (point.waitMean, point.waitMaximum) = (times.waits.mean, times.waits.maximum)
        (point.runMean, point.runMaximum) = (times.runs.mean, times.runs.maximum)
        return point
    }
}

/// The intervals of a history.
public enum HistoryInterval: Int, Hashable, Sendable, CaseIterable {
    /// 60 times a minute.
    case minute = 60
    /// 288 times five minutes: a day.
    case fiveMinutes = 300

    /// How many intervals are kept.
    public var count: Int { self == .minute ? 60 : 288 }

    /// The number of the interval that has ended last.
    func last(now: Int64) -> Int64 { now / 1000 / Int64(rawValue) - 1 }
}

/// The intervals that have ended at a time, by their numbers since the Unix epoch.
struct IntervalEnds {
    var minute: Int64
    /// nil if none has ended.
    var fiveMinutes: Int64?
}

/// The points of a history at which something happened or something was there.
struct Points {
    struct Entry {
        /// The number of the interval since the Unix epoch.
        var number: UInt32
        var point: HistoryPoint
    }

    private(set) var entries: [Entry] = []

    var byteCount: Int { entries.capacity * MemoryLayout<Entry>.stride }

    /// Adds the point of an interval later than all others, and forgets those that have become too old. O(points).
    mutating func append(_ point: HistoryPoint, at number: Int64, limit: Int) {
        forget(upTo: number - Int64(limit))
        guard point != HistoryPoint() else { return }
        // Doubling would make room for more than there can be.
        if entries.count == entries.capacity { entries.reserveCapacity(min(limit, max(4, 2 * entries.count))) }
        entries.append(Entry(number: UInt32(clamping: number), point: point))
    }

    private mutating func forget(upTo number: Int64) {
        guard let first = entries.first, Int64(first.number) <= number else { return }
        entries.removeFirst(entries.firstIndex { Int64($0.number) > number } ?? entries.count)
        if entries.isEmpty { entries = [] }
    }
}

/// The events of one queue, or of all queues, over time.
struct Series {
    /// How often events are counted, and over how many of these ticks rates are.
    static let tickMilliseconds: Int64 = 5000
    static let ticksPerMinute = 12

    private struct Counts {
        var enqueued: UInt32 = 0
        var done: UInt32 = 0
        var failed: UInt32 = 0
    }

    /// The totals when events were last counted.
    var base = EventCounts()
    private var recent = InlineArray<12, Counts>(repeating: Counts())
    /// When events were last counted.
    private(set) var lastTick: Int64 = 0
    /// What has happened in the minute, and in the five minutes, that have not ended.
    private var minute = Happenings()
    private var fiveMinutes = Happenings()
    private var minutes = Points()
    private var fives = Points()

    init() {}

    /// What lasts while the server does not run.
    struct Parts {
        var minute: Happenings
        var fiveMinutes: Happenings
        var minutes: Points
        var fives: Points
    }

    var parts: Parts { Parts(minute: minute, fiveMinutes: fiveMinutes, minutes: minutes, fives: fives) }

    /// Continues a series after a pause. Intervals that were under way at its beginning have ended, unless they are
    /// still under way.
    init(_ parts: Parts, savedAt: Int64, now: Int64) {
        (minutes, fives) = (parts.minutes, parts.fives)
        if savedAt / 60_000 == now / 60_000 {
            (minute, fiveMinutes) = (parts.minute, parts.fiveMinutes)
            return
        }
        minutes.append(parts.minute.point(), at: savedAt / 60_000, limit: HistoryInterval.minute.count)
        fiveMinutes = parts.fiveMinutes
        fiveMinutes.add(parts.minute)
        if savedAt / 300_000 == now / 300_000 { return }
        fives.append(fiveMinutes.point(), at: savedAt / 300_000, limit: HistoryInterval.fiveMinutes.count)
        fiveMinutes = Happenings()
    }

    /// The memory beside the record, in bytes.
    var byteCount: Int { minutes.byteCount + fives.byteCount }

    /// Whether there is nothing to show.
    var isEmpty: Bool { minutes.entries.isEmpty && fives.entries.isEmpty && minute.isEmpty && fiveMinutes.isEmpty }

    /// Adds the times of what has happened lately.
    mutating func add(_ times: TaskTimes) { minute.times.add(times) }

    /// Counts what has happened until a tick, by the totals.
    mutating func count(_ totals: EventCounts, tick: Int64) {
        let events = totals.since(base)
        base = totals
        var stale = max(lastTick + 1, tick - Int64(Self.ticksPerMinute) + 1)
        while stale <= tick {
            recent[Self.place(of: stale)] = Counts()
            stale += 1
        }
        lastTick = max(lastTick, tick)
        let place = Self.place(of: lastTick)
        recent[place].enqueued = UInt32(clamping: UInt64(recent[place].enqueued) + events.enqueued)
        recent[place].done = UInt32(clamping: UInt64(recent[place].done) + events.done)
        recent[place].failed = UInt32(clamping: UInt64(recent[place].failed) + events.failed)
        minute.counts.add(events)
    }

    private static func place(of tick: Int64) -> Int { Int(tick % Int64(ticksPerMinute)) }

    /// The events of the minute up to a tick.
    func lastMinute(tick: Int64) -> EventCounts {
        var counts = EventCounts()
        var next = max(tick, lastTick) - Int64(Self.ticksPerMinute) + 1
        while next <= lastTick {
            let place = Self.place(of: max(0, next))
            counts.enqueued += UInt64(recent[place].enqueued)
            counts.done += UInt64(recent[place].done)
            counts.failed += UInt64(recent[place].failed)
            next += 1
        }
        return counts
    }

    /// Ends intervals.
    ///
    /// - Parameters:
    ///   - ends: the intervals that have ended.
    ///   - gauges: how things are; its counts are replaced.
    mutating func end(_ ends: IntervalEnds, _ gauges: HistoryPoint) {
        minutes.append(minute.point(gauges), at: ends.minute, limit: HistoryInterval.minute.count)
        fiveMinutes.add(minute)
        minute = Happenings()
        guard let five = ends.fiveMinutes else { return }
        fives.append(fiveMinutes.point(gauges), at: five, limit: HistoryInterval.fiveMinutes.count)
        fiveMinutes = Happenings()
    }

    /// Adds the ready tasks of the last minutes to a trend. O(minutes).
    ///
    /// - Parameters:
    ///   - trend: the trend.
    ///   - last: the number of the last minute.
    func add(to trend: inout ReadyTrend, last: Int64) {
        var index = minutes.entries.count - 1
        while index >= 0 {
            let place = ReadyTrend.count - 1 - Int(last - Int64(minutes.entries[index].number))
            if place < 0 { return }
            if place < ReadyTrend.count { trend.add(minutes.entries[index].point.ready, at: place) }
            index -= 1
        }
    }

    /// The points of a history.
    ///
    /// - Parameters:
    ///   - interval: the interval.
    ///   - last: the number of the last interval.
    /// - Returns: a point for each interval, the oldest first.
    func history(_ interval: HistoryInterval, last: Int64) -> [HistoryPoint] {
        var points = Array(repeating: HistoryPoint(), count: interval.count)
        for entry in (interval == .minute ? minutes : fives).entries {
            let place = Int64(interval.count) - 1 - (last - Int64(entry.number))
            if points.indices.contains(Int(place)) { points[Int(place)] = entry.point }
        }
        return points
    }
}
