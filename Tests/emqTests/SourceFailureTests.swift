// Sources when something is in the way, in virtual time: there is no room, the connection fails, the definition
// changes, the server stops.

import Foundation
import Support
import Testing

@testable import AMQP
@testable import emq

@Suite(.blocking) struct SourceRoomTests {
    @Test func whileItsQueueIsPausedASourceWaits() throws {
        let (world, consumer) = try SourceWorld.consuming()
        try world.send("POST", "/pause/q")
        for number in 1...3 { consumer.deliver("\(number)") }
        world.turn()
        #expect(consumer.acknowledgements.isEmpty && world.waitingByteCount == 3 * 301)
        let status = try world.status()
        #expect(status["state"] as? String == "waiting" && status["last_error"] as? String == "queue 'q' is paused")
        #expect(status["last_error_at"] as? Double == Double(world.server.now) / 1000)
        #expect(status["unacknowledged"] as? Int == 3 && status["messages"] as? Int == 0)
        world.advance(30)
        try world.send("POST", "/resume/q")
        world.advance(0.1)
        #expect(try world.numbers() == [1, 2, 3] && world.state() == "consuming" && world.lastError() == nil)
        #expect(consumer.acknowledgements == [3] && world.waitingByteCount == 0)
        #expect(world.rabbit.consumers.count == 1)
    }

