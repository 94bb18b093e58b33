// A message of a RabbitMQ, copied from the library's memory.

import Bytes
import CLibraries
import JSON

/// A message that RabbitMQ has delivered and that is not acknowledged yet, as JSON.
public struct AMQPMessage: Sendable {
    /// The number of the delivery, counted from 1 in each connection.
    public let deliveryTag: UInt64
    /// The body if it is JSON, without white space around it. Any other text as a JSON string, and bytes that are no
    /// UTF-8 as a JSON string in base64, of which `metadata` has `"body": "base64"`.
    public let content: [UInt8]
    /// What its producer and RabbitMQ say about it, as a JSON object of strings; empty if they say nothing.
    public let metadata: [UInt8]
    /// Its `message_id`; empty if it has none. Bytes that are no UTF-8 are in base64, as in `metadata`.
    public let messageID: [UInt8]
    /// Its priority, 0 to 255; higher first.
    public let priority: UInt8?
    /// How long it lives, at least 1. Nil if it has no limit, or 0, which RabbitMQ has applied when it delivers: only a
    /// consumer that is ready gets such a message.
    public let expirationMilliseconds: Int64?

    /// Its header `x-request-id`; empty if it has none that is usable (`isRequestID`).
    public var requestID: [UInt8] = []
    /// Its header `traceparent`; empty if it has none that is usable (`isTraceparent`).
    public var traceparent: [UInt8] = []

    /// About how much memory it takes, in bytes.
    public var byteCount: Int { 300 + content.count + metadata.count + requestID.count + traceparent.count }
}

/// A message whose header has arrived.
struct AMQPHeader {
    /// The longest metadata, in bytes. What would make it longer is left out and counted.
    static let maximumMetadataByteCount = 64 << 10
    /// The room that is kept for the members that `message` appends.
    private static let reservedByteCount = 100

    /// The bits of the properties in a content header's flags (AMQP 0-9-1 section 1.8.3).
    private enum Flag {
        static let contentType: UInt32 = 0x8000
        static let contentEncoding: UInt32 = 0x4000
        static let headers: UInt32 = 0x2000
        static let priority: UInt32 = 0x800
        static let correlationID: UInt32 = 0x400
        static let replyTo: UInt32 = 0x200
        static let expiration: UInt32 = 0x100
        static let messageID: UInt32 = 0x80
        static let timestamp: UInt32 = 0x40
        static let type: UInt32 = 0x20
        static let userID: UInt32 = 0x10
        static let applicationID: UInt32 = 0x8
    }

    let bodyByteCount: Int
    private let deliveryTag: UInt64
    private var messageID: [UInt8] = []
    private var priority: UInt8?
    private var expirationMilliseconds: Int64?
    private var metadata: [UInt8] = []
    /// The values of these headers; nil if there is none, empty if it is unusable or comes twice.
    private var requestID: [UInt8]?
    private var traceparent: [UInt8]?
    private var leftOutCount = 0

    /// Copies what the library has decoded. O(its size).
    ///
    /// - Parameters:
    ///   - delivery: what RabbitMQ says about the delivery.
    ///   - queue: the queue that it comes from.
    ///   - decoded: what the library has decoded; valid during the call.
    ///   - bodyByteCount: the size of the body that follows, in bytes.
    init(
        of delivery: AMQPDelivery, from queue: [UInt8], copying decoded: UnsafePointer<emq_amqp_basic_properties>,
        bodyByteCount: Int
    ) {
        self.bodyByteCount = bodyByteCount
        deliveryTag = delivery.tag
        let properties = unsafe decoded.pointee
        let flags = unsafe properties.flags
        if flags & Flag.priority != 0 { priority = unsafe properties.priority }
        if flags & Flag.messageID != 0 {
            messageID = unsafe AMQPText([UInt8](copying: properties.message_id)).readable
        }
        if flags & Flag.expiration != 0 {
            let text = unsafe String(decoding: [UInt8](copying: properties.expiration), as: UTF8.self)
            if let milliseconds = Int64(text), milliseconds > 0 { expirationMilliseconds = milliseconds }
        }
        let texts = unsafe [
            (Flag.messageID, "message_id", properties.message_id),
            (Flag.correlationID, "correlation_id", properties.correlation_id),
            (Flag.replyTo, "reply_to", properties.reply_to), (Flag.type, "type", properties.type),
            (Flag.userID, "user_id", properties.user_id), (Flag.applicationID, "app_id", properties.app_id),
            (Flag.contentType, "content_type", properties.content_type),
            (Flag.contentEncoding, "content_encoding", properties.content_encoding),
        ]
        for unsafe(flag, name, bytes) in unsafe texts where flags & flag != 0 {
            unsafe add(Array(name.utf8), [UInt8](copying: bytes))
        }
        if flags & Flag.timestamp != 0 { unsafe add(Array("timestamp".utf8), Array("\(properties.timestamp)".utf8)) }
        if !delivery.exchange.isEmpty { add(Array("exchange".utf8), delivery.exchange) }
        if delivery.routingKey != queue { add(Array("routing_key".utf8), delivery.routingKey) }
        if delivery.isRedelivered { add(Array("redelivered".utf8), Array("true".utf8)) }
        guard flags & Flag.headers != 0 else { return }
        var names: Set<[UInt8]> = []
        unsafe AMQPField.forEachEntry(of: properties.headers) { entry in
            let name = unsafe Array("header.".utf8) + [UInt8](copying: entry.key)
            let value = unsafe AMQPField.text(of: entry.value)
            let isText = unsafe AMQPField.isText(entry.value)
            noteTrace(name.span.extracting(droppingFirst: "header.".utf8.count), isText ? value : [])
            // An object has each name once.
            if names.insert(name).inserted {
                add(name, value)
            } else {
                leftOutCount += 1
            }
        }
    }

