// Sources at work, in virtual time and without a RabbitMQ: messages become tasks and are acknowledged.

import Foundation
import Queues
import Support
import Testing

@testable import emq

@Suite(.blocking) struct SourceRuntimeTests {
    // MARK: Storing

    @Test func messagesBecomeTasksInTheirOrderAndAreAcknowledgedTogether() throws {
        let world = try SourceWorld()
        try world.put(#", "prefetch": 7"#)
        let consumer = try #require(world.rabbit.consumers.first)
        let settings = consumer.settings
        #expect(settings.prefetch == 7 && settings.queue == Array("jobs".utf8) && settings.url.password == "secret")
        #expect(settings.name == "emq source s" && !settings.declaresQueue)
        #expect(settings.maximumContentByteCount == 128 << 20 && settings.maximumHeldByteCount == 1 << 20)
        #expect(try world.state() == "connecting")
        consumer.consume(readyCount: 3)
        world.turn()
        #expect(
            world.rabbit.lines == [
                #"info consuming source="s" amqp="amqp://ann:***@h" amqp_queue="jobs" messages=3"#
            ])
        var status = try world.status()
        #expect(status["state"] as? String == "consuming" && status["lag"] as? Int == 3)
        for number in 1...3 { consumer.deliver("\(number)") }
        world.turn()
        #expect(try world.numbers() == [1, 2, 3])
        #expect(consumer.acknowledgements == [3] && world.waitingByteCount == 0)
        status = try world.status()
        #expect(status["messages"] as? Int == 3 && status["unacknowledged"] as? Int == 0)
        #expect(world.waitingByteCount == 0)
        consumer.deliver("4")
        world.turn()
        #expect(consumer.acknowledgements == [3, 4])
    }

    @Test func aWaitingWorkerGetsTheTasksAsSoonAsThereAreEnough() throws {
        let (world, consumer) = try SourceWorld.consuming()
        nonisolated(unsafe) var counts: [Int] = []
        let now = world.server.now
        world.server.withBroker { broker in
            guard let queue = try? broker.queue(named: Array("q".utf8).span) else { return }
            _ = broker.wait([queue, queue], deadline: now + 60_000, now: now) { counts.append($0.count { $0 != nil }) }
        }
        consumer.deliver("1")
        world.turn()
        #expect(counts.isEmpty)
        consumer.deliver("2")
        world.turn()
        #expect(counts == [2])
        #expect(try world.tasks("q", "dispatched").count == 2)
    }

    @Test func aMessageIsAcknowledgedOnlyWhenItsTaskIsSafe() throws {
        let durability = TestDurability()
        let (world, consumer) = try SourceWorld.consuming(durability: durability)
        durability.safeSequence = durability.writtenSequence
        consumer.deliver("1")
        consumer.deliver("2")
        world.turn()
        let first = durability.writtenSequence
        consumer.deliver("3")
        world.turn()
        #expect(durability.writtenSequence > first)
        #expect(try world.numbers() == [1, 2, 3])
        #expect(try consumer.acknowledgements.isEmpty && world.status()["unacknowledged"] as? Int == 3)
        durability.safeSequence = first
        world.turn()
        #expect(try consumer.acknowledgements == [2] && world.status()["unacknowledged"] as? Int == 1)
        durability.safeSequence = durability.writtenSequence
        world.turn()
        #expect(try consumer.acknowledgements == [2, 3] && world.status()["unacknowledged"] as? Int == 0)
    }

    @Test func sourcesComeAndGoWhileTheServerRuns() throws {
        let world = try SourceWorld()
        for round in 1...3 {
            for _ in 0..<3 { world.turn() }
            try world.put()
            let consumer = try #require(world.rabbit.consumers.last)
            #expect(world.rabbit.consumers.count == round)
            consumer.consume()
            consumer.deliver("\(round)")
            world.turn()
            #expect(try world.numbers() == Array(1...round))
            try world.send("DELETE", "/source/s")
        }
    }

