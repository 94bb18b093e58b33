// Tasks that are sent, and what whoever sends them is told.

import Testing
import UID

@testable import Queues

extension Broker {
    /// Adds a task that says how it is to be sent.
    @discardableResult
    fileprivate func addSent(
        _ number: UInt64, to name: String, due: Int64? = nil, expiry: Expiry = .unsaid, priority: Int8? = nil,
        now: Int64 = 0, _ says: (TaskOptions) -> Void = { _ in }
    ) throws -> Enqueued {
        try add(number, to: name, due: due, expiry: expiry, priority: priority, now: now) { options in
            options.request = [7]
            says(options)
        }
    }

    /// Configures a queue so that all of its tasks are sent.
    fileprivate func configurePushed(_ name: String, _ change: (inout QueueConfiguration) -> Void = { _ in }) throws {
        try configure(name) { configuration in
            configuration.push = [8]
            configuration.isPushed = true
            change(&configuration)
        }
    }

    /// Sends the next task of a queue; nil if there is none.
    fileprivate func send(_ name: String, lease: Int64 = 1000, now: Int64 = 0) throws -> DispatchKey? {
        guard case .task(let key) = send(from: try queue(name), now: now, leaseMilliseconds: { _ in lease }) else {
            return nil
        }
        return key
    }

    /// Sends the next task of a queue, which there must be.
    fileprivate func sendOne(_ name: String, lease: Int64 = 1000, now: Int64 = 0) throws -> DispatchKey {
        let key = try send(name, lease: lease, now: now)
        return try #require(key)
    }

    /// Sends all that a queue has; the numbers of what that was.
    fileprivate func sendAll(_ name: String, now: Int64 = 0) throws -> [UInt64] {
        var numbers: [UInt64] = []
        while let key = try send(name, now: now) { numbers.append(show(TaskHandle(key: key)).number) }
        return numbers
    }

    fileprivate func finish(_ key: DispatchKey, result: [UInt8] = [], now: Int64 = 0) -> Bool {
        finishSending(key, result: result.span, now: now)
    }

    fileprivate func fail(
        _ key: DispatchKey, _ action: NakAction = .failed, result: [UInt8] = [], now: Int64 = 0
    ) -> NakOutcome {
        failSending(key, action, error: [69].span, result: result.span, now: now)
    }

    fileprivate func sendableQueues() -> [String] {
        var names: [String] = []
        takeSendableQueues { names.append(text(name(of: $0).span)) }
        return names
    }

    fileprivate func endedSends() -> [DispatchKey] {
        var keys: [DispatchKey] = []
        takeEndedSends { keys.append($0) }
        return keys
    }

    fileprivate func deadTasks() -> [String] {
        var deadTasks: [String] = []
        takeDeadTasks {
            deadTasks.append("\($0.task.high) in \(text(name(of: $0.queue).span))")
            return true
        }
        return deadTasks
    }

    /// What is seen of a task's retries, the pause before the next one, and its error.
    fileprivate func retry(_ number: UInt64, now: Int64) -> (retries: UInt32, pause: Int64, error: [UInt8])? {
        withTask(id: UID(high: number, low: number), now: now) { ($0.retries, ($0.due ?? now) - now, $0.error) }
    }

    fileprivate func result(_ number: UInt64, now: Int64 = 0) -> [UInt8]? {
        withTask(id: UID(high: number, low: number), now: now) { $0.result }
    }
}

/// What the completion of a wait for a result was called with.
private final class Ends {
    var states: [TaskState] = []
    var results: [[UInt8]] = []
}

private func withSendingBroker(
    maximumTasks: Int = 10_000, _ body: @Sendable (isolated Broker) throws -> Void
) throws {
    try withBroker(maximumTasks: maximumTasks) { broker in
        broker.beginSending()
        try body(broker)
    }
}

@Suite struct SendingTests {
    private func id(_ number: UInt64) -> UID { UID(high: number, low: number) }

    // MARK: Who gets what

    @Test func aTaskWithARequestIsNeverGivenToWorkers() throws {
        try withSendingBroker { broker in
            let outcome = Outcome()
            _ = try broker.startWaitAny("b", "a", deadline: 100, noting: outcome)
            _ = try broker.startWait("a", deadline: 100, noting: outcome)
            try broker.addSent(1, to: "a")
            #expect(try broker.take("a") == nil)
            #expect(try broker.takeAny("a", limit: 5) == [])
            #expect(try broker.takeAvailable("a") == [nil])
            #expect(outcome.calls == [])
            // What stands beside it is theirs.
            try broker.add(2, to: "a")
            #expect(outcome.calls == [[2]])
            broker.advanceFully(to: 100)
            #expect(outcome.calls == [[2], [nil]])
            #expect(try broker.sendAll("a", now: 100) == [1])
        }
    }

