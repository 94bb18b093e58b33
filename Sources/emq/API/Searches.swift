// The walks of searches through all finished tasks, without delaying other clients: a slice in each turn of the loop.

import Net
import Queues

/// The searches that look for finished tasks. One walk serves several: whoever asks while a walk is under way gets the
/// next one.
final class Searches {
    /// How much to do in a turn: about half a millisecond.
    static let stepsPerTurn = 50_000
    /// How many may wait. Each takes some ten kilobytes, depending on what it has found.
    static let maximumCount = 16

    private var walk = KeyedTaskWalk()
    private var present: [Search] = []
    private var waiting: [Search] = []

    /// Whether turns are needed at once. Unchecked, because each turn reads it; each access is one read or write of a
    /// flag.
    var isUnderWay: Bool { unsafe uncheckedIsUnderWay }
    @exclusivity(unchecked) private var uncheckedIsUnderWay = false

    /// Whether no more should come. A few more may, which look at queues now.
    var isCrowded: Bool { present.count + waiting.count >= Self.maximumCount }

    /// Looks at the finished tasks: at all of them now if there are few, otherwise in later turns.
    ///
    /// - Returns: whether the search is complete. If not, a turn answers it.
    func begin(_ search: Search, now: Int64, on broker: isolated Broker) -> Bool {
        if search.isWithdrawn { return false }
        if isUnderWay {
            waiting.append(search)
            return false
        }
        walk = KeyedTaskWalk()
        present = [search]
        defer { noteWork() }
        return !extend(now: now, on: broker).isEmpty
    }

    /// Goes on. Call this once a millisecond, and in each turn while it is under way.
    func turn(_ server: HTTPServer, now: Int64, on broker: isolated Broker) {
        guard isUnderWay else { return }
        defer { noteWork() }
        present.removeAll(where: \.isWithdrawn)
        waiting.removeAll(where: \.isWithdrawn)
        if present.isEmpty { (present, waiting, walk) = (waiting, [], KeyedTaskWalk()) }
        for search in extend(now: now, on: broker) { Self.answer(search, of: server, on: broker) }
    }

    private func noteWork() { unsafe uncheckedIsUnderWay = !present.isEmpty || !waiting.isEmpty }

    /// Goes on with the walk.
    ///
    /// - Returns: the searches that are complete.
    private func extend(now: Int64, on broker: isolated Broker) -> [Search] {
        let searches = present
        var steps = Self.stepsPerTurn
        let isOver = broker.continueWalk(&walk, for: searches.map(\.text), now: now, steps: &steps) {
            searches[$0.keyIndex].note($0, in: $1, steps: &$2)
        }
        guard isOver else { return [] }
        present = []
        return searches
    }

    /// Answers a search that is complete.
    static func answer(_ search: Search, of server: HTTPServer, on broker: isolated Broker) {
        server.answer(search.ticket) { responses in
            search.write(to: &responses, on: broker, now: server.loop.now)
            responses.hold(until: broker.changeSequence)
        }
    }
}
