// Push in virtual time: how many attempts are in flight at once, and what aborts them.

import Queues
import Support
import Testing
import UID

@testable import Delivery
@testable import Net

@Suite("Attempts in flight", .blocking)
struct InFlightTests {
    // MARK: Concurrency, rates, fairness

    @Test("At most as many tasks as the queue's concurrency are in flight, 10 by default")
    func concurrency() throws {
        try withWorld { world, broker in
            try world.push("three", #"{"url":"http://a.test/","concurrency":3}"#, broker)
            for _ in 0..<20 {
                try world.add("three", broker)
                try world.add("usual", request: #"{"url":"http://b.test/"}"#, broker)
            }
            world.turn(broker)
            #expect(world.sender.count(to: "a.test") == 3)
            #expect(world.sender.count(to: "b.test") == 10)
            var (a, b) = (3, 10)
            while world.delivery.inFlightCount > 0 {
                world.answerAll("HTTP/1.1 204 X\r\n\r\n", broker)
                world.turn(broker)
                #expect(world.sender.count(to: "a.test") <= 3)
                #expect(world.sender.count(to: "b.test") <= 10)
                a += world.sender.count(to: "a.test")
                b += world.sender.count(to: "b.test")
            }
            #expect(a == 20 && b == 20)
            // A higher concurrency takes effect at once.
            for _ in 0..<20 { try world.add("three", broker) }
            world.turn(broker)
            try world.push("three", #"{"url":"http://a.test/","concurrency":7}"#, broker)
            world.turn(broker)
            #expect(world.sender.count(to: "a.test") == 7)
        }
    }

    @Test(
        "Starts keep to the rate, in bursts of at most one second's starts",
        arguments: [("10/s", 10, 20, 210), ("21.5/m", 1, 1 + 7, 1 + 71)])
    func rate(rate: String, burst: Int, after: Int, later: Int) throws {
        try withWorld { world, broker in
            try world.push("q", #"{"url":"http://a.test/","rate":"\#(rate)","concurrency":1000}"#, broker)
            for _ in 0..<300 { try world.add("q", broker) }
            let start = world.now
            let unit: Int64 = rate == "10/s" ? 1000 : 20_000
            world.turn(broker)
            #expect(world.sender.started == burst)
            world.advance(broker, to: start + unit) { world.now == start + unit }
            #expect(world.sender.started == after)
            let end = start + unit * (rate == "10/s" ? 20 : 10)
            world.advance(broker, to: end) { world.now == end }
            #expect(world.sender.started == later)
        }
    }

    @Test("A configuration that is set again with the same rate starts nothing early")
    func sameRate() throws {
        try withWorld { world, broker in
            for timeout in 1...5 {
                try world.push("q", #"{"url":"http://a.test/","rate":"1/h","timeout":\#(timeout)}"#, broker)
                try world.add("q", broker)
                world.turn(broker)
                world.answerAll("HTTP/1.1 204 X\r\n\r\n", broker)
            }
            #expect(world.sender.started == 1)
        }
    }

    @Test("A new rate counts for the next task, also if the queue was empty when it was set")
    func newRate() throws {
        try withWorld { world, broker in
            try world.push("q", #"{"url":"http://a.test/","rate":"1/d"}"#, broker)
            try world.add("q", broker)
            let id = try world.add("q", broker)
            world.turn(broker)
            #expect(world.sender.started == 1)
            _ = broker.cancelTask(id, now: world.now)
            try world.push("q", #"{"url":"http://a.test/","rate":"10/s"}"#, broker)
            world.turn(broker)
            try world.add("q", broker)
            world.turn(broker)
            #expect(world.sender.started == 2)
        }
    }

    @Test("A million tasks for one silent receiver hold up no other queue")
    func fairness() throws {
        try withWorld(maximumTasks: 30_000) { world, broker in
            try world.push("slow", #"{"url":"http://slow.test/","concurrency":1000}"#, broker)
            for _ in 0..<20_000 { try world.add("slow", broker) }
            for _ in 0..<10 { world.turn(broker) }
            #expect(world.sender.count(to: "slow.test") == 1000)
            try world.add("other", request: #"{"url":"http://b.test/"}"#, broker)
            world.turn(broker)
            #expect(world.sender.count(to: "b.test") == 1)
        }
    }

    @Test("Many queues for one silent receiver hold up no other queue, and continue when it responds")
    func crowd() throws {
        try withWorld(maximumTasks: 10_000) { world, broker in
            for number in 0..<150 {
                for _ in 0..<10 { try world.add("slow\(number)", request: #"{"url":"http://slow.test/"}"#, broker) }
            }
            world.turn(broker)
            #expect(world.sender.count(to: "slow.test") == 1000)
            try world.add("other", request: #"{"url":"http://b.test/"}"#, broker)
            world.turn(broker)
            #expect(world.sender.count(to: "b.test") == 1)
            while world.delivery.inFlightCount > 0 {
                world.answerAll("HTTP/1.1 204 X\r\n\r\n", broker)
                world.turn(broker)
                #expect(world.sender.count(to: "slow.test") <= 1000)
            }
            #expect(world.sender.started == 1501)
            #expect(broker.counts.tasks == 0)
        }
    }

    @Test("Queues wait for a receiver only while something is in flight to it")
    func leftCrowd() throws {
        try withWorld(maximumTasks: 10_000) { world, broker in
            try world.push("many", #"{"url":"http://slow.test/","concurrency":1000}"#, broker)
            for _ in 0..<1000 { try world.add("many", broker) }
            world.turn(broker)
            var waiting: [UID] = []
            for number in 0..<50 {
                waiting.append(try world.add("q\(number)", request: #"{"url":"http://slow.test/"}"#, broker))
            }
            world.turn(broker)
            #expect(world.sender.started == 1000)
            // The queues that are woken first have nothing left to send.
            for id in waiting.dropLast() { _ = broker.cancelTask(id, now: world.now) }
            world.answerAll("HTTP/1.1 204 X\r\n\r\n", broker)
            world.turn(broker)
            #expect(world.sender.started == 1001)
        }
    }

    @Test("Signatures contain the wall-clock time")
    func wallClock() throws {
        try withWorld(now: 1_700_000_000_000) { world, broker in
            world.delivery.wallClockLeadMilliseconds = 60_000
            try world.push("q", #"{"url":"http://a.test/","secret":"s"}"#, broker)
            try world.add("q", broker)
            world.turn(broker)
            let request = try #require(world.sender.requests.values.first)
            #expect(text(request.fields).contains("Emq-Signature: t=1700000060,"))
        }
    }

    @Test("Queues take turns while both have tasks")
    func turns() throws {
        try withWorld { world, broker in
            try world.push("a", #"{"url":"http://a.test/","concurrency":1000}"#, broker)
            try world.push("b", #"{"url":"http://b.test/","concurrency":1000}"#, broker)
            for _ in 0..<400 { try world.add("a", broker) }
            for _ in 0..<400 { try world.add("b", broker) }
            _ = world.delivery.endTurn(on: broker, now: world.now)
            #expect(world.sender.count(to: "a.test") == world.sender.count(to: "b.test"))
        }
    }

    @Test("Tasks that are not safe in the journal yet are not sent")
    func safety() throws {
        try withWorld(isJournaled: true) { world, broker in
            let id = try world.add("q", request: #"{"url":"http://a.test/"}"#, broker)
            world.delivery.safeSequence = broker.lastFrameSequence
            world.turn(broker)
            #expect(world.state(id, broker) == .ready)
            broker.writeChanges { _, _ in }
            world.turn(broker)
            #expect(world.state(id, broker) == .ready)
            world.delivery.safeSequence = broker.lastFrameSequence
            world.turn(broker)
            #expect(world.state(id, broker) == .dispatched)
        }
    }

    @Test("A task whose host cannot be looked up yet waits without an attempt, and waiting queues take turns")
    func unresolvedHosts() throws {
        try withWorld { world, broker in
            world.sender.unresolvedHosts = ["a.test"]
            let ids = try (0..<300).map { try world.add("q\($0)", request: #"{"url":"http://a.test/"}"#, broker) }
            let other = try world.add("other", request: #"{"url":"http://b.test/"}"#, broker)
            world.turn(broker)
            #expect(world.sender.started == 1)
            #expect(world.state(other, broker) == .dispatched)
            #expect(ids.allSatisfy { world.state($0, broker) == .ready })
            // A lookup has ended, but the host still cannot be looked up: no queue may be forgotten.
            world.sender.endedLookUps = 1
            world.turn(broker)
            #expect(world.sender.started == 1)
            world.sender.unresolvedHosts = []
            world.turn(broker)
            #expect(world.sender.started == 1)
            world.sender.endedLookUps = 1
            world.turn(broker)
            #expect(world.sender.started == 301)
            #expect(broker.withTask(id: ids[299], now: world.now) { $0.attempt } == 1)
        }
    }

    // MARK: Room

    @Test("Bodies in flight stay within their limit, except for a single body")
    func bodyBytes() throws {
        try withWorld { world, broker in
            world.delivery.maximumBodyBytes = 100
            for queue in ["a", "b"] { try world.push(queue, #"{"url":"http://\#(queue).test/"}"#, broker) }
            try world.add("a", content: String(repeating: "1", count: 200), broker)
            world.turn(broker)
            #expect(world.sender.started == 1)
            for _ in 0..<3 { try world.add("b", content: String(repeating: "1", count: 40), broker) }
            world.turn(broker)
            #expect(world.sender.started == 1)
            world.answerAll("HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n", broker)
            world.turn(broker)
            #expect(world.sender.started == 3)
            world.answerAll("HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n", broker)
            world.turn(broker)
            #expect(world.sender.started == 4)
        }
    }

    @Test("Outcomes wait until there is room, and lose nothing")
    func room() throws {
        try withWorld { world, broker in
            try world.push("q", #"{"url":"http://a.test/"}"#, broker)
            let ids = try (0..<3).map { _ in try world.add("q", keep: 60_000, broker) }
            world.turn(broker)
            for (key, _) in world.sender.requests {
                let body = String(repeating: "x", count: 1_000_000)
                let bytes = Array("HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)".utf8)
                world.sender.answers.append((key, .response(bytes, 1 << 20, 1)))
            }
            // As in a new journal, there is little room. The last task is cancelled meanwhile.
            world.delivery.beginTurn(on: broker, now: world.now) { $0 < 1_000_000 }
            #expect(ids.map { world.state($0, broker) } == [.dispatched, .dispatched, .dispatched])
            #expect(world.delivery.inFlightCount == 3)
            let isCancelled = broker.cancelTask(ids[2], now: world.now)
            #expect(isCancelled)
            var isFirst = true
            world.delivery.beginTurn(on: broker, now: world.now) { _ in
                defer { isFirst = false }
                return isFirst
            }
            #expect(ids.count { world.state($0, broker) == .done } <= 1)
            world.turn(broker)
            #expect(ids.map { world.state($0, broker) } == [.done, .done, .cancelled])
            #expect(world.delivery.inFlightCount == 0)
            for id in ids[..<2] { #expect(world.result(id, broker).utf8.count > 1_000_000) }
        }
    }

    @Test("Outcomes whose results nobody wants do not wait behind others, and waiting ones are counted")
    func roomForResults() throws {
        try withWorld { world, broker in
            try world.push("q", #"{"url":"http://a.test/"}"#, broker)
            let kept = try world.add("q", keep: 60_000, broker)
            world.turn(broker)
            let key = try #require(world.sender.requests.keys.first)
            let rest = try [world.add("q", broker), world.add("q", retries: 0, broker)]
            world.turn(broker)
            world.sender.answers = [
                (key, .response(Array("HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nabcde".utf8), 9, 1))
            ]
            var looks = 0
            world.delivery.beginTurn(on: broker, now: world.now) { _ in
                looks += 1
                return looks == 1
            }
            #expect(world.state(kept, broker) == .dispatched && world.delivery.waitingOutcomeBytes > 5)
            for (key, status) in zip(world.sender.requests.keys, [204, 500]) {
                world.sender.answers.append(
                    (key, .response(Array("HTTP/1.1 \(status) X\r\nContent-Length: 0\r\n\r\n".utf8), 9, 1)))
            }
            looks = -1
            world.delivery.beginTurn(on: broker, now: world.now) { _ in
                looks += 1
                return looks == 1
            }
            #expect(rest.allSatisfy { world.state($0, broker) != .dispatched })
            #expect(world.state(kept, broker) == .dispatched && world.delivery.waitingOutcomeBytes > 5)
            world.turn(broker)
            #expect(world.state(kept, broker) == .done && world.delivery.waitingOutcomeBytes == 0)
        }
    }

    // MARK: Aborting

    @Test("Cancelling, purging and expiry abort a request")
    func breakingOff() throws {
        try withWorld { world, broker in
            let cancelled = try world.add("q", request: #"{"url":"http://a.test/"}"#, broker)
            world.turn(broker)
            let isCancelled = broker.cancelTask(cancelled, now: world.now)
            #expect(isCancelled)
            world.turn(broker)
            #expect(world.sender.cancelled == 1)
            try world.add("q", request: #"{"url":"http://a.test/"}"#, expiry: 5000, broker)
            world.turn(broker)
            world.advance(broker) { world.sender.cancelled == 2 }
            #expect(world.delivery.inFlightCount == 0)
            try world.add("p", request: #"{"url":"http://a.test/"}"#, broker)
            world.turn(broker)
            try broker.purge(try broker.queue(named: Array("p".utf8).span), states: [.dispatched], now: world.now) {
                _ in
            }
            world.turn(broker)
            #expect(world.sender.cancelled == 3)
            #expect(broker.counts.tasks == 0)
        }
    }

    @Test("A paused queue and a stopping server start nothing; attempts in flight go on to their end")
    func pausing() throws {
        try withWorld { world, broker in
            try world.push("q", #"{"url":"http://a.test/","concurrency":1}"#, broker)
            for _ in 0..<3 { try world.add("q", broker) }
            world.turn(broker)
            let queue = try broker.queue(named: Array("q".utf8).span)
            broker.pause(queue, now: world.now)
            world.answerAll("HTTP/1.1 204 X\r\n\r\n", broker)
            world.turn(broker)
            #expect(world.sender.started == 1)
            broker.resume(queue)
            world.turn(broker)
            #expect(world.sender.started == 2)
            world.delivery.isStopping = true
            world.answerAll("HTTP/1.1 204 X\r\n\r\n", broker)
            world.turn(broker)
            #expect(world.sender.started == 2)
            #expect(broker.counts.tasks == 1)
        }
    }
}
