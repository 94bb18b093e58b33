// What sources never do, in virtual time: add a message twice, give messages back without need, or take more than their
// share.

import Foundation
import Support
import Testing

@testable import AMQP
@testable import emq

@Suite(.blocking) struct SourceLimitTests {
    /// An unacknowledged message comes again, so what is stored is acknowledged first.
    @Test(arguments: ["POST /source/s/pause", "DELETE /source/s", "PUT /source/s"])
    func aConnectionThatIsNotWantedAnyMoreEndsWhenItsTasksAreSafe(_ request: String) throws {
        let durability = TestDurability()
        let (world, consumer) = try SourceWorld.consuming(durability: durability)
        consumer.deliver("1")
        world.turn()
        #expect(try world.numbers() == [1] && consumer.acknowledgements.isEmpty)
        let parts = request.split(separator: " ").map(String.init)
        let body = parts[0] == "PUT" ? #"{"amqp": "amqp://i", "queue": "jobs", "into": "q"}"# : ""
        // The frame of the request itself is not waited for.
        _ = try world.server.begin(parts[0], parts[1], body, service: 0)
        consumer.deliver("2")
        world.advance(1)
        // What waits keeps its memory, so that no more is read only to go back.
        #expect(consumer.stopTime == nil && world.waitingByteCount > 0)
        durability.safeSequence = durability.writtenSequence
        world.advance(1)
        #expect(consumer.acknowledgements == [1] && consumer.stopTime != nil)
        #expect(world.waitingByteCount == 0)
        #expect(world.rabbit.consumers.count == (parts[0] == "PUT" ? 2 : 1))
        #expect(try world.numbers() == [1])
    }

    @Test func theEndDoesNotWaitForADiskForEver() throws {
        let (world, consumer) = try SourceWorld.consuming(durability: TestDurability())
        consumer.deliver("1")
        world.turn()
        let now = world.server.now
        _ = try world.server.begin("DELETE", "/source/s", service: 0)
        world.advance(60)
        #expect(consumer.stopTime == now + 10_000 && consumer.acknowledgements.isEmpty)
    }

    @Test func theNextConnectionOpensWhenTheLastHasEnded() throws {
        let (world, consumer) = try SourceWorld.consuming()
        consumer.hangs = true
        for prefetch in 1...50 { try world.put(", \"prefetch\": \(prefetch)") }
        #expect(world.rabbit.consumers.count == 1)
        world.advance(3)
        #expect(consumer.interruptTime != nil && world.rabbit.consumers.count == 2)
        #expect(world.rabbit.consumers[1].settings.prefetch == 50)
    }

    @Test func aMessageThatCannotBeTakenStopsItsSource() throws {
        let (world, consumer) = try SourceWorld.consuming()
        consumer.fail(AMQPFailure("a message is too large", isFinal: true))
        world.turn()
        world.advance(3600)
        #expect(world.rabbit.consumers.count == 1)
        #expect(try world.state() == "stopped" && world.lastError() == "a message is too large")
        #expect(
            world.rabbit.lines.last
                == #"error a message is too large; stopped: POST /source/NAME/resume starts it again source="s""#)
        for (number, request) in ["POST /source/s/resume", "PUT /source/s"].enumerated() {
            let parts = request.split(separator: " ").map(String.init)
            try world.send(parts[0], parts[1], parts[0] == "PUT" ? "{\(SourceWorld.definition)}" : "")
            try #require(world.rabbit.consumers.count == number + 2)
            #expect(try world.state() == "connecting" && world.lastError() == nil)
            world.rabbit.consumers[number + 1].fail(AMQPFailure("a message is too large", isFinal: true))
            world.turn()
        }
    }

    @Test func whatComesBeforeAMessageThatCannotBeTakenIsAcknowledged() throws {
        let durability = TestDurability()
        let (world, consumer) = try SourceWorld.consuming(durability: durability)
        consumer.deliver("1")
        consumer.deliver("2")
        consumer.stick(AMQPFailure("a message is too large", isFinal: true))
        world.turn()
        #expect(try world.numbers() == [1, 2] && world.state() == "stopped")
        #expect(consumer.acknowledgements.isEmpty && consumer.stopTime == nil)
        durability.safeSequence = durability.writtenSequence
        world.advance(1)
        #expect(consumer.acknowledgements == [2] && consumer.stopTime != nil)
    }

    @Test func aSourceConnectsOnlyIfItCouldStoreSomething() throws {
        let world = try SourceWorld()
        try world.send("POST", "/pause/q")
        try world.put()
        world.advance(3600)
        #expect(world.rabbit.consumers.isEmpty)
        #expect(try world.state() == "waiting" && world.lastError() == "queue 'q' is paused")
        try world.send("POST", "/resume/q")
        world.advance(1)
        #expect(world.rabbit.consumers.count == 1)
    }

    @Test func aConnectionThatGetsNowhereIsGivenUp() throws {
        let world = try SourceWorld()
        try world.put()
        let now = world.server.now
        world.advance(50)
        let first = world.rabbit.consumers[0]
        #expect(first.stopTime == now + 45_000)
        #expect(try world.lastError() == "RabbitMQ did not let emq consume the queue within 45 s")
        #expect(world.rabbit.consumers.count == 2)
    }

    @Test func sourcesShareATurn() throws {
        let (world, consumer) = try SourceWorld.consuming()
        try world.send("PUT", "/source/t", #"{"amqp": "amqp://h", "queue": "r"}"#)
        let other = world.rabbit.consumers[1]
        other.consume()
        for _ in 0..<2000 {
            consumer.deliver("1")
            other.deliver("2")
        }
        world.server.step()
        #expect(consumer.acknowledgements.count + other.acknowledgements.count == 1)
        world.server.step()
        #expect(consumer.acknowledgements == [500] && other.acknowledgements == [500])
        world.turn()
        #expect(consumer.acknowledgements.last == 2000 && other.acknowledgements.last == 2000)
    }

    @Test func aClientsSourceIntoASectionOfTaskqueueMindsTheMessage() throws {
        let world = try SourceWorld("base_url = http://127.0.0.1:9/\n[a]\n", isPushing: true)
        try world.send("PUT", "/source/s", #"{"amqp": "amqp://h", "queue": "jobs", "into": "a"}"#)
        let consumer = try #require(world.rabbit.consumers.first)
        consumer.consume()
        consumer.deliver(#"{"url": "/x", "countdown": 100}"#)
        world.turn()
        #expect(try world.tasks("a", "delayed").count == 1)
    }
}
