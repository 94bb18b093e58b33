// Rates and histories.

extension Broker {
    /// Goes on counting events, when it is time. Call it as often as `nextSampleTime` says.
    ///
    /// - Parameters:
    ///   - now: the time.
    ///   - steps: how many queues to look at, at most; reduced by what was done.
    /// - Returns: whether nothing is left to do now.
    public func sample(now: Int64, steps: inout Int) -> Bool { store.sample(now: now, steps: &steps) }

    /// When to call `sample` next, at the latest; nil if there is nothing to count. O(1).
    public var nextSampleTime: Int64? { store.sampling.nextTime }

    /// Sets how many queues have rates and a history: those that were used last, at most 10,000. Call this before there
    /// is any queue.
    ///
    /// - Parameter bytes: the memory that they may take, in bytes.
    public func limitHistories(toBytes bytes: Int) {
        store.sampling.limit = min(Sampling.maximumCount, max(0, bytes) / Sampling.maximumSeriesBytes)
    }

    /// The events of all queues in the last minute, to within five seconds. The statistics of a queue have its events,
    /// or 0 if it is not among the queues that were used last. O(1).
    public var lastMinute: EventCounts {
        store.lastMinute
    }

    /// The history of all queues together; intervals at which nothing happened have points of 0. O(points).
    ///
    /// - Parameters:
    ///   - interval: the interval.
    ///   - now: the time.
    /// - Returns: the points of the last intervals that have ended, the oldest first.
    public func history(_ interval: HistoryInterval, now: Int64) -> [HistoryPoint] {
        store.history(interval, now: now)
    }

    /// The history of the queue with a name. O(points).
    ///
    /// - Parameters:
    ///   - interval: the interval.
    ///   - name: the name.
    ///   - now: the time.
    /// - Returns: as for all queues; nil if there is none, because the queue is not among those that were used last.
    public func history(_ interval: HistoryInterval, of name: Span<UInt8>, now: Int64) -> [HistoryPoint]? {
        store.history(interval, of: name, now: now)
    }

    /// Adds the ready tasks that a queue had at the end of each of the last minutes to a trend. O(minutes).
    ///
    /// - Returns: whether there is a history of the queue; if not, the trend is as before.
    public func add(_ queue: QueueIndex, to trend: inout ReadyTrend, now: Int64) -> Bool {
        store.add(queue.slot, to: &trend, now: now)
    }
}