    /// Notes a header that says which request the message comes from.
    private mutating func noteTrace(_ name: Span<UInt8>, _ value: [UInt8]) {
        if name.equalsIgnoringCase("x-request-id") {
            requestID = requestID == nil && value.span.isRequestID ? value : []
        } else if name.equalsIgnoringCase("traceparent") {
            traceparent = traceparent == nil && value.span.isTraceparent ? value : []
        }
    }

    /// Adds a member to the metadata, if there is room for it.
    private mutating func add(_ name: [UInt8], _ value: [UInt8]) {
        let before = metadata.count
        append(name, value)
        if metadata.count <= Self.maximumMetadataByteCount - Self.reservedByteCount { return }
        metadata.removeLast(metadata.count - before)
        leftOutCount += 1
    }

    private mutating func append(_ name: [UInt8], _ value: [UInt8]) {
        metadata.append(UInt8(ascii: metadata.isEmpty ? "{" : ","))
        AMQPText(name).write(to: &metadata)
        metadata.append(UInt8(ascii: ":"))
        AMQPText(value).write(to: &metadata)
    }

    /// The message with its body. O(size).
    ///
    /// - Parameters:
    ///   - body: its body.
    ///   - maximumContentByteCount: the largest content, in bytes. A text grows with its escapes, up to six times.
    /// - Returns: nil if the content would be larger, which is found before it is allocated.
    func message(_ body: [UInt8], maximumContentByteCount: Int) -> AMQPMessage? {
        var header = self
        var content = body
        if let value = Self.json(in: body) {
            guard value.count <= maximumContentByteCount else { return nil }
            if value.count < body.count { content = Array(body[value]) }
        } else {
            let text = AMQPText(body)
            let byteCount = text.jsonByteCount
            guard byteCount <= maximumContentByteCount else { return nil }
            content = []
            content.reserveCapacity(byteCount)
            text.write(to: &content)
            if !text.isUTF8 { header.append(Array("body".utf8), Array("base64".utf8)) }
        }
        if leftOutCount > 0 { header.append(Array("headers_left_out".utf8), Array("\(leftOutCount)".utf8)) }
        if !header.metadata.isEmpty { header.metadata.append(UInt8(ascii: "}")) }
        return AMQPMessage(
            deliveryTag: deliveryTag, content: content, metadata: header.metadata, messageID: messageID,
            priority: priority, expirationMilliseconds: expirationMilliseconds, requestID: requestID ?? [],
            traceparent: traceparent ?? [])
    }

    /// The range of the JSON value that a body is; nil if it is not JSON.
    private static func json(in body: [UInt8]) -> Range<Int>? {
        var scanner = JSONScanner(maximumEntries: 2)
        do throws(JSONError) {
            // As the only element of an array, so that the scanner tells where it is.
            try scanner.consume([UInt8(ascii: "[")].span)
            try scanner.consume(body.span)
            try scanner.consume([UInt8(ascii: "]")].span)
            try scanner.finish()
        } catch {
            return nil
        }
        guard scanner.entryCount == 1 else { return nil }
        let value = scanner.entry(0).value
        return value.lowerBound - 1..<value.upperBound - 1
    }
}

