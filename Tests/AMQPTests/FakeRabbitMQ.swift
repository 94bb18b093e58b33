// A RabbitMQ that speaks just enough AMQP 0-9-1 for a consumer, by hand, so that a test can say the wrong thing.

import Foundation
import Net
import Support
import Testing

@testable import AMQP

/// A method: the numbers of its class and of itself (AMQP 0-9-1 section 1.8).
struct Method: Equatable {
    static let start = Method(10, 10)
    static let startOk = Method(10, 11)
    static let tune = Method(10, 30)
    static let tuneOk = Method(10, 31)
    static let open = Method(10, 40)
    static let openOk = Method(10, 41)
    static let connectionClose = Method(10, 50)
    static let connectionCloseOk = Method(10, 51)
    static let blocked = Method(10, 60)
    static let channelOpen = Method(20, 10)
    static let channelOpenOk = Method(20, 11)
    static let channelClose = Method(20, 40)
    static let channelCloseOk = Method(20, 41)
    static let declare = Method(50, 10)
    static let declareOk = Method(50, 11)
    static let qos = Method(60, 10)
    static let qosOk = Method(60, 11)
    static let consume = Method(60, 20)
    static let consumeOk = Method(60, 21)
    static let cancel = Method(60, 30)
    static let deliver = Method(60, 60)
    static let ack = Method(60, 80)

    let (classNumber, number): (UInt16, UInt16)

    init(_ classNumber: UInt16, _ number: UInt16) { (self.classNumber, self.number) = (classNumber, number) }
}

/// Bytes in the form of AMQP.
struct AMQPBytes {
    private(set) var bytes: [UInt8] = []

    func integer(_ value: some FixedWidthInteger) -> AMQPBytes {
        var copy = self
        withUnsafeBytes(of: value.bigEndian) { copy.bytes += $0 }
        return copy
    }

    func shortText(_ text: String) -> AMQPBytes { integer(UInt8(text.utf8.count)).raw(Array(text.utf8)) }
    func longText(_ text: String) -> AMQPBytes { integer(UInt32(text.utf8.count)).raw(Array(text.utf8)) }

    func raw(_ more: [UInt8]) -> AMQPBytes {
        var copy = self
        copy.bytes += more
        return copy
    }

    /// A frame around the bytes.
    func frame(_ type: UInt8, channel: UInt16 = 1, end: UInt8 = 0xCE) -> [UInt8] {
        AMQPBytes().integer(type).integer(channel).integer(UInt32(bytes.count)).raw(bytes).integer(end).bytes
    }

    /// A method with the bytes as its arguments.
    func method(_ method: Method, channel: UInt16 = 1) -> [UInt8] {
        AMQPBytes().integer(method.classNumber).integer(method.number).raw(bytes).frame(1, channel: channel)
    }
}

/// A request of the client.
struct AMQPRequest {
    let method: Method
    let channel: UInt16
    let arguments: [UInt8]
}

/// One side of a connection: the broker's.
final class FakeRabbitMQ {
    /// What a client asks until it consumes, in order.
    static let steps: [Method] = [.startOk, .open, .channelOpen, .declare, .qos, .consume]

    let socket: TestSocket
    /// Whether each byte is sent by itself.
    private let isSlow: Bool
    private var received: [UInt8] = []
    private var deliveryTag: UInt64 = 0

    init(_ socket: TestSocket, isSlow: Bool = false) {
        self.socket = socket
        self.isSlow = isSlow
    }

    func send(_ bytes: [UInt8]) {
        guard isSlow else {
            socket.send(bytes)
            return
        }
        for byte in bytes { socket.send([byte]) }
    }

    private func take(_ count: Int) throws -> [UInt8] {
        while received.count < count {
            let bytes = try socket.receive()
            if bytes.isEmpty { throw Failure(description: "the client has closed the connection") }
            received += bytes
        }
        defer { received.removeFirst(count) }
        return Array(received.prefix(count))
    }

    /// The next method of the client. The counting of messages is answered, and heartbeats are passed over.
    func request(countsHeartbeats: Bool = false) throws -> AMQPRequest? {
        while true {
            let head = try take(7)
            let size = head[3..<7].reduce(0) { $0 << 8 | Int($1) }
            let payload = try take(size + 1)
            guard payload.last == 0xCE else { throw Failure(description: "a frame without its end") }
            if head[0] == 8, countsHeartbeats { return nil }
            guard head[0] == 1 else { continue }
            func number(_ index: Int) -> UInt16 { UInt16(payload[index]) << 8 | UInt16(payload[index + 1]) }
            return AMQPRequest(
                method: Method(number(0), number(2)), channel: UInt16(head[1]) << 8 | UInt16(head[2]),
                arguments: Array(payload[4..<size]))
        }
    }

    /// Waits for a method; others may come before it.
    @discardableResult
    func wait(for method: Method) throws -> AMQPRequest {
        while true {
            guard let request = try request() else { continue }
            if request.method == method { return request }
            if request.method == .declare { answer(.declare, channel: request.channel) }
        }
    }

