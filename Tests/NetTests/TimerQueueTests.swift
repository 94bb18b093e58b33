// The heap of deadlines against a list that is searched from end to end.

import Support
import Testing

@testable import Net

@Suite(.blocking) struct TimerQueueTests {
    @Test func itAgreesWithAListThatIsSearched() {
        var random = SeededRandom()
        let sources = (0..<60).map { _ in EventSource() }
        var timers = TimerQueue()
        // The deadline of each source that has one.
        var model: [Int: Int64] = [:]
        var now: Int64 = 0
        for _ in 0..<20_000 {
            let chosen = Int.random(in: 0..<sources.count, using: &random)
            switch Int.random(in: 0..<4, using: &random) {
            case 0, 1:
                let deadline = now + Int64.random(in: -10...100, using: &random)
                timers.set(sources[chosen], at: deadline)
                model[chosen] = deadline
            case 2:
                timers.remove(sources[chosen])
                model[chosen] = nil
            default:
                now += Int64.random(in: 0...20, using: &random)
                var last = Int64.min
                while let due = timers.popDue(now: now) {
                    guard let place = sources.firstIndex(where: { $0 === due }), let deadline = model[place] else {
                        Issue.record("a source without a deadline fired; \(random)")
                        return
                    }
                    #expect(deadline >= last && deadline == model.values.min(), "\(random)")
                    last = deadline
                    model[place] = nil
                }
                #expect(model.values.allSatisfy { $0 > now }, "\(random)")
            }
            #expect(timers.next == model.values.min(), "\(random)")
        }
    }
}