    /// Other clients are served between the turns.
    @Test func manyMessagesTakeManyTurns() throws {
        let (world, consumer) = try SourceWorld.consuming()
        for number in 1...10_000 { consumer.deliver("\(number)") }
        for turn in 1...20 {
            world.server.step()
            var count = 0
            world.server.withBroker { count = $0.counts.tasks }
            #expect(count == turn * 500 && consumer.acknowledgements.last == UInt64(count))
            #expect(world.waitingByteCount >= (10_000 - count) * 300)
            if turn < 20 { #expect(world.server.nextTurn == world.server.now) }
        }
        #expect(world.waitingByteCount == 0)
        #expect(try world.numbers() == Array(1...1000))
        #expect(try world.status()["messages"] as? Int == 10_000)
    }

    @Test func largeMessagesTakeManyTurns() throws {
        let (world, consumer) = try SourceWorld.consuming()
        let megabyte = "\"" + String(repeating: "x", count: 1 << 20) + "\""
        for _ in 0..<10 { consumer.deliver(megabyte) }
        for expected in [4, 8, 10] {
            world.server.step()
            var count = 0
            world.server.withBroker { count = $0.counts.tasks }
            #expect(count == expected)
        }
        #expect(world.waitingByteCount == 0 && consumer.acknowledgements == [4, 8, 10])
    }

    // MARK: Properties

    @Test func aMessageIsTracedByItsHeaders() throws {
        let (world, consumer) = try SourceWorld.consuming()
        consumer.deliver("1", requestID: "r-1")
        consumer.deliver("2")
        world.turn()
        let tasks = try world.send("GET", "/peek/q?n=9").tasks
        #expect(tasks.map { $0?["request_id"] as? String } == ["r-1", nil])
    }

    @Test func aMessageWithATakenMessageIDAddsNoTaskButIsAcknowledged() throws {
        let (world, consumer) = try SourceWorld.consuming()
        consumer.deliver("1", id: "m")
        consumer.deliver("2", id: "m")
        consumer.deliver("3", id: "n")
        world.turn()
        #expect(try world.numbers() == [1, 3] && consumer.acknowledgements == [3])
        var status = try world.status()
        #expect(status["messages"] as? Int == 3 && status["duplicates"] as? Int == 1)
        let holder = try world.send("GET", "/key/q?key=m").object
        #expect(holder["key"] as? String == "m" && holder["metadata"] as? [String: String] == ["message_id": "m"])
        // The message id stays taken after the task is done, but not for ever.
        let task = try #require(holder["id"] as? String)
        try world.send("POST", "/wait/", #"{"queues": ["q"], "timeout": 0}"#)
        try world.send("POST", "/ack/", #"{"ids": ["\#(task)"]}"#)
        consumer.deliver("4", id: "m")
        world.turn()
        #expect(try world.numbers() == [3])
        world.advance(3600)
        consumer.deliver("5", id: "m")
        world.turn()
        #expect(try world.numbers() == [3, 5])
        status = try world.status()
        #expect(status["messages"] as? Int == 5 && status["duplicates"] as? Int == 2)
    }

    @Test func messageIDsAreNoKeysIfTheSourceSaysSoOrIfTheyAreTooLong() throws {
        for (more, id) in [(#", "unique_for": 0"#, "m"), ("", String(repeating: "m", count: 256))] {
            let (world, consumer) = try SourceWorld.consuming(more)
            consumer.deliver("1", id: id)
            consumer.deliver("2", id: id)
            world.turn()
            #expect(try world.numbers() == [1, 2] && consumer.acknowledgements == [2])
            for task in try world.details() {
                #expect(task["key"] == nil && task["metadata"] as? [String: String] == ["message_id": id])
            }
            #expect(try world.status()["duplicates"] as? Int == 0)
        }
        let longest = String(repeating: "m", count: 255)
        let (world, consumer) = try SourceWorld.consuming()
        for _ in 0..<2 { consumer.deliver("1", id: longest) }
        world.turn()
        #expect(try world.details().map { $0["key"] as? String } == [longest])
    }

    @Test func priorityAndExpirationAreThoseOfTheTask() throws {
        let (world, consumer) = try SourceWorld.consuming()
        consumer.deliver("1", expirationMilliseconds: 1500)
        consumer.deliver("2", priority: 255)
        consumer.deliver("3", priority: 5)
        consumer.deliver("4", expirationMilliseconds: .max)
        consumer.deliver("5", priority: 127)
        world.turn()
        let tasks = try world.details()
        #expect(tasks.compactMap { $0["content"] as? Int } == [2, 5, 3, 1, 4])
        #expect(tasks.map { $0["priority"] as? Int ?? 0 } == [127, 127, 5, 0, 0])
        let lives = tasks.map { (task: [String: Any]) in
            ((task["expires"] as? Double ?? 0) - (task["enqueued"] as? Double ?? 0)).rounded()
        }
        #expect(lives == [86_400, 86_400, 86_400, 2, 4_294_967_295])
        world.advance(1.5)
        #expect(try world.numbers() == [2, 5, 3, 4])
    }

    // MARK: Taskqueue's file

    @Test func aMessageOfTaskqueueSaysWhenAndInWhichQueueItsTaskIsSent() throws {
        let world = try SourceWorld("server = amqp://u:p@h/\nbase_url = http://127.0.0.1:9/\n[a]\n[b]\n")
        world.turn()
        #expect(world.rabbit.consumers.count == 2)
        let consumer = try #require(world.rabbit.consumers.first { $0.settings.queue == Array("a".utf8) })
        #expect(consumer.settings.declaresQueue && consumer.settings.prefetch == 1000)
        consumer.consume()
        consumer.deliver(#"{"url": "/x", "countdown": 100, "queue": "b"}"#, id: "m")
        consumer.deliver(#"{"url": "/y", "queue": "unknown", "countdown": 50}"#)
        consumer.deliver("\"not a message\"")
        world.turn()
        #expect(consumer.acknowledgements == [3])
        let delayed = try world.details("b", "delayed")
        #expect(delayed.count == 1 && delayed[0]["key"] as? String == "m")
        #expect(try world.tasks("a", "delayed").count == 1)
        let dead = try world.tasks("a", "dead")
        #expect(dead.count == 1)
        #expect(
            (dead.first?["error"] as? String)?.contains("its content is not a message: a message must be a JSON object")
                == true, "\(dead)")
        world.advance(99.999)
        #expect(try world.tasks("b", "delayed").count == 1)
        world.advance(0.001)
        #expect(world.server.sent.map { "\($0.url)" }.contains("http://127.0.0.1:9/x"))
        // The other queue counts, too.
        try world.send("POST", "/pause/b")
        consumer.deliver(#"{"url": "/z", "queue": "b"}"#)
        world.turn()
        #expect(try world.state("a") == "waiting")
        try world.send("POST", "/resume/b")
        world.advance(1)
        #expect(consumer.acknowledgements == [3, 4])
    }

    @Test func aFileSaysHowLongMessageIDsAreKeys() throws {
        for (line, count) in [("", 1), ("unique_for = 60\n", 1), ("unique_for = 0\n", 2)] {
            let world = try SourceWorld("server = amqp://h/\nbase_url = http://127.0.0.1:9/\n\(line)[a]\n")
            world.turn()
            let consumer = try #require(world.rabbit.consumers.first)
            consumer.consume()
            for _ in 0..<2 { consumer.deliver(#"{"url": "/x", "countdown": 100}"#, id: "1") }
            world.turn()
            #expect(try world.tasks("a", "delayed").count == count, "\(line)")
        }
    }
}
