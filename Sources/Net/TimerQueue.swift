// The loop's deadlines: a binary heap in which each source knows its position, so that it can be moved or removed.

/// Sources by deadline. Setting, moving and removing cost O(log n); the next one O(1).
struct TimerQueue {
    private var heap: [EventSource] = []

    /// The earliest deadline.
    var next: Int64? { heap.first?.timerDeadline }

    /// Sets the one deadline of a source, or moves it.
    mutating func set(_ source: EventSource, at deadline: Int64) {
        source.timerDeadline = deadline
        if source.timerPosition < 0 {
            source.timerPosition = heap.count
            heap.append(source)
        }
        restore(source.timerPosition)
    }

    /// Removes a source, if it is in the queue.
    mutating func remove(_ source: EventSource) {
        let position = source.timerPosition
        if position < 0 { return }
        precondition(heap[position] === source)
        source.timerPosition = -1
        let last = heap.removeLast()
        if position == heap.count { return }
        place(last, at: position)
        restore(position)
    }

    /// Removes the earliest source if its deadline has passed.
    mutating func popDue(now: Int64) -> EventSource? {
        guard let first = heap.first, first.timerDeadline <= now else { return nil }
        remove(first)
        return first
    }

    private mutating func place(_ source: EventSource, at position: Int) {
        heap[position] = source
        source.timerPosition = position
    }

    /// Moves the source at `position` up or down to its place.
    private mutating func restore(_ position: Int) {
        let source = heap[position]
        var hole = position
        while hole > 0, source.timerDeadline < heap[(hole - 1) / 2].timerDeadline {
            place(heap[(hole - 1) / 2], at: hole)
            hole = (hole - 1) / 2
        }
        while 2 * hole + 1 < heap.count {
            var child = 2 * hole + 1
            if child + 1 < heap.count, heap[child + 1].timerDeadline < heap[child].timerDeadline { child += 1 }
            if heap[child].timerDeadline >= source.timerDeadline { break }
            place(heap[child], at: hole)
            hole = child
        }
        place(source, at: hole)
    }
}
