// Events that come again and again: they are counted, and the log says their number once a minute.

/// The events of the last minute that are counted when they come again.
struct LogRepeats {
    /// An event that came again, and how often.
    struct Repetition {
        var event: LogEvent
        var count: Int
        /// Since when they are counted, and when the last one came, in milliseconds.
        var since: Int64
        var last: Int64
    }

    /// For how long an event is counted before the log says its number.
    static let windowMilliseconds: Int64 = 60_000
    /// The maximum number of different events. Beyond it, the oldest one is forgotten.
    static let maximumCount = 64

    private var entries: [Repetition] = []
    /// When numbers are due; nil if nothing came again.
    private(set) var deadline: Int64?

    /// Notes an event. Call `takeDue` before. O(maximumCount).
    ///
    /// - Parameters:
    ///   - event: the event.
    ///   - now: the time.
    /// - Returns: whether to write it, and the repetitions that have to be written before it, because they are
    ///   forgotten: those of another state of its subject, or of the oldest of too many events.
    mutating func note(_ event: LogEvent, now: Int64) -> (isNew: Bool, forgotten: Repetition?) {
        if let place = entries.firstIndex(where: { $0.event.saysTheSame(as: event) }) {
            entries[place].event = event
            entries[place].count += 1
            entries[place].last = now
            deadline = min(deadline ?? .max, entries[place].since + Self.windowMilliseconds)
            return (false, nil)
        }
        var forgotten: Repetition?
        let other = event.subject.flatMap { subject in entries.firstIndex { $0.event.subject == subject } }
        if other != nil || entries.count >= Self.maximumCount {
            // The subject's last state, or the oldest event: the entries are in the order of their beginnings.
            let entry = entries.remove(at: other ?? 0)
            if entry.count > 0 { forgotten = entry }
            updateDeadline()
        }
        entries.append(Repetition(event: event, count: 0, since: now, last: now))
        return (true, forgotten)
    }

    /// Takes the repetitions whose numbers are due, and begins to count anew. All of them are due together, in the
    /// order of their last occurrences, so that the last line tells how things are. O(maximumCount).
    mutating func takeDue(now: Int64) -> [Repetition] {
        // A clock that was set back ends all windows.
        entries.removeAll { $0.count == 0 && !(0..<Self.windowMilliseconds).contains(now - $0.since) }
        guard let deadline, now >= deadline || now < deadline - Self.windowMilliseconds else { return [] }
        return takeAll(now: now)
    }

    /// Takes all repetitions, and begins to count anew.
    mutating func takeAll(now: Int64) -> [Repetition] {
        let due = entries.filter { $0.count > 0 }.sorted { $0.last < $1.last }
        let rest = entries.filter { $0.count == 0 }
        entries = rest + due.map { Repetition(event: $0.event, count: 0, since: now, last: $0.last) }
        deadline = nil
        return due
    }

    private mutating func updateDeadline() {
        deadline = entries.first { $0.count > 0 }.map { $0.since + Self.windowMilliseconds }
    }
}
