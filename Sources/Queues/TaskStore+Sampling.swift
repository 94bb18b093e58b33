// Rates and histories of the queues that were used last. Requests only mark their queues; every five seconds, a sweep
// counts the events of the marked queues, every minute it looks at all queues that have a history, and every five
// minutes it makes an image of the histories.

import Bytes

/// The series of a queue. It stays when the queue is forgotten.
struct SeriesRecord: LinkedRecord {
    var name: [UInt8] = []
    private(set) var hash: UInt32 = 0
    var chained: Slot = 0
    private var links = Links()
    /// The queue; 0 if it is forgotten.
    var queue: Slot = 0
    var series = Series()

    init() {}

    init(name: [UInt8], hash: UInt32, queue: Slot) {
        (self.name, self.hash, self.queue) = (name, hash, queue)
    }

    func isNamed(_ other: Span<UInt8>) -> Bool {
        let name = name
        return name.span.equals(other)
    }

    subscript(links kind: Int) -> Links {
        get { links }
        set { links = newValue }
    }

    /// The memory beside the record, in bytes.
    var byteCount: Int { name.count + series.byteCount }
}

/// The series of all queues that have one, and the sweep that feeds them.
struct Sampling: ~Copyable {
    /// The most queues with a series.
    static var maximumCount: Int { 10_000 }
    /// About how much memory a series takes at most, in bytes.
    static var maximumSeriesBytes: Int { 12_500 }

    /// How many queues may have a series.
    var limit = Sampling.maximumCount
    var records = Table<SeriesRecord>(capacity: Sampling.maximumCount + 1)
    /// The queues with a series; the one whose last use is longest ago is first.
    var recency = LinkedList<SeriesRecord, 0>()
    var server = Series()
    /// The queues to which something has happened since the last tick.
    var touched: [Slot] = []
    /// The memory of the series beside their records, in bytes.
    var seriesBytes = 0
    /// The last tick that has begun; 0 before the first.
    var tick: Int64 = 0
    /// How many bytes an image of the histories may have; 0 if none is to be made.
    var imageLimit = 0
    /// The image that is being made, and the last one that is complete and was not taken.
    var imageUnderWay: HistoryImage?
    var image: [UInt8]?
    /// The memory of these two, in bytes.
    var imageBytes = 0
    fileprivate var isUnderWay = false
    fileprivate var isCounted = false
    /// The touched queues that the sweep has not counted yet, and the series that it looks at next.
    fileprivate var uncounted: [Slot] = []
    fileprivate var nextSeries: Slot = 0
    fileprivate var ends: IntervalEnds?
    fileprivate var oldestReadySeconds: UInt32 = 0

    /// The memory of all series and of the image, in bytes. What the store counts for each queue includes its place in
    /// the lists of the sweep. O(1).
    var byteCount: Int {
        records.count * (MemoryLayout<SeriesRecord>.stride + MemoryLayout<Slot>.stride) + seriesBytes + imageBytes
    }

    /// When the sweep has something to do; nil for never, and 0 if it is under way.
    var nextTime: Int64? {
        if isUnderWay { return 0 }
        let next = tick + 1
        if !touched.isEmpty { return next * Series.tickMilliseconds }
        let perMinute = Int64(Series.ticksPerMinute)
        return recency.isEmpty ? nil : (next + perMinute - 1) / perMinute * perMinute * Series.tickMilliseconds
    }
}

extension TaskStore {
    /// Marks a queue to which something has happened.
    @inline(__always)
    mutating func touch(_ queue: Slot) {
        if !queues[queue].isTouched { mark(queue) }
    }

    @inline(never)
    private mutating func mark(_ queue: Slot) {
        queues[queue].isTouched = true
        sampling.touched.append(queue)
    }

    /// Notes that a queue is about to be forgotten.
    mutating func keepSeries(of queue: Slot) {
        sampling.server.add(queues[queue].times)
        let series = queues[queue].series
        if series != 0 { sampling.records[series].queue = 0 }
    }

    /// Goes on with the sweep.
    ///
    /// - Returns: whether nothing is left to do.
    mutating func sample(now: Int64, steps: inout Int) -> Bool {
        if !sampling.isUnderWay, !beginSweep(now: now) { return true }
        while let queue = sampling.uncounted.popLast() {
            guard steps > 0 else {
                sampling.uncounted.append(queue)
                return false
            }
            steps -= 1
            // A queue that has taken the place of a forgotten one may not be marked, or be here twice.
            guard queues.contains(queue), queues[queue].isTouched else { continue }
            queues[queue].isTouched = false
            count(queue)
        }
        if !sampling.isCounted {
            sampling.isCounted = true
            sampling.uncounted = []
            sampling.nextSeries = sampling.recency.first
        }
        if let ends = sampling.ends {
            guard end(ends, now: now, steps: &steps) else { return false }
            if ends.fiveMinutes != nil, sampling.imageLimit > 0, !sampling.recency.isEmpty {
                beginHistoryImage(now: now)
            }
        }
        guard continueHistoryImage(steps: &steps) else { return false }
        sampling.isUnderWay = false
        return true
    }

