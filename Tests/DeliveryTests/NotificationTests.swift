// Push in virtual time: dead-letter notifications.

import Queues
import Support
import Testing
import UID

@testable import Delivery
@testable import Net

@Suite("Dead-letter notifications", .blocking)
struct NotificationTests {
    @Test("A dead-letter notification is a task of the same queue, signed like others; its own death causes none")
    func deaths() throws {
        try withWorld { world, broker in
            try world.push(
                "q", #"{"url":"http://a.test/","secret":"s","on_dead":"http://grave.test/"}"#, retries: 0, broker)
            let id = try world.add("q", content: #"{"n":1}"#, broker)
            world.turn(broker)
            world.answerAll("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", broker)
            #expect(world.state(id, broker) == .dead)
            world.turn(broker)
            let request = try #require(world.sender.requests.values.first)
            #expect(request.url.host == "grave.test")
            #expect(text(request.method) == "POST")
            #expect(text(request.body ?? []) == "task \(id.low)")
            #expect(text(request.fields).contains("Emq-Signature: "))
            // It is retried until it expires, whatever the queue's retry limit; then there is no notification.
            world.answerAll("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", broker)
            world.advance(broker) { !world.sender.requests.isEmpty }
            #expect(world.sender.count(to: "grave.test") == 1)
            world.advance(broker) { broker.counts.tasks == 1 }
            #expect(world.sender.requests.isEmpty)
        }
    }

    @Test("A task's own on_dead takes precedence over its queue's, and a full queue still takes the notification")
    func ownOnDead() throws {
        try withWorld { world, broker in
            try world.push("q", #"{"on_dead":"http://queue.test/"}"#, retries: 0, length: 1, broker)
            try world.add("q", request: #"{"url":"http://a.test/","on_dead":"http://task.test/"}"#, broker)
            world.turn(broker)
            world.answerAll("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", broker)
            world.turn(broker)
            #expect(world.sender.count(to: "task.test") == 1)
            #expect(world.sender.count(to: "queue.test") == 0)
        }
    }

    @Test("A notification's death causes no further one: mutual dead-letter queues come to rest")
    func noticesThatDieElsewhere() throws {
        try withWorld { world, broker in
            for (name, other) in [("a", "b"), ("b", "a")] {
                let queue = try broker.queue(named: Array(name.utf8).span)
                var configuration = QueueConfiguration()
                configuration.push = Array(#"{"url":"http://a.test/","on_dead":"http://grave.test/"}"#.utf8)
                configuration.isPushed = true
                configuration.maximumRetries = 0
                // Notifications are retried until they expire; then they die.
                configuration.isExpiryDeath = true
                configuration.deadLetter = Array(other.utf8)
                try broker.configure(queue, configuration)
            }
            try world.add("a", broker)
            for _ in 0..<200 {
                world.turn(broker)
                world.answerAll("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", broker)
                world.now += 3_600_000
            }
            // The task dies once in each queue: two notifications.
            #expect(world.made.count == 2)
            #expect(world.sender.requests.isEmpty)
        }
    }

    @Test("The notification for a task that can never be sent is added in the same turn")
    func deathAtOnce() throws {
        try withWorld { world, broker in
            try world.push("q", #"{"on_dead":"http://grave.test/"}"#, broker)
            try world.add("q", request: #"{"timeout":1}"#, broker)
            world.turn(broker)
            #expect(world.sender.count(to: "grave.test") == 1)
        }
    }

    @Test("Many notifications are added over several turns, and none while they are postponed")
    func manyDeaths() throws {
        try withWorld { world, broker in
            try world.push("q", #"{"on_dead":"http://grave.test/","concurrency":100}"#, isExpiryDeath: true, broker)
            world.notifications.paddingByteCount = 5 << 20
            for _ in 0..<6 { try world.add("q", expiry: 1000, broker) }
            world.now += 1000
            while !broker.advance(to: world.now) {}
            world.delivery.postponesNotifications = true
            let pause = world.delivery.endTurn(on: broker, now: world.now)
            #expect(pause == nil)
            #expect(world.sender.started == 0)
            world.delivery.postponesNotifications = false
            let next = world.delivery.endTurn(on: broker, now: world.now)
            #expect(next == world.now)
            #expect(world.sender.started == 4)
            world.turn(broker)
            #expect(world.sender.count(to: "grave.test") == 6)
        }
    }

    @Test("A task that expires in flight causes a notification too")
    func expiry() throws {
        try withWorld { world, broker in
            try world.push(
                "q", #"{"url":"http://a.test/","on_dead":"http://grave.test/","concurrency":1}"#, isExpiryDeath: true,
                broker)
            try world.add("q", expiry: 5000, broker)
            world.turn(broker)
            world.advance(broker) { world.sender.count(to: "grave.test") == 1 }
            #expect(world.sender.cancelled == 1)
        }
    }
}
