// Consuming with the real librabbitmq from a RabbitMQ that is not one, and may say the wrong thing.

import Foundation
import Net
import Support
import Testing

@testable import AMQP

/// Whether the library is there.
private let hasLibrary = if case .success = RabbitMQ.system { true } else { false }

@Suite(.blocking, .enabled(if: hasLibrary, "skipped: there is no librabbitmq here"))
struct AMQPConsumerTests {
    private let listener: TestSocket

    init() throws { listener = try TestSocket(listeningAt: .ipv4(port: 0)) }

    private func settings(
        declaresQueue: Bool = false, maximumContentByteCount: Int = 10 << 20, maximumHeldByteCount: Int = 16 << 20
    ) throws -> AMQPSettings {
        let url = "amqp://ann:s3cret@127.0.0.1:\(listener.localPort)/shop"
        return AMQPSettings(
            url: try AMQPURL(Array(url.utf8).span), queue: Array("jobs".utf8), prefetch: 7,
            declaresQueue: declaresQueue, name: "emq source s", maximumContentByteCount: maximumContentByteCount,
            maximumHeldByteCount: maximumHeldByteCount, budget: MessageBudget(limit: 1 << 30))
    }

    /// Starts a consumer, and accepts its connection.
    private func begin(
        _ settings: AMQPSettings? = nil, isSlow: Bool = false
    ) throws -> (ConsumerUnderTest, FakeRabbitMQ) {
        let consumer = try ConsumerUnderTest(settings ?? self.settings())
        return (consumer, FakeRabbitMQ(try #require(listener.accept()), isSlow: isSlow))
    }

    /// Starts a consumer that consumes.
    private func consuming(
        _ settings: AMQPSettings? = nil, isSlow: Bool = false
    ) throws -> (ConsumerUnderTest, FakeRabbitMQ) {
        let (consumer, broker) = try begin(settings, isSlow: isSlow)
        try broker.welcome()
        try consumer.wait(for: "the beginning") { $0.news.isConsuming }
        return (consumer, broker)
    }

    // MARK: Messages

    @Test(arguments: [false, true])
    func messagesArriveWholeHoweverTheirBytesCome(isSlow: Bool) throws {
        let (consumer, broker) = try consuming(isSlow: isSlow)
        #expect(consumer.news.readyCount == 42)
        let long = String(repeating: "x", count: isSlow ? 1000 : 300_000)
        broker.deliver("{\"a\": 1}", id: "m", frameByteCount: 3)
        broker.deliver("")
        broker.deliver(long, frameByteCount: isSlow ? 300 : 131_064)
        try consumer.wait(for: "three messages") { $0.messages.count == 3 }
        #expect(consumer.contents == ["{\"a\": 1}", "\"\"", "\"\(long)\""])
        #expect(consumer.messages.map(\.deliveryTag) == [1, 2, 3])
        #expect(consumer.messages[0].messageID == Array("m".utf8) && consumer.messages[1].metadata.isEmpty)
    }

    @Test func theClientAsksForWhatItsSettingsSay() throws {
        let (consumer, broker) = try begin()
        try broker.welcome(until: .startOk)
        broker.answer(.startOk, channel: 0)
        #expect(try broker.wait(for: .open).arguments.prefix(5) == [4] + Array("shop".utf8))
        broker.answer(.open, channel: 0)
        #expect(try broker.wait(for: .channelOpen).channel == 1)
        broker.answer(.channelOpen, channel: 1)
        // Passive, so that the queue is taken as it is.
        #expect(try broker.wait(for: .declare).arguments == [0, 0, 4] + Array("jobs".utf8) + [0b11, 0, 0, 0, 0])
        broker.answer(.declare, channel: 1)
        #expect(try broker.wait(for: .qos).arguments == [0, 0, 0, 0, 0, 7, 0])
        broker.answer(.qos, channel: 1)
        // It acknowledges, and shares the queue.
        let arguments = try broker.wait(for: .consume).arguments
        #expect(arguments == [0, 0, 4] + Array("jobs".utf8) + [0, 0, 0, 0, 0, 0])
        broker.answer(.consume, channel: 1)
        try consumer.wait(for: "the beginning") { $0.news.isConsuming }
    }

    @Test func acknowledgementsAreForAllMessagesUpToOne() throws {
        let (consumer, broker) = try consuming()
        for number in 1...5 { broker.deliver("\(number)") }
        try consumer.wait(for: "the messages") { $0.messages.count == 5 }
        consumer.consumer.acknowledge(through: 3)
        #expect(try broker.wait(for: .ack).arguments == [0, 0, 0, 0, 0, 0, 0, 3, 1])
        // An older one says nothing new.
        consumer.consumer.acknowledge(through: 2)
        consumer.consumer.acknowledge(through: 5)
        #expect(try broker.wait(for: .ack).arguments == [0, 0, 0, 0, 0, 0, 0, 5, 1])
    }

    @Test func afterAMessageThatIsTooLargeNoMoreComes() throws {
        let (consumer, broker) = try consuming(settings(maximumContentByteCount: 10))
        broker.deliver("1234567890")
        try consumer.wait(for: "the message") { $0.messages.count == 1 }
        for size: UInt64 in [11, 1 << 60, .max] {
            let (consumer, broker) = try consuming(settings(maximumContentByteCount: 10))
            broker.send(broker.delivery() + FakeRabbitMQ.header(size))
            try expectTooLarge(consumer, broker)
        }
        // It counts as it is stored.
        let (quoting, quoted) = try consuming(settings(maximumContentByteCount: 10))
        quoted.deliver("a\"\"\"\"")
        try expectTooLarge(quoting, quoted)
    }

    /// Expects the failure, after which acknowledgements go on until the end.
    private func expectTooLarge(_ consumer: ConsumerUnderTest, _ broker: FakeRabbitMQ) throws {
        try consumer.wait(for: "the failure") { $0.news.failure != nil }
        #expect(!consumer.news.hasEnded)
        consumer.consumer.acknowledge(through: 1)
        try broker.wait(for: .ack)
        consumer.consumer.stop()
        let failure = try #require(try consumer.end())
        #expect(failure.isFinal)
        #expect(
            failure.description
                == "a message in queue 'jobs' is too large: as JSON, a message may have 10 bytes here (an eighth of "
                + "--max-memory, and at most 128 MiB); take it out with another program, or raise --max-memory")
    }

    @Test func noMoreIsReadThanThereIsRoomFor() throws {
        let (consumer, broker) = try consuming(settings(maximumHeldByteCount: 1000))
        let count = 400
        let content = [UInt8](repeating: UInt8(ascii: "7"), count: 60_000)
        let bytes = (0..<count).flatMap { _ in broker.message(content) }
        var sent = 0
        // If there is no room within this time, all buffers are full.
        while sent < bytes.count, broker.socket.isWritable(withinMilliseconds: 300) {
            sent += max(0, broker.socket.sendNow(bytes[sent...]))
        }
        #expect(sent < bytes.count)
        try consumer.wait(for: "the first message") { !$0.messages.isEmpty }
        #expect(consumer.messages.count == 1)
        // Acknowledgements go on meanwhile.
        consumer.consumer.acknowledge(through: 1)
        try broker.wait(for: .ack)
        let (socket, rest) = (broker.socket, Array(bytes[sent...]))
        Thread.detachNewThread { socket.send(rest) }
        var storedCount = 0
        while storedCount < count {
            try consumer.wait(for: "another message") { $0.messages.count > storedCount }
            #expect(consumer.messages.count == storedCount + 1)
            consumer.consumer.release(byteCount: consumer.messages[storedCount].byteCount)
            storedCount += 1
        }
    }

    /// The messages of a connection that has ended come again, so they must not be stored any more.
    @Test func theEndOfAConnectionIsNoticedAlthoughThereIsNoRoom() throws {
        let (consumer, broker) = try consuming(settings(maximumHeldByteCount: 1000))
        for number in 1...3 { broker.deliver("\(number)") }
        try consumer.wait(for: "the first message") { !$0.messages.isEmpty }
        broker.socket.halfClose()
        let failure = try #require(try consumer.end())
        #expect(failure.description == "RabbitMQ at 127.0.0.1:\(listener.localPort) closed the connection")
        #expect(consumer.contents == ["1"])
    }

    // MARK: What the broker says instead

    @Test func blockedPublishersDoNotConcernAConsumer() throws {
        let (consumer, broker) = try consuming()
        broker.send(AMQPBytes().shortText("low on memory").method(.blocked, channel: 0))
        broker.send(AMQPBytes().frame(8, channel: 0))
        broker.deliver("1")
        try consumer.wait(for: "the message") { $0.messages.count == 1 }
    }

    @Test func anEndedConsumerIsAFailure() throws {
        let (consumer, broker) = try consuming()
        broker.deliver("1")
        broker.send(AMQPBytes().shortText("tag").integer(UInt8(1)).method(.cancel))
        let failure = try #require(try consumer.end())
        #expect(failure.description == "RabbitMQ ended the consumer, as it does when queue 'jobs' is deleted")
        #expect(consumer.contents == ["1"])
    }

    /// RabbitMQ refuses with these codes; where, is up to it.
    @Test(arguments: FakeRabbitMQ.steps + [.deliver], [403, 404, 406, 320, 530] as [UInt16])
    func aRefusalIsToldInWords(at step: Method, code: UInt16) throws {
        for isOfChannel in [false, true] where !isOfChannel || ![.startOk, .open].contains(step) {
            let (consumer, broker) = try begin()
            let channel = try broker.welcome(until: step)
            broker.close(code, "SOME_WORDS - no", channel: isOfChannel ? channel : 0)
            let failure = try #require(try consumer.end())
            let words = failure.description
            #expect(
                words.hasSuffix(" (RabbitMQ says: \(code) SOME_WORDS - no)") && !words.contains("s3cret"), "\(words)")
            let expected: String
            switch (code, [.startOk, .open].contains(step)) {
            case (403, true): expected = "RabbitMQ refused user 'ann' or the password"
            case (403, false): expected = "user 'ann' may not consume queue 'jobs'"
            case (404, _): expected = "virtual host 'shop' has no queue 'jobs'"
            case (406, _): expected = "RabbitMQ refused a request about queue 'jobs'"
            case (320, _): expected = "RabbitMQ is stopping, or somebody closed the connection"
            case (_, true): expected = "there is no virtual host 'shop', or user 'ann' may not use it"
            default: expected = "RabbitMQ closed the \(isOfChannel ? "channel" : "connection")"
            }
            #expect(words.hasPrefix(expected + " ("), "\(step): \(words)")
        }
    }

