// The metrics of each queue, for `GET /metrics/queues`. Their names differ from those of the server, so that sums over
// all metrics of a name count nothing twice.

import Bytes
import Queues

/// The queues of a page, as a walk meets them.
final class QueueRows {
    /// The number of queues of a page, unless the request says it, and the most. A page is written in one turn.
    static let usualCount = 1000
    static let maximumCount = 1000

    private let filter: QueueFilter
    private let maximumCount: Int
    fileprivate private(set) var rows: [(name: String, statistics: QueueStatistics)] = []
    /// How many queues match for which there was no place.
    private(set) var leftOut = 0

    /// - Parameters:
    ///   - filter: selects queues by their names. Others do not count.
    ///   - maximumCount: the maximum number of queues.
    init(_ filter: QueueFilter, maximumCount: Int) { (self.filter, self.maximumCount) = (filter, maximumCount) }

    /// Adds a queue if it matches and there is a place for it.
    func add(_ name: Span<UInt8>, _ statistics: QueueStatistics) {
        guard filter.admits(name) else { return }
        if rows.count < maximumCount { rows.append((text(name), statistics)) } else { leftOut += 1 }
    }
}

extension Exposition {
    /// Adds the metrics of queues.
    mutating func addQueues(_ queues: QueueRows, now: Int64) {
        add(
            "emq_queue_left_out", .gauge,
            "Queues that match the request and are not here, because there are more than n.",
            queues.leftOut)
        let rows = queues.rows
        begin("emq_queue_tasks", .gauge, "Tasks of a queue, by state.")
        for (name, statistics) in rows {
            for state in TaskState.allCases {
                add(statistics.count(in: state), ("queue", name), ("state", "\(state.name)"))
            }
        }
        begin(
            "emq_queue_oldest_ready_seconds", .gauge,
            "Time for which the oldest of its next tasks has been ready; 0 if none is.")
        for (name, statistics) in rows {
            let milliseconds = statistics.oldestReady.map { max(0, now - $0) } ?? 0
            add(milliseconds, in: .milli, ("queue", name))
        }
        addGauge("emq_queue_waiters", "Waits that name a queue.", rows) { $0.waiters }
        addGauge("emq_queue_paused", "1 if a queue is paused.", rows) { $0.isPaused ? 1 : 0 }
        addCounter("emq_queue_enqueued", "Tasks added to a queue, including replacements and notifications.", rows) {
            $0.enqueued + $0.notices
        }
        addCounter("emq_queue_received", "Tasks that came from other queues.", rows) { $0.received }
        addCounter("emq_queue_dispatched", "Dispatches.", rows) { $0.dispatched }
        addCounter("emq_queue_done", "Dispatches that were acknowledged.", rows) { $0.acked }
        begin(
            "emq_queue_failed", .counter, "Dispatches that failed: refused by a worker or a receiver, or lease ran out."
        )
        for (name, statistics) in rows {
            add(statistics.totals.nacked, ("queue", name), ("reason", "nack"))
            add(statistics.totals.timedOut, ("queue", name), ("reason", "lease"))
        }
        addCounter("emq_queue_dead", "Tasks that died.", rows) { $0.died }
        addCounter("emq_queue_expired", "Tasks that expired.", rows) { $0.expired }
        addCounter("emq_queue_cancelled", "Unfinished tasks that were cancelled or purged.", rows) { $0.cancelled }
        addCounter("emq_queue_released", "Dispatches that were given back or did not arrive.", rows) { $0.released }
    }

    private mutating func addGauge(
        _ name: StaticString, _ help: StaticString, _ rows: [(name: String, statistics: QueueStatistics)],
        _ value: (QueueStatistics) -> Int
    ) {
        begin(name, .gauge, help)
        for row in rows { add(value(row.statistics), ("queue", row.name)) }
    }

    private mutating func addCounter(
        _ name: StaticString, _ help: StaticString, _ rows: [(name: String, statistics: QueueStatistics)],
        _ value: (QueueStatistics.Totals) -> UInt64
    ) {
        begin(name, .counter, help)
        for row in rows { add(value(row.statistics.totals), ("queue", row.name)) }
    }
}

extension QueueStatistics {
    fileprivate func count(in state: TaskState) -> Int {
        switch state {
        case .ready: ready
        case .delayed: delayed
        case .dispatched: dispatched
        case .dead: dead
        case .done: done
        case .cancelled: cancelled
        case .expired: expired
        }
    }
}
