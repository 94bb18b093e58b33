// Keys, each of which at most one unfinished task of a queue has; and batches.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct KeyTests {
    private func id(_ number: UInt64) -> UID { UID(high: number, low: number) }

    // MARK: Keys

    @Test func aSecondTaskWithAKeyFindsTheFirst() throws {
        try withBroker { broker in
            let first = try broker.add(1, to: "a") { $0.key = [7] }
            #expect(first == Enqueued(id: id(1), isExisting: false))
            #expect(try broker.add(2, to: "a") { $0.key = [7] } == Enqueued(id: id(1), isExisting: true))
            #expect(try broker.add(3, to: "b") { $0.key = [7] }.isExisting == false)
            #expect(throws: BrokerError.keyTaken) {
                try broker.add(4, to: "a") {
                    $0.key = [7]
                    $0.onConflict = .reject
                }
            }
            #expect(try broker.take("a")?.first?.content == "1")
            #expect(try broker.add(5, to: "a") { $0.key = [7] }.isExisting == true)
            #expect(broker.ack(1) == true)
            #expect(try broker.add(6, to: "a") { $0.key = [7] }.isExisting == false)
        }
    }

    @Test func aReplacementKeepsTheIdAndIsOtherwiseNew() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 50) {
                $0.key = [7]
                $0.metadata = [1]
            }
            try broker.add(2, to: "a")
            _ = try broker.take("a")
            #expect(broker.nak(1, .release) == .requeued)
            let answer = try broker.add(3, to: "a", lease: 70, priority: -1, now: 10) {
                $0.key = [7]
                $0.onConflict = .replace
            }
            #expect(answer == Enqueued(id: id(1), isExisting: true))
            #expect(try broker.peek("a", now: 10) == [2, 1])
            let task = try #require(try broker.take("a", "a", now: 10)?.last)
            #expect(task.content == "3" && task.attempt == 1 && task.lease == 70 && task.enqueued == 10)
            #expect(broker.withTask(id: id(1), now: 10) { $0.metadata } == [])
            #expect(broker.counts.tasks == 2)
        }
    }

    @Test(arguments: ["ack", "nak", "lease", "release", "dead"])
    func theReplacementOfADispatchedTaskWaitsForItsEnd(how: String) throws {
        try withBroker { broker in
            let ended = Outcome()
            try broker.add(1, to: "a", lease: 20) {
                $0.key = [7]
                $0.retryLimit = .limited(0)
            }
            try broker.add(2, to: "a")
            let old = try #require(try broker.take("a")?.first).token
            _ = broker.waitForResult(of: id(1), deadline: 1000, now: 0) { _, _ in ended.calls.append([]) }
            for number in [3, 4] {
                try broker.add(UInt64(number), to: "a") {
                    $0.key = [7]
                    $0.onConflict = .replace
                }
            }
            broker.checkInvariants()
            #expect(broker.state(1) == .dispatched)
            switch how {
            case "ack": #expect(broker.ack(1, token: old) == true)
            case "nak": #expect(broker.nak(1, .failed) == .requeued)
            case "release": #expect(broker.nak(1, .release) == .requeued)
            case "dead": #expect(broker.nak(1, .dead) == .requeued)
            default: broker.advanceFully(to: 20)
            }
            #expect(broker.state(1, now: 20) == .ready && ended.calls == [])
            #expect(try broker.peek("a", now: 20) == [2, 1])
            #expect(try broker.take("a", "a", now: 20)?.last?.content == "4")
            #expect(broker.ack(1, token: old, now: 20) == false)
            #expect(broker.ack(1, now: 20) == true)
            #expect(ended.calls.count == 1)
        }
    }

    /// Everything that a view shows of a waiting task, as text.
    private func described(_ task: borrowing TaskView) -> [String] {
        [
            "\(task.id) \(text(task.queueName)) \(text(task.content)) \(task.state) \(task.isToBeSent)",
            "\(task.leaseMilliseconds) \(task.priority) \(task.attempt) \(task.token) \(task.retries)",
            "\(task.enqueued) \(task.due ?? -1) \(task.expires ?? -1) \(task.dispatched ?? -1) \(task.finished ?? -1)",
            "\(task.retryLimit ?? -1) \(task.key) \(task.metadata) \(task.request) \(task.origin) \(task.trace)",
            "\(task.worker) \(task.error) \(task.progress) \(task.result)",
        ]
    }

    @Test(arguments: [false, true], [nil, 70] as [Int64?])
    func aReplacementIsShownAsItWillBe(isDelayed: Bool, lease: Int64?) throws {
        try withBroker { broker in
            broker.beginSending()
            try broker.configure("a") { $0.leaseMilliseconds = 33 }
            for (number, requests) in [(1, [[], [8]]), (2, [[8], []]), (3, [[8], [9]])] as [(UInt64, [[UInt8]])] {
                try broker.add(number, to: "a", lease: 50) {
                    ($0.key, $0.metadata, $0.request) = ([7, UInt8(number)], [1], requests[0])
                    $0.retryLimit = .limited(3)
                }
                #expect(broker.withReplacement(of: id(number), now: 0) { _ in } == nil)
                if requests[0].isEmpty {
                    _ = try broker.take("a")
                    #expect(broker.touch(TaskReference(id: id(number)), progress: [1].span, now: 0) == true)
                } else {
                    _ = broker.send(from: try broker.queue("a"), now: 0) { _ in 50 }
                }
                #expect(broker.state(number) == .dispatched)
                #expect(broker.withReplacement(of: id(number), now: 0) { _ in } == nil)
                try broker.add(10 + number, to: "a", lease: lease, due: isDelayed ? 60 : nil, priority: 5, now: 10) {
                    ($0.key, $0.metadata, $0.request) = ([7, UInt8(number)], [2], requests[1])
                    let requestID: [UInt8] = [65]
                    $0.trace = TraceContext(requestID: requestID.span, traceparent: Span())
                    $0.onConflict = .replace
                }
                let shown = broker.withReplacement(of: id(number), now: 50) { described($0) }
                broker.advanceFully(to: 50)
                #expect(shown != nil && shown == broker.withTask(id: id(number), now: 50) { described($0) })
                #expect(broker.withReplacement(of: id(number), now: 50) { _ in } == nil)
                #expect(broker.cancelTask(number, now: 50) == true)
            }
        }
    }

    @Test func aDelayedReplacementWaitsForItsTime() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { $0.key = [7] }
            _ = try broker.take("a")
            try broker.add(2, to: "a", due: 100) {
                $0.key = [7]
                $0.onConflict = .replace
            }
            #expect(broker.ack(1, now: 50) == true)
            #expect(broker.state(1, now: 50) == .delayed)
            broker.advanceFully(to: 100)
            #expect(try broker.take("a", now: 100)?.first?.content == "2")
        }
    }

    @Test func aKeyCanOutliveItsTask() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") {
                $0.key = [7]
                $0.uniqueForMilliseconds = 500
            }
            _ = try broker.take("a")
            #expect(broker.ack(1) == true)
            #expect(broker.state(1) == nil)
            #expect(try broker.statistics("a").done == 0)
            for conflict in [KeyConflict.keep, .replace] {
                let answer = try broker.add(2, to: "a", now: 499) {
                    $0.key = [7]
                    $0.onConflict = conflict
                }
                #expect(answer == Enqueued(id: id(1), isExisting: true))
            }
            #expect(try broker.add(3, to: "a", now: 500) { $0.key = [7] }.isExisting == false)
            broker.advanceFully(to: 500)
            #expect(broker.counts.tasks == 1)
        }
    }

    @Test func deletingARecordDoesNotFreeAKeyThatOutlivesItsTask() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") {
                $0.key = [7]
                $0.uniqueForMilliseconds = 500
                $0.keepMilliseconds = 500
            }
            _ = try broker.take("a")
            #expect(broker.ack(1) == true)
            #expect(broker.deleteRecord(id(1), now: 10) == true)
            #expect(broker.state(1, now: 10) == nil)
            #expect(try broker.add(2, to: "a", now: 20) { $0.key = [7] } == Enqueued(id: id(1), isExisting: true))
        }
    }

    @Test func aDeadTaskWhoseKeyIsTakenElsewhereIsNotMovedThere() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { $0.key = [7] }
            _ = try broker.take("a")
            #expect(broker.nak(1, .dead) == .dead)
            try broker.add(2, to: "b") { $0.key = [7] }
            let moved = try broker.sweep { broker, completion in
                try broker.move(
                    try broker.queue("a"), to: try broker.queue("b"), state: .dead, now: 0, completion: completion)
            }
            #expect(moved == [0])
        }
    }

    @Test func cancellingAndPurgingFreeTheKey() throws {
        try withBroker { broker in
            for number in 1...2 {
                try broker.add(UInt64(number), to: "a") {
                    $0.key = [UInt8(number)]
                    $0.uniqueForMilliseconds = 500
                    $0.keepMilliseconds = 500
                }
            }
            #expect(broker.cancelTask(1) == true)
            #expect(broker.state(1) == .cancelled)
            #expect(try broker.sweep { try $0.purge($0.queue("a"), now: 0, completion: $1) } == [1])
            for number in 3...4 {
                let answer = try broker.add(UInt64(number), to: "a") { $0.key = [UInt8(number - 2)] }
                #expect(answer.isExisting == false)
            }
        }
    }

    @Test func theKeyOfAnExpiredOrDeadTaskIsFree() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", expiry: .after(milliseconds: 10)) { $0.key = [7] }
            // Its timer has not fired.
            #expect(try broker.add(2, to: "a", now: 10) { $0.key = [7] }.isExisting == false)
            _ = try broker.take("a", now: 10)
            #expect(broker.nak(2, .dead, now: 10) == .dead)
            #expect(try broker.add(3, to: "a", now: 10) { $0.key = [7] }.isExisting == false)
            // Its key is taken, so it stays where it is.
            #expect(broker.kick(2, now: 10) == false)
            #expect(try broker.sweep(now: 10) { try $0.kick($0.queue("a"), now: 10, completion: $1) } == [0])
            _ = try broker.take("a", now: 10)
            #expect(broker.ack(3, now: 10) == true)
            #expect(broker.kick(2, now: 10) == true)
            #expect(try broker.add(4, to: "a", now: 10) { $0.key = [7] }.id == id(2))
        }
    }

    @Test func aTaskWhoseKeyIsTakenElsewhereIsNotMovedThere() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { $0.key = [7] }
            try broker.add(2, to: "a")
            try broker.add(3, to: "b") { $0.key = [7] }
            #expect(try broker.move("a", to: "b") == 1)
            #expect(try broker.peek("a") == [1] && broker.peek("b") == [3, 2])
            _ = try broker.take("b")
            #expect(broker.ack(3) == true)
            #expect(try broker.move("a", to: "b") == 1)
            #expect(try broker.add(4, to: "b") { $0.key = [7] }.id == id(1))
            #expect(try broker.add(5, to: "a") { $0.key = [7] }.isExisting == false)
        }
    }

    @Test func anUnfinishedTaskIsFoundByItsKey() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", due: 10, expiry: .after(milliseconds: 90)) { $0.key = [7, 0, 7] }
            try broker.add(2, to: "a") { $0.key = [7] }
            try broker.add(3, to: "a") { _ in }
            let (a, b) = (try broker.queue("a"), try broker.queue("b"))
            #expect(broker.task(withKey: [7, 0, 7], in: a, now: 0) == id(1))
            #expect(broker.task(withKey: [7], in: a, now: 0) == id(2))
            #expect(broker.task(withKey: [7], in: b, now: 0) == nil)
            for key: [UInt8] in [[], [7, 0], [8]] { #expect(broker.task(withKey: key, in: a, now: 0) == nil) }
            _ = try broker.take("a")
            #expect(broker.task(withKey: [7], in: a, now: 0) == id(2))
            #expect(broker.ack(2) == true)
            #expect(broker.task(withKey: [7], in: a, now: 0) == nil)
            // Also before its timer has fired.
            #expect(broker.task(withKey: [7, 0, 7], in: a, now: 99) == id(1))
            #expect(broker.task(withKey: [7, 0, 7], in: a, now: 100) == nil)
            #expect(try broker.keyGroup([7], of: "a", now: 99) == [1] && broker.keyGroup([7], of: "a", now: 100) == [])
        }
    }

    @Test func aKeyThatOutlivesItsTaskFindsNoTask() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { options in
                (options.key, options.uniqueForMilliseconds, options.keepMilliseconds) = ([7, 0], 500, 100)
            }
            _ = try broker.take("a")
            #expect(broker.ack(1) == true)
            #expect(broker.state(1) == .done)
            #expect(broker.task(withKey: [7, 0], in: try broker.queue("a"), now: 0) == nil)
            #expect(try broker.keyGroup([7], of: "a") == [])
            broker.advanceFully(to: 100)
            #expect(broker.counts.tasks == 1 && broker.state(1, now: 100) == nil)
            #expect(try broker.keyGroup([7], of: "a", now: 100) == [])
        }
    }

    @Test func tasksAreFoundByTheFirstPartOfTheirKeys() throws {
        try withBroker { broker in
            let keys: [[UInt8]] = [
                [5, 0, 1], [5, 0, 2], [5, 0], [5, 0, 1, 0, 1], [5], [0, 5], [5, 5, 0, 1], [6, 0, 1],
            ]
            for (index, key) in keys.enumerated() { try broker.add(UInt64(index), to: "a") { $0.key = key } }
            try broker.add(20, to: "b") { $0.key = [5, 0, 1] }
            #expect(try broker.keyGroup([5], of: "a") == [0, 1, 2, 3])
            #expect(try broker.keyGroup([], of: "a") == [5])
            #expect(try broker.keyGroup([5, 5], of: "a") == [6] && broker.keyGroup([6], of: "a") == [7])
            #expect(try broker.keyGroup([5], of: "b") == [20] && broker.keyGroup([5], of: "c") == [])
            // Dispatched, delayed and replaced tasks are found; tasks that have ended are not.
            _ = try broker.takeAny("a", limit: 3)
            #expect(broker.nak(0, .failedPausing(milliseconds: 9)) == .requeued)
            #expect(broker.nak(2, .dead) == .dead)
            #expect(broker.cancelTask(3) == true)
            try broker.add(21, to: "a") { ($0.key, $0.onConflict) = ([5, 0, 2], .replace) }
            #expect(try broker.keyGroup([5], of: "a") == [0, 1])
            #expect(broker.kick(2) == true)
            #expect(try broker.keyGroup([5], of: "a") == [0, 1, 2])
            // The callback may call the broker, and the views are the same as elsewhere.
            let queue = try broker.queue("a")
            broker.forEachTask(inKeyGroup: [5], of: queue, now: 0) { task in
                #expect(broker.task(withKey: task.key, in: queue, now: 0) == task.id)
                #expect(broker.state(task.id.high) == task.state && text(task.queueName) == "a")
            }
        }
    }

    @Test func keyGroupsFollowTheirTasksToOtherQueues() throws {
        try withBroker { broker in
            try broker.configure("c") { $0.deadLetter = Array("d".utf8) }
            for number in 1...4 { try broker.add(UInt64(number), to: "a") { $0.key = [5, 0, UInt8(number)] } }
            #expect(try broker.move(1, to: "b") == true)
            #expect(try broker.move(2, to: "c") == true)
            #expect(try broker.keyGroup([5], of: "a") == [3, 4] && broker.keyGroup([5], of: "b") == [1])
            #expect(try broker.move("a", to: "b", limit: 1) == 1)
            #expect(try broker.keyGroup([5], of: "a") == [4] && broker.keyGroup([5], of: "b") == [1, 3])
            // A dead letter has no key any more.
            _ = try broker.take("c")
            #expect(broker.nak(2, .dead) == .dead)
            #expect(try broker.keyGroup([5], of: "c") == [] && broker.keyGroup([5], of: "d") == [])
            let purged = try broker.sweep(now: 1) { try $0.purge($0.queue("b"), now: 1, completion: $1) }
            #expect(purged == [2])
            #expect(try broker.keyGroup([5], of: "b", now: 1) == [])
        }
    }

    @Test func aTaskStaysIfItsKeyIsTakenInTheTarget() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { $0.key = [7] }
            try broker.add(2, to: "b", expiry: .after(milliseconds: 50)) { $0.key = [7] }
            #expect(try broker.move(1, to: "b") == false && broker.peek("a") == [1])
            #expect(try broker.move(1, to: "b", now: 49) == false)
            // The other one has expired, though nothing has removed it yet.
            #expect(try broker.move(1, to: "b", now: 50) == true)
            #expect(try broker.peek("b", now: 50) == [1])
            #expect(broker.task(withKey: [7], in: try broker.queue("b"), now: 50) == id(1))
            #expect(try broker.add(3, to: "a", now: 50) { $0.key = [7] }.isExisting == false)
        }
    }

    @Test func theKeyOfADeadTaskMovesWithIt() throws {
        try withBroker { broker in
            for (number, unique) in [(1, 500), (2, 0)] as [(UInt64, Int64)] {
                try broker.add(number, to: "a") { ($0.key, $0.uniqueForMilliseconds) = ([UInt8(number)], unique) }
                _ = try broker.take("a")
                #expect(broker.nak(number, .dead) == .dead)
                #expect(try broker.move(number, to: "b") == true)
            }
            #expect(try broker.peek("b", .dead) == [1, 2])
            // The first task's key stays taken, now there.
            #expect(try broker.add(3, to: "a") { $0.key = [1] }.isExisting == false)
            #expect(try broker.add(4, to: "b") { $0.key = [1] } == Enqueued(id: id(1), isExisting: true))
            #expect(try broker.add(5, to: "b") { $0.key = [2] }.isExisting == false)
            #expect(try broker.add(6, to: "b", now: 500) { $0.key = [1] }.isExisting == false)
        }
    }

    // MARK: Batches

    private func enqueue(
        _ numbers: [UInt64], on broker: isolated Broker, maximum: Int = .max, _ says: (UInt64, TaskOptions) -> Void
    ) throws(BatchError) -> [Enqueued] {
        var contents: [UInt8] = []
        var batch: [NewTask] = []
        for number in numbers {
            let start = contents.count
            contents += Array("\(number)".utf8)
            let options = TaskOptions()
            says(number, options)
            batch.append(NewTask(id: id(number), content: start..<contents.count, options: options))
        }
        var results: [Enqueued] = []
        guard let queue = try? broker.queue("a") else { return [] }
        try broker.enqueue(batch, contents: contents.span, in: queue, now: 0, into: &results)
        return results
    }

    @Test func aBatchIsAddedInItsOrder() throws {
        try withBroker { broker in
            let outcome = Outcome()
            _ = try broker.startWait("a", "a", noting: outcome)
            let results = try enqueue([1, 2, 3, 4], on: broker) { number, options in
                if number >= 3 { options.key = [1] }
            }
            #expect(results.map(\.id) == [id(1), id(2), id(3), id(3)])
            #expect(results.map(\.isExisting) == [false, false, false, true])
            #expect(outcome.calls == [[1, 2]])
            #expect(try broker.take("a")?.first?.content == "3")
            #expect(try enqueue([], on: broker) { _, _ in } == [])
        }
    }

    @Test func aTaskThatIsAddedWithoutContentHasNull() throws {
        try withBroker { broker in
            let bytes = Array("12".utf8)
            let queue = try broker.queue("a")
            var results: [Enqueued] = []
            let batch = [0..<1, 1..<1, 1..<2, 2..<2].enumerated().map { index, content in
                NewTask(id: id(UInt64(index)), content: content)
            }
            try broker.enqueue(batch, contents: bytes.span, in: queue, now: 0, into: &results)
            let options = TaskOptions()
            (options.key, options.onConflict) = ([7], .replace)
            // The second of these tasks replaces the first.
            for content in [0..<1, 0..<0] {
                let task = NewTask(id: id(4), content: content, options: options)
                _ = try broker.enqueue(task, content: bytes.span, in: queue, now: 0)
            }
            _ = try broker.enqueue(NewTask(id: id(5), content: 0..<0), content: Span(), in: queue, now: 0)
            let contents = try (0..<6).map { _ in try #require(try broker.take("a")?.first).content }
            #expect(contents == ["1", "null", "2", "null", "null", "null"])
        }
    }

    @Test func aBatchIsAddedAsAWholeOrNotAtAll() throws {
        try withBroker(maximumTasks: 5) { broker in
            try broker.add(1, to: "a") { $0.key = [1] }
            let bytes = broker.memoryBytes
            #expect(throws: BatchError(index: 2, reason: .keyTaken)) {
                try enqueue([2, 3, 4], on: broker) { number, options in
                    if number == 4 { (options.key, options.onConflict) = ([1], .reject) }
                }
            }
            #expect(throws: BatchError(index: 1, reason: .keyTaken)) {
                try enqueue([2, 3], on: broker) { _, options in (options.key, options.onConflict) = ([2], .reject) }
            }
            #expect(throws: BatchError(index: 4, reason: .tooManyTasks)) {
                try enqueue([2, 3, 4, 5, 6], on: broker) { _, _ in }
            }
            #expect(broker.memoryBytes == bytes)
            try broker.configure("a") { $0.maximumLength = 3 }
            let configuredBytes = broker.memoryBytes
            #expect(throws: BatchError(index: 2, reason: .queueFull)) {
                try enqueue([2, 3, 4], on: broker) { _, _ in }
            }
            #expect(broker.memoryBytes == configuredBytes)
            #expect(try broker.peek("a") == [1])
            // A task whose key is taken needs no room.
            let results = try enqueue([2, 3, 4], on: broker) { number, options in
                if number == 4 { options.key = [1] }
            }
            #expect(results.last == Enqueued(id: id(1), isExisting: true))
        }
    }

    @Test func aFullQueueRefusesNewTasksButKeepsReturningOnes() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.maximumLength = 2 }
            try broker.add(1, to: "a")
            try broker.add(2, to: "a", due: 100) { _ in }
            #expect(throws: BrokerError.queueFull) { try broker.add(3, to: "a") }
            #expect(throws: BrokerError.queueFull) { try broker.add(3, to: "a") { _ in } }
            _ = try broker.take("a")
            #expect(throws: BrokerError.queueFull) { try broker.add(3, to: "a") }
            #expect(broker.nak(1) == true)
            _ = try broker.take("a")
            #expect(broker.ack(1) == true)
            try broker.add(3, to: "a")
            try broker.add(4, to: "b")
            #expect(try broker.move("b", to: "a") == 1)
            #expect(try broker.statistics("a").ready == 2)
        }
    }
}

extension Broker {
    func move(_ source: String, to target: String, _ state: TaskState = .ready, limit: Int = .max) throws -> Int? {
        try sweep {
            try $0.move($0.queue(source), to: $0.queue(target), state: state, limit: limit, now: 0, completion: $1)
        }.first
    }
}
