// What happens in a queue, found out from what can be seen of it again and again: its tasks by state, and its totals.
//
// The server tells no events. Tasks that are in a page of a state, and were in another state before, have changed; of
// tasks that have left a page, the server is asked. What happens between two looks is only in the totals.

import JSON

/// Compares what is seen of a queue with what was seen before. All times are the server's, in Unix milliseconds.
struct QueueWatch {
    /// A task as it was seen last.
    private struct Seen {
        let state: String
        let attempt: Int
        let worker: String
        /// Since when it has been seen in its state; nil if that began before the watch.
        let since: Int64?
    }

    /// The states of which pages are watched.
    static let states = ["ready", "delayed", "dispatched", "dead", "done", "cancelled", "expired"]
    /// The most tasks in a page.
    static let pageCount = 500
    /// The most tasks that are remembered, and the most that the server is asked of in one look.
    private static let maximumSeen = 20_000
    private static let maximumQuestions = 50
    /// The most events of single tasks in one look.
    private static let maximumEvents = 200

    let queue: String
    private let intervalMilliseconds: Int64
    private var seen: [String: Seen] = [:]
    /// The ids of the last page of each state; nil before the first.
    private var pages: [String: Set<String>] = [:]
    private var totals: [String: Double]?
    private var isPaused: Bool?
    /// How many of each kind the totals count more than events have told.
    private var debts: [TailEvent.Kind: Int] = [:]
    /// Of which kinds events had told more than the totals counted, when these were seen last. It is not yet wrong then:
    /// a task may have been seen a little after the totals.
    private var aheadKinds: Set<TailEvent.Kind> = []
    /// When the figures were seen last.
    private var countedAt: Int64?
    /// Until when the figures have told everything: what happened before is not told again.
    private var toldUntil: Int64 = 0
    /// Tasks of which the server is to be asked, and the states that they have left.
    private var questions: [(id: String, state: String)] = []
    /// The tasks of all questions without an answer.
    private var asked: Set<String> = []
    private var events: [TailEvent] = []

    init(queue: String, intervalMilliseconds: Int64) {
        (self.queue, self.intervalMilliseconds) = (queue, intervalMilliseconds)
    }

    /// How long tasks are in the page of a state other than `dispatched`, in seconds.
    var windowSeconds: Int64 { intervalMilliseconds * 5 / 1000 + 5 }

    /// Begins anew after an interruption, of which only the totals will tell.
    mutating func forgetTasks() { (seen, pages, questions, asked) = ([:], [:], [], []) }

    // MARK: What is seen

    /// A page of a state.
    mutating func see(_ tasks: JSONPart, inState state: String, now: Int64) {
        let before = pages[state]
        var ids: Set<String> = []
        for (_, task) in tasks.members {
            guard let id = task["id"]?.text else { continue }
            ids.insert(id)
            let attempt = task["attempt"]?.count ?? 0
            let last = seen[id]
            if last?.state == state, last?.attempt == attempt { continue }
            seen[id] = Seen(
                state: state, attempt: attempt, worker: task["worker"]?.text ?? "", since: before == nil ? nil : now)
            // What was behind the end of a full page may be old.
            if let before, last != nil || before.count < Self.pageCount || task["dispatched"] != nil {
                tell(task, state, attempt, last, now)
            }
        }
        // If the page was full, the others are behind its end.
        if let before, ids.count < Self.pageCount {
            for id in before.subtracting(ids) { miss(id, state, now) }
        }
        pages[state] = ids
        if seen.count > Self.maximumSeen {
            let shown = pages.values.reduce(into: Set<String>()) { $0.formUnion($1) }
            seen = seen.filter { shown.contains($0.key) }
        }
    }

    /// A task has left the page of its state.
    private mutating func miss(_ id: String, _ state: String, _ now: Int64) {
        guard let last = seen[id], last.state == state else { return }
        switch state {
        case "dispatched": ask(id, state)
        case "ready", "delayed":
            // Later, it leaves the page without leaving its state.
            guard let since = last.since, now - since < (windowSeconds - 1) * 1000 - 2 * intervalMilliseconds else {
                return
            }
            ask(id, state)
        default: seen[id] = nil
        }
    }

