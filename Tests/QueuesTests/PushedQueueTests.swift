// Queues whose tasks are sent: moving tasks between queues, changing configurations, and restarts.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct PushedQueueTests {
    private func id(_ number: UInt64) -> UID { UID(high: number, low: number) }

    // MARK: Whole queues

    @Test func aDeadLettersRequestDoesNotCountUntilItGoesBack() throws {
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

    @Test func aDeadLetterInAPushedQueueIsSentAsThatQueueSays() throws {
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
            // It is no longer sent once that queue is not pushed.
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
            // While it is being sent, it stays.
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

    /// The task is about to become the workers'. It moves to a queue that is pushed, or to one that is not.
    @Test(arguments: [true, false]) func aTaskWaitingForTheWorkersCanBeMoved(isToPushed: Bool) throws {
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

    @Test func aMoveTakesPushedAndUnpushedTasksInOrder() throws {
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

    @Test func purgesAndKicksIncludePushedTasks() throws {
        try withSendingBroker { broker in
            let queue = try broker.queue("a")
            for number in 1...3 { try broker.addSent(UInt64(number), to: "a") }
            #expect(broker.fail(try broker.sendOne("a"), .dead) == .dead)
            #expect(broker.fail(try broker.sendOne("a")) == .requeued)
            #expect(try broker.sweep { try $0.kick(queue, now: 0, completion: $1) } == [1])
            #expect(try broker.sweep { try $0.kick(queue, state: .delayed, now: 0, completion: $1) } == [1])
            #expect(try broker.peek("a") == [3, 1, 2])
            // The kick ends its delay and changes nothing else.
            #expect(broker.retry(2, now: 0)?.retries == 1)
            #expect(try broker.sweep(now: 1) { try $0.purge(queue, now: 1, completion: $1) } == [3])
            #expect(broker.counts.tasks == 0)
        }
    }

    // MARK: Configurations

    @Test func aWaiterIsServedWhenItsQueueIsNoLongerPushed() throws {
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

    @Test func aWaiterGetsNothingWhenItsQueueBecomesPushed() throws {
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

    @Test func aPausedQueueServesNoWaiterWhenItIsNoLongerPushed() throws {
        try withSendingBroker { broker in
            let outcome = Outcome()
            try broker.configurePushed("a")
            _ = try broker.startWait("a", noting: outcome)
            try broker.add(1, to: "a")
            broker.pause(try broker.queue("a"), now: 0)
            try broker.configure(broker.queue("a"), nil)
            broker.advanceFully(to: 0)
            #expect(outcome.calls == [])
            broker.resume(try broker.queue("a"))
            broker.advanceFully(to: 0)
            #expect(outcome.calls == [[1]])
        }
    }

    @Test func tasksThatBecomeTheWorkersKeepTheirOrderAndPriority() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a")
            for number in 1...20 { try broker.add(UInt64(number), to: "a", priority: Int8(number % 3)) { _ in } }
            try broker.addSent(30, to: "a", priority: 1)
            try broker.configure(broker.queue("a"), nil)
            #expect(broker.advance(to: 0, limit: 3) == false)
            broker.checkInvariants()
            // A peek in between shows all tasks.
            #expect(try broker.statistics("a").ready == 21)
            #expect(Set(try broker.peek("a")).count == 21)
            broker.advanceFully(to: 0, limit: 3)
            let order = (1...20).sorted { ($1 % 3, $0) < ($0 % 3, $1) }.map { UInt64($0) }
            #expect(try broker.takeAny("a", limit: 50) == order)
            #expect(try broker.sendAll("a") == [30])
        }
    }

    @Test func manyTasksWaitingForTheWorkersHideNothingForLong() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a")
            for number in 1...3000 { try broker.add(UInt64(number), to: "a") }
            try broker.addSent(5000, to: "a")
            try broker.configure(broker.queue("a"), nil)
            // So many tasks stand before it that one call cannot find it.
            let queue = try broker.queue("a")
            guard case .notYet = broker.send(from: queue, now: 0, leaseMilliseconds: { _ in 100 }) else {
                throw Unexpected()
            }
            #expect(broker.nextDeadline == 0)
            broker.advanceFully(to: 0, limit: 700)
            #expect(try broker.sendAll("a") == [5000])
            #expect(try broker.takeAny("a", limit: 5000) == Array(1...3000))
        }
    }

    @Test func aSweepIncludesTasksThatAreAboutToBecomeTheWorkers() throws {
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

    @Test func aConfigurationCanBeSetAndDeletedOften() throws {
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

    // MARK: Restarts

    @Test(arguments: [0, 30_000] as [Int64])
    func aTaskThatWasBeingSentReturnsToTheFront(graceMilliseconds: Int64) throws {
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

    /// No client learns of a failed attempt or of an answer that did not arrive. So while the disk is full, neither is
    /// written, which leaves the space to operations that make room.
    @Test func failedAttemptsAreNotWrittenToAFullDisk() throws {
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

    /// A later image without a content does not restore the old content.
    @Test func theReplacementOfATaskThatWasBeingSentStays() throws {
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
                    // Restores the order of the tasks: the first one goes to the back.
                    let second = try broker.sendOne("a")
                    #expect(broker.fail(second, .failedPausing(milliseconds: 0)) == .requeued)
                }
                broker.writeChanges { frames.append(($1, Array(copying: $0))) }
                broker.checkInvariants()
            }
        }
    }

    @Test func aRestartAfterAConfigurationPutsAllTasksInTheRightPlace() throws {
        try restarting { broker in
            try broker.add(1, to: "a", expires: 9_000_000, now: 1_000_000)
            try broker.add(2, to: "b", expires: 9_000_000, now: 1_000_000)
            try broker.configurePushed("a")
            try broker.configurePushed("b")
            try broker.add(3, to: "a", expires: 9_000_000, now: 1_000_000)
            try broker.add(4, to: "b", expires: 9_000_000, now: 1_000_000)
            try broker.addSent(5, to: "b", now: 1_000_000)
            // The workers have not got it yet when the server ends.
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

    /// Writing a task does not change its place.
    @Test func writingAPushedTaskKeepsItsPlace() throws {
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
