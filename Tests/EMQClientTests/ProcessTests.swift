// Work on tasks one by one: `process`, and the sequence of tasks.

import EMQClient
import Support
import Testing

@Suite(.byTurns, .timeLimit(.minutes(10))) struct ProcessTests {
    private struct Flaw: Error, CustomStringConvertible {
        let description: String
    }

    private let world: World
    private let lost = Notes<String>()
    private let client: EMQClient

    init() async throws {
        world = try await World()
        client = try world.other(
            EMQClient.Options { [lost] in if case .leaseLost(let receipt) = $0 { lost.add(receipt) } })
    }

    /// Adds a task, and takes it.
    private func take(
        lease: Duration? = nil, options: TaskOptions = TaskOptions(keep: .seconds(60))
    ) async throws -> EMQTask {
        try await client.enqueue("x", to: "q", options: options)
        return try #require(try await client.wait(for: "q", lease: lease).first)
    }

    @Test func workThatReturnsIsDone() async throws {
        let task = try await take()
        #expect(try await client.process(task) { try $0.decode(String.self).utf8.count } == 1)
        #expect(try await client.result(of: task.id).decode(Int.self) == 1)
        let second = try await take()
        try await client.process(second) { _ in }
        let outcome = try await client.result(of: second.id)
        #expect(outcome.state == .done && outcome.result == nil)
    }

    @Test func workThatThrowsHasFailed() async throws {
        let task = try await take()
        await #expect(throws: Flaw.self) {
            try await client.process(task) { _ in throw Flaw(description: String(repeating: "ä", count: 9000)) }
        }
        let failed = try await client.task(task.id)
        #expect(failed.state == .ready && failed.retries == 1)
        #expect(failed.error == String(repeating: "ä", count: 5000))
        try await client.purge("q")
        let second = try await take()
        await #expect(throws: Retry.self) {
            try await client.process(second) { _ in throw Retry(after: .seconds(600), "busy") }
        }
        let delayed = try await client.task(second.id)
        #expect(delayed.state == .delayed && delayed.error == "busy" && delayed.retries == 1)
        let third = try await take()
        await #expect(throws: Dead.self) { try await client.process(third) { _ in throw Dead("no use") } }
        #expect(try await client.task(third.id).state == .dead)
        let fourth = try await take()
        await #expect(throws: Release.self) {
            try await client.process(fourth) { _ in throw Release(for: .seconds(600)) }
        }
        let released = try await client.task(fourth.id)
        #expect(released.state == .delayed && released.retries == 0 && released.error == nil)
    }

    @Test func aResultThatCannotBeKeptFailsTheAttempt() async throws {
        let task = try await take()
        await #expect(throws: EncodingError.self) { try await client.process(task) { _ in Double.infinity } }
        #expect(try await client.task(task.id).retries == 1)
        try await client.purge("q")
        let second = try await take()
        let deep = try RawJSON(String(repeating: "[", count: 512) + String(repeating: "]", count: 512))
        #expect(await refusal { _ = try await client.process(second) { _ in deep } }?.type == .jsonTooDeep)
        #expect(try await client.task(second.id).error?.contains("result") == true)
    }

    @Test func aLeaseIsExtendedWhileWorkGoesOn() async throws {
        let task = try await take(lease: .seconds(6))
        let end = try #require(try await client.task(task.id).leaseEnd)
        try await client.process(task) { [client] task in
            try await soon("the extension") { try await client.task(task.id).leaseEnd ?? 0 > end + 1 ? true : nil }
        }
        #expect(try await client.task(task.id).state == .done)
    }

    @Test func aLostLeaseCancelsTheWork() async throws {
        let task = try await take(lease: .milliseconds(600))
        let started = Gate()
        let work = Task { [client] in
            try await client.process(task) { _ in
                started.open()
                try await Task.sleep(for: .seconds(3600))
            }
        }
        try await started.pass()
        try await client.cancel(task.id)
        let error = await refusal { try await work.value }
        #expect(error?.kind == .leaseLost && error?.detail.contains(task.id) == true)
        #expect(lost.all == [task.receipt])
        let totals = try await client.stats(of: "q").totals
        #expect(totals.acked == 0 && totals.nacked == 0 && totals.released == 0)
    }

    @Test func workThatIsCancelledIsGivenBack() async throws {
        let task = try await take()
        let started = Gate()
        let work = Task { [client] in
            try await client.process(task) { _ in
                started.open()
                try await Task.sleep(for: .seconds(3600))
            }
        }
        try await started.pass()
        work.cancel()
        await #expect(throws: CancellationError.self) { try await work.value }
        let again = try #require(try await client.wait(for: "q").first)
        #expect(again.id == task.id && again.attempt == 1)
        // Work may throw such an error though nobody has cancelled it: that is a failure.
        await #expect(throws: CancellationError.self) {
            try await client.process(again) { _ in throw CancellationError() }
        }
        #expect(try await client.task(task.id).retries == 1)
    }

    @Test func aSequenceGivesOutTasksAndGivesBackTheRest() async throws {
        try await client.enqueue((0..<10).map { try NewTask($0) }, to: "many")
        var contents: [Int] = []
        for try await task in client.tasks(["none", "many"], lease: .seconds(60), worker: "w", prefetch: 4) {
            #expect(task.lease == .seconds(60) && task.attempt == 1)
            contents.append(try task.decode())
            #expect(try await client.ack(task))
            if contents.count == 6 { break }
        }
        #expect(contents == Array(0..<6))
        try await soon("what was held") { try await client.stats(of: "many").ready == 4 ? true : nil }
        #expect(
            try await client.peek("many", count: 9).elements.map { try $0.content?.decode(Int.self) } == [6, 7, 8, 9])
        #expect(try await client.stats(of: "many").dispatched == 0)
    }

    @Test func heldTasksKeepTheirLeases() async throws {
        try await client.enqueue((0..<3).map { try NewTask($0) }, to: "many")
        var ends: [Double] = []
        for try await task in client.tasks("many", lease: .seconds(9), prefetch: 3) {
            if ends.isEmpty {
                let held = try await client.peek("many", state: .dispatched, count: 9).elements.map(\.id)
                let first = try await held.asyncMap { try await client.task($0).leaseEnd ?? 0 }
                ends = first
                try await soon("the extension of what is held") {
                    let now = try await held.asyncMap { try await client.task($0).leaseEnd ?? 0 }
                    return zip(now, first).count { $0 > $1 + 0.5 } == 2 ? true : nil
                }
            } else {
                #expect(try await client.ack(task))
            }
            if try task.decode(Int.self) == 2 { break }
        }
        #expect(try await client.stats(of: "many").totals.acked == 2)
    }

    @Test func aSequenceWaitsWhileTheServerIsAway() async throws {
        let server = try ScriptedServer(
            [.answer(503, problem("stopping", 503)), .close, .answer(502, "<html>"), .pass], to: world.server)
        let other = try EMQClient(server.url, options: trusting(EMQClient.Options(tries: 1)))
        let id = try await client.enqueue(1, to: "q").id
        for try await task in other.tasks("q") {
            #expect(task.id == id)
            break
        }
        let foreign = try ScriptedServer([.answer(200, "<html>")])
        let nowhere = try EMQClient(foreign.url, options: trusting(EMQClient.Options()))
        let error = await refusal { for try await _ in nowhere.tasks("q") {} }
        #expect(error?.kind == .unexpectedAnswer)
    }
}
