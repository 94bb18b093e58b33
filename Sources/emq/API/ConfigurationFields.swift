// The fields of a queue's configuration. One table gives each field's name and type, where its value goes, and how it
// is shown.

import Delivery
import JSON
import Queues

/// A field of a queue's configuration, or of the defaults for all queues.
struct ConfigurationField: Sendable {
    let name: StaticString
    /// The values that are allowed, apart from `null`.
    let schema: Schema
    /// Whether `null` is a value: never, no limit or no queue, whatever the defaults for all queues say.
    let acceptsNull: Bool
    /// Reads a value.
    let read: @Sendable (borrowing FieldValue, inout ConfigurationFields) throws(Problem) -> Void
    /// The value as it is shown; nil if the configuration does not have it.
    let shown: @Sendable (QueueConfiguration) -> ShownValue?

    private init<Value>(
        _ name: StaticString, _ type: FieldType<Value>,
        _ store: @escaping @Sendable (inout ConfigurationFields, Value) -> Void,
        shown: @escaping @Sendable (QueueConfiguration) -> ShownValue?
    ) {
        self.name = name
        schema = type.schema
        acceptsNull = type.acceptsNull
        let readValue = type.read
        // No field holds a time, which would need the present one.
        read = { (value, fields) throws(Problem) in store(&fields, try readValue(value, 0)) }
        self.shown = shown
    }

    /// A field in which `null` asks for what holds without any configuration, whatever the defaults for all queues say.
    private init<Value>(
        _ name: StaticString, orNull type: FieldType<Value>, builtIn: QueueConfiguration.BuiltIn,
        _ store: @escaping @Sendable (inout QueueConfiguration, Value) -> Void,
        shown: @escaping @Sendable (QueueConfiguration) -> ShownValue?
    ) {
        let readValue = type.read
        self.init(
            name,
            FieldType<Value?>(type.schema, acceptsNull: true) { (value, now) throws(Problem) in
                value.kind == .null ? nil : try readValue(value, now)
            }, { Self.store($1, in: &$0, builtIn: builtIn, store) },
            shown: { $0.builtIn.contains(builtIn) ? .null : shown($0) })
    }

    /// A field of which one value asks for what holds without any configuration, whatever the defaults for all queues
    /// say.
    private init<Value: Equatable & Sendable>(
        _ name: StaticString, _ type: FieldType<Value>, builtIn: QueueConfiguration.BuiltIn, when builtInValue: Value,
        shownAs shownBuiltIn: ShownValue, _ store: @escaping @Sendable (inout QueueConfiguration, Value) -> Void,
        shown: @escaping @Sendable (QueueConfiguration) -> ShownValue?
    ) {
        self.init(
            name, type, { Self.store($1 == builtInValue ? nil : $1, in: &$0, builtIn: builtIn, store) },
            shown: { $0.builtIn.contains(builtIn) ? shownBuiltIn : shown($0) })
    }

    private static func store<Value>(
        _ value: Value?, in fields: inout ConfigurationFields, builtIn: QueueConfiguration.BuiltIn,
        _ store: (inout QueueConfiguration, Value) -> Void
    ) {
        if let value {
            store(&fields.configuration, value)
        } else {
            fields.configuration.builtIn.insert(builtIn)
        }
    }