    /// Answers what a client asks until it consumes.
    ///
    /// It returns the channel of the last request, which is that for `step`: it is read and not answered. If `step` is
    /// none of the requests, all are answered.
    @discardableResult
    func welcome(until step: Method? = nil) throws -> UInt16 {
        let hello = try take(8)
        #expect(hello == Array("AMQP".utf8) + [0, 0, 9, 1])
        send(
            AMQPBytes().integer(UInt8(0)).integer(UInt8(9)).integer(UInt32(0)).longText("PLAIN").longText("en_US")
                .method(.start, channel: 0))
        var channel: UInt16 = 0
        for next in Self.steps {
            channel = try wait(for: next).channel
            if next == step { return channel }
            answer(next, channel: channel)
        }
        return channel
    }

    /// Answers a request well.
    func answer(_ request: Method, channel: UInt16) {
        let nothing = AMQPBytes()
        switch request {
        case .startOk:
            send(
                nothing.integer(UInt16(2047)).integer(UInt32(131_072)).integer(UInt16(10))
                    .method(.tune, channel: 0))
        case .open: send(nothing.shortText("").method(.openOk, channel: 0))
        case .channelOpen: send(nothing.longText("").method(.channelOpenOk, channel: channel))
        case .declare:
            send(
                nothing.shortText("jobs").integer(UInt32(42)).integer(UInt32(1)).method(.declareOk, channel: channel))
        case .qos: send(nothing.method(.qosOk, channel: channel))
        case .consume: send(nothing.shortText("tag").method(.consumeOk, channel: channel))
        default: break
        }
    }

    /// Closes the connection (channel 0) or a channel.
    func close(_ code: UInt16, _ text: String, channel: UInt16) {
        send(
            AMQPBytes().integer(code).shortText(text).integer(UInt32(0))
                .method(channel == 0 ? .connectionClose : .channelClose, channel: channel))
    }

    // MARK: Messages

    /// The frame that begins a message.
    func delivery() -> [UInt8] {
        deliveryTag += 1
        return AMQPBytes().shortText("tag").integer(deliveryTag).integer(UInt8(0)).shortText("").shortText("jobs")
            .method(.deliver)
    }

    /// The frame that says how large a body is, with a message id.
    static func header(_ byteCount: UInt64, id: String = "") -> [UInt8] {
        let flags: UInt16 = id.isEmpty ? 0 : 0x80
        let start = AMQPBytes().integer(UInt16(60)).integer(UInt16(0)).integer(byteCount).integer(flags)
        return (id.isEmpty ? start : start.shortText(id)).frame(2)
    }

    /// A frame with a part of a body.
    static func body(_ bytes: [UInt8]) -> [UInt8] { AMQPBytes().raw(bytes).frame(3) }

    /// A message, in frames of at most `frameByteCount` bytes of its body.
    func message(_ content: [UInt8], id: String = "", frameByteCount: Int = 100_000) -> [UInt8] {
        var bytes = delivery() + Self.header(UInt64(content.count), id: id)
        for start in stride(from: 0, to: content.count, by: frameByteCount) {
            bytes += Self.body(Array(content[start..<min(content.count, start + frameByteCount)]))
        }
        return bytes
    }

    func deliver(_ text: String, id: String = "", frameByteCount: Int = 100_000) {
        send(message(Array(text.utf8), id: id, frameByteCount: frameByteCount))
    }
}

/// A consumer, and what it has told so far.
final class ConsumerUnderTest {
    private final class Bell: @unchecked Sendable {
        private let condition = NSCondition()
        private var count = 0

        func ring() {
            condition.withLock {
                count += 1
                condition.broadcast()
            }
        }

        /// Waits until it has rung more often than `seen` times.
        func wait(after seen: inout Int, until deadline: Date) -> Bool {
            condition.withLock {
                while count == seen { if !condition.wait(until: deadline) { return false } }
                seen = count
                return true
            }
        }
    }

    let consumer: AMQPConsumer
    private let bell = Bell()
    private var seenCount = 0
    private(set) var messages: [AMQPMessage] = []
    private(set) var news = AMQPConsumer.News()

    init(_ settings: AMQPSettings, refusal: String? = nil) throws {
        let bell = bell
        consumer = try AMQPConsumer(
            settings, library: RabbitMQ.system.get(), trust: nil, refusal: { _, _, _ in refusal },
            notify: { bell.ring() })
    }

    deinit { consumer.interrupt() }

    /// The contents of the messages so far.
    var contents: [String] { messages.map { String(decoding: $0.content, as: UTF8.self) } }

    /// Takes what is new.
    func look() {
        news = consumer.takeNews()
        messages += news.messages
    }

    /// Waits until this is so.
    func wait(for what: String, _ isSo: (ConsumerUnderTest) -> Bool) throws {
        let deadline = Date(timeIntervalSinceNow: 110)
        while true {
            look()
            if isSo(self) { return }
            if news.hasEnded {
                throw Failure(description: "waited for \(what); it ended: \(news.failure.map { "\($0)" } ?? "well")")
            }
            guard bell.wait(after: &seenCount, until: deadline) else {
                throw Failure(description: "waited in vain for \(what)")
            }
        }
    }

    /// Waits for the end, and returns why it has ended; nil if it was to end.
    func end() throws -> AMQPFailure? {
        try wait(for: "the end") { $0.news.hasEnded }
        return news.failure
    }
}