    /// Begins a sweep, if a tick has passed.
    private mutating func beginSweep(now: Int64) -> Bool {
        let tick = now / Series.tickMilliseconds
        guard sampling.tick > 0 else {
            sampling.tick = tick
            return false
        }
        guard tick > sampling.tick else { return false }
        let minute = tick / Int64(Series.ticksPerMinute)
        let before = sampling.tick / Int64(Series.ticksPerMinute)
        sampling.ends =
            minute > before
            ? IntervalEnds(minute: minute - 1, fiveMinutes: minute / 5 > before / 5 ? minute / 5 - 1 : nil) : nil
        sampling.tick = tick
        sampling.uncounted = sampling.touched
        sampling.touched = []
        sampling.isCounted = false
        sampling.oldestReadySeconds = 0
        sampling.isUnderWay = true
        sampling.server.count(EventCounts(activity.totals), tick: tick)
        return true
    }

    /// Counts what has happened to a queue, which is now the one that was used last.
    private mutating func count(_ queue: Slot) {
        let times = queues[queue].times
        queues[queue].times = TaskTimes()
        sampling.server.add(times)
        // If it gets a series again, `series(of:)` leaves out the events up to now.
        let isWhole = queues[queue].series != 0 || !queues[queue].wasSampled
        let series = series(of: queue)
        guard series != 0 else { return }
        sampling.recency.remove(series, in: &sampling.records)
        sampling.recency.append(series, in: &sampling.records)
        sampling.records[series].series.count(EventCounts(queues[queue].totals), tick: sampling.tick)
        if isWhole { sampling.records[series].series.add(times) }
    }

    /// Finds or makes the series of a queue. It replaces the one whose queue was used least lately; 0 if the queues of
    /// all were used since the last tick, because taking series from each other, none would have any events.
    private mutating func series(of queue: Slot) -> Slot {
        if queues[queue].series != 0 || queues[queue].isPlaceOfDefaults { return queues[queue].series }
        let (name, hash) = (queues[queue].name, queues[queue].hash)
        var series = sampling.records.find(hash: hash) { $0.isNamed(name.span) }
        if series == 0 {
            guard sampling.limit > 0 else { return 0 }
            if sampling.records.count >= sampling.limit {
                guard let oldest = leastRecentlyUsed() else {
                    queues[queue].wasSampled = true
                    return 0
                }
                drop(oldest)
            }
            series = sampling.records.insert(SeriesRecord(name: name, hash: hash, queue: queue)) ?? 0
            guard series != 0 else { return 0 }
            sampling.seriesBytes += sampling.records[series].byteCount
            sampling.recency.append(series, in: &sampling.records)
        }
        sampling.records[series].queue = queue
        // A queue that had a series before has been counted up to some time; a new one not at all.
        sampling.records[series].series.base =
            queues[queue].wasSampled ? EventCounts(queues[queue].totals) : EventCounts()
        queues[queue].series = series
        queues[queue].wasSampled = true
        return series
    }

    /// The series whose queue was used least lately; nil if all were used since the last tick. Amortized O(1): a queue
    /// that is marked and not counted yet is moved to the end, at most once in each sweep before it is counted.
    private mutating func leastRecentlyUsed() -> Slot? {
        for _ in 0..<sampling.records.count {
            let first = sampling.recency.first
            let queue = sampling.records[first].queue
            // Those behind it are counted too, or are marked.
            if sampling.records[first].series.lastTick == sampling.tick { return nil }
            guard queue != 0, queues[queue].isTouched else { return first }
            sampling.recency.remove(first, in: &sampling.records)
            sampling.recency.append(first, in: &sampling.records)
        }
        return nil
    }

    /// Adds the series of a queue that an earlier process had.
    mutating func restore(_ series: Series, of name: [UInt8]) {
        let hash = QueueRecord.hash(of: name.span)
        guard sampling.records.find(hash: hash, where: { $0.isNamed(name.span) }) == 0, !series.isEmpty else { return }
        let queue = existingQueue(named: name.span, hash: hash)
        var record = SeriesRecord(name: name, hash: hash, queue: queue)
        record.series = series
        guard let slot = sampling.records.insert(record) else { return }
        sampling.recency.append(slot, in: &sampling.records)
        sampling.seriesBytes += record.byteCount
        if queue != 0 {
            queues[queue].series = slot
            queues[queue].wasSampled = true
        }
    }

