// The circuit breaker of a queue's push, in virtual time: when attempts stop, which one tries, and what else changes
// the state.

import Queues
import Support
import Testing
import UID

@testable import Delivery
@testable import Net

private let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
private let failure = "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"
private let gone = "HTTP/1.1 410 X\r\nContent-Length: 4\r\n\r\nleft"

@Suite("Circuit breaker", .blocking)
struct CircuitTests {
    /// Three failures in a row open it for a minute.
    private func push(
        _ world: World, _ broker: isolated Broker, concurrency: Int = 10, timeout: Int = 30, retries: UInt32? = nil
    ) throws {
        try world.push(
            "q",
            #"{"url":"http://a.test/","timeout":\#(timeout),"concurrency":\#(concurrency),"#
                + #""circuit":{"failures":3,"pause":60}}"#, retries: retries, broker)
    }

    /// The state and the number of failures, such as `open 3`.
    private func state(_ world: World, _ broker: isolated Broker, of queue: String = "q") -> String {
        guard let index = broker.existingQueue(named: Array(queue.utf8).span),
            let breaker = world.delivery.circuitBreaker(of: index, on: broker, now: world.now)
        else { return "none" }
        return "\(breaker.state(now: world.now)) \(breaker.failureCount)"
    }

    /// Answers some of the requests in flight, in the order of their tasks.
    private func answer(_ text: String, _ count: Int = 1, _ world: World, _ broker: isolated Broker) {
        let keys = world.sender.requests.keys.sorted().prefix(count)
        #expect(keys.count == count)
        world.sender.answers = keys.map { ($0, .response(Array(text.utf8), 1 << 20, 1)) }
        world.turn(broker)
    }

    /// A world whose circuit has been open since the beginning, with ten more tasks.
    private func withOpenCircuit(_ body: @Sendable (World, isolated Broker) throws -> Void) throws {
        try withWorld { world, broker in
            try push(world, broker, concurrency: 3)
            for _ in 0..<13 { try world.add("q", backoff: 600_000, broker) }
            world.turn(broker)
            answer(failure, 3, world, broker)
            #expect(state(world, broker) == "open 3" && world.sender.requests.isEmpty)
            try body(world, broker)
        }
    }

    @Test("After failures in a row nothing is sent for a while, then one task tries, and its success lets all go on")
    func pause() throws {
        try withWorld { world, broker in
            try push(world, broker)
            var ids: [UID] = []
            for _ in 0..<20 { ids.append(try world.add("q", retries: 5, backoff: 600_000, broker)) }
            world.turn(broker)
            #expect(world.sender.requests.count == 10 && state(world, broker) == "closed 0")
            answer(failure, 2, world, broker)
            #expect(world.sender.requests.count == 10 && state(world, broker) == "closed 2")
            answer(failure, 10, world, broker)
            #expect(world.sender.requests.isEmpty && state(world, broker) == "open 3")
            world.now += 59_999
            world.turn(broker)
            #expect(world.sender.requests.isEmpty && state(world, broker) == "open 3")
            // The next task has used up nothing.
            let next = broker.withTask(id: ids[12], now: world.now) { $0.attempt }
            #expect(next == 0)
            world.now += 1
            #expect(state(world, broker) == "halfOpen 3")
            world.turn(broker)
            #expect(world.sender.requests.count == 1 && state(world, broker) == "halfOpen 3")
            #expect(world.state(ids[12], broker) == .dispatched)
            answer(ok, 1, world, broker)
            #expect(world.sender.requests.count == 7 && state(world, broker) == "closed 0")
        }
    }

    @Test("If the task that tries fails, the next pause begins; a timer ends it")
    func nextPause() throws {
        try withOpenCircuit { world, broker in
            for count in 4...6 {
                let time = world.now + 60_000
                world.advance(broker) { !world.sender.requests.isEmpty }
                #expect(world.now == time && world.sender.requests.count == 1)
                world.now += 5000
                answer(failure, 1, world, broker)
                #expect(world.sender.requests.isEmpty && state(world, broker) == "open \(count)")
            }
        }
    }

    @Test("A success between failures begins a new row", arguments: [ok, gone])
    func row(success: String) throws {
        try withWorld { world, broker in
            try push(world, broker, concurrency: 1)
            for _ in 0..<20 { try world.add("q", backoff: 600_000, broker) }
            world.turn(broker)
            for _ in 0..<3 {
                answer(failure, 1, world, broker)
                answer(failure, 1, world, broker)
                #expect(state(world, broker) == "closed 2")
                answer(success, 1, world, broker)
                #expect(state(world, broker) == "closed 0")
            }
        }
    }

    @Test("410 kills the task at once, with its answer, and shows that the receiver works")
    func unwanted() throws {
        try withWorld { world, broker in
            try push(world, broker, concurrency: 1)
            for _ in 0..<3 { try world.add("q", backoff: 600_000, broker) }
            let id = try world.add("q", retries: 9, keep: 1000, broker)
            try world.add("q", broker)
            world.turn(broker)
            for _ in 0..<3 { answer(failure, 1, world, broker) }
            world.advance(broker) { !world.sender.requests.isEmpty }
            answer(gone, 1, world, broker)
            #expect(world.state(id, broker) == .dead)
            #expect(world.error(id, broker) == "http://a.test/ answered 410 Gone: left")
            #expect(world.result(id, broker).contains(#""status":410"#))
            #expect(state(world, broker) == "closed 0" && world.sender.requests.count == 1)
        }
    }

    @Test("Attempts that began before the pause end as usual, and change nothing")
    func lateOutcomes() throws {
        try withWorld { world, broker in
            try push(world, broker, concurrency: 6, timeout: 600)
            var ids: [UID] = []
            for _ in 0..<20 { ids.append(try world.add("q", keep: 1_000_000, backoff: 600_000, broker)) }
            world.turn(broker)
            answer(failure, 3, world, broker)
            #expect(state(world, broker) == "open 3")
            world.now += 10_000
            answer(ok, 1, world, broker)
            answer(failure, 1, world, broker)
            #expect(world.state(ids[3], broker) == .done && world.state(ids[4], broker) == .delayed)
            #expect(state(world, broker) == "open 3")
            let end: Int64 = 1_060_000
            world.advance(broker) { world.sender.requests.count == 2 }
            #expect(world.now == end)
            // One of the old attempts, and the one that tries.
            answer(failure, 1, world, broker)
            #expect(state(world, broker) == "halfOpen 3" && world.sender.requests.count == 1)
            answer(ok, 1, world, broker)
            #expect(state(world, broker) == "closed 0")
        }
    }

    @Test("If the task that tries is cancelled, another tries at once")
    func abortedTrial() throws {
        try withOpenCircuit { world, broker in
            world.advance(broker) { !world.sender.requests.isEmpty }
            let id = UID(high: 4, low: 4)
            #expect(world.state(id, broker) == .dispatched)
            _ = broker.cancelTask(id, now: world.now)
            world.turn(broker)
            #expect(world.sender.cancelled == 1 && world.sender.requests.count == 1)
            #expect(state(world, broker) == "halfOpen 3")
            #expect(world.state(UID(high: 5, low: 5), broker) == .dispatched)
        }
    }

    @Test("Attempts without a response fail too, wherever the tasks go, and after pauses without tasks")
    func kinds() throws {
        try withWorld { world, broker in
            try push(world, broker, retries: 0)
            let address = try #require(IPAddress("10.0.0.1"))
            let failures: [ClientFailure] = [
                .broken(authority: "a.test", isReset: true), .refusedAddress(host: "a", address: address, reason: "a"),
                .broken(authority: "b.test", isReset: false),
            ]
            for (count, failure) in failures.enumerated() {
                #expect(state(world, broker) == "closed \(count)")
                try world.add("q", request: #"{"url":"http://\#(count == 2 ? "b" : "a").test/"}"#, broker)
                world.turn(broker)
                world.failAll(failure, broker)
                world.turn(broker)
                world.now += 1_000_000
            }
            world.now -= 1_000_000
            #expect(state(world, broker) == "open 3")
        }
    }

    @Test(
        "A change of the push closes it",
        arguments: [
            (#"{"url":"http://b.test/","circuit":{"failures":3,"pause":60}}"#, "closed 0"),
            (#"{"url":"http://a.test/","circuit":{"failures":3,"pause":61}}"#, "closed 0"),
            (#"{"url":"http://a.test/"}"#, "none"),
        ])
    func change(push: String, after: String) throws {
        // The queue may hold a ready task all the time, never, or until shortly before the change.
        for (hasTask, isCancelled) in [(true, false), (false, false), (true, true)] {
            try withWorld { world, broker in
                try self.push(world, broker)
                for _ in 0..<3 { try world.add("q", backoff: 1000, broker) }
                world.turn(broker)
                answer(failure, 3, world, broker)
                let id = hasTask ? try world.add("q", broker) : nil
                world.turn(broker)
                #expect(state(world, broker) == "open 3" && world.sender.requests.isEmpty)
                if isCancelled, let id { _ = broker.cancelTask(id, now: world.now) }
                let count = hasTask && !isCancelled ? 1 : 0
                try world.push("q", push, broker)
                #expect(state(world, broker) == after)
                world.turn(broker)
                #expect(world.sender.requests.count == count)
                world.now += 1000
                world.turn(broker)
                #expect(world.sender.requests.count == count + 3)
            }
        }
    }

    @Test("The same push again changes nothing")
    func noChange() throws {
        try withOpenCircuit { world, broker in
            try push(world, broker, concurrency: 3)
            world.turn(broker)
            #expect(world.sender.requests.isEmpty && state(world, broker) == "open 3")
        }
    }

    @Test("A paused queue lets no task try; one tries when it is resumed")
    func pausedQueue() throws {
        try withOpenCircuit { world, broker in
            let queue = try broker.queue(named: Array("q".utf8).span)
            broker.pause(queue, now: world.now)
            world.now += 100_000
            world.turn(broker)
            #expect(world.sender.requests.isEmpty && state(world, broker) == "halfOpen 3")
            broker.resume(queue)
            world.turn(broker)
            #expect(world.sender.requests.count == 1)
        }
    }

    @Test("A queue that has sent nothing yet is closed, and one without a circuit has no state")
    func others() throws {
        try withWorld { world, broker in
            try push(world, broker)
            #expect(state(world, broker) == "closed 0")
            try world.push("r", #"{"url":"http://a.test/"}"#, broker)
            for _ in 0..<5 { try world.add("r", retries: 0, broker) }
            world.turn(broker)
            world.answerAll(failure, broker)
            #expect(state(world, broker, of: "r") == "none" && state(world, broker, of: "s") == "none")
        }
    }
}