    /// A task has come into a state.
    private mutating func tell(_ task: JSONPart, _ state: String, _ attempt: Int, _ last: Seen?, _ now: Int64) {
        func time(_ names: String...) -> Double {
            names.lazy.compactMap { task[$0]?.number }.first ?? Double(now) / 1000
        }
        func isNew(_ time: Double) -> Bool { time * 1000 > Double(toldUntil) }
        let enqueued = time("enqueued")
        if last == nil, isNew(enqueued), task["origin"] == nil { append(TailEvent(.enqueued, enqueued, task)) }
        switch state {
        case "ready":
            if last?.state == "dispatched" || last == nil && attempt > 0 {
                ask(task["id"]?.text ?? "", "dispatched")
            } else if last?.state == "delayed" {
                append(TailEvent(.due, time("due"), task))
            } else if last?.state == "dead" {
                append(TailEvent(.kicked, Double(now) / 1000, task))
            } else if last == nil, task["origin"] != nil {
                append(TailEvent(.received, Double(now) / 1000, task))
            }
        case "delayed":
            if last?.state == "dispatched" || last == nil && attempt > 0 {
                ask(task["id"]?.text ?? "", "dispatched")
            }
        case "dispatched":
            if isNew(time("dispatched")) { append(TailEvent(.dispatched, time("dispatched"), task)) }
        default:
            if last?.state != "dispatched", let dispatched = task["dispatched"]?.number, isNew(dispatched) {
                append(TailEvent(.dispatched, dispatched, task))
            }
            if isNew(time("died", "finished")) { end(task, state, time("died", "finished")) }
        }
    }

    private mutating func end(_ task: JSONPart, _ state: String, _ time: Double) {
        switch state {
        case "dead":
            append(TailEvent(.died, time, task))
        case "done": append(TailEvent(.acked, time, task))
        case "cancelled": append(TailEvent(.cancelled, time, task))
        default: append(TailEvent(.expired, time, task))
        }
    }

    private mutating func append(_ event: TailEvent) {
        if events.count >= Self.maximumEvents { return }
        events.append(event)
        debts[event.kind, default: 0] -= 1
    }

    // MARK: Questions

    private mutating func ask(_ id: String, _ state: String) {
        if asked.insert(id).inserted { questions.append((id, state)) }
    }

    /// Takes the tasks of which the server is to be asked. Those that have been seen at their end since are left out.
    mutating func takeQuestions() -> [(id: String, state: String)] {
        var taken: [(id: String, state: String)] = []
        for (id, state) in questions {
            if taken.count < Self.maximumQuestions, !Self.isEnd(seen[id]?.state) {
                taken.append((id, state))
            } else {
                asked.remove(id)
            }
        }
        questions = []
        return taken
    }

    /// There is no answer to a question.
    mutating func withdraw(_ id: String) { asked.remove(id) }

    private static func isEnd(_ state: String?) -> Bool {
        ["dead", "done", "cancelled", "expired"].contains { $0 == state }
    }

    /// The answer to a question: the task, or nil if the server has forgotten it.
    mutating func answer(_ task: JSONPart?, of id: String, in state: String, now: Int64) {
        asked.remove(id)
        // It was seen meanwhile.
        if Self.isEnd(seen[id]?.state) { return }
        guard let task else {
            var event = TailEvent(kindOfLoss(state), Double(now) / 1000, id: id)
            if let last = seen.removeValue(forKey: id), state == "dispatched" {
                (event.attempt, event.worker) = (last.attempt, last.worker)
            }
            return append(event)
        }
        if let place = task["queue"]?.text, place != queue {
            seen[id] = nil
            var event = TailEvent(task["origin"]?.text == queue ? .died : .moved, Double(now) / 1000, task)
            event.note = "now in \(place)"
            return append(event)
        }
        let present = task["state"]?.text ?? ""
        let attempts = task["attempts"]?.members.map(\.value) ?? []
        if state == "dispatched", let ended = attempts.last(where: { $0["outcome"] != nil }) {
            tellEnd(of: ended, task, present, now)
        }
        guard present != state, seen[id]?.state == state || present == "dispatched" else { return }
        let attempt = task["attempt"]?.count ?? 0
        if seen[id]?.state == present, seen[id]?.attempt == attempt { return }
        seen[id] = Seen(state: present, attempt: attempt, worker: task["worker"]?.text ?? "", since: now)
        if present == "dispatched" { append(TailEvent(.dispatched, task["dispatched"]?.number ?? 0, task)) }
        if state != "dispatched", Self.isEnd(present) {
            end(task, present, task["finished"]?.number ?? Double(now) / 1000)
        }
    }