    /// All fields, in the order in which they are shown.
    static let all = [
        ConfigurationField(
            "retry", .length, { $0.configuration.leaseMilliseconds = $1 },
            shown: { $0.leaseMilliseconds.map { .seconds(milliseconds: $0) } }),
        ConfigurationField(
            "expiry", .expiry, { $0.configuration.expiry = $1 },
            shown: { configuration in
                switch configuration.expiry {
                case .unsaid: nil
                case .never: .null
                case .after(let milliseconds): .seconds(milliseconds: milliseconds)
                }
            }),
        ConfigurationField(
            "max_retries", orNull: .retryLimit, builtIn: .maximumRetries, { $0.maximumRetries = $1 },
            shown: { $0.maximumRetries.map { .integer(Int64($0)) } }),
        ConfigurationField(
            "max_crashes", orNull: .retryLimit, builtIn: .maximumCrashes, { $0.maximumCrashes = $1 },
            shown: { $0.maximumCrashes.map { .integer(Int64($0)) } }),
        ConfigurationField(
            "backoff", .backoff, { $0.configuration.backoff = $1 }, shown: { $0.backoff.map { .json($0.json) } }),
        ConfigurationField(
            "keep", .duration, builtIn: .keep, when: 0, shownAs: .integer(0), { $0.keepMilliseconds = $1 },
            shown: { $0.keepMilliseconds > 0 ? .seconds(milliseconds: $0.keepMilliseconds) : nil }),
        ConfigurationField(
            "priority", .integer(-128...127), builtIn: .priority, when: 0, shownAs: .integer(0),
            { $0.priority = Int8(truncatingIfNeeded: $1) },
            shown: { $0.priority != 0 ? .integer(Int64($0.priority)) : nil }),
        ConfigurationField(
            "max_length", orNull: .integer(1...1_000_000_000), builtIn: .maximumLength, { $0.maximumLength = Int($1) },
            shown: { $0.maximumLength.map { .integer(Int64($0)) } }),
        ConfigurationField(
            "dead_letter", orNull: .queueName, builtIn: .deadLetter, { $0.deadLetter = $1 },
            shown: { $0.deadLetter.map { .text($0) } }),
        ConfigurationField(
            "dead_expiry", .length, { $0.configuration.deadExpiryMilliseconds = $1 },
            shown: { $0.deadExpiryMilliseconds.map { .seconds(milliseconds: $0) } }),
        ConfigurationField(
            "on_expiry", .word(["dead", "delete"]), builtIn: .expiryDeath, when: 1, shownAs: .word("delete"),
            { (configuration, _) in configuration.isExpiryDeath = true },
            shown: { $0.isExpiryDeath ? .word("dead") : nil }),
        ConfigurationField(
            "show_content", .boolean, { $0.configuration.showsContent = $1 },
            shown: { $0.showsContent.map { .boolean($0) } }),
        ConfigurationField(
            "push", .push(.queue), { $0.push = $1 }, shown: { .json(PushOptions.masked($0.push, of: .queue)) }),
    ]

    static let names = all.map(\.name)
    /// The fields in which `null` is a value, as bits.
    fileprivate static let nullable = all.indices.reduce(0 as UInt64) {
        $0 | (all[$1].acceptsNull ? 1 << UInt64($1) : 0)
    }
}

/// The fields of one configuration.
struct ConfigurationFields {
    var configuration = QueueConfiguration()
    /// How tasks are sent, if it says so.
    var push: PushOptions?

    /// Reads the fields of a configuration.
    ///
    /// - Parameters:
    ///   - bytes: a JSON object.
    ///   - members: has scanned it.
    /// - Throws: 400 for a field that is unknown or invalid.
    init(_ bytes: Span<UInt8>, scannedBy members: borrowing Members) throws(Problem) {
        let fields = ConfigurationField.all
        try members.forEach(in: bytes, known: ConfigurationField.names, nullable: ConfigurationField.nullable) {
            (place, value) throws(Problem) in
            try fields[place].read(value, &self)
        }
    }
}

extension QueueConfiguration {
    /// Reads the defaults for all queues.
    ///
    /// - Parameters:
    ///   - bytes: a JSON object.
    ///   - members: has scanned it.
    /// - Throws: 400, also for a field that only a single queue can have.
    init(defaults bytes: Span<UInt8>, scannedBy members: borrowing Members) throws(Problem) {
        let fields = try ConfigurationFields(bytes, scannedBy: members)
        if fields.push != nil {
            throw Problem(.unknownField, "push can be set only for a single queue; use PUT /config/NAME", field: "push")
        }
        self = fields.configuration
        // Defaults have no defaults of their own to set aside.
        builtIn = []
    }

    /// Writes the members of an object, without its braces. O(size).
    ///
    /// - Returns: whether there were any.
    func writeMembers(to output: inout (some JSONOutput & ~Copyable)) -> Bool {
        var isFirst = true
        for field in ConfigurationField.all {
            guard let value = field.shown(self), value.write(field.name, isFirst: isFirst, to: &output) else {
                continue
            }
            isFirst = false
        }
        return !isFirst
    }
}

extension Backoff {
    /// The backoff as requests write it.
    var json: [UInt8] {
        var json: [UInt8] = []
        let isConstant = maximumDoublings == 0 && jitter == 0
        if isConstant, minimumMilliseconds == maximumMilliseconds {
            JSONWriter.writeSeconds(milliseconds: minimumMilliseconds, to: &json)
            return json
        }
        json += "{\"min\":".utf8
        JSONWriter.writeSeconds(milliseconds: minimumMilliseconds, to: &json)
        json += ",\"max\":".utf8
        JSONWriter.writeSeconds(milliseconds: maximumMilliseconds, to: &json)
        if maximumDoublings != .max { json += ",\"doublings\":\(maximumDoublings)".utf8 }
        if jitter > 0 {
            json += ",\"jitter\":".utf8
            // It has a resolution of a thousandth.
            JSONWriter.writeSeconds(milliseconds: Int64((jitter * 1000).rounded()), to: &json)
        }
        json += "}".utf8
        return json
    }
}