    @Test(arguments: FakeRabbitMQ.steps)
    func aConnectionThatEndsWithoutAWordIsNamed(at step: Method) throws {
        let (consumer, broker) = try begin()
        try broker.welcome(until: step)
        broker.socket.shutDown()
        let failure = try #require(try consumer.end())
        let words = "RabbitMQ at 127.0.0.1:\(listener.localPort) closed the connection"
        #expect(failure.description.hasPrefix(words), "\(failure)")
    }

    @Test func whatIsNoRabbitMQIsNamed() throws {
        for bytes in [Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8), Array("AMQP".utf8) + [3, 1, 0, 0]] {
            let (consumer, broker) = try begin()
            broker.send(bytes)
            broker.socket.halfClose()
            let failure = try #require(try consumer.end())
            #expect(failure.description.hasPrefix("RabbitMQ at 127.0.0.1:\(listener.localPort)"), "\(failure)")
        }
    }

    @Test func aMissingQueueIsDeclaredIfTheSettingsSaySo() throws {
        let (consumer, broker) = try begin(settings(declaresQueue: true))
        try broker.welcome(until: .declare)
        broker.close(404, "NOT_FOUND - no queue 'jobs'", channel: 1)
        // The error has closed the first channel.
        #expect(try broker.wait(for: .channelOpen).channel == 2)
        broker.answer(.channelOpen, channel: 2)
        let declare = try broker.wait(for: .declare)
        // Not passive, but durable.
        #expect(declare.channel == 2 && declare.arguments == [0, 0, 4] + Array("jobs".utf8) + [0b10, 0, 0, 0, 0])
        for step: Method in [.declare, .qos, .consume] {
            if step != .declare { #expect(try broker.wait(for: step).channel == 2) }
            broker.answer(step, channel: 2)
        }
        try consumer.wait(for: "the beginning") { $0.news.isConsuming }
        consumer.consumer.acknowledge(through: 1)
        #expect(try broker.wait(for: .ack).channel == 2)
    }

    // MARK: Nonsense

    private static let nonsense: [(String, @Sendable (FakeRabbitMQ) -> [UInt8])] = [
        ("a header without a delivery", { _ in FakeRabbitMQ.header(1) }),
        ("a body without a header", { $0.delivery() + FakeRabbitMQ.body([1]) }),
        ("a body without anything", { _ in FakeRabbitMQ.body([1]) }),
        ("two deliveries", { $0.delivery() + $0.delivery() }),
        ("two headers", { $0.delivery() + FakeRabbitMQ.header(1) + FakeRabbitMQ.header(1) }),
        ("too much of a body", { $0.delivery() + FakeRabbitMQ.header(1) + FakeRabbitMQ.body([1, 2]) }),
        (
            "a delivery within a body",
            { $0.delivery() + FakeRabbitMQ.header(2) + FakeRabbitMQ.body([1]) + $0.delivery() }
        ),
        ("a wrong end of a frame", { _ in AMQPBytes().frame(8, channel: 0, end: 0xCD) }),
        ("a frame of 4 GB", { _ in [3, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0] }),
        ("a frame of 2 GB", { _ in [3, 0, 1, 0x7F, 0xFF, 0xFF, 0xF0, 0] }),
        (
            "a frame that is larger than agreed",
            { $0.delivery() + FakeRabbitMQ.header(200_000) + FakeRabbitMQ.body([UInt8](repeating: 7, count: 200_000)) }
        ),
        ("a method that does not exist", { _ in AMQPBytes().method(Method(99, 99)) }),
        ("a method without arguments", { _ in AMQPBytes().method(.deliver) }),
        ("a method that is cut off", { _ in AMQPBytes().integer(UInt8(60)).frame(1) }),
        ("a header that is cut off", { $0.delivery() + AMQPBytes().integer(UInt16(60)).frame(2) }),
        (
            "a table that is longer than its frame",
            {
                $0.delivery()
                    + AMQPBytes().integer(UInt16(60)).integer(UInt16(0)).integer(UInt64(0)).integer(UInt16(0x2000))
                    .integer(UInt32(0x7FFF_FFFF)).integer(UInt8(0)).frame(2)
            }
        ),
        (
            "a text that is longer than its frame",
            { $0.delivery() + FakeRabbitMQ.header(0, id: "m").dropLast(2) + [0xCE] }
        ),
    ]

    /// Some of it is for the library to find, and some for emq. The end comes soon, and has a reason.
    @Test(arguments: nonsense.indices)
    func nonsenseEndsTheConnectionWithAReason(_ index: Int) throws {
        let (name, bytes) = Self.nonsense[index]
        let (consumer, broker) = try consuming()
        broker.deliver("1")
        broker.send(bytes(broker))
        // Not all of it needs to be found before the end.
        broker.socket.halfClose()
        let failure = try #require(try consumer.end(), "\(name)")
        #expect(failure.description.contains("RabbitMQ"), "\(name): \(failure)")
        #expect(consumer.contents == ["1"], "\(name)")
    }

    @Test func framesInTheWrongOrderAreNamed() throws {
        for (name, bytes) in Self.nonsense.prefix(7) {
            let (consumer, broker) = try consuming()
            broker.send(bytes(broker))
            #expect(
                try consumer.end()?.description == "RabbitMQ sent frames that do not follow each other", "\(name)")
        }
    }

    @Test func anEndInTheMiddleOfAMessageLeavesTheMessagesBefore() throws {
        let message = Array("12345678".utf8)
        let length = try consuming().1.message(message).count
        for count in stride(from: 1, to: length, by: 5) {
            let (consumer, broker) = try consuming()
            broker.deliver("1")
            broker.send(Array(broker.message(message).prefix(count)))
            broker.socket.halfClose()
            #expect(try consumer.end()?.description.hasSuffix("closed the connection") == true)
            #expect(consumer.contents == ["1"])
        }
    }

    @Test func randomBytesDoNoHarm() throws {
        var random = SeededRandom()
        for round in 0..<max(50, min(500, testOperations / 1000)) {
            let (consumer, broker) = try consuming()
            var bytes = broker.message(Array("123456789".utf8), id: "m") + broker.message([])
            switch round % 3 {
            case 0: bytes = (0..<200).map { _ in UInt8.random(in: 0...255, using: &random) }
            case 1:
                // A frame whose length is right.
                let payload = (0..<Int.random(in: 0...40, using: &random)).map { _ in
                    UInt8.random(in: 0...255, using: &random)
                }
                bytes += AMQPBytes().raw(payload).frame(UInt8.random(in: 1...4, using: &random))
            default:
                for _ in 0..<3 {
                    bytes[Int.random(in: bytes.indices, using: &random)] = .random(in: 0...255, using: &random)
                }
            }
            broker.send(bytes)
            broker.socket.halfClose()
            // A size beyond the limit is a failure without an end.
            try consumer.wait(for: "a failure, round \(round), \(random)") { $0.news.failure != nil }
            consumer.consumer.interrupt()
            _ = try consumer.end()
        }
    }

    // MARK: Ending

    @Test func aStopAcknowledgesAndSaysGoodbye() throws {
        let (consumer, broker) = try consuming()
        for number in 1...3 { broker.deliver("\(number)") }
        try consumer.wait(for: "the messages") { $0.messages.count == 3 }
        consumer.consumer.acknowledge(through: 2)
        consumer.consumer.stop()
        #expect(try broker.request()?.method == .ack)
        let close = try #require(try broker.request())
        #expect(close.method == .connectionClose && close.arguments.prefix(2) == [0, 200])
        // What is under way does not keep it.
        broker.deliver("4")
        broker.send(AMQPBytes().method(.connectionCloseOk, channel: 0))
        #expect(try consumer.end() == nil)
        #expect(try broker.socket.receive() == [])
        #expect(consumer.contents == ["1", "2", "3"])
    }

    @Test func aStopDoesNotWaitForABrokerThatSaysNothing() throws {
        let (consumer, broker) = try consuming()
        consumer.consumer.stop()
        try broker.wait(for: .connectionClose)
        #expect(try consumer.end() == nil)
        #expect(try broker.socket.receive() == [])
    }

    @Test(arguments: [nil, .startOk, .declare, .consume] as [Method?])
    func anInterruptEndsABeginningThatGetsNoAnswer(_ step: Method?) throws {
        let (consumer, broker) = try begin()
        if let step { try broker.welcome(until: step) }
        consumer.consumer.interrupt()
        #expect(try consumer.end() == nil)
    }

    /// Wherever it is, it does not wait for the answer, which would take 10 s.
    @Test func anInterruptMayComeAtAnyTime() throws {
        for _ in 0..<100 {
            let (consumer, broker) = try begin()
            let begin = Date()
            consumer.consumer.interrupt()
            #expect(try consumer.end() == nil)
            #expect(Date().timeIntervalSince(begin) < 9)
            withExtendedLifetime(broker) {}
        }
    }

    @Test func anAddressThatIsRefusedIsNotConnectedTo() throws {
        let consumer = try ConsumerUnderTest(settings(), refusal: "it is private")
        let failure = try #require(try consumer.end())
        #expect(failure.description.contains("it is private"))
        #expect(!listener.isReadable(withinMilliseconds: 0))
    }

    @Test func noThreadAndNoDescriptorStays() throws {
        func count(_ kind: String) throws -> Int {
            try FileManager.default.contentsOfDirectory(atPath: "/proc/self/\(kind)").count
        }
        // Other tests, which run at the same time, have some too.
        let (descriptors, threads) = try (count("fd"), count("task"))
        for round in 0..<200 {
            let (consumer, broker) = try round % 4 == 0 ? begin() : consuming()
            switch round % 4 {
            case 0: consumer.consumer.interrupt()
            case 1:
                consumer.consumer.stop()
                try broker.wait(for: .connectionClose)
                broker.send(AMQPBytes().method(.connectionCloseOk, channel: 0))
            case 2: broker.close(320, "CONNECTION_FORCED", channel: 0)
            default: broker.socket.shutDown()
            }
            _ = try consumer.end()
        }
        let deadline = Date(timeIntervalSinceNow: 110)
        while try count("fd") > descriptors + 100 || count("task") > threads + 100 {
            try #require(Date() < deadline, "there were \(descriptors) descriptors and \(threads) threads")
            usleep(10_000)
        }
    }

    // MARK: Time

    /// This takes seconds.
    @Test(.enabled(if: testOperations >= 10_000_000, "skipped: heartbeats take seconds"))
    func heartbeatsAreSentWhileNothingIsRead() throws {
        let (consumer, broker) = try consuming(settings(maximumHeldByteCount: 1))
        broker.deliver("1")
        broker.deliver("2")
        try consumer.wait(for: "the first message") { $0.messages.count == 1 }
        let begin = Date()
        for _ in 0..<4 { #expect(try broker.request(countsHeartbeats: true) == nil) }
        #expect(Date().timeIntervalSince(begin) < 20)
        consumer.consumer.release(byteCount: consumer.messages[0].byteCount)
        try consumer.wait(for: "the second message") { $0.messages.count == 2 }
        // The messages in the queue are counted again from time to time.
        broker.answer(.declare, channel: try broker.wait(for: .declare).channel)
    }

    /// This takes 20 s.
    @Test(.enabled(if: testOperations >= 10_000_000, "skipped: a silence takes 20 s"))
    func aBrokerThatFallsSilentIsGivenUp() throws {
        let (consumer, broker) = try consuming()
        let failure = try #require(try consumer.end())
        #expect(failure.description == "RabbitMQ at 127.0.0.1:\(listener.localPort) was silent for 20 s")
        withExtendedLifetime(broker) {}
    }
}
