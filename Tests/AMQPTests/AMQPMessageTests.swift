// Messages as JSON: what becomes of their bodies, properties and headers.

import CLibraries
import Foundation
import Support
import Testing

@testable import AMQP

@Suite(.blocking) struct AMQPMessageTests {
    /// Memory for what the library would have decoded.
    private final class Arena {
        private var blocks: [UnsafeMutableRawPointer] = []

        deinit { for block in blocks { block.deallocate() } }

        func bytes(_ bytes: [UInt8]) -> emq_amqp_bytes {
            let block = UnsafeMutableRawPointer.allocate(byteCount: max(1, bytes.count), alignment: 1)
            block.copyMemory(from: bytes, byteCount: bytes.count)
            blocks.append(block)
            return emq_amqp_bytes(len: bytes.count, bytes: block)
        }

        func bytes(_ text: String) -> emq_amqp_bytes { bytes(Array(text.utf8)) }

        func table(_ entries: [(String, emq_amqp_field)]) -> emq_amqp_table {
            let block = UnsafeMutablePointer<emq_amqp_table_entry>.allocate(capacity: max(1, entries.count))
            for (index, entry) in entries.enumerated() {
                block[index] = emq_amqp_table_entry(key: bytes(entry.0), value: entry.1)
            }
            blocks.append(block)
            return emq_amqp_table(num_entries: Int32(entries.count), entries: block)
        }

        func array(_ fields: [emq_amqp_field]) -> emq_amqp_field {
            let block = UnsafeMutablePointer<emq_amqp_field>.allocate(capacity: max(1, fields.count))
            for (index, field) in fields.enumerated() { block[index] = field }
            blocks.append(block)
            return field("A") { $0.array = emq_amqp_array(num_entries: Int32(fields.count), entries: block) }
        }

        func field(
            _ kind: Unicode.Scalar, _ set: (inout emq_amqp_field.__Unnamed_union_value) -> Void = { _ in }
        ) -> emq_amqp_field {
            var field = emq_amqp_field()
            field.kind = UInt8(ascii: kind)
            set(&field.value)
            return field
        }

        func text(_ text: String) -> emq_amqp_field {
            let bytes = bytes(text)
            return field("S") { $0.bytes = bytes }
        }
    }

    private func messageOfAtMost(
        _ maximumContentByteCount: Int, _ body: [UInt8], exchange: String = "", routingKey: String = "jobs",
        isRedelivered: Bool = false, _ set: (inout emq_amqp_basic_properties, Arena) -> Void = { _, _ in }
    ) -> AMQPMessage? {
        let arena = Arena()
        var properties = emq_amqp_basic_properties()
        set(&properties, arena)
        return withExtendedLifetime(arena) {
            AMQPHeader(
                of: AMQPDelivery(
                    tag: 7, isRedelivered: isRedelivered, exchange: Array(exchange.utf8),
                    routingKey: Array(routingKey.utf8)),
                from: Array("jobs".utf8), copying: &properties, bodyByteCount: body.count
            ).message(body, maximumContentByteCount: maximumContentByteCount)
        }
    }

    private func message(
        _ body: [UInt8] = Array("1".utf8), exchange: String = "", routingKey: String = "jobs",
        isRedelivered: Bool = false, _ set: (inout emq_amqp_basic_properties, Arena) -> Void = { _, _ in }
    ) throws -> AMQPMessage {
        let message = messageOfAtMost(
            .max, body, exchange: exchange, routingKey: routingKey, isRedelivered: isRedelivered, set)
        return try #require(message)
    }

    private func metadata(of message: AMQPMessage) throws -> [String: String] {
        try #require(JSONSerialization.jsonObject(with: Data(message.metadata)) as? [String: String])
    }

