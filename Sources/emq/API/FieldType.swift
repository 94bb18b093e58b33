// The types of fields: how a request's value is read, and how an answer shows a value.

import Bytes
import Delivery
import JSON
import Queues

/// A type of field, which reads values of JSON.
struct FieldType<Value>: Sendable {
    /// Whether `null` is a value. Where it is not, a field that is `null` counts as absent.
    let acceptsNull: Bool
    /// The values that are allowed, apart from `null`.
    let schema: Schema
    /// Reads a value at a time in milliseconds since the Unix epoch.
    let read: @Sendable (_ value: borrowing FieldValue, _ now: Int64) throws(Problem) -> Value

    init(
        _ schema: Schema, acceptsNull: Bool = false,
        _ read: @escaping @Sendable (_ value: borrowing FieldValue, _ now: Int64) throws(Problem) -> Value
    ) {
        self.schema = schema
        self.acceptsNull = acceptsNull
        self.read = read
    }
}

extension FieldType<Range<Int>> {
    /// Any JSON, as its range in the object.
    static var json: Self { Self(.any, acceptsNull: true) { (value, _) throws(Problem) in value.range } }
}

extension FieldType<Int64> {
    /// A number of seconds, 0 included, as milliseconds.
    static var duration: Self { Self(.duration) { (value, _) throws(Problem) in try value.duration() } }

    /// A number of seconds that is not 0, as milliseconds.
    static var length: Self { Self(.length) { (value, _) throws(Problem) in try value.length() } }

    /// How long a task lives, where `null` means never: a number of seconds, 0 included, as milliseconds.
    static var lifetime: Self {
        Self(.duration) { (value, _) throws(Problem) in try value.duration(alternative: ", or null for never") }
    }

    /// A time in Unix seconds, as milliseconds.
    static var time: Self { Self(.requestedTime) { (value, now) throws(Problem) in try value.time(now: now) } }

    /// A whole number.
    static func integer(_ range: ClosedRange<Int64>) -> Self {
        Self(.integer(range)) { (value, _) throws(Problem) in try value.integer(range) }
    }
}

extension FieldType<Bool> {
    /// True or false.
    static var boolean: Self { Self(.boolean) { (value, _) throws(Problem) in try value.boolean() } }
}

extension FieldType<UInt32> {
    /// A number of retries, or of leases that run out.
    static var retryLimit: Self { Self(.retryLimit) { (value, _) throws(Problem) in try value.retryLimit() } }
}

extension FieldType<Int> {
    /// One of a few words, as its place among them.
    static func word(_ words: [StaticString]) -> Self {
        Self(.words(words.map { "\($0)" })) { (value, _) throws(Problem) in try value.word(words) }
    }
}

extension FieldType<[UInt8]> {
    /// A text of 1 to `maximumBytes` bytes of UTF-8.
    static func text(maximumBytes: Int) -> Self {
        Self(.text(maximumBytes: maximumBytes)) { (value, _) throws(Problem) in
            try value.string(maximumBytes: maximumBytes)
        }
    }

    /// The name of a queue.
    static var queueName: Self {
        Self(.queueName) { (value, _) throws(Problem) in
            let name = try value.string(maximumBytes: QueueName.maximumByteCount)
            if let flaw = QueueName.flaw(in: name.span) { throw Problem(.invalidField, flaw, field: "\(value.name)") }
            return name
        }
    }

    /// An object of strings of at most `maximumBytes` bytes of JSON, as the client wrote it.
    static func strings(maximumBytes: Int) -> Self {
        Self(.map(of: .text(mayBeEmpty: true))) { (value, _) throws(Problem) in
            try value.strings(maximumBytes: maximumBytes)
        }
    }
}

extension FieldType<Backoff> {
    /// The pause before a retry.
    static var backoff: Self { Self(.backoff) { (value, _) throws(Problem) in try value.backoff() } }
}

extension FieldType<Expiry> {
    /// How long a task lives: a number of seconds, or `null` or `"never"`.
    static var expiry: Self {
        Self(.expiry, acceptsNull: true) { (value, _) throws(Problem) in
            value.kind == .null ? .never : try value.expiry()
        }
    }
}

extension FieldType<PushOptions> {
    /// How tasks are sent.
    static func push(_ kind: PushOptions.Kind) -> Self {
        Self(.reference(kind == .queue ? "Push" : "Request")) { (value, _) throws(Problem) in
            try PushOptions(value, of: kind)
        }
    }
}

/// A value as an answer shows it.
enum ShownValue: Sendable {
    case null
    case seconds(milliseconds: Int64)
    case integer(Int64)
    case boolean(Bool)
    /// A text. An empty one is not shown.
    case text([UInt8])
    /// JSON. An empty one is not shown.
    case json([UInt8])
    case word(StaticString)

    /// Appends the value as a member of an object. O(size).
    ///
    /// - Parameters:
    ///   - name: the member's name.
    ///   - isFirst: whether it is the first member, without a comma before it.
    ///   - output: receives it.
    /// - Returns: whether there was something to show.
    @discardableResult
    func write(_ name: StaticString, isFirst: Bool, to output: inout (some JSONOutput & ~Copyable)) -> Bool {
        switch self {
        case .text(let bytes), .json(let bytes): if bytes.isEmpty { return false }
        default: break
        }
        output.append(isFirst ? "\"" : ",\"")
        output.append(name)
        output.append("\":")
        switch self {
        case .null: output.append("null")
        case .seconds(let milliseconds): JSONWriter.writeSeconds(milliseconds: milliseconds, to: &output)
        case .boolean(let value): output.append(value ? "true" : "false")
        case .integer(let number): JSONWriter.writeInteger(number, to: &output)
        case .text(let text): JSONWriter.writeString(text.span, to: &output)
        case .json(let json): output.append(json.span)
        case .word(let word):
            output.append("\"")
            output.append(word)
            output.append("\"")
        }
        return true
    }
}