    /// An attempt has ended.
    private mutating func tellEnd(of attempt: JSONPart, _ task: JSONPart, _ state: String, _ now: Int64) {
        let time = attempt["ended"]?.number ?? Double(now) / 1000
        let outcome = attempt["outcome"]?.text ?? ""
        if Self.isEnd(state) { return end(task, state, time) }
        var event = TailEvent(outcome == "released" ? .released : .failed, time, task)
        event.attempt = attempt["attempt"]?.count
        event.worker = attempt["worker"]?.text ?? ""
        event.error = attempt["error"]?.text ?? (outcome == "timed_out" ? "the lease ran out" : "")
        if state == "delayed", let due = task["due"]?.number { event.note = "again \(Humane.relative(due, now: now))" }
        append(event)
    }

    /// How a task that is forgotten has ended, as far as the totals tell.
    private func kindOfLoss(_ state: String) -> TailEvent.Kind {
        func has(_ kind: TailEvent.Kind) -> Bool { debts[kind, default: 0] > 0 }
        if !has(.cancelled), !has(.expired) { return state == "dispatched" || has(.acked) ? .acked : .gone }
        if has(.acked) { return .gone }
        return has(.cancelled) ? (has(.expired) ? .gone : .cancelled) : .expired
    }

    // MARK: Figures

    /// The figures of the queue. While not all questions are answered (`isExplained`), the answers may explain what was
    /// counted.
    mutating func count(_ figures: JSONPart, isExplained: Bool, now: Int64) {
        let paused = figures["paused"]?.isTrue == true
        if let isPaused, isPaused != paused {
            events.append(TailEvent(paused ? .paused : .resumed, Double(now) / 1000))
        }
        isPaused = paused
        var new: [String: Double] = [:]
        for (name, value) in figures["totals"]?.members ?? [] { new[name] = value.number }
        if isExplained { tellRest(now: now) }
        if let totals {
            func add(_ kind: TailEvent.Kind, _ names: String..., less: Double = 0) {
                // After a restart of the server they are smaller.
                let change = names.reduce(-less) { $0 + (new[$1] ?? 0) - (totals[$1] ?? 0) }
                debts[kind] = min(debts[kind, default: 0] + Int(max(0, min(change, 1e15))), 1 << 60)
            }
            add(.enqueued, "enqueued")
            add(.received, "received")
            add(.dispatched, "dispatched")
            add(.acked, "acked")
            // The totals count the failure with which a task dies as well.
            let deaths = (new["died"] ?? 0) - (totals["died"] ?? 0)
            add(.failed, "nacked", "timed_out", less: deaths)
            add(.released, "released")
            add(.died, "died")
            add(.expired, "expired")
            add(.cancelled, "cancelled")
        }
        let ahead = Set(debts.filter { $0.value < 0 }.keys)
        for kind in ahead.intersection(aheadKinds) { debts[kind] = 0 }
        aheadKinds = ahead.subtracting(aheadKinds)
        (totals, countedAt) = (new, now)
    }

    /// When the rest of the figures is told if they do not change any more; nil if there is none.
    var restAt: Int64? {
        debts.values.contains { $0 > 0 } ? countedAt.map { $0 + intervalMilliseconds + 500 } : nil
    }

    /// Tells what the totals have counted and no event has told: it will not be seen any more.
    mutating func tellRest(now: Int64) {
        toldUntil = countedAt ?? 0
        let kinds = TailEvent.Kind.allCases.filter { debts[$0, default: 0] > 0 }
        if !kinds.isEmpty {
            var event = TailEvent(.more, Double(now) / 1000)
            event.counts = kinds.map { ($0, debts[$0, default: 0]) }
            events.append(event)
        }
        for kind in kinds { debts[kind] = 0 }
    }

    /// Takes what has happened, the earliest first.
    mutating func takeEvents() -> [TailEvent] {
        defer { events = [] }
        return events.enumerated().sorted { ($0.element.time, $0.offset) < ($1.element.time, $1.offset) }.map(\.element)
    }
}