    @Test(arguments: [
        (#"{"a": [1, "é"]}"#, #"{"a": [1, "é"]}"#), (" \r\n[1]\t", "[1]"), ("12", "12"), (#""x""#, #""x""#),
        ("", #""""#), ("hello", #""hello""#), ("1]", #""1]""#), ("1,2", #""1,2""#), ("[1", #""[1""#), ("]", #""]""#),
        ("tab\tquote\"", #""tab\tquote\"""#), ("  ", #""  ""#),
    ])
    func aBodyIsJSONOrAString(_ body: String, content: String) throws {
        let message = try message(Array(body.utf8))
        #expect(String(decoding: message.content, as: UTF8.self) == content)
        #expect(message.deliveryTag == 7 && message.metadata.isEmpty && message.messageID.isEmpty)
        #expect(message.priority == nil && message.expirationMilliseconds == nil)
    }

    @Test func bytesThatAreNoTextBecomeBase64() throws {
        let message = try message([0xFF, 0, 1])
        #expect(String(decoding: message.content, as: UTF8.self) == #""/wAB""#)
        #expect(try metadata(of: message) == ["body": "base64"])
    }

    /// A key is shown in JSON, and named in URLs.
    @Test func aMessageIDThatIsNoTextBecomesBase64() throws {
        let message = try message { properties, arena in
            (properties.flags, properties.message_id) = (0x80, arena.bytes([0xFF, 0, 1]))
        }
        #expect(message.messageID == Array("/wAB".utf8))
        #expect(try metadata(of: message) == ["message_id": "/wAB"])
    }

    @Test func propertiesBecomeMetadata() throws {
        let message = try message(exchange: "events", routingKey: "a.b", isRedelivered: true) { properties, arena in
            properties.flags = 0xFFF8
            properties.content_type = arena.bytes("text/plain")
            properties.content_encoding = arena.bytes("gzip")
            properties.priority = 200
            properties.correlation_id = arena.bytes("c\"1")
            properties.reply_to = arena.bytes("answers")
            properties.expiration = arena.bytes("60000")
            properties.message_id = arena.bytes("m-1")
            properties.timestamp = 1_700_000_000
            properties.type = arena.bytes("order")
            properties.user_id = arena.bytes("guest")
            properties.app_id = arena.bytes([0xFE])
            properties.headers = arena.table([])
        }
        #expect(message.priority == 200 && message.expirationMilliseconds == 60_000)
        #expect(message.messageID == Array("m-1".utf8))
        #expect(
            try metadata(of: message) == [
                "content_type": "text/plain", "content_encoding": "gzip", "correlation_id": "c\"1",
                "reply_to": "answers", "message_id": "m-1", "timestamp": "1700000000", "type": "order",
                "user_id": "guest", "app_id": "/g==", "exchange": "events", "routing_key": "a.b", "redelivered": "true",
            ])
    }

    @Test func headersOfAllTypesBecomeTexts() throws {
        let message = try message { properties, arena in
            properties.flags = 0x2000
            let inner = arena.table([("x", arena.text("y")), ("v", arena.field("V"))])
            properties.headers = arena.table([
                ("text", arena.text("a \"b\"")), ("true", arena.field("t") { $0.boolean = 1 }),
                ("i8", arena.field("b") { $0.i8 = -5 }), ("u8", arena.field("B") { $0.u8 = 250 }),
                ("i16", arena.field("s") { $0.i16 = -300 }), ("u16", arena.field("u") { $0.u16 = 65_535 }),
                ("i32", arena.field("I") { $0.i32 = -70_000 }), ("u32", arena.field("i") { $0.u32 = .max }),
                ("i64", arena.field("l") { $0.i64 = .min }), ("u64", arena.field("L") { $0.u64 = .max }),
                ("time", arena.field("T") { $0.u64 = 1 }), ("f32", arena.field("f") { $0.f32 = 0.5 }),
                ("f64", arena.field("d") { $0.f64 = .infinity }),
                ("decimal", arena.field("D") { $0.decimal = emq_amqp_decimal(decimals: 3, value: 42) }),
                ("table", arena.field("F") { $0.table = inner }),
                ("array", arena.array([arena.text("z"), arena.field("t")])), ("text", arena.text("again")),
            ])
        }
        #expect(
            try metadata(of: message) == [
                "header.text": "a \"b\"", "header.true": "true", "header.i8": "-5", "header.u8": "250",
                "header.i16": "-300", "header.u16": "65535", "header.i32": "-70000", "header.u32": "4294967295",
                "header.i64": "-9223372036854775808", "header.u64": "18446744073709551615", "header.time": "1",
                "header.f32": "0.5", "header.f64": "null", "header.decimal": "0.042",
                "header.table": #"{"x":"y","v":null}"#, "header.array": #"["z",false]"#, "headers_left_out": "1",
            ])
    }

    @Test func headersThatTraceTheRequestAreKnown() throws {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        for (requestID, traceparent) in [("a-1", parent), ("a 1", String(parent.dropLast()))] {
            let message = try message { properties, arena in
                properties.flags = 0x2000
                properties.headers = arena.table([
                    ("X-Request-Id", arena.text(requestID)), ("traceparent", arena.text(traceparent)),
                    ("x-request", arena.text("b")),
                ])
            }
            // What is not usable is metadata only.
            let isUsable = requestID == "a-1"
            #expect(message.requestID == Array((isUsable ? requestID : "").utf8))
            #expect(message.traceparent == Array((isUsable ? traceparent : "").utf8))
            #expect(
                try metadata(of: message) == [
                    "header.X-Request-Id": requestID, "header.traceparent": traceparent, "header.x-request": "b",
                ])
        }
    }

