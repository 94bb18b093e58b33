// The requests about queues and the server, each against the real server.

import EMQClient
import Support
import Testing

@Suite(.byTurns, .timeLimit(.minutes(10))) struct QueueRequestTests {
    private let world: World
    private var client: EMQClient { world.client }

    init() async throws { world = try await World() }

    /// Adds tasks, and makes those with an error dead.
    private func fill(_ queue: String, errors: [String?]) async throws -> [String] {
        let tasks = try errors.indices.map { try NewTask($0, options: TaskOptions(metadata: ["n": "\($0)"])) }
        let ids = try await client.enqueue(tasks, to: queue).map(\.id)
        let taken = try await client.wait(for: queue, max: 1000)
        for (task, error) in zip(taken, errors) {
            if let error {
                try await client.nack(task, error: error, dead: true)
            } else {
                try await client.release(task)
            }
        }
        return ids
    }

    @Test func peekingTakesNothing() async throws {
        let ids = try await client.enqueue((0..<5).map { try NewTask($0) }, to: "q").map(\.id)
        let first = try await client.peek("q", count: 2)
        #expect(first.elements.map(\.id) == Array(ids[..<2]) && first.next == ids[1])
        let second = try await client.peek("q", count: 10, after: first.next, contentLimit: 0)
        #expect(second.elements.map(\.id) == Array(ids[2...]) && second.next == nil)
        #expect(second.elements.allSatisfy { $0.content == nil && $0.contentBytes == 1 })
        #expect(try await client.peek("q", state: .dead).elements.isEmpty)
        try await client.cancel(ids[1])
        #expect(await refusal { _ = try await client.peek("q", after: ids[1]) }?.type == .pageGone)
    }

    @Test func aFilterSelectsTasks() async throws {
        let ids = try await fill("q", errors: ["busy\nline 2", "no route to host", "busy", nil])
        let busy = TaskFilter(error: "busy")
        #expect(
            try await client.peek("q", state: .dead, count: 9, filter: busy).elements.map(\.id) == [ids[0], ids[2]])
        let groups = try await client.errors(in: "q")
        #expect(groups.errors.map(\.error) == ["busy", "no route to host"] && groups.errors.map(\.count) == [2, 1])
        #expect(groups.groups == 2 && groups.tasks == 3 && groups.errors[0].queue == "q")
        #expect(try await client.errors(count: 1, match: "q*").errors.count == 1)
        #expect(try await client.errors(prefix: "other").tasks == 0)
        let old = TaskFilter(errorMatch: "b*", olderThan: .seconds(3600))
        #expect(try await client.kick("q", filter: old).count == 0)
        let kicked = try await client.kick("q", count: 1, filter: busy)
        #expect(kicked.count == 1 && !kicked.isStopped && kicked.missing.isEmpty)
        #expect(try await client.move("q", to: "p", state: .dead, filter: busy).count == 1)
        let new = TaskFilter(newerThan: .milliseconds(3_600_500))
        #expect(try await client.purge("q", state: .dead, filter: new).count == 1)
        #expect(try await client.purge("q").count == 2)
    }

    @Test func tasksAreMovedAndKickedByTheirIds() async throws {
        let ids = try await fill("q", errors: ["a", nil])
        let other = try await client.enqueue(1, to: "other").id
        let moved = try await client.move(ids: [other, ids[1], ids[1]], to: "target")
        #expect(moved.count == 2 && moved.missing == [ids[1]])
        #expect(try await client.peek("target", count: 9).elements.map(\.id) == [other, ids[1]])
        let kicked = try await client.kick(ids: [ids[0], other])
        #expect(kicked.count == 1 && kicked.missing == [other])
        let late = try await client.enqueue(1, to: "late", options: TaskOptions(delay: .seconds(600))).id
        #expect(try await client.kick("late", state: .delayed).count == 1)
        #expect(try await client.task(late).state == .ready)
    }

    @Test func deadLettersReturn() async throws {
        var configuration = QueueConfiguration()
        (configuration.maxRetries, configuration.deadLetter) = (0, .value("graveyard"))
        try await client.setConfiguration(configuration, of: "q")
        let id = try await client.enqueue(1, to: "q").id
        try await client.nack(#require(try await client.wait(for: "q").first), error: "no")
        let dead = try await client.task(id)
        #expect(dead.queue == "graveyard" && dead.origin == "q" && dead.state == .ready)
        #expect(try await client.kick(ids: [id], toOrigin: true).count == 1)
        #expect(try await client.task(id).queue == "q")
    }

    @Test func aPausedQueueGivesOutNothing() async throws {
        #expect(try await client.pause("new"))
        try await client.enqueue(1, to: "new")
        #expect(try await !client.pause("new"))
        #expect(try await client.wait(for: "new").isEmpty)
        let stats = try await client.stats(of: "new")
        #expect(stats.paused && stats.pausedSince != nil && stats.ready == 1)
        #expect(try await !client.resume("new"))
        #expect(try await client.wait(for: "new").count == 1)
    }

    @Test func queuesAreListedInPages() async throws {
        for name in ["a 1", "a&2", "a/3", "b"] { try await client.enqueue(1, to: name) }
        #expect(try await client.queues().elements == ["a 1", "a&2", "a/3", "b"])
        let selection = QueueSelection(prefix: "a", count: 2)
        let page = try await client.queues(selection)
        #expect(page.elements == ["a 1", "a&2"])
        let next = try await client.queues(QueueSelection(prefix: "a", count: 2, after: page.next))
        #expect(next.elements == ["a/3"] && next.next == nil)
        #expect(try await client.queues(QueueSelection(match: "*2", sort: "ready")).elements == ["a&2"])
    }

    @Test func statisticsCountEverything() async throws {
        // Without keys, which the server would count as well.
        let options = TaskOptions(isRepeatable: false)
        try await client.enqueue([NewTask(1, options: options), NewTask(2, options: options)], to: "s/a")
        try await client.ack(#require(try await client.wait(for: "s/a").first))
        let one = try await client.stats(of: "s/a")
        #expect(one.queue == "s/a" && one.ready == 1 && one.dispatched == 0 && one.waiters == 0 && !one.paused)
        #expect(one.totals.enqueued == 2 && one.totals.acked == 1 && one.oldestReady != nil)
        // The server has a history of the queue after some seconds.
        let history = try await soon("the history") { try await client.stats(of: "s/a", history: .minute).history }
        #expect(history.interval == .seconds(60) && history.enqueued.count == 60)
        let all = try await client.allStats(history: .fiveMinutes, trend: true)
        #expect(all.queues?["s/a"]?.trend?.count == 30 && all.history?.interval == .seconds(300))
        #expect(all.tasks == 1 && all.states?["ready"] == 1 && all.oldest?.queue == "s/a", "\(all)")
        #expect(all.server?.version.isEmpty == false && (all.memory?.limit ?? 0) > 0 && (all.connections ?? 0) > 0)
        try await client.enqueue(3, to: "s/b")
        let groups = try await client.allStats(QueueSelection(sort: "ready"), offset: 0, delimiter: "/")
        guard case .group(let group) = try #require(groups.rows?.first) else {
            Issue.record("there is no group")
            return
        }
        #expect(group.group == "s/" && group.queues == 2 && group.ready == 2 && groups.count == 1)
    }

    @Test func configurationsAreSetChangedAndRemoved() async throws {
        #expect(try await client.configuration(of: "q").maxRetries == nil)
        var configuration = QueueConfiguration()
        (configuration.retry, configuration.expiry, configuration.maxRetries) = (.milliseconds(1500), .unlimited, 3)
        (configuration.backoff, configuration.keep) = (.constant(.seconds(2)), .seconds(60))
        (configuration.priority, configuration.maxLength, configuration.showContent) = (5, .value(100), false)
        (configuration.deadExpiry, configuration.onExpiry) = (.seconds(3600), "dead")
        let set = try await client.setConfiguration(configuration, of: "q")
        #expect(set.retry == .milliseconds(1500) && set.expiry == .unlimited && set.maxRetries == 3)
        #expect(set.backoff?.min == .seconds(2) && set.priority == 5 && set.maxLength == 100)
        #expect(set.showContent == false && set.onExpiry == "dead" && set.deadExpiry == .seconds(3600))
        // What a program reads it may write again.
        #expect(try await client.setConfiguration(client.configuration(of: "q"), of: "q").keep == .seconds(60))
        let patched = try await client.patchConfiguration(["keep": Int?.none, "priority": 6], of: "q", dryRun: true)
        #expect(patched.keep == nil && patched.priority == 6)
        #expect(try await client.configuration(of: "q").keep == .seconds(60))
        try await client.patchConfiguration(["keep": 1], of: "q")
        #expect(try await client.configuration(of: "q").keep == .seconds(1))
        try await client.deleteConfiguration(of: "q", dryRun: true)
        try await client.deleteConfiguration(of: "q")
        #expect(try await client.configuration(of: "q").keep == nil)
        configuration.priority = 1000
        #expect(await refusal { try await client.setConfiguration(configuration, of: "q") }?.field == "priority")
    }

    @Test func defaultsAreSetChangedAndRemoved() async throws {
        var defaults = QueueConfiguration()
        defaults.keep = .seconds(60)
        #expect(try await client.setDefaults(defaults, dryRun: true).keep == .seconds(60))
        #expect(try await client.defaults().keep == nil)
        try await client.setDefaults(defaults)
        #expect(try await client.patchDefaults(["max_retries": 7]).maxRetries == 7)
        #expect(try await client.defaults().keep == .seconds(60))
        try await client.deleteDefaults(dryRun: true)
        try await client.deleteDefaults()
        #expect(try await client.defaults().keep == nil)
    }

    @Test func sourcesAreShownPausedAndRemoved() async throws {
        let definition = SourceDefinition(amqp: "amqp://ann:secret@localhost:1/", queue: "orders", prefetch: 5)
        #expect(await refusal { try await client.setSource("shop", definition) }?.type == .pushDisabled)
        try await sourcesOf(World(["--push", "loopback"]), definition)
    }

    private func sourcesOf(_ world: World, _ definition: SourceDefinition) async throws {
        let client = world.client
        #expect(try await client.sources().isEmpty)
        #expect(await refusal { _ = try await client.source("shop") }?.type == .noSuchSource)
        do {
            let source = try await client.setSource("shop", definition)
            #expect(source.queue == "orders" && source.into == "orders" && source.prefetch == 5)
            #expect(source.amqp?.contains("secret") == false && source.uniqueFor == .seconds(600))
        } catch let error as EMQError where error.type == .libraryMissing {
            return print("skipped: there is no librabbitmq")
        }
        #expect(try await client.pauseSource("shop").state == "paused")
        #expect(try await client.sources().keys.sorted() == ["shop"])
        #expect(try await client.resumeSource("shop").state != "paused")
        try await client.deleteSource("shop")
        #expect(await refusal { try await client.deleteSource("shop") }?.type == .noSuchSource)
    }

    @Test func theServerShowsItself() async throws {
        #expect(try await client.alerts().status == "ok")
        #expect(try await client.operations().isEmpty)
        #expect(await refusal { try await client.stopOperation(1) }?.status == 404)
        #expect(try await client.health().status == "ok")
        #expect(try await client.isHealthy())
        #expect(try await client.metrics().contains("emq_ready 1"))
        try await client.enqueue(1, to: "mail", options: TaskOptions(key: "bill-17"))
        #expect(try await client.queueMetrics(match: "mail*", count: 10).contains("queue=\"mail\""))
        #expect(try await client.openAPI().description.contains("\"openapi\""))
        let access = try await client.access()
        #expect(!access.tokens && access.permissions.contains("enqueue") && access.queues == ["*"])
        let found = try await client.search("bill-17", count: 5)
        #expect(found.tasks.map(\.key) == ["bill-17"] && found.tasks.first?.state == .ready)
        #expect(try await client.search("MAI").queues == ["mail"])
        _ = try await client.wait(for: "mail", worker: "host-9")
        let workers = try await client.workers(match: "*-9", sort: "held", count: 5)
        #expect(workers.workers.map(\.name) == ["host-9"] && workers.workers[0].tasks.map(\.queue) == ["mail"])
    }

    @Test func eventsShowWhatChanges() async throws {
        let events = Notes<ServerEvent>()
        let watching = Task { [client] in
            for try await event in client.events(of: ["/peek/mail", "/task/AaH8ekX5cACuES467dOuXw"]) {
                events.add(event)
            }
        }
        let first = try await events.reach(2).sorted { $0.index < $1.index }
        #expect(first.map(\.status) == [200, 404] && first[0].body.description == "[]")
        let id = try await client.enqueue(1, to: "mail").id
        let tasks = try await events.reach(3)[2].decode([TaskDetails].self)
        #expect(tasks.map(\.id) == [id])
        watching.cancel()
        await #expect(throws: CancellationError.self) { try await watching.value }
        let refused = await refusal {
            for try await _ in client.events(of: ["/metrics"]) { Issue.record("metrics have no events") }
        }
        #expect(refused?.status == 400)
        let ending = Task { [client] in for try await event in client.events(of: ["/queues/"]) { events.add(event) } }
        try await events.reach(4)
        world.server.signal(15)
        try await ending.value
    }
}