    private mutating func drop(_ series: Slot) {
        let queue = sampling.records[series].queue
        if queue != 0 { queues[queue].series = 0 }
        sampling.seriesBytes -= sampling.records[series].byteCount
        sampling.recency.remove(series, in: &sampling.records)
        sampling.records.remove(series)
    }

    /// Ends intervals of all series, and returns whether that is complete.
    private mutating func end(_ ends: IntervalEnds, now: Int64, steps: inout Int) -> Bool {
        while sampling.nextSeries != 0 {
            guard steps > 0 else { return false }
            steps -= 1
            let series = sampling.nextSeries
            sampling.nextSeries = sampling.records[series][links: 0].next
            let gauges = gauges(of: sampling.records[series].queue, now: now)
            sampling.oldestReadySeconds = max(sampling.oldestReadySeconds, gauges.oldestReadySeconds)
            let byteCount = sampling.records[series].series.byteCount
            sampling.records[series].series.end(ends, gauges)
            sampling.seriesBytes += sampling.records[series].series.byteCount - byteCount
            if sampling.records[series].queue == 0, sampling.records[series].series.isEmpty { drop(series) }
        }
        var gauges = HistoryPoint()
        gauges.ready = UInt32(clamping: population(.ready))
        gauges.dead = UInt32(clamping: population(.dead))
        gauges.oldestReadySeconds = sampling.oldestReadySeconds
        sampling.server.end(ends, gauges)
        sampling.ends = nil
        return true
    }

    private func gauges(of queue: Slot, now: Int64) -> HistoryPoint {
        var gauges = HistoryPoint()
        if queue == 0 { return gauges }
        gauges.ready = queues[queue].readyCount
        gauges.dead = queues[queue].list(of: .dead).count
        gauges.oldestReadySeconds = UInt32(clamping: (now - (oldestReady(in: queue) ?? now)) / 1000)
        return gauges
    }

    /// The events of a queue in the last minute.
    func lastMinute(of queue: Slot) -> EventCounts {
        let series = queues[queue].series
        if series == 0 { return EventCounts() }
        return sampling.records[series].series.lastMinute(tick: clock / Series.tickMilliseconds)
    }

    /// Checks that queues and series know each other. O(n).
    func checkSampling() {
        sampling.records.checkInvariants()
        var (listed, seriesBytes) = (0, 0)
        sampling.recency.checkInvariants(in: sampling.records) { series in
            listed += 1
            seriesBytes += sampling.records[series].byteCount
            let queue = sampling.records[series].queue
            precondition(queue == 0 || queues[queue].series == series, "a queue does not know its series")
        }
        precondition(listed == sampling.records.count && listed <= Sampling.maximumCount, "a series is not listed")
        precondition(seriesBytes == sampling.seriesBytes, "the memory of series is miscounted")
        queues.forEach { queue in
            let series = queues[queue].series
            precondition(series == 0 || sampling.records[series].queue == queue, "a series does not know its queue")
        }
    }
}

// MARK: Looking

// The broker asks the store and not its series: in a debug build, a copy of a series that is taken through the broker's
// property outlives the memory from which the compiler releases it.
extension TaskStore {
    /// The events of all queues in the last minute.
    var lastMinute: EventCounts { sampling.server.lastMinute(tick: clock / Series.tickMilliseconds) }

    /// The history of all queues together. O(points).
    func history(_ interval: HistoryInterval, now: Int64) -> [HistoryPoint] {
        sampling.server.history(interval, last: interval.last(now: now))
    }

    /// The history of the queue with a name; nil if there is none. O(points).
    func history(_ interval: HistoryInterval, of name: Span<UInt8>, now: Int64) -> [HistoryPoint]? {
        let series = sampling.records.find(hash: QueueRecord.hash(of: name)) { $0.isNamed(name) }
        if series == 0 { return nil }
        return sampling.records[series].series.history(interval, last: interval.last(now: now))
    }

    /// Adds the ready tasks of a queue to a trend, and returns whether anything is known of them. O(minutes).
    func add(_ queue: Slot, to trend: inout ReadyTrend, now: Int64) -> Bool {
        let series = queues[queue].series
        if series == 0 { return false }
        sampling.records[series].series.add(to: &trend, last: HistoryInterval.minute.last(now: now))
        return true
    }
}
