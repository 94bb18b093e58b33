// The answer to `/errors/`: dead tasks by their queues and errors.

import Bytes
import Net
import Queues

/// The answer to `GET /errors/`.
final class ErrorReport: SurveyReport {
    private let filter: QueueFilter
    /// The only queue; nil for all that the filter admits.
    private let queue: [UInt8]?

    init(of request: borrowing Request, _ filter: QueueFilter, queue: [UInt8]?, count: Int) {
        (self.filter, self.queue) = (filter, queue)
        best = BestFew(limit: count)
        super.init(of: request, by: filter.caller)
    }

    /// The group to look at next.
    private var position = 0
    /// The places of the groups to show, and those still to be written, the last one first.
    private var best: BestFew<Int>
    private var unwritten: [Int] = []
    /// How many groups and tasks there are in all.
    private var (groups, tasks) = (0, 0)
    /// Neighbours often have the same queue.
    private var last: (queue: [UInt8], isAdmitted: Bool) = ([], false)

    override var mayTakeLong: Bool { filter.pattern != nil || !caller.coversAllQueues }

    override func extend(_ census: TaskCensus, asOf time: Int64, steps: inout Int) -> Bool {
        guard steps > 0 else { return false }
        let precedes = { (one: Int, other: Int) in census.groups[one].precedes(census.groups[other]) }
        while position < census.groups.count {
            guard steps > 0 else { return false }
            let group = census.groups[position]
            steps -= Self.stepsPerRow
            if group.queue != last.queue {
                let name = group.queue
                steps -= filter.steps(for: name.span) * Self.stepsPerLook
                last = (name, queue.map { $0 == name } ?? filter.admits(name.span))
            }
            if last.isAdmitted {
                groups += 1
                tasks += group.count
                best.insert(position, steps: &steps, precedes)
            }
            position += 1
        }
        while let place = best.removeWorst(steps: &steps, precedes) {
            unwritten.append(place)
            guard steps > 0 else { return false }
        }
        while let place = unwritten.last {
            guard steps > 0 else { return false }
            unwritten.removeLast()
            steps += text.count
            text.append(text.isEmpty ? "{\"errors\":[" : ",")
            write(census.groups[place])
            steps -= text.count
        }
        if groups == 0 { text.append("{\"errors\":[") }
        append("],\"groups\":", groups)
        append(",\"tasks\":", tasks)
        // Nobody knows their queues.
        if census.deadLeftOut > 0, caller.coversAllQueues { append(",\"left_out\":", census.deadLeftOut) }
        append(",\"as_of\":", time: time)
        text.append("}")
        return true
    }

    private func write(_ group: TaskCensus.ErrorGroup) {
        append("{\"queue\":", group.queue)
        if !group.error.isEmpty { append(",\"error\":", group.error) }
        append(",\"count\":", group.count)
        append(",\"first\":", time: group.first)
        append(",\"last\":", time: group.last)
        append(",\"example\":", group.example)
        text.append("}")
    }
}

extension TaskCensus.ErrorGroup {
    /// Whether it comes before another: the one with more tasks first.
    fileprivate func precedes(_ other: TaskCensus.ErrorGroup) -> Bool {
        if count != other.count { return count > other.count }
        if queue != other.queue { return queue.span.precedes(other.queue.span) }
        return error.span.precedes(other.error.span)
    }
}