    @Test func headersThatAreNoTextOrComeTwiceNameNoRequest() throws {
        let twice = try message { properties, arena in
            properties.flags = 0x2000
            properties.headers = arena.table([
                ("X-Request-Id", arena.text("a")), ("x-request-id", arena.text("b")), ("X-REQUEST-ID", arena.text("c")),
            ])
        }
        #expect(twice.requestID.isEmpty)
        for letter in ["V", "t", "i"] as [Unicode.Scalar] {
            let message = try message { properties, arena in
                properties.flags = 0x2000
                properties.headers = arena.table([("x-request-id", arena.field(letter))])
            }
            #expect(try message.requestID.isEmpty && metadata(of: message).count == 1)
        }
    }

    @Test func metadataIsBounded() throws {
        let message = try message { properties, arena in
            properties.flags = 0x2000
            let long = String(repeating: "\u{1}", count: 5000)
            properties.headers = arena.table(
                (0..<10).map { ("h\($0)", arena.text(long)) } + [("last", arena.text("1"))])
        }
        #expect(message.metadata.count <= 65_536)
        let metadata = try metadata(of: message)
        #expect(metadata["headers_left_out"] == "8" && metadata["header.last"] == "1" && metadata["header.h1"] != nil)
    }

    @Test func whatLiesTooDeepIsNull() throws {
        let message = try message { properties, arena in
            properties.flags = 0x2000
            properties.headers = arena.table([
                ("deep", (0..<100).reduce(arena.field("t")) { field, _ in arena.array([field]) })
            ])
        }
        #expect(
            try metadata(of: message)["header.deep"]?.hasSuffix("[null" + String(repeating: "]", count: 32)) == true)
    }

    /// RabbitMQ refuses all but 0, which it has applied: such a message only reaches a consumer that is ready.
    @Test(arguments: ["0", "-1", "", "x", "99999999999999999999"])
    func anExpirationThatLimitsNothingIsNone(_ text: String) throws {
        let message = try message { properties, arena in
            properties.flags = 0x100
            properties.expiration = arena.bytes(text)
        }
        #expect(message.expirationMilliseconds == nil)
    }

    /// The mark tells base64 from a text.
    @Test(arguments: 65_410..<65_440)
    func fullMetadataHasTheMarkAndTheCountAllTheSame(_ byteCount: Int) throws {
        let message = try message([0xFF]) { properties, arena in
            properties.flags = 0x2000
            let long = String(repeating: "x", count: byteCount - "{\"header.a\":\"\"".utf8.count)
            let tooLong = String(repeating: "x", count: 65_536)
            properties.headers = arena.table([("a", arena.text(long)), ("b", arena.text(tooLong))])
        }
        #expect(message.metadata.count <= 65_536)
        let metadata = try metadata(of: message)
        #expect(metadata["body"] == "base64")
        #expect(metadata["headers_left_out"] == (metadata["header.a"] == nil ? "2" : "1"))
    }

    /// Escapes and base64 make a content larger than its body, which is found before the content is made.
    @Test(arguments: [
        (Array("  [1, 2]  ".utf8), 6), (Array("text".utf8), 6), (Array("\"a\n\u{1}é".utf8), 15), ([], 2), ([0xFF], 6),
        ([0xFF, 0, 1, 2], 10),
    ])
    func aContentLargerThanAllowedIsRefused(_ body: [UInt8], byteCount: Int) {
        #expect(messageOfAtMost(byteCount, body)?.content.count == byteCount)
        #expect(messageOfAtMost(byteCount - 1, body) == nil)
    }
}