/// What RabbitMQ says about a delivery.
struct AMQPDelivery {
    let tag: UInt64
    let isRedelivered: Bool
    let exchange: [UInt8]
    let routingKey: [UInt8]
}

/// Fields of AMQP's tables as JSON.
enum AMQPField {
    /// Tables and arrays that lie deeper are shown as null.
    private static let maximumDepth = 32

    /// Calls `body` with each entry of a table. O(entries).
    static func forEachEntry(
        of table: emq_amqp_table, _ body: (emq_amqp_table_entry) -> Void
    ) {
        guard let entries = unsafe table.entries else { return }
        for index in unsafe 0..<Int(max(0, table.num_entries)) { unsafe body(entries[index]) }
    }

    /// Whether a field is a text, or bytes that may be one.
    static func isText(_ field: emq_amqp_field) -> Bool {
        unsafe field.kind == UInt8(ascii: "S") || field.kind == UInt8(ascii: "x")
    }

    /// A field as the text of a string: the bytes of a text, and any other field as JSON. O(size).
    static func text(of field: emq_amqp_field) -> [UInt8] {
        if unsafe isText(field) {
            return unsafe [UInt8](copying: field.value.bytes)
        }
        var json: [UInt8] = []
        unsafe writeJSON(field, depth: 0, to: &json)
        return json
    }

    /// Writes a field as JSON, by the letters that RabbitMQ puts before fields
    /// (https://www.rabbitmq.com/amqp-0-9-1-errata.html section 3). Bytes that are no UTF-8 become base64, and what JSON
    /// has no number for becomes null.
    private static func writeJSON(_ field: emq_amqp_field, depth: Int, to json: inout [UInt8]) {
        let value = unsafe field.value
        func write(_ number: some BinaryInteger) { json += String(number).utf8 }
        func write(_ number: Double) { json += (number.isFinite ? "\(number)" : "null").utf8 }
        switch unsafe Character(UnicodeScalar(field.kind)) {
        case "t": json += (unsafe value.boolean != 0 ? "true" : "false").utf8
        case "b": unsafe write(value.i8)
        case "B": unsafe write(value.u8)
        case "s": unsafe write(value.i16)
        case "u": unsafe write(value.u16)
        case "I": unsafe write(value.i32)
        case "i": unsafe write(value.u32)
        case "l": unsafe write(value.i64)
        case "L", "T": unsafe write(value.u64)
        case "f": unsafe write(Double(value.f32))
        case "d": unsafe write(value.f64)
        case "D": unsafe json += decimal(value.decimal).utf8
        case "S", "x": unsafe AMQPText([UInt8](copying: value.bytes)).write(to: &json)
        case "A" where depth < maximumDepth:
            json.append(UInt8(ascii: "["))
            if let entries = unsafe value.array.entries {
                for index in unsafe 0..<Int(max(0, value.array.num_entries)) {
                    if index > 0 { json.append(UInt8(ascii: ",")) }
                    unsafe writeJSON(entries[index], depth: depth + 1, to: &json)
                }
            }
            json.append(UInt8(ascii: "]"))
        case "F" where depth < maximumDepth:
            json.append(UInt8(ascii: "{"))
            var isFirst = true
            unsafe forEachEntry(of: value.table) { entry in
                if !isFirst { json.append(UInt8(ascii: ",")) }
                isFirst = false
                unsafe AMQPText([UInt8](copying: entry.key)).write(to: &json)
                json.append(UInt8(ascii: ":"))
                unsafe writeJSON(entry.value, depth: depth + 1, to: &json)
            }
            json.append(UInt8(ascii: "}"))
        default: json += "null".utf8
        }
    }

    private static func decimal(_ decimal: emq_amqp_decimal) -> String {
        let digits = String(decimal.value)
        let places = Int(decimal.decimals)
        if places == 0 { return digits }
        let padded = String(repeating: "0", count: max(0, places + 1 - digits.utf8.count)) + digits
        return "\(padded.dropLast(places)).\(padded.suffix(places))"
    }
}

extension [UInt8] {
    /// Copies the library's bytes, which are valid during the call.
    init(copying bytes: emq_amqp_bytes) {
        guard let start = unsafe bytes.bytes, unsafe bytes.len > 0 else {
            self = []
            return
        }
        unsafe self.init(UnsafeRawBufferPointer(start: start, count: bytes.len))
    }
}