    @Test func aFullQueueGetsOneTaskForEachThatEnds() throws {
        let (world, consumer) = try SourceWorld.consuming()
        try world.send("PUT", "/config/q", #"{"max_length": 2}"#)
        for number in 1...4 { consumer.deliver("\(number)") }
        world.turn()
        #expect(try world.numbers() == [1, 2] && consumer.acknowledgements == [2])
        #expect(try world.state() == "waiting" && world.lastError() == "queue 'q' is full (max_length)")
        for _ in 0..<2 {
            let id = try #require(try world.tasks().first?["id"] as? String)
            try world.send("DELETE", "/task/\(id)")
            world.advance(0.1)
        }
        #expect(try world.numbers() == [3, 4] && consumer.acknowledgements == [2, 3, 4])
        #expect(try world.state() == "consuming")
    }

    @Test func whileMemoryIsShortNothingIsLost() throws {
        let (world, consumer) = try SourceWorld.consuming(maximumMemoryBytes: 64 << 20)
        #expect(consumer.settings.maximumContentByteCount == 8 << 20)
        let content = "\"" + String(repeating: "x", count: 10_000_000) + "\""
        var count: UInt64 = 0
        while try world.state() == "consuming", count < 10 {
            consumer.deliver(content)
            world.turn()
            count += 1
        }
        #expect(count > 3 && count < 8)
        #expect(consumer.acknowledgements.last == count - 1)
        #expect(try world.lastError()?.hasPrefix("the server's memory for tasks is used up (") == true)
        // Messages that wait take memory from other clients too.
        #expect(world.waitingByteCount > 10_000_000)
        _ = try world.server.begin("POST", "/purge/q", service: 0)
        world.advance(0.1)
        #expect(try consumer.acknowledgements.last == count && world.state() == "consuming")
        #expect(world.waitingByteCount == 0)
    }

    @Test func whileTheDiskIsShortNothingIsLost() throws {
        let durability = TestDurability()
        let (world, consumer) = try SourceWorld.consuming(durability: durability)
        for (shortage, words) in [
            (Problem(.diskFull, "the journal has no room"), "the journal has no room"),
            (Problem.awaitsSpace, "the journal is making room"),
        ] {
            durability.shortage = shortage
            consumer.deliver("1")
            world.turn()
            #expect(try world.state() == "waiting" && world.lastError() == words)
            durability.shortage = nil
            world.advance(0.1)
            #expect(try world.state() == "consuming")
        }
        #expect(try world.numbers() == [1, 1])
        #expect(consumer.acknowledgements.isEmpty)
        durability.safeSequence = durability.writtenSequence
        world.turn()
        #expect(consumer.acknowledgements == [2])
    }

    @Test func afterTenMinutesWithoutRoomMessagesGoBackUntilThereIsRoom() throws {
        let (world, consumer) = try SourceWorld.consuming()
        try world.send("POST", "/pause/q")
        consumer.deliver("1")
        world.turn()
        let begin = world.server.now
        world.advance(599.9)
        #expect(consumer.stopTime == nil)
        world.advance(0.2)
        #expect(consumer.stopTime == begin + 600_000 && consumer.acknowledgements.isEmpty)
        #expect(world.waitingByteCount == 0)
        #expect(
            world.rabbit.lines.last
                == "warning closed the connection, so its messages went back to RabbitMQ, because nothing can be stored "
                + #"source="s" reason="queue 'q' is paused""#)
        world.advance(3600)
        #expect(world.rabbit.consumers.count == 1 && world.rabbit.lines.count == 2)
        let status = try world.status()
        #expect(status["state"] as? String == "waiting" && status["last_error"] as? String == "queue 'q' is paused")
        #expect(status["last_error_at"] as? Double == Double(begin) / 1000 && status["unacknowledged"] as? Int == 0)
        try world.send("POST", "/resume/q")
        world.advance(1)
        try #require(world.rabbit.consumers.count == 2)
        let next = world.rabbit.consumers[1]
        next.consume()
        next.deliver("1")
        world.turn()
        #expect(try world.numbers() == [1] && world.state() == "consuming" && world.lastError() == nil)
        #expect(try world.status()["messages"] as? Int == 1)
    }

    /// What waited went back with the connection, so the next connection has nothing to wait for.
    @Test func aConnectionThatFailsWhileASourceWaitsEndsTheWait() throws {
        let (world, consumer) = try SourceWorld.consuming()
        try world.send("POST", "/pause/q")
        consumer.deliver("1")
        world.turn()
        #expect(try world.state() == "waiting")
        consumer.end("RabbitMQ is stopping")
        world.turn()
        #expect(try world.state() == "retrying" && world.lastError() == "RabbitMQ is stopping")
        try world.send("POST", "/resume/q")
        world.advance(1.2)
        try #require(world.rabbit.consumers.count == 2)
        world.rabbit.consumers[1].consume()
        world.turn()
        #expect(try world.state() == "consuming")
        world.advance(3600)
        #expect(world.rabbit.consumers.count == 2 && world.rabbit.consumers[1].stopTime == nil)
    }

    @Test func aSourceThatWaitsDoesNotHoldUpOthers() throws {
        let (world, consumer) = try SourceWorld.consuming()
        try world.send("PUT", "/source/t", #"{"amqp": "amqp://h", "queue": "r"}"#)
        try world.send("POST", "/pause/q")
        consumer.deliver("1")
        world.rabbit.consumers[1].consume()
        world.rabbit.consumers[1].deliver("2")
        world.turn()
        #expect(try world.numbers("r") == [2] && world.state("t") == "consuming" && world.state("s") == "waiting")
    }
}

@Suite(.blocking) struct SourceFailureTests {
    @Test func afterAFailureASourceConnectsAgainAfterLongerAndLongerPauses() throws {
        let world = try SourceWorld()
        world.rabbit.opened = { $0.end("RabbitMQ is away") }
        try world.put()
        #expect(try world.state() == "retrying" && world.lastError() == "RabbitMQ is away")
        world.advance(200)
        let times = world.rabbit.consumers.map(\.time)
        let pauses = zip(times, times.dropFirst()).map { Double($1 - $0) / 1000 }
        #expect(pauses.count >= 8)
        for (pause, expected) in zip(pauses, [1, 2, 4, 8, 16] + [Double](repeating: 30, count: 20)) {
            #expect(pause >= expected * 0.9 && pause <= min(30, expected * 1.1), "\(pauses)")
        }
        // Said at once, and then counted once a minute.
        let lines = world.rabbit.lines
        #expect(lines.first == #"warning RabbitMQ is away; trying again, after up to 30 s source="s""#)
        for line in lines.dropFirst() {
            #expect(
                line.contains(#/trying again, after up to 30 s \(\d+ more times? in \d+ s\) source="s"$/#), "\(line)")
        }
        #expect((2...4).contains(lines.count))
    }

    @Test func aConnectionThatCannotEvenBeOpenedIsAFailureToo() throws {
        let world = try SourceWorld()
        world.rabbit.refusal = AMQPFailure("there is no thread")
        try world.put()
        #expect(try world.state() == "retrying" && world.lastError() == "there is no thread")
        world.rabbit.refusal = nil
        world.advance(1.2)
        #expect(try world.state() == "retrying" && world.rabbit.consumers.count == 1)
        world.rabbit.consumers[0].consume()
        world.turn()
        #expect(try world.state() == "consuming")
    }

    @Test func aNewFailureIsSaidAtOnce() throws {
        let world = try SourceWorld()
        var number = 0
        world.rabbit.opened = {
            number += 1
            $0.end("failure \(number)")
        }
        try world.put()
        world.advance(5)
        #expect(world.rabbit.lines.count == number && number == 3)
    }

    /// As with a message that is too large, at which each new connection fails.
    @Test func aConnectionThatAlwaysFailsSoonDoesNotFillTheLog() throws {
        let world = try SourceWorld()
        world.rabbit.opened = {
            $0.consume(readyCount: 1)
            $0.end("a message is too large")
        }
        try world.put()
        world.advance(600)
        #expect((11...30).contains(world.rabbit.consumers.count))
        // Each line is true until the next one.
        let (failures, beginnings) = (world.lines(with: "too large").count, world.lines(with: "consuming").count)
        #expect(failures <= 30 && beginnings == failures, "\(world.rabbit.lines)")
        #expect(world.rabbit.lines.last?.contains("too large") == true)
    }

    @Test func aGoodConnectionEndsThePauses() throws {
        let (world, first) = try SourceWorld.consuming()
        for _ in 0..<4 {
            world.rabbit.consumers.last?.end("lost")
            world.turn()
            world.advance(20)
            world.rabbit.consumers.last?.consume()
            world.turn()
        }
        try #require(world.rabbit.consumers.count == 5)
        #expect(first.acknowledgements.isEmpty)
        world.advance(30)
        world.rabbit.consumers.last?.end("lost")
        world.turn()
        let now = world.server.now
        world.advance(2)
        try #require(world.rabbit.consumers.count == 6)
        #expect((900...1100).contains(world.rabbit.consumers[5].time - now))
    }

    @Test func messagesThatComeTogetherWithTheEndAreLeftToTheNextConnection() throws {
        let (world, consumer) = try SourceWorld.consuming()
        consumer.deliver("1", id: "m")
        consumer.end()
        world.turn()
        #expect(try consumer.acknowledgements.isEmpty && world.numbers() == [] && world.waitingByteCount == 0)
        let status = try world.status()
        #expect(status["state"] as? String == "retrying" && status["unacknowledged"] as? Int == 0)
        #expect(status["last_error"] as? String == "the connection has ended")
        world.advance(1.2)
        try #require(world.rabbit.consumers.count == 2)
        world.rabbit.consumers[1].consume()
        world.rabbit.consumers[1].deliver("1", id: "m")
        world.turn()
        #expect(try world.numbers() == [1] && world.rabbit.consumers[1].acknowledgements == [1])
    }
}

@Suite(.blocking) struct SourceChangeTests {
    @Test func aPausedSourceHasNoConnection() throws {
        let (world, consumer) = try SourceWorld.consuming()
        try world.send("POST", "/pause/q")
        consumer.deliver("1")
        world.turn()
        try world.send("POST", "/source/s/pause")
        #expect(consumer.stopTime == world.server.now && world.waitingByteCount == 0)
        #expect(try world.state() == "paused" && world.status()["unacknowledged"] as? Int == 0)
        world.advance(3600)
        #expect(world.rabbit.consumers.count == 1)
        try world.send("POST", "/resume/q")
        try world.send("POST", "/source/s/resume")
        try #require(world.rabbit.consumers.count == 2)
        #expect(try world.state() == "connecting" && world.lastError() == nil)
    }

    @Test func aSourceThatIsResumedOrChangedConnectsAtOnce() throws {
        let world = try SourceWorld()
        world.rabbit.opened = { $0.end("wrong password") }
        try world.put()
        world.advance(100)
        let count = world.rabbit.consumers.count
        world.rabbit.opened = { _ in }
        try world.send("POST", "/source/s/pause")
        try world.send("POST", "/source/s/resume")
        #expect(try world.rabbit.consumers.count == count + 1 && world.lastError() == nil)
        world.rabbit.consumers[count].end("wrong password")
        world.turn()
        try world.send("PUT", "/source/s", #"{"amqp": "amqp://ann:right@h", "queue": "jobs", "into": "q"}"#)
        #expect(world.rabbit.consumers.count == count + 2)
        #expect(world.rabbit.consumers.last?.settings.url.password == "right")
    }

    @Test func anotherPlaceNeedsAnotherConnection() throws {
        let (world, consumer) = try SourceWorld.consuming()
        for (number, change) in [
            #""amqp": "amqp://ann:secret@i", "queue": "jobs""#, #""amqp": "amqp://ann:secret@i", "queue": "other""#,
            #""amqp": "amqp://ann:secret@i", "queue": "other", "prefetch": 9"#,
        ].enumerated() {
            let before = try #require(world.rabbit.consumers.last)
            try world.send("PUT", "/source/s", "{\(change), \"into\": \"q\"}")
            #expect(before.stopTime != nil && world.rabbit.consumers.count == number + 2, "\(change)")
        }
        let last = try #require(world.rabbit.consumers.last)
        #expect(last.settings.url.host == "i" && last.settings.queue == Array("other".utf8))
        #expect(last.settings.prefetch == 9)
        // What the old connection still says does not count.
        consumer.deliver("1")
        world.turn()
        #expect(try world.numbers().isEmpty && world.state() == "connecting")
    }

    @Test func anotherQueueHereKeepsTheConnection() throws {
        let (world, consumer) = try SourceWorld.consuming()
        try world.send("POST", "/pause/q")
        consumer.deliver("1")
        world.turn()
        try world.send("PUT", "/source/s", #"{"amqp": "amqp://ann:secret@h", "queue": "jobs", "into": "r"}"#)
        #expect(try world.numbers("r") == [1] && world.numbers("q") == [])
        #expect(try consumer.acknowledgements == [1] && world.state() == "consuming")
        #expect(world.rabbit.consumers.count == 1 && consumer.stopTime == nil)
        // After ten minutes without room, too.
        try world.send("POST", "/pause/r")
        consumer.deliver("2")
        world.advance(601)
        #expect(consumer.stopTime != nil)
        try world.put()
        world.advance(1)
        #expect(world.rabbit.consumers.count == 1)
        try world.send("POST", "/resume/q")
        world.advance(1)
        #expect(world.rabbit.consumers.count == 2)
    }

    @Test func aDeletedSourceEndsItsConnection() throws {
        let (world, consumer) = try SourceWorld.consuming()
        try world.send("DELETE", "/source/s")
        #expect(consumer.stopTime == world.server.now && consumer.interruptTime == nil)
        consumer.deliver("1")
        world.advance(100)
        #expect(try world.numbers().isEmpty && world.rabbit.consumers.count == 1)
    }

    @Test func aConnectionThatDoesNotEndIsBrokenAfterThreeSeconds() throws {
        let (world, consumer) = try SourceWorld.consuming()
        consumer.hangs = true
        let now = world.server.now
        try world.send("DELETE", "/source/s")
        world.advance(100)
        #expect(consumer.stopTime == now && consumer.interruptTime == now + 3000)
    }

    // MARK: The end of the server

    @Test func aServerThatStopsAcknowledgesWhatIsSafe() throws {
        let durability = TestDurability()
        let (world, consumer) = try SourceWorld.consuming(durability: durability)
        consumer.deliver("1")
        world.turn()
        durability.safeSequence = durability.writtenSequence - 1
        world.server.stop()
        #expect(!world.server.isFinished && consumer.stopTime == nil)
        // This one is not stored any more.
        consumer.deliver("2")
        world.advance(1)
        #expect(try world.numbers() == [1] && consumer.acknowledgements.isEmpty)
        durability.safeSequence = durability.writtenSequence
        world.turn()
        #expect(consumer.acknowledgements == [1] && consumer.stopTime == world.server.now)
        #expect(world.server.isFinished && world.rabbit.consumers.count == 1)
    }

    @Test func aServerThatStopsWaitsForAConnectionToEnd() throws {
        let (world, consumer) = try SourceWorld.consuming()
        consumer.hangs = true
        let now = world.server.now
        world.server.stop()
        #expect(consumer.stopTime == now && !world.server.isFinished && world.server.nextTurn == now + 3000)
        world.server.advance(to: now + 25_000)
        #expect(consumer.interruptTime == now + 3000 && world.server.isFinished)
    }

    @Test func aServerThatStopsDoesNotConnect() throws {
        let world = try SourceWorld()
        world.rabbit.opened = { $0.end("RabbitMQ is away") }
        try world.put()
        world.server.stop()
        #expect(world.server.isFinished && world.rabbit.consumers.count == 1)
    }
}
