// The requests about tasks, each against the real server.

import EMQClient
import Support
import Testing

@Suite(.byTurns, .timeLimit(.minutes(10))) struct TaskRequestTests {
    private let world: World
    private var client: EMQClient { world.client }

    init() async throws { world = try await World() }

    private func take(_ queue: String, max: Int = 1) async throws -> [EMQTask] {
        try await client.wait(for: queue, max: max, timeout: .seconds(60))
    }

    @Test func aTaskHasTheOptionsOfItsEnqueue() async throws {
        let options = TaskOptions(
            lease: .milliseconds(30_500), expiry: .unlimited, priority: -7, maxRetries: 3, maxCrashes: .unlimited,
            backoff: Backoff(min: .milliseconds(100), max: .seconds(60), doublings: 4, jitter: 0.5), key: "k/ä",
            uniqueFor: .seconds(600), keep: .seconds(60), metadata: ["trace": "7f\n\"3a"], requestID: "order-17",
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        let added = try await client.enqueue(1, to: "mail", options: options)
        let task = try await client.task(added.id)
        #expect(task.queue == "mail" && task.state == .ready && task.attempt == 0 && task.retries == 0)
        #expect(task.retry == .milliseconds(30_500) && task.priority == -7 && task.expires == nil)
        #expect(task.maxRetries == 3 && task.maxCrashes == .unlimited && task.backoff == options.backoff)
        #expect(task.key == "k/ä" && task.keep == .seconds(60) && task.metadata == ["trace": "7f\n\"3a"])
        #expect(task.requestID == "order-17" && task.traceparent == options.traceparent)
        #expect(try #require(task.uniqueUntil) > task.enqueued ?? .infinity)
        let taken = try #require(try await take("mail").first)
        #expect(taken.id == added.id && taken.attempt == 1 && taken.lease == .milliseconds(30_500))
        #expect(taken.key == "k/ä" && taken.metadata == ["trace": "7f\n\"3a"] && taken.requestID == "order-17")
        #expect(taken.traceparent == options.traceparent && taken.queue == "mail")
    }

    @Test func aQueueMayHaveAnyName() async throws {
        for name in ["a/b/", "ä ö", "?x=1&y#z%41", "+", "..", "'\"\\"] {
            let id = try await client.enqueue("x", to: name).id
            #expect(try await client.task(id).queue == name)
            #expect(try await take(name).first?.queue == name)
            #expect(try await client.stats(of: name).dispatched == 1)
        }
    }

    @Test func tasksComeLater() async throws {
        let soon = try await client.enqueue(1, to: "later", options: TaskOptions(delay: .seconds(600))).id
        #expect(try await client.task(soon).state == .delayed)
        let eta = try #require(try await client.allStats().server?.now) + 600.25
        let then = try await client.task(client.enqueue(2, to: "later", options: TaskOptions(eta: eta)).id)
        #expect(abs(try #require(then.due) - eta) < 0.002)
        #expect(try await client.wait(for: "later").isEmpty)
    }

    @Test func aKeyIsTakenOnce() async throws {
        let keep = TaskOptions(key: "k")
        let first = try await client.enqueue("a", to: "keys", options: keep)
        let second = try await client.enqueue("b", to: "keys", options: keep)
        #expect(!first.existing && second.existing && second.id == first.id)
        let error = await refusal {
            try await client.enqueue("c", to: "keys", options: TaskOptions(key: "k", onConflict: .reject))
        }
        #expect(error?.type == .keyTaken && error?.status == 409)
        let replace = TaskOptions(key: "k", onConflict: .replace)
        #expect(try await client.enqueue("d", to: "keys", options: replace).id == first.id)
        let holder = try await client.key("k", in: "keys")
        #expect(holder.id == first.id && holder.state == .ready && holder.queue == "keys")
        #expect(await refusal { try await client.freeKey("k", in: "keys") }?.type == .taskUnfinished)
        #expect(try await take("keys").first?.decode(String.self) == "d")
        #expect(await refusal { _ = try await client.key("none", in: "keys") }?.type == .noSuchKey)
        for options in [TaskOptions(onConflict: .reject), TaskOptions(uniqueFor: .seconds(60))] {
            let error = await refusal { try await client.enqueue("e", to: "keys", options: options) }
            #expect(error?.type?.description == "missing-field")
        }
    }

    @Test func aKeptKeyIsFreed() async throws {
        let options = TaskOptions(key: "a&b=c d", uniqueFor: .seconds(600))
        let first = try await client.enqueue(1, to: "kept", options: options)
        try await client.ack(#require(try await take("kept").first))
        let second = try await client.enqueue(2, to: "kept", options: options)
        #expect(second.existing && second.id == first.id)
        let holder = try await client.key("a&b=c d", in: "kept")
        #expect(holder.state == nil && holder.key == "a&b=c d")
        #expect(try #require(holder.until) > (try #require(holder.since)) + 500)
        try await client.freeKey("a&b=c d", in: "kept")
        #expect(try await !client.enqueue(3, to: "kept", options: options).existing)
        #expect(await refusal { try await client.freeKey("other", in: "kept") }?.type == .noSuchKey)
    }

    @Test func manyTasksAreAddedAllOrNone() async throws {
        let key = TaskOptions(key: "three")
        let tasks = [
            try NewTask(1), try NewTask(2, options: TaskOptions(priority: 5)), try NewTask(3, options: key),
            try NewTask(4, options: key),
        ]
        let added = try await client.enqueue(tasks, to: "numbers")
        #expect(added.map(\.existing) == [false, false, false, true])
        #expect(added[2].id == added[3].id && Set(added.map(\.id)).count == 3)
        #expect(try await take("numbers", max: 10).map { try $0.decode(Int.self) } == [2, 1, 3])
        let wrong = [try NewTask(1), try NewTask(2, options: TaskOptions(priority: 500))]
        let error = await refusal { try await client.enqueue(wrong, to: "none") }
        #expect(error?.type == .invalidField && error?.field == "[1].priority")
        #expect(try await client.stats(of: "none").ready == 0)
        #expect(try await client.enqueue([NewTask](), to: "none").isEmpty)
        let tooMany = [NewTask](repeating: try NewTask(1), count: EMQClient.maximumBatchCount + 1)
        #expect(await refusal { try await client.enqueue(tooMany, to: "none") }?.kind == .invalidArgument)
        #expect(try await client.enqueue(Array(tooMany.dropLast()), to: "none").count == 10_000)
    }

    @Test func aWaitTakesFromSeveralQueuesInOrder() async throws {
        try await client.enqueue([NewTask("b1"), NewTask("b2")], to: "b")
        try await client.enqueue("a1", to: "a")
        let tasks = try await client.wait(for: ["a", "b"], max: 2, lease: .seconds(77), worker: "host-7")
        #expect(try tasks.map { try $0.decode(String.self) } == ["a1", "b1"])
        #expect(tasks.allSatisfy { $0.lease == .seconds(77) })
        #expect(try await client.task(tasks[0].id).worker == "host-7")
        #expect(try await client.wait(for: [String](), timeout: .seconds(60)).isEmpty)
        #expect(try await client.wait(for: "nothing", timeout: .milliseconds(20)).isEmpty)
        let places = try await client.waitForEach(of: ["a", "b", "c"], timeout: .milliseconds(20))
        #expect(try places.map { try $0?.decode(String.self) } == [nil, "b2", nil])
    }

    @Test func aWaitAcknowledgesFirst() async throws {
        let lost = Notes<String>()
        let client = try world.other(
            EMQClient.Options(onProblem: { problem in
                if case .leaseLost(let receipt) = problem { lost.add(receipt) }
            }))
        try await client.enqueue([NewTask(1), NewTask(2)], to: "chain")
        let first = try #require(try await client.wait(for: "chain").first)
        let second = try #require(try await client.wait(for: "chain", acknowledging: [first]).first)
        #expect(try second.decode(Int.self) == 2)
        #expect(try await client.wait(for: "chain", acknowledging: [first, second]).isEmpty)
        #expect(lost.all == [first.receipt])
        #expect(try await client.stats(of: "chain").totals.acked == 2)
    }

    @Test func anAcknowledgementHasAResultAndALog() async throws {
        let options = TaskOptions(keep: .seconds(60))
        let ids = try await client.enqueue((0..<4).map { try NewTask($0, options: options) }, to: "work").map(\.id)
        let tasks = try await take("work", max: 4)
        #expect(try await client.ack(tasks[0], result: ["sum": 3], log: "line 1\nline 2"))
        #expect(try await client.ack(tasks[1], log: "no result"))
        let both = [Acknowledgement(tasks[2], result: try RawJSON("[ 1 ]"), log: "a"), Acknowledgement(tasks[0])]
        let acknowledged = try await client.ack(both)
        #expect(acknowledged.acked == 1 && acknowledged.missing == [tasks[0].receipt])
        let byID = try await client.ack(ids: [ids[3], ids[0]])
        #expect(byID.acked == 1 && byID.missing == [ids[0]])
        let outcome = try await client.result(of: ids[0])
        #expect(outcome.state == .done && outcome.hasEnded)
        #expect(try outcome.decode([String: Int].self) == ["sum": 3])
        #expect(try await client.task(ids[0]).log == "line 1\nline 2")
        #expect(try await client.result(of: ids[1]).result == nil)
        #expect(try await client.task(ids[2]).result?.description == "[ 1 ]")
        try await client.deleteResult(of: ids[0])
        #expect(try await client.result(of: ids[0]).result == nil)
        #expect(try await client.ack([]).acked == 0)
    }

    @Test func aResultComesToWhoWaits() async throws {
        let id = try await client.enqueue(1, to: "slow").id
        #expect(try await client.result(of: id, timeout: .milliseconds(10)).state == .ready)
        async let outcome = client.result(of: id, timeout: .seconds(100))
        try await soon("the wait") { try await client.allStats().server?.waiters == 1 ? true : nil }
        try await client.ack(#require(try await take("slow").first), result: 42)
        #expect(try await outcome.decode(Int.self) == 42)
        #expect(await refusal { _ = try await client.result(of: id) }?.type == .noSuchTask)
    }

    @Test func aRefusedTaskComesBackOrDies() async throws {
        let ids = try await client.enqueue((0..<4).map { try NewTask($0) }, to: "fail").map(\.id)
        let tasks = try await take("fail", max: 4)
        let long = String(repeating: "ä", count: 6000)
        #expect(try await client.nack(tasks[0], error: long, retryAfter: .seconds(600), log: "log"))
        #expect(try await client.nack(tasks[1], error: "no use", dead: true))
        #expect(try await client.release(tasks[2]))
        #expect(try await client.release(tasks[3], for: .seconds(600)))
        #expect(try await !client.nack(tasks[0]))
        #expect(try await !client.release(tasks[2]))
        let details = try await ids.asyncMap { try await client.task($0) }
        #expect(details.map(\.state) == [.delayed, .dead, .ready, .delayed])
        #expect(details.map(\.retries) == [1, 0, 0, 0])
        #expect(details[0].error == String(repeating: "ä", count: 5000) && details[0].log == "log")
        #expect(details[1].error == "no use" && details[1].died != nil)
        #expect(details[0].attempts?.first?.outcome == "failed" && details[2].attempts?.first?.outcome == "released")
        let again = try #require(try await take("fail").first)
        #expect(again.id == ids[2] && again.attempt == 1)
        let refused = try await client.nack(ids: [again.receipt, ids[0]], error: "")
        #expect(refused.requeued == 1 && refused.dead == 0 && refused.missing == [ids[0]])
        #expect(try await client.release(ids: [again.receipt]).missing == [again.receipt])
    }

    @Test func aTouchBeginsTheLeaseAnew() async throws {
        let id = try await client.enqueue(1, to: "hold", options: TaskOptions(lease: .seconds(60))).id
        let task = try #require(try await take("hold").first)
        let end = try #require(try await client.task(id).leaseEnd)
        #expect(try await client.touch([task], lease: .seconds(6000)).isEmpty)
        #expect(try #require(try await client.task(id).leaseEnd) > end + 5000)
        #expect(try await client.touch(task, progress: ["sent": 1]))
        #expect(try await client.task(id).progress?.decode([String: Int].self) == ["sent": 1])
        try await client.cancel(id)
        #expect(try await client.touch([task]) == [task.receipt])
        #expect(try await !client.touch(task, progress: 2))
        #expect(try await client.touch(ids: [id, task.receipt]) == [id, task.receipt])
        #expect(await refusal { try await client.cancel(id) }?.type == .noSuchTask)
    }

    @Test func aLeaseThatRunsOutIsAFailedAttempt() async throws {
        let id = try await client.enqueue(1, to: "crash", options: TaskOptions(maxCrashes: 0)).id
        let task = try await client.wait(for: "crash", lease: .milliseconds(20), worker: "host-7").first
        try await soon("the end of the lease") { try await client.task(id).state == .dead ? true : nil }
        let details = try await client.task(id)
        #expect(details.crashes == 1 && details.error?.contains("host-7") == true)
        #expect(details.attempts?.first?.outcome == "timed_out")
        #expect(try await !client.ack(#require(task)))
    }

    @Test func aLongContentIsShownInPart() async throws {
        let id = try await client.enqueue(String(repeating: "x", count: 1000), to: "long").id
        let task = try await client.task(id, contentLimit: 4)
        #expect(task.content == nil && task.contentBytes == 1002 && task.contentStart == "\"xxx")
    }
}

extension Sequence where Element: Sendable {
    /// The results of calls, one after the other.
    func asyncMap<Result>(_ transform: (Element) async throws -> Result) async rethrows -> [Result] {
        var results: [Result] = []
        for element in self { results.append(try await transform(element)) }
        return results
    }
}
