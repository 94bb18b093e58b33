// Couriers other than emq's own: which calls they receive, and the effects of their answers.

import Net
import Queues
import Support
import Testing
import UID

@testable import Delivery

/// Sends each task to a host named as its queue. The test sets the outcomes and the dead-letter notification.
private final class TestCourier: Courier {
    let concurrency: Int
    var outcome: Attempt.Outcome = .done(result: [])
    var notification: DeadLetterNotification?
    /// Why no request can be made; nil if one can.
    var refusal: String?
    /// The calls it received.
    private(set) var log: [String] = []
    private(set) var attempts: [Attempt] = []

    init(concurrency: Int = 10) { self.concurrency = concurrency }

    /// Breaks the cycle of references: an attempt keeps its queue, which keeps its courier.
    func forget() { attempts = [] }

    func request(
        for task: borrowing TaskView, of queue: SendingQueue, unixMilliseconds: Int64
    ) throws(TaskRequestError) -> ClientRequest {
        log.append("request for \(task.id.low) of \(text(queue.name)) at \(unixMilliseconds)")
        if let refusal { throw TaskRequestError(refusal) }
        do throws(HTTPURLError) {
            let url = try HTTPURL(Array("http://\(text(queue.name)).test/".utf8).span)
            var request = ClientRequest(url: url, method: Array("PUT".utf8), fields: [], body: task.request)
            request.timeoutMilliseconds = 5000
            return request
        } catch {
            throw TaskRequestError(error.description)
        }
    }

    func outcome(of attempt: Attempt, after clientOutcome: borrowing ClientOutcome) -> Attempt.Outcome {
        attempts.append(attempt)
        if case .success(let response) = clientOutcome.result {
            log.append("\(response.status) of \(attempt.task.low) after \(clientOutcome.elapsedMilliseconds)")
        }
        return outcome
    }

    func deadLetterNotification(
        for task: borrowing TaskView, in queueName: [UInt8], push: PushOptions
    ) -> DeadLetterNotification? {
        log.append("death of \(task.id.low) in \(text(queueName)), \(push.concurrency ?? 0) at once")
        return notification
    }
}

private let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

@Suite("Couriers", .blocking)
struct CourierTests {
    private func withCourier(
        _ courier: TestCourier = TestCourier(), _ body: (TestCourier, World, isolated Broker) throws -> Void
    ) throws {
        nonisolated(unsafe) let (courier, body) = (courier, body)
        defer { courier.forget() }
        try withWorld(couriers: ["q": courier]) { world, broker in try body(courier, world, broker) }
    }

    private func configure(_ push: String, _ broker: isolated Broker, deadLetter: String? = nil) throws {
        var configuration = QueueConfiguration()
        (configuration.push, configuration.isPushed) = (Array(push.utf8), true)
        configuration.deadLetter = deadLetter.map { Array($0.utf8) }
        try broker.configure(try broker.queue(named: Array("q".utf8).span), configuration)
    }

    @Test("The courier makes a task's request, and receives the attempt when it has ended")
    func requestsAndAttempts() throws {
        try withCourier { courier, world, broker in
            world.delivery.wallClockLeadMilliseconds = 500
            let id = try world.add("q", request: "any words", keep: 1000, broker)
            world.turn(broker)
            let request = try #require(world.sender.requests.values.first)
            #expect(request.url.description == "http://q.test/" && text(request.method) == "PUT")
            #expect(request.body.map(text) == "any words")
            #expect(world.state(id, broker) == .dispatched)
            world.now += 20
            world.answerAll(ok, broker, elapsed: 20)
            #expect(courier.log == ["request for 1 of q at 1000500", "200 of 1 after 20"])
            let attempt = try #require(courier.attempts.first)
            #expect(attempt.task == id && text(attempt.queue.name) == "q" && attempt.place == "http://q.test/")
            #expect(attempt.isResultWanted && attempt.keepsBody && attempt.endUnixMilliseconds == 1_000_520)
            // The courier gave no result.
            #expect(world.state(id, broker) == .done && world.result(id, broker) == "")
        }
    }