    @Test func whatIsBeingSentIsNobodyElsesToEnd() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("p")
            try broker.addSent(1, to: "a")
            try broker.add(2, to: "p")
            for (number, name) in [(1, "a"), (2, "p")] as [(UInt64, String)] {
                let key = try broker.sendOne(name)
                let token = broker.show(TaskHandle(key: key)).token
                for token in [nil, token] {
                    #expect(broker.ack(number, token: token) == false)
                    #expect(broker.nak(number, token: token) == false)
                    #expect(broker.touch(TaskReference(id: id(number), token: token), now: 0) == false)
                }
                #expect(broker.finish(key) == true)
                #expect(broker.finish(key) == false)
                #expect(broker.fail(key) == .missing)
            }
            #expect(broker.counts.tasks == 0)
            #expect(broker.endedSends() == [])
            #expect(try broker.statistics("a").totals.acked == 1)
        }
    }

    @Test func whatAWorkerHoldsIsNotTheSendersToEnd() throws {
        try withSendingBroker { broker in
            try broker.add(1, to: "a")
            let key = try broker.takeKey("a")
            #expect(broker.finish(key) == false)
            #expect(broker.fail(key) == .missing)
            #expect(broker.ack(1) == true)
        }
    }

    @Test func theSenderSeesTheTaskAndSaysItsLease() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a") { $0.metadata = [5] }
            var seen: [UInt8] = []
            let found = broker.send(from: try broker.queue("a"), now: 10) { task in
                seen = task.request + task.metadata
                #expect(task.state == .ready && task.attempt == 0)
                return 250
            }
            guard case .task(let key) = found else { throw Missing() }
            #expect(seen == [7, 5])
            let shown = broker.show(TaskHandle(key: key))
            #expect(shown.leaseEnd == 260 && shown.attempt == 1 && shown.state == .dispatched)
            #expect(broker.finish(key, now: 259) == true)
        }
    }

    private struct Missing: Error {}

    // MARK: Which is next

    @Test func peekShowsBothKindsInTheOrderOfTheirPriorities() throws {
        try withSendingBroker { broker in
            let priorities: [Int8] = [0, 5, -5, 0, 5, -5, 127, -128]
            for (index, priority) in priorities.enumerated() {
                try broker.add(UInt64(10 + index), to: "a", priority: priority) { _ in }
                try broker.addSent(UInt64(20 + index), to: "a", priority: priority)
            }
            let order: [UInt64] = [16, 26, 11, 14, 21, 24, 10, 13, 20, 23, 12, 15, 22, 25, 17, 27]
            #expect(try broker.peek("a") == order)
            for (index, number) in order.enumerated() {
                var rest: [UInt64] = []
                let isThere = broker.peek(try broker.queue("a"), after: id(number), limit: 100, now: 0) {
                    rest.append($0.id.high)
                }
                #expect(isThere && rest == Array(order[(index + 1)...]))
            }
            #expect(try broker.statistics("a").ready == 16)
            #expect(try broker.takeAny("a", limit: 100) == order.filter { $0 < 20 })
            #expect(try broker.sendAll("a") == order.filter { $0 >= 20 })
        }
    }

    @Test func whatIsOlderThanThePushIsSentFirstWithinItsPriority() throws {
        try withSendingBroker { broker in
            for number in 1...2 { try broker.add(UInt64(number), to: "a", priority: 0) { _ in } }
            try broker.add(3, to: "a", priority: 9) { _ in }
            try broker.addSent(4, to: "a", priority: 0)
            try broker.configurePushed("a")
            #expect(try broker.takeAny("a", limit: 9) == [])
            try broker.add(5, to: "a", priority: 9) { _ in }
            try broker.add(6, to: "a", priority: 0) { _ in }
            try broker.add(7, to: "a", priority: 20) { _ in }
            let order: [UInt64] = [7, 3, 5, 1, 2, 4, 6]
            #expect(try broker.peek("a") == order)
            #expect(try broker.sendAll("a") == order)
        }
    }

    @Test func statisticsCountBothKinds() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a", now: 5)
            try broker.add(2, to: "a", now: 7)
            #expect(try broker.statistics("a").ready == 2)
            #expect(try broker.statistics("a").oldestReady == 5)
            _ = try broker.sendOne("a", now: 8)
            let statistics = try broker.statistics("a")
            #expect(statistics.ready == 1 && statistics.dispatched == 1 && statistics.oldestReady == 7)
            #expect(statistics.totals.dispatched == 1)
            #expect(broker.counts.ready == 1 && broker.counts.dispatched == 1)
        }
    }

    @Test func aFullQueueCountsWhatIsSent() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a") { $0.maximumLength = 2 }
            try broker.add(1, to: "a")
            _ = try broker.sendOne("a")
            try broker.add(2, to: "a")
            #expect(throws: BrokerError.queueFull) { try broker.add(3, to: "a") }
        }
    }

    // MARK: What there is to send

    @Test func aQueueIsToldOnceUntilNothingIsFoundThere() throws {
        try withSendingBroker { broker in
            try broker.add(1, to: "plain")
            #expect(broker.sendableQueues() == [])
            for number in 2...3 { try broker.addSent(UInt64(number), to: "a") }
            #expect(broker.sendableQueues() == ["a"])
            try broker.addSent(4, to: "a")
            #expect(broker.sendableQueues() == [])
            #expect(try broker.sendAll("a") == [2, 3, 4])
            #expect(broker.sendableQueues() == [])
            try broker.addSent(5, to: "a")
            #expect(broker.sendableQueues() == ["a"])
        }
    }

    @Test func aQueueIsToldWheneverATaskBecomesReadyToBeSent() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a", due: 50)
            #expect(broker.sendableQueues() == [])
            broker.advanceFully(to: 50)
            #expect(broker.sendableQueues() == ["a"])
            var key = try broker.sendOne("a", now: 50)
            #expect(try broker.sendAll("a", now: 50) == [])
            #expect(broker.fail(key, .release, now: 50) == .requeued)
            #expect(broker.sendableQueues() == ["a"])
            key = try broker.sendOne("a", now: 50)
            #expect(broker.fail(key, .dead, now: 50) == .dead)
            #expect(try broker.sendAll("a", now: 50) == [])
            #expect(broker.kick(1, now: 50) == true)
            #expect(broker.sendableQueues() == ["a"])
            #expect(try broker.sendAll("a", now: 50) == [1])
            try broker.addSent(2, to: "b", now: 50)
            #expect(
                try broker.sweep(now: 50) { try $0.move($0.queue("b"), to: $0.queue("a"), now: 50, completion: $1) }
                    == [1])
            _ = try broker.sendAll("b", now: 50)
            #expect(Set(broker.sendableQueues()) == ["a", "b"])
            #expect(try broker.sendAll("a", now: 50) == [2])
        }
    }

    @Test func aPausedQueueSendsNothingUntilItIsResumed() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a")
            broker.pause(try broker.queue("a"))
            try broker.add(1, to: "a")
            #expect(try broker.sendAll("a") == [])
            _ = broker.sendableQueues()
            try broker.add(2, to: "a")
            #expect(try broker.sendAll("a") == [])
            let waiter = try broker.startWait("a", deadline: 100)
            broker.resume(try broker.queue("a"))
            #expect(broker.sendableQueues().contains("a"))
            #expect(try broker.sendAll("a") == [1, 2])
            broker.advanceFully(to: 0)
            broker.cancel(waiter)
        }
    }

    @Test func aQueueThatWasToldIsNotForgotten() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a")
            var told: [QueueIndex] = []
            broker.takeSendableQueues { told.append($0) }
            #expect(broker.cancelTask(1) == true)
            for number in 0..<10_100 { _ = try broker.queue("other \(number)") }
            broker.advanceFully(to: 10_000_000)
            #expect(broker.counts.queues == 1)
            let queue = try #require(told.first)
            #expect(broker.name(of: queue) == Array("a".utf8))
            guard case .nothing = broker.send(from: queue, now: 10_000_000, leaseMilliseconds: { _ in 1 }) else {
                throw Missing()
            }
            broker.advanceFully(to: 20_000_000)
            #expect(broker.counts.queues == 0)
        }
    }

    @Test func whatIsSentWaitsIfNobodySends() throws {
        try withBroker { broker in
            try broker.addSent(1, to: "a")
            #expect(broker.sendableQueues() == [])
            #expect(try broker.peek("a") == [1])
            #expect(try broker.take("a") == nil)
            broker.advanceFully(to: QueueConfiguration.defaultExpiryMilliseconds)
            #expect(broker.counts.tasks == 0 && broker.memoryBytes == 0)
        }
    }

    // MARK: Failures

    @Test func theDefaultBackoffDoublesFromASecondToAnHour() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a", expiry: .never)
            var now: Int64 = 0
            var pauses: Set<Double> = []
            for retry in 0..<16 {
                let key = try broker.sendOne("a", now: now)
                #expect(broker.fail(key, now: now) == .requeued)
                let found = broker.retry(1, now: now)
                let seen = try #require(found)
                let base = min(1000 << Int64(retry), 3_600_000 as Int64)
                #expect(seen.retries == UInt32(retry + 1) && seen.error == [69])
                #expect(abs(seen.pause - base) <= base / 10)
                pauses.insert(Double(seen.pause) / Double(base))
                now += seen.pause
                broker.advanceFully(to: now)
            }
            #expect(pauses.count > 8)
            #expect(broker.endedSends() == [])
            #expect(try broker.statistics("a").totals.nacked == 16)
        }
    }

    @Test func theTasksBackoffGoesBeforeTheQueuesAndThatBeforeTheDefault() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a") { $0.backoff = Backoff(minimumMilliseconds: 30) }
            try broker.add(1, to: "a")
            try broker.add(2, to: "a") { $0.backoff = Backoff(minimumMilliseconds: 40) }
            try broker.add(3, to: "a") { $0.backoff = Backoff(minimumMilliseconds: 0) }
            try broker.add(4, to: "a")
            for (number, pause) in [(1, 30), (2, 40), (3, 0)] as [(UInt64, Int64)] {
                #expect(broker.fail(try broker.sendOne("a")) == .requeued)
                #expect(broker.retry(number, now: 0)?.pause == pause)
            }
            #expect(broker.fail(try broker.sendOne("a"), .failedPausing(milliseconds: 77)) == .requeued)
            #expect(broker.retry(4, now: 0)?.pause == 77)
        }
    }

    @Test func whatAWorkerFailsHasNoBackoffUnlessItIsSaid() throws {
        try withSendingBroker { broker in
            try broker.add(1, to: "a")
            _ = try broker.take("a")
            #expect(broker.nak(1) == true)
            #expect(broker.state(1) == .ready)
        }
    }

    @Test func aReleasedTaskIsAtTheFrontAndNoRetryIsCounted() throws {
        try withSendingBroker { broker in
            for number in 1...3 { try broker.addSent(UInt64(number), to: "a") { $0.retryLimit = .limited(0) } }
            #expect(broker.fail(try broker.sendOne("a"), .release) == .requeued)
            #expect(broker.retry(1, now: 0)?.retries == 0)
            #expect(try broker.peek("a") == [1, 2, 3])
            #expect(try broker.statistics("a").totals.released == 1)
        }
    }

    @Test func aReleaseOfASendMayPause() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("p")
            try broker.addSent(1, to: "a") { $0.retryLimit = .limited(0) }
            try broker.add(2, to: "p")
            for (number, name) in [(1, "a"), (2, "p")] as [(UInt64, String)] {
                let key = try broker.sendOne(name)
                #expect(broker.fail(key, .releasePausing(milliseconds: 100)) == .requeued)
                // That dispatch is over, and nobody needs to be told.
                #expect(broker.finish(key) == false && broker.fail(key) == .missing)
                let found = broker.retry(number, now: 0)
                let seen = try #require(found)
                #expect(seen.retries == 0 && seen.pause == 100 && seen.error == [69])
                #expect(try broker.send(name) == nil)
            }
            #expect(broker.endedSends() == [])
            _ = broker.sendableQueues()
            broker.advanceFully(to: 99)
            #expect(broker.sendableQueues() == [])
            broker.advanceFully(to: 100)
            #expect(Set(broker.sendableQueues()) == ["a", "p"])
            #expect(try broker.takeAny("a", "p", limit: 9, now: 100) == [])
            #expect(try broker.sendAll("a", now: 100) == [1] && broker.sendAll("p", now: 100) == [2])
            #expect(try broker.statistics("a").totals.released == 1 && broker.deadTasks() == [])
        }
    }

    @Test func aReplacementDoesNotPauseForWhatItReplaces() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a") { $0.key = [7, 0, 7] }
            let key = try broker.sendOne("a")
            try broker.addSent(2, to: "a") { ($0.key, $0.onConflict) = ([7, 0, 7], .replace) }
            #expect(broker.fail(key, .releasePausing(milliseconds: 100)) == .requeued)
            #expect(try broker.keyGroup([7], of: "a") == [1])
            #expect(try broker.sendAll("a") == [1])
            #expect(broker.withTask(id: id(1), now: 0) { text($0.content) } == "2")
        }
    }

    @Test func aLeaseThatRunsOutEndsTheSendAndIsAFailure() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a")
            let key = try broker.sendOne("a", lease: 100)
            broker.advanceFully(to: 99)
            #expect(broker.endedSends() == [])
            // Nobody ends it any more, even before its timer has fired.
            #expect(broker.finish(key, now: 100) == false)
            #expect(broker.fail(key, now: 100) == .missing)
            broker.advanceFully(to: 100)
            #expect(broker.endedSends() == [key])
            #expect(broker.endedSends() == [])
            let found = broker.retry(1, now: 100)
            let seen = try #require(found)
            #expect(seen.retries == 1 && abs(seen.pause - 1000) <= 100)
            #expect(try broker.statistics("a").totals.timedOut == 1)
        }
    }

    // MARK: Ends that the sender did not bring about

    @Test func cancellingPurgingAndExpiryEndASend() throws {
        try withSendingBroker { broker in
            for number in 1...3 { try broker.addSent(UInt64(number), to: "a", expiry: .after(milliseconds: 500)) }
            let keys = [try broker.sendOne("a"), try broker.sendOne("a"), try broker.sendOne("a", lease: 10_000)]
            #expect(broker.cancelTask(1) == true)
            #expect(broker.endedSends() == [keys[0]])
            #expect(broker.finish(keys[0]) == false)
            let queue = try broker.queue("a")
            #expect(try broker.sweep { try $0.purge(queue, now: 0, completion: $1) } == [0])
            #expect(broker.endedSends() == [])
            #expect(broker.cancelTask(2) == true)
            #expect(broker.finish(keys[2], now: 500) == false)
            broker.advanceFully(to: 500)
            #expect(broker.endedSends() == [keys[1], keys[2]])
            try broker.addSent(4, to: "a", now: 500)
            let last = try broker.sendOne("a", now: 500)
            #expect(
                try broker.sweep(now: 501) { try $0.purge(queue, states: [.dispatched], now: 501, completion: $1) } == [
                    1
                ])
            #expect(broker.endedSends() == [last])
            #expect(broker.counts.tasks == 0)
        }
    }

    @Test func aConfigurationDoesNotEndASend() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a")
            for number in 1...2 { try broker.add(UInt64(number), to: "a") }
            let keys = [try broker.sendOne("a"), try broker.sendOne("a")]
            try broker.configure(broker.queue("a"), nil)
            broker.advanceFully(to: 10)
            #expect(broker.endedSends() == [])
            #expect(broker.ack(1, now: 10) == false)
            #expect(broker.finish(keys[0], now: 10) == true)
            // It failed as what is sent does, and is a worker's now.
            #expect(broker.fail(keys[1], now: 10) == .requeued)
            #expect(broker.retry(2, now: 10).map { abs($0.pause - 1000) <= 100 } == true)
            broker.advanceFully(to: 2000)
            #expect(try broker.takeAny("a", limit: 9, now: 2000) == [2])
            // Nor is what a worker holds taken from it.
            try broker.configurePushed("a")
            #expect(broker.ack(2, now: 2000) == true)
            #expect(broker.endedSends() == [])
        }
    }

    // MARK: Keys

    @Test(arguments: [true, false]) func aReplacementWaitsForTheEndOfTheSend(isSent: Bool) throws {
        try withSendingBroker { broker in
            let outcome = Outcome()
            for end in 0..<5 {
                let key = UInt8(end + 1)
                let number = UInt64(10 * (end + 1))
                try broker.addSent(number, to: "a") { $0.key = [key] }
                let dispatch = try broker.sendOne("a", lease: 100)
                let replaced = try broker.add(number + 1, to: "a") { options in
                    (options.key, options.onConflict) = ([key], .replace)
                    if isSent { options.request = [9] }
                }
                #expect(replaced == Enqueued(id: id(number), isExisting: true))
                #expect(broker.state(number) == .dispatched)
                #expect(broker.endedSends() == [])
                switch end {
                case 0: #expect(broker.finish(dispatch) == true)
                case 1: #expect(broker.fail(dispatch, result: [1]) == .requeued)
                case 2: #expect(broker.fail(dispatch, .dead) == .requeued)
                case 3: #expect(broker.fail(dispatch, .release) == .requeued)
                default:
                    broker.advanceFully(to: 100)
                    #expect(broker.endedSends() == [dispatch])
                }
                #expect(broker.endedSends() == [] && broker.deadTasks() == [])
                let now: Int64 = end == 4 ? 100 : 0
                #expect(broker.state(number, now: now) == .ready)
                #expect(broker.withTask(id: id(number), now: now) { $0.request } == (isSent ? [9] : []))
                #expect(broker.withTask(id: id(number), now: now) { text($0.content) } == "\(number + 1)")
                #expect(try broker.takeAny("a", now: now) == (isSent ? [] : [number]))
                #expect(try broker.sendAll("a", now: now) == (isSent ? [number] : []))
                #expect(broker.cancelTask(number, now: now) == true)
                #expect(broker.endedSends().count == (isSent ? 1 : 0))
            }
            #expect(outcome.calls == [] && broker.counts.tasks == 0)
        }
    }

    @Test func aReadyTaskThatIsReplacedChangesWhoGetsIt() throws {
        try withSendingBroker { broker in
            let outcome = Outcome()
            try broker.addSent(1, to: "a") { $0.key = [1] }
            _ = try broker.startWait("a", noting: outcome)
            try broker.add(2, to: "a") { ($0.key, $0.onConflict) = ([1], .replace) }
            #expect(outcome.calls == [[1]])
            #expect(broker.nak(1, .release) == .requeued)
            try broker.addSent(3, to: "a") { ($0.key, $0.onConflict) = ([1], .replace) }
            #expect(try broker.take("a") == nil)
            #expect(try broker.sendAll("a") == [1])
        }
    }

    // MARK: Results

    @Test func theResultOfAFailureIsKeptIfTheRecordIs() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a") { $0.keepMilliseconds = 100 }
            try broker.addSent(2, to: "a")
            for (number, isKept) in [(1, true), (2, false)] as [(UInt64, Bool)] {
                let key = try broker.sendOne("a")
                #expect(broker.wantsResult(of: key) == isKept)
                #expect(broker.fail(key, .release, result: [1]) == .requeued)
                #expect(broker.wantsResult(of: key) == false)
                #expect(broker.result(number) == (isKept ? [1] : []))
                let second = try broker.sendOne("a")
                // None takes the place of none.
                #expect(broker.fail(second, .dead) == .dead)
                #expect(broker.result(number) == (isKept ? [1] : []))
            }
        }
    }

    @Test func whoWaitsForTheResultOfADeadTaskGetsTheLastOne() throws {
        try withSendingBroker { broker in
            let ends = Ends()
            try broker.addSent(1, to: "a") { ($0.keepMilliseconds, $0.retryLimit) = (100, .limited(1)) }
            _ = broker.waitForResult(of: id(1), deadline: 10_000, now: 0) { state, result in
                ends.states.append(state)
                ends.results.append(Array(copying: result))
            }
            #expect(broker.fail(try broker.sendOne("a"), .failedPausing(milliseconds: 0), result: [1]) == .requeued)
            #expect(ends.states == [])
            #expect(broker.fail(try broker.sendOne("a"), result: [2]) == .dead)
            #expect(ends.states == [.dead] && ends.results == [[2]])
            #expect(broker.result(1) == [2])
        }
    }

    @Test func whatAWorkerHasDoneHasNoResultOfASend() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a") { $0.keepMilliseconds = 100 }
            try broker.add(1, to: "a")
            try broker.add(2, to: "a")
            #expect(broker.fail(try broker.sendOne("a"), .release, result: [1]) == .requeued)
            try broker.configure("a") { $0.keepMilliseconds = 100 }
            broker.advanceFully(to: 0)
            #expect(try broker.takeAny("a", limit: 2) == [1, 2])
            #expect(broker.ack(1) == true)
            #expect(broker.state(1) == .done && broker.result(1) == [])
            #expect(broker.ack(TaskReference(id: id(2)), result: [3].span, now: 0) == true)
            #expect(broker.result(2) == [3])
        }
    }

    // MARK: Deaths

    @Test func everyDeathIsToldOnce() throws {
        try withSendingBroker { broker in
            try broker.configure("a") { $0.isExpiryDeath = true }
            try broker.addSent(1, to: "a")
            #expect(broker.fail(try broker.sendOne("a"), .dead) == .dead)
            #expect(broker.deadTasks() == ["1 in a"])
            #expect(broker.deadTasks() == [])
            try broker.addSent(2, to: "a") { $0.retryLimit = .limited(0) }
            #expect(broker.fail(try broker.sendOne("a")) == .dead)
            try broker.addSent(3, to: "a") { $0.retryLimit = .limited(0) }
            _ = try broker.sendOne("a", lease: 10)
            try broker.addSent(4, to: "a", expiry: .after(milliseconds: 20))
            try broker.addSent(5, to: "a", due: 10, expiry: .after(milliseconds: 20))
            try broker.add(6, to: "a", expires: 5)
            for now in [10, 20, 40] as [Int64] { broker.advanceFully(to: now) }
            #expect(broker.deadTasks() == ["2 in a", "3 in a", "4 in a", "5 in a"])
            #expect(broker.endedSends().count == 1)
            // Worn out by a new maximum.
            try broker.addSent(7, to: "a", now: 40)
            #expect(broker.fail(try broker.sendOne("a", now: 40), now: 40) == .requeued)
            try broker.configure("a") { $0.maximumRetries = 0 }
            broker.advanceFully(to: 40)
            #expect(broker.deadTasks() == ["7 in a"])
            #expect(broker.cancelTask(1, now: 40) == false)
        }
    }

    @Test func aQueueThatSaysHowTasksAreSentTellsAllDeaths() throws {
        try withSendingBroker { broker in
            try broker.configure("a") { ($0.push, $0.deadLetter) = ([8], Array("b".utf8)) }
            try broker.add(1, to: "a")
            _ = try broker.take("a")
            #expect(broker.nak(1, .dead) == .dead)
            #expect(broker.deadTasks() == ["1 in a"])
            #expect(broker.push(of: try broker.queue("a")) == [8])
            // There it dies of itself, and nobody is to be told.
            #expect(try broker.takeAny("b") == [1])
            #expect(broker.nak(1, .dead) == .dead)
            #expect(broker.deadTasks() == [])
        }
    }

    @Test func takingDeathsMayAddTasks() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a")
            #expect(broker.fail(try broker.sendOne("a"), .dead) == .dead)
            broker.takeDeadTasks { deadTask in
                let content: [UInt8] = [1]
                try? broker.enqueue(id: UID(high: 2, low: 2), in: deadTask.queue, content: content.span, now: 0)
                return true
            }
            #expect(try broker.peek("a") == [2])
            #expect(broker.deadTasks() == [])
        }
    }

    @Test func aDeathThatIsNotTakenKeepsItsQueueAndIsToldAgain() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a")
            #expect(broker.fail(try broker.sendOne("a"), .dead) == .dead)
            broker.takeDeadTasks { _ in false }
            let isLeft = broker.hasUnreportedDeadTasks
            #expect(isLeft)
            _ = broker.deleteRecord(UID(high: 1, low: 1), now: 0)
            broker.checkInvariants()
            #expect(broker.deadTasks() == ["1 in a"])
            let isLeftStill = broker.hasUnreportedDeadTasks
            #expect(!isLeftStill)
            broker.checkInvariants()
        }
    }

    // MARK: Whole queues

    @Test func aDeadLettersOwnRequestIsOverUntilItGoesBack() throws {
        try withSendingBroker { broker in
            try broker.configure("a") { $0.deadLetter = Array("b".utf8) }
            let outcome = Outcome()
            _ = try broker.startWait("b", noting: outcome)
            try broker.addSent(1, to: "a")
            #expect(broker.fail(try broker.sendOne("a"), .dead) == .dead)
            #expect(broker.deadTasks() == ["1 in a"])
            #expect(outcome.calls == [[1]])
            #expect(try broker.sendAll("b") == [])
            #expect(broker.nak(1, .release) == .requeued)
            let queue = try broker.queue("b")
            #expect(try broker.sweep { try $0.kickToOrigin(queue, now: 0, completion: $1) } == [1])
            #expect(try broker.take("a") == nil)
            #expect(try broker.sendAll("a") == [1])
        }
    }

    @Test func aDeadLetterInAPushedQueueIsSentAsThatSays() throws {
        try withSendingBroker { broker in
            try broker.configure("a") { $0.deadLetter = Array("b".utf8) }
            try broker.configurePushed("b")
            try broker.addSent(1, to: "a")
            try broker.add(2, to: "a")
            #expect(broker.fail(try broker.sendOne("a"), .dead) == .dead)
            _ = try broker.take("a")
            #expect(broker.nak(2, .dead) == .dead)
            _ = broker.deadTasks()
            #expect(try broker.take("b") == nil)
            #expect(try broker.sendAll("b") == [1, 2])
            #expect(broker.deadTasks() == [])
            // It is no more sent when that queue's tasks are not.
            for number in 1...2 { #expect(broker.state(UInt64(number)) == .dispatched) }
            try broker.configure(broker.queue("b"), nil)
            broker.advanceFully(to: 1000)
            broker.advanceFully(to: 3000)
            #expect(try broker.takeAny("b", limit: 9, now: 3000).sorted() == [1, 2])
        }
    }

    @Test func movingATaskIntoAPushedQueueAndBackChangesWhoGetsIt() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("p")
            for number in 1...3 { try broker.add(UInt64(number), to: "a") }
            try broker.addSent(4, to: "a")
            let (plain, pushed) = (try broker.queue("a"), try broker.queue("p"))
            #expect(try broker.sweep { try $0.move(plain, to: pushed, now: 0, completion: $1) } == [4])
            #expect(try broker.takeAny("p", limit: 9) == [])
            #expect(try broker.peek("p") == [1, 2, 3, 4])
            #expect(try broker.sweep { try $0.move(pushed, to: plain, now: 0, completion: $1) } == [4])
            #expect(try broker.takeAny("a", limit: 9) == [1, 2, 3])
            #expect(try broker.sendAll("a") == [4])
        }
    }

    @Test func movingOneTaskChangesWhoGetsIt() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("p")
            try broker.add(1, to: "a")
            try broker.addSent(2, to: "a")
            try broker.add(3, to: "a", due: 100) { _ in }
            try broker.addSent(4, to: "a", due: 100)
            _ = broker.sendableQueues()
            for number: UInt64 in 1...4 { #expect(try broker.move(number, to: "p") == true) }
            #expect(broker.sendableQueues() == ["p"])
            #expect(try broker.take("p") == nil)
            #expect(try broker.peek("p") == [1, 2])
            // While it is sent, it stays.
            let key = try broker.sendOne("p")
            #expect(try broker.move(1, to: "b") == false)
            #expect(broker.endedSends() == [])
            #expect(broker.fail(key, .release) == .requeued)
            for number: UInt64 in 1...4 { #expect(try broker.move(number, to: "b") == true) }
            #expect(broker.sendableQueues().contains("b"))
            #expect(try broker.takeAny("b", limit: 9) == [1] && broker.sendAll("b") == [2])
            broker.advanceFully(to: 100)
            #expect(try broker.takeAny("b", limit: 9, now: 100) == [3] && broker.sendAll("b", now: 100) == [4])
            #expect(try broker.send("p", now: 100) == nil)
        }
    }

    /// It is about to be given to workers, and goes to where it is sent again, or not.
    @Test(arguments: [true, false]) func aStrayMayBeMoved(isToPushed: Bool) throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a")
            try broker.configurePushed("p")
            for number: UInt64 in 1...3 { try broker.add(number, to: "a") }
            try broker.configure(broker.queue("a"), nil)
            #expect(try broker.move(2, to: isToPushed ? "p" : "b") == true)
            broker.checkInvariants()
            #expect(try broker.sendAll("p") == (isToPushed ? [2] : []))
            #expect(try broker.takeAny("b", limit: 9) == (isToPushed ? [] : [2]))
            broker.advanceFully(to: 0)
            #expect(try broker.takeAny("a", limit: 9) == [1, 3])
        }
    }

    @Test func aMoveMeetsBothKindsInTheirOrder() throws {
        try withSendingBroker { broker in
            try broker.add(1, to: "a", priority: 0) { _ in }
            try broker.addSent(2, to: "a", priority: 5)
            try broker.add(3, to: "a", priority: 5) { _ in }
            try broker.addSent(4, to: "a", priority: -5)
            #expect(try broker.peek("a") == [3, 2, 1, 4])
            let (source, target) = (try broker.queue("a"), try broker.queue("b"))
            #expect(try broker.sweep { try $0.move(source, to: target, limit: 2, now: 0, completion: $1) } == [2])
            #expect(try broker.peek("b") == [3, 2])
            #expect(try broker.peek("a") == [1, 4])
        }
    }

    @Test func purgingAndKickingMeetWhatIsSent() throws {
        try withSendingBroker { broker in
            let queue = try broker.queue("a")
            for number in 1...3 { try broker.addSent(UInt64(number), to: "a") }
            #expect(broker.fail(try broker.sendOne("a"), .dead) == .dead)
            #expect(broker.fail(try broker.sendOne("a")) == .requeued)
            #expect(try broker.sweep { try $0.kick(queue, now: 0, completion: $1) } == [1])
            #expect(try broker.sweep { try $0.kick(queue, state: .delayed, now: 0, completion: $1) } == [1])
            #expect(try broker.peek("a") == [3, 1, 2])
            // Its delay is over, and that is all.
            #expect(broker.retry(2, now: 0)?.retries == 1)
            #expect(try broker.sweep(now: 1) { try $0.purge(queue, now: 1, completion: $1) } == [3])
            #expect(broker.counts.tasks == 0)
        }
    }

    // MARK: Configurations

    @Test func whoWaitsIsServedWhenItsTasksAreNotSentAnyMore() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a")
            let outcomes = (0..<4).map { _ in Outcome() }
            _ = try broker.startWait("a", noting: outcomes[0])
            _ = try broker.startWait("a", "b", noting: outcomes[1])
            _ = try broker.startWaitAny("b", "a", limit: 2, noting: outcomes[2])
            _ = try broker.startWait("a", "a", "a", noting: outcomes[3])
            for number in 1...9 { try broker.add(UInt64(number), to: "a") }
            broker.advanceFully(to: 0)
            #expect(outcomes.allSatisfy { $0.calls == [] })
            try broker.configure(broker.queue("a"), nil)
            broker.checkInvariants()
            broker.advanceFully(to: 0)
            #expect(outcomes.map(\.calls) == [[[1]], [], [[2, 3]], [[4, 5, 6]]])
            try broker.add(10, to: "b")
            #expect(outcomes[1].calls == [[7, 10]])
            #expect(try broker.takeAny("a", limit: 9) == [8, 9])
        }
    }

    @Test func whoWaitsGetsNothingWhenItsTasksBeginToBeSent() throws {
        try withSendingBroker { broker in
            let (both, single) = (Outcome(), Outcome())
            try broker.add(1, to: "a")
            _ = try broker.startWait("a", "a", noting: both)
            _ = try broker.startWait("a", "b", noting: single)
            try broker.configurePushed("a")
            broker.checkInvariants()
            try broker.add(2, to: "a")
            try broker.add(3, to: "b")
            broker.advanceFully(to: 0)
            #expect(both.calls == [] && single.calls == [])
            #expect(try broker.sendAll("a") == [1, 2])
            broker.advanceFully(to: 1000)
            #expect(both.calls == [[nil, nil]] && single.calls == [[nil, 3]])
        }
    }

    @Test func aPausedQueueServesNobodyWhenItsTasksAreNotSentAnyMore() throws {
        try withSendingBroker { broker in
            let outcome = Outcome()
            try broker.configurePushed("a")
            _ = try broker.startWait("a", noting: outcome)
            try broker.add(1, to: "a")
            broker.pause(try broker.queue("a"))
            try broker.configure(broker.queue("a"), nil)
            broker.advanceFully(to: 0)
            #expect(outcome.calls == [])
            broker.resume(try broker.queue("a"))
            broker.advanceFully(to: 0)
            #expect(outcome.calls == [[1]])
        }
    }

    @Test func whatIsGivenToWorkersKeepsItsOrderAndItsPriority() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a")
            for number in 1...20 { try broker.add(UInt64(number), to: "a", priority: Int8(number % 3)) { _ in } }
            try broker.addSent(30, to: "a", priority: 1)
            try broker.configure(broker.queue("a"), nil)
            #expect(broker.advance(to: 0, limit: 3) == false)
            broker.checkInvariants()
            // Nothing of it is lost to those who look meanwhile.
            #expect(try broker.statistics("a").ready == 21)
            #expect(Set(try broker.peek("a")).count == 21)
            broker.advanceFully(to: 0, limit: 3)
            let order = (1...20).sorted { ($1 % 3, $0) < ($0 % 3, $1) }.map { UInt64($0) }
            #expect(try broker.takeAny("a", limit: 50) == order)
            #expect(try broker.sendAll("a") == [30])
        }
    }

    @Test func manyStraysHideNothingForLong() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a")
            for number in 1...3000 { try broker.add(UInt64(number), to: "a") }
            try broker.addSent(5000, to: "a")
            try broker.configure(broker.queue("a"), nil)
            // So many of them stand before it that one call cannot tell.
            let queue = try broker.queue("a")
            guard case .notYet = broker.send(from: queue, now: 0, leaseMilliseconds: { _ in 100 }) else {
                throw Missing()
            }
            #expect(broker.nextDeadline == 0)
            broker.advanceFully(to: 0, limit: 700)
            #expect(try broker.sendAll("a") == [5000])
            #expect(try broker.takeAny("a", limit: 5000) == Array(1...3000))
        }
    }

    @Test func aSweepMeetsWhatIsAboutToBeGivenToWorkers() throws {
        for action in ["purge", "move", "wear out"] {
            try withSendingBroker { broker in
                try broker.configurePushed("a")
                for number in 1...20 { try broker.add(UInt64(number), to: "a") }
                if action == "wear out" {
                    for _ in 0..<20 {
                        let key = try broker.sendOne("a")
                        #expect(broker.fail(key, .failedPausing(milliseconds: 0)) == .requeued)
                    }
                }
                try broker.configure(broker.queue("a"), nil)
                #expect(broker.advance(to: 0, limit: 3) == false)
                let (queue, target) = (try broker.queue("a"), try broker.queue("b"))
                switch action {
                case "purge":
                    #expect(try broker.sweep(now: 1, limit: 3) { try $0.purge(queue, now: 1, completion: $1) } == [20])
                    #expect(broker.counts.tasks == 0)
                case "move":
                    let counts = try broker.sweep(limit: 3) { try $0.move(queue, to: target, now: 0, completion: $1) }
                    #expect(counts == [20])
                    #expect(try broker.takeAny("b", limit: 50).sorted() == Array(1...20))
                default:
                    try broker.configure("a") { $0.maximumRetries = 0 }
                    broker.advanceFully(to: 0, limit: 3)
                    #expect(try broker.statistics("a").dead == 20)
                }
            }
        }
    }

    @Test func aConfigurationMayComeAndGoOften() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a")
            for number in 1...10 { try broker.add(UInt64(number), to: "a") }
            for _ in 0..<40 {
                try broker.configurePushed("a") { $0.maximumRetries = 3 }
                try broker.configure("a") { $0.maximumRetries = 3 }
            }
            broker.checkInvariants()
            try broker.configurePushed("a")
            broker.advanceFully(to: 0)
            #expect(try broker.takeAny("a", limit: 20) == [])
            #expect(try broker.sendAll("a") == Array(1...10))
        }
    }

    // MARK: Expired and worn out

    @Test(arguments: [true, false]) func whatHasExpiredInFrontIsNotSent(isOfQueue: Bool) throws {
        try withSendingBroker { broker in
            if isOfQueue { try broker.configurePushed("a") }
            for number in 1...1500 {
                try broker.add(UInt64(number), to: "a", expiry: .after(milliseconds: 10)) { options in
                    options.request = isOfQueue ? [] : [7]
                }
            }
            try broker.addSent(5000, to: "a")
            let queue = try broker.queue("a")
            guard case .notYet = broker.send(from: queue, now: 10, leaseMilliseconds: { _ in 100 }) else {
                throw Missing()
            }
            broker.checkInvariants()
            #expect(try broker.sendAll("a", now: 10) == [5000])
            broker.advanceFully(to: 10)
            #expect(try broker.statistics("a").totals.expired == 1500)
            #expect(broker.endedSends() == [])
        }
    }

    @Test func whatLivesToItsTimeIsNotSent() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("p") { $0.isExpiryDeath = true }
            try broker.addSent(1, to: "a", due: 100, expiry: .after(milliseconds: 0)) { $0.keepMilliseconds = 50 }
            try broker.add(2, to: "p", due: 100, expiry: .after(milliseconds: 0)) { _ in }
            for now: Int64 in [0, 99, 100] {
                // Before the timers have fired, too.
                for name in ["a", "p"] { #expect(try broker.send(name, now: now) == nil) }
                broker.advanceFully(to: now)
            }
            for name in ["a", "p"] { #expect(try broker.send(name, now: 100) == nil) }
            #expect(broker.sendableQueues() == [])
            #expect(broker.state(1, now: 100) == .expired && broker.state(2, now: 100) == .dead)
            #expect(broker.deadTasks() == ["2 in p"] && broker.endedSends() == [])
            #expect(try broker.statistics("p").totals.dispatched == 0)
        }
    }

    @Test func whatIsWornOutInFrontIsNotSent() throws {
        try withSendingBroker { broker in
            for number in 1...2 { try broker.addSent(UInt64(number), to: "a") }
            #expect(broker.fail(try broker.sendOne("a"), .failedPausing(milliseconds: 0)) == .requeued)
            #expect(try broker.peek("a") == [2, 1])
            try broker.configure("a") { $0.maximumRetries = 0 }
            #expect(try broker.sendAll("a") == [2])
            broker.advanceFully(to: 0)
            #expect(broker.state(1) == .dead)
            #expect(broker.deadTasks() == ["1 in a"])
        }
    }

    // MARK: Memory

    @Test func allMemoryComesBack() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a") { $0.keepMilliseconds = 50 }
            broker.advanceFully(to: 0)
            _ = try broker.sendAll("a")
            let before = broker.memoryBytes
            for number in 1...100 {
                try broker.addSent(UInt64(number), to: "a") { options in
                    options.key = [1, 0, UInt8(number)]
                    options.request = Array(repeating: 1, count: 1000)
                }
            }
            #expect(broker.memoryBytes > before + 100 * 1000)
            for number in 1...100 {
                let key = try broker.sendOne("a")
                if number % 4 == 0 {
                    try broker.addSent(UInt64(1000 + number), to: "a") { options in
                        (options.key, options.onConflict) = ([1, 0, UInt8(number)], .replace)
                        options.request = Array(repeating: 2, count: 2000)
                    }
                }
                switch number % 3 {
                case 0: #expect(broker.finish(key, result: [1, 2, 3]) == true)
                case 1: #expect(broker.fail(key, .failedPausing(milliseconds: 10), result: [1, 2]) == .requeued)
                default: #expect(broker.cancelTask(UInt64(number)) == true)
                }
            }
            broker.checkInvariants()
            broker.advanceFully(to: 10)
            while let key = try broker.send("a", now: 10) { #expect(broker.finish(key, result: [1], now: 10) == true) }
            broker.advanceFully(to: 100)
            #expect(broker.counts.tasks == 0)
            #expect(broker.memoryBytes == before)
        }
    }

    // MARK: Restarts

    @Test(arguments: [0, 30_000] as [Int64]) func whatWasBeingSentIsAtTheFrontAgain(graceMilliseconds: Int64) throws {
        try restarting(downMilliseconds: 10_000, graceMilliseconds: graceMilliseconds) { broker in
            try broker.configurePushed("p")
            for number in 1...4 {
                try broker.addSent(UInt64(number), to: "a", now: 1_000_000) { $0.retryLimit = .limited(0) }
                try broker.add(UInt64(10 + number), to: "p", expires: 9_000_000, now: 1_000_000)
            }
            for name in ["a", "p"] {
                for _ in 0..<2 { _ = try broker.sendOne(name, lease: 5000, now: 1_000_000) }
            }
            try broker.add(20, to: "a", expires: 9_000_000, now: 1_000_000)
            _ = try broker.take("a", now: 1_000_000)
        } after: { broker, now in
            #expect(Set(broker.sendableQueues()) == ["a", "p"])
            #expect(broker.endedSends() == [])
            #expect(broker.state(20, now: now) == (graceMilliseconds > 0 ? .dispatched : .ready))
            for number in 1...4 { #expect(broker.retry(UInt64(number), now: now)?.retries == 0) }
            let peeked = try broker.peek("p", now: now)
            #expect(peeked == [11, 12, 13, 14])
            let sentOfA = try broker.sendAll("a", now: now)
            #expect(sentOfA == [1, 2, 3, 4])
            let sentOfP = try broker.sendAll("p", now: now)
            #expect(sentOfP == [11, 12, 13, 14])
        }
    }

    /// Nobody is told of an attempt that failed, or of an answer that did not arrive: while the disk is full, nothing of them is
    /// written, and the space is left to what makes room.
    @Test func aFullDiskHasNoSpaceForFailedAttempts() throws {
        try withBroker { broker in
            broker.beginSending()
            broker.beginRestoring()
            while !broker.finishRestoring(nextSequence: 1, now: 0, graceMilliseconds: 0) {}
            for number in 1...3 { try broker.addSent(UInt64(number), to: "a", now: 0) { $0.retryLimit = .limited(1) } }
            try broker.add(4, to: "b", expires: 9_000_000, now: 0)
            broker.writeChanges { _, _ in }
            let safe = broker.changeSequence
            for action in [NakAction.failed, .dead, .releasePausing(milliseconds: 10)] {
                let key = try broker.sendOne("a")
                #expect(broker.fail(key, action) == (action == .dead ? .dead : .requeued))
            }
            var taken: [TaskHandle?] = []
            _ = try broker.takeAny([broker.queue("b")], limit: 1, now: 0, into: &taken)
            broker.release(try #require(taken.first ?? nil).key, now: 0)
            #expect(broker.changeSequence == safe)
            broker.writeChanges(skipsUnawaited: true) { _, _ in Issue.record("something was written") }
        }
    }

    /// What is written of it after that, without its content, does not bring the old content back.
    @Test func theReplacementOfWhatWasBeingSentStays() throws {
        nonisolated(unsafe) var frames: [(UInt64, [UInt8])] = []
        for life in 0..<3 {
            let broker = Broker(executor: InlineExecutor(), firstToken: UInt64(1 + 100 * life), now: 0)
            try broker.assumeIsolated { broker in
                broker.beginSending()
                broker.beginRestoring()
                for (sequence, bytes) in frames { try broker.restore(bytes.span, sequence: sequence) }
                let next = (frames.last?.0 ?? 0) + 1
                while !broker.finishRestoring(nextSequence: next, now: 0, graceMilliseconds: 1000) {}
                broker.checkInvariants()
                if life == 0 {
                    for number in 1...2 { try broker.addSent(UInt64(number), to: "a") { $0.key = [UInt8(number)] } }
                    broker.writeChanges { frames.append(($1, Array(copying: $0))) }
                    _ = try broker.sendOne("a")
                    try broker.addSent(10, to: "a") { options in
                        (options.key, options.onConflict, options.request) = ([1], .replace, [9])
                    }
                } else {
                    #expect(try broker.peek("a") == [2, 1])
                    #expect(broker.pendingChangeBytes > 0 || life == 2)
                    #expect(try broker.sendAll("a") == [2, 1])
                    #expect(broker.withTask(id: id(1), now: 0) { text($0.content) } == "10")
                    #expect(broker.withTask(id: id(1), now: 0) { $0.request } == [9])
                    for number: UInt64 in 1...2 {
                        let found = broker.withTask(id: id(number), now: 0) { $0.dispatchKey }
                        let key = try #require(found)
                        #expect(broker.fail(key, .failedPausing(milliseconds: 0)) == .requeued)
                    }
                    // As it was found: the first one goes to the back.
                    let second = try broker.sendOne("a")
                    #expect(broker.fail(second, .failedPausing(milliseconds: 0)) == .requeued)
                }
                broker.writeChanges { frames.append(($1, Array(copying: $0))) }
                broker.checkInvariants()
            }
        }
    }

    @Test func aRestartAfterAConfigurationPutsAllWhereTheyBelong() throws {
        try restarting { broker in
            try broker.add(1, to: "a", expires: 9_000_000, now: 1_000_000)
            try broker.add(2, to: "b", expires: 9_000_000, now: 1_000_000)
            try broker.configurePushed("a")
            try broker.configurePushed("b")
            try broker.add(3, to: "a", expires: 9_000_000, now: 1_000_000)
            try broker.add(4, to: "b", expires: 9_000_000, now: 1_000_000)
            try broker.addSent(5, to: "b", now: 1_000_000)
            // Not yet given to workers when the server ends.
            try broker.configure(broker.queue("b"), nil)
        } after: { broker, now in
            let sentOfA = try broker.sendAll("a", now: now)
            #expect(sentOfA == [1, 3])
            let sentOfB = try broker.sendAll("b", now: now)
            #expect(sentOfB == [5])
            let taken = try broker.takeAny("b", limit: 9, now: now)
            #expect(taken == [2, 4])
        }
    }

    /// Writing what a task is changes nothing of where it stands.
    @Test func aTaskThatIsWrittenStillStandsAmongThoseThatAreSent() throws {
        try withSendingBroker { broker in
            broker.beginRestoring()
            while !broker.finishRestoring(nextSequence: 1, now: 0, graceMilliseconds: 0) {}
            try broker.addSent(1, to: "a")
            broker.writeChanges { _, _ in }
            broker.checkInvariants()
            #expect(try broker.sendAll("a") == [1])
        }
    }
}