    @Test("The courier sets how many tasks are in flight at once, unless the queue does", arguments: [false, true])
    func concurrency(isConfigured: Bool) throws {
        try withCourier(TestCourier(concurrency: 3)) { _, world, broker in
            try configure(isConfigured ? #"{"concurrency":2}"# : "{}", broker)
            for _ in 0..<7 { try world.add("q", broker) }
            world.turn(broker)
            #expect(world.sender.requests.count == (isConfigured ? 2 : 3))
            world.answerAll(ok, broker)
            world.turn(broker)
            #expect(world.sender.requests.count == (isConfigured ? 2 : 3))
            #expect(world.sender.started == (isConfigured ? 4 : 6))
        }
    }

    @Test("Without a courier, a queue's tasks are not sent, and their deaths cause no notifications")
    func noCourier() throws {
        try withCourier { courier, world, broker in
            try world.push(
                "other", #"{"url":"http://other.test/","on_dead":"http://grave.test/"}"#, isExpiryDeath: true, broker)
            let id = try world.add("other", request: "x", expiry: 5000, broker)
            try world.add("q", request: "x", broker)
            world.turn(broker)
            #expect(world.sender.requests.values.map(\.url.host) == ["q.test"])
            #expect(world.state(id, broker) == .ready)
            let next = world.delivery.endTurn(on: broker, now: world.now)
            #expect(next == nil)
            var taken: [TaskHandle?] = []
            let other = try broker.queue(named: Array("other".utf8).span)
            #expect(!broker.takeAny([other], limit: 1, now: world.now, into: &taken))
            world.now += 5000
            world.turn(broker)
            #expect(world.state(id, broker) == .dead && world.sender.started == 1)
            #expect(
                world.made.count == 0 && !broker.hasUnreportedDeadTasks
                    && !courier.log.contains { $0.contains("death") })
        }
    }

    @Test("An outcome completes the task with a result, or gives it back with a reason")
    func outcomes() throws {
        let outcomes: [(Attempt.Outcome, TaskState, retries: UInt32, pause: Int64?)] = [
            (.done(result: Array("5".utf8)), .done, 0, nil), (.done(result: []), .done, 0, nil),
            (.failed(.failed, error: "e", result: Array("5".utf8)), .delayed, 1, nil),
            (.failed(.failedPausing(milliseconds: 70), error: "e", result: Array("5".utf8)), .delayed, 1, 70),
            (.failed(.failedPausing(milliseconds: 0), error: "e"), .ready, 1, nil),
            (.unwanted(error: "e", result: Array("5".utf8)), .dead, 0, nil),
            (.failed(.dead, error: "e"), .dead, 0, nil), (.failed(.dead, error: "e", result: [0x35]), .dead, 0, nil),
            (.failed(.release, error: "e"), .ready, 0, nil),
            (.failed(.releasePausing(milliseconds: 80), error: "e", result: [0x35]), .delayed, 0, 80),
        ]
        for (given, state, retries, pause) in outcomes {
            nonisolated(unsafe) let outcome = given
            try withCourier { courier, world, broker in
                let id = try world.add("q", request: "x", keep: 1000, broker)
                world.turn(broker)
                courier.outcome = outcome
                world.answerAll(ok, broker)
                let seen = broker.withTask(id: id, now: world.now) { ($0.state, $0.retries, $0.due) }
                let task = try #require(seen, "\(outcome)")
                #expect(task.0 == state && task.1 == retries, "\(outcome)")
                if let pause { #expect(task.2 == world.now + pause, "\(outcome)") }
                switch outcome {
                case .done(let result):
                    #expect(world.result(id, broker) == text(result) && world.error(id, broker) == "")
                case .unwanted(let error, let result), .failed(_, let error, let result):
                    #expect(world.result(id, broker) == text(result) && world.error(id, broker) == error)
                }
                #expect(world.delivery.inFlightCount == 0)
                // A task that was given back is sent again when it is due.
                guard state == .delayed || state == .ready else { return }
                world.advance(broker) { world.sender.count(to: "q.test") == 1 }
                #expect(pause == nil || world.now == 1_000_000 + (pause ?? 0), "\(outcome)")
            }
        }
    }

    @Test("A request without a response is a failed attempt; if the address is forbidden, the task dies")
    func failures() throws {
        let address = try #require(IPAddress("10.0.0.1"))
        let failures: [(ClientFailure, NakAction)] = [
            (.broken(authority: "q.test", isReset: true), .failed),
            (.refusedAddress(host: "q.test", address: address, reason: "q.test is private"), .dead),
        ]
        for (failure, expected) in failures {
            try withCourier { courier, world, broker in
                try world.add("q", request: "x", broker)
                world.turn(broker)
                world.failAll(failure, broker)
                let attempt = try #require(courier.attempts.last)
                guard case .failed(let action, let error, let result) = attempt.outcome(after: failure) else {
                    Issue.record("a failure is taken for a success")
                    return
                }
                #expect(action == expected && result.isEmpty)
                #expect(error.hasPrefix("http://q.test/: q.test "))
            }
        }
    }

    @Test("A task for which no request can be made dies with the reason")
    func noRequest() throws {
        try withCourier { courier, world, broker in
            courier.refusal = "there is no worker"
            let id = try world.add("q", request: "x", broker)
            world.turn(broker)
            #expect(world.state(id, broker) == .dead && world.error(id, broker) == "there is no worker")
            #expect(world.sender.started == 0 && courier.attempts.isEmpty)
            #expect(courier.log.last == "death of 1 in q, 0 at once")
        }
    }

    @Test("A request that takes longer than its courier allows is aborted, and counts as an attempt")
    func lease() throws {
        try withCourier { courier, world, broker in
            let id = try world.add("q", request: "x", retries: 0, broker)
            world.turn(broker)
            world.advance(broker) { world.state(id, broker) == .dead }
            #expect(world.now >= 1_005_000 && world.now <= 1_060_000)
            #expect(world.sender.cancelled == 1 && courier.attempts.isEmpty)
        }
    }

    @Test("A notification is a task of the queue where the other died, sent by its courier; its own death causes none")
    func notification() throws {
        try withCourier { courier, world, broker in
            try configure(#"{"concurrency":4}"#, broker, deadLetter: "letters")
            courier.outcome = .failed(.dead, error: "e")
            courier.notification = DeadLetterNotification(
                url: try HTTPURL(Array("http://grave.test/n".utf8).span), content: Array(#"{"died":1}"#.utf8))
            let id = try world.add("q", broker)
            world.turn(broker)
            world.answerAll(ok, broker)
            world.turn(broker)
            courier.notification = nil
            #expect(courier.log.contains("death of 1 in q, 4 at once"))
            let letter = broker.withTask(id: id, now: world.now) { text(Array(copying: $0.queueName)) }
            #expect(letter == "letters")
            #expect(world.made.count == 1)
            let request = try #require(world.sender.requests.values.first)
            #expect(request.body.map(text)?.contains("http://grave.test/n") == true)
            let sent = UID(high: 1 << 32 + 1, low: 1 << 32 + 1)
            #expect(broker.withTask(id: sent, now: world.now) { text(Array(copying: $0.content)) } == #"{"died":1}"#)
            world.answerAll(ok, broker)
            world.turn(broker)
            #expect(world.made.count == 1 && world.sender.requests.isEmpty)
        }
    }

    @Test("Without a notification, nothing is added")
    func noNotification() throws {
        try withCourier { courier, world, broker in
            courier.outcome = .failed(.dead, error: "e")
            let id = try world.add("q", request: "x", broker)
            world.turn(broker)
            world.answerAll(ok, broker)
            world.turn(broker)
            #expect(world.state(id, broker) == .dead && world.made.count == 0 && broker.counts.tasks == 1)
        }
    }
}
