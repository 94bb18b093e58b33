// What an enqueue says of a task.

import Bytes
import Delivery
import JSON
import Queues
import UID

/// The fields of a task, as they are read one by one.
struct TaskFields {
    static let names: [StaticString] = [
        "content", "retry", "expiry", "delay", "eta", "priority", "max_retries", "backoff", "key", "on_conflict",
        "unique_for", "keep", "metadata", "request",
    ]
    /// Those in which `null` is a value: `content`, `expiry` (never) and `max_retries` (any number).
    static let nullable: UInt64 = 0b100_0101

    /// The longest metadata, in bytes of JSON.
    private static let maximumMetadataBytes = 65_536

    /// Where the content stands in the object.
    private(set) var content: Range<Int>?
    private(set) var leaseMilliseconds: Int64?
    var due: Int64?
    var expiry = Expiry.unsaid
    private(set) var priority: Int8?
    var options: TaskOptions?
    /// How it is to be sent, if it is. By reference: the options are large, and few tasks have them.
    private(set) var request: Request?
    private var hasDelay = false
    private var hasConflict = false

    final class Request {
        var options: PushOptions

        init(options: PushOptions) { self.options = options }
    }

    /// Whether it says no more than every usual task.
    var isPlain: Bool { options == nil && due == nil && priority == nil }

    /// Takes note of one field.
    mutating func read(_ place: Int, _ value: borrowing FieldValue, now: Int64) throws(Problem) {
        switch place {
        case 0: content = value.range
        case 1: leaseMilliseconds = try value.length()
        case 2: expiry = value.kind == .null ? .never : .after(milliseconds: try value.length())
        case 3:
            if due != nil { throw TaskFields.twoTimes }
            due = now + (try value.duration())
            hasDelay = true
        case 4:
            if hasDelay { throw TaskFields.twoTimes }
            due = try value.time(now: now)
        case 5: priority = Int8(truncatingIfNeeded: try value.integer(-128...127))
        default: try readOption(place, value)
        }
    }

    private static var twoTimes: Problem {
        Problem(400, "delay and eta say the same in two ways: give one of them", field: "eta")
    }

    private mutating func readOption(_ place: Int, _ value: borrowing FieldValue) throws(Problem) {
        let options = options ?? TaskOptions()
        self.options = options
        switch place {
        case 6: options.retryLimit = value.kind == .null ? .unlimited : .limited(try value.retryLimit())
        case 7: options.backoff = try value.backoff()
        case 8: options.key = try value.string(maximumBytes: TaskKey.maximumByteCount)
        case 9:
            options.onConflict = [.keep, .replace, .reject][try value.word(["keep", "replace", "reject"])]
            hasConflict = true
        case 10: options.uniqueForMilliseconds = try value.length()
        case 11: options.keepMilliseconds = try value.duration()
        case 12: options.metadata = try TaskFields.metadata(value)
        default: request = Request(options: try PushOptions(value, of: .task))
        }
    }

    /// An object of strings, as it was written.
    private static func metadata(_ value: borrowing FieldValue) throws(Problem) -> [UInt8] {
        guard value.kind == .object else { throw value.flaw("an object of strings") }
        guard value.bytes.count <= maximumMetadataBytes else {
            throw Problem(400, "metadata has at most \(maximumMetadataBytes) bytes", field: "metadata")
        }
        var scanner = JSONScanner()
        do throws(JSONError) {
            try scanner.consume(value.bytes)
            try scanner.finish()
        } catch {
            throw value.flaw("an object of at most 10000 strings")
        }
        for index in 0..<scanner.entryCount where scanner.entry(index).kind != .string {
            let entry = scanner.entry(index)
            let member = text(value.bytes.extracting(entry.name).extracting(first: shownBytes))
            throw Problem(
                400, "metadata is an object of strings; '\(member)' is \(describe(entry.kind))",
                field: "metadata.\(member)")
        }
        return Array(copying: value.bytes)
    }

    /// What was read, once all fields were: where the content stands.
    ///
    /// - Throws: 400 if something is missing, or stands there without what it belongs to.
    func check() throws(Problem) -> Range<Int> {
        if let options, options.key.isEmpty {
            if hasConflict { throw Problem(400, "on_conflict goes with a key", field: "on_conflict") }
            if options.uniqueForMilliseconds > 0 {
                throw Problem(400, "unique_for goes with a key", field: "unique_for")
            }
        }
        guard let content else {
            throw Problem(400, "a task has a content: {\"content\": anything}", field: "content")
        }
        return content
    }
}

extension FieldValue {
    /// How many retries there may be.
    func retryLimit() throws(Problem) -> UInt32 {
        UInt32(truncatingIfNeeded: try integer(0...Int64(UInt32.max)))
    }

    /// How long a task lives: a number of seconds, or "never", which a merge patch cannot say with `null`.
    func expiry() throws(Problem) -> Expiry {
        if kind == .number { return .after(milliseconds: try length()) }
        _ = try word(["never"])
        return .never
    }

    /// The members of a backoff that is an object.
    static let backoffMembers: [StaticString] = ["min", "max", "doublings", "jitter"]

    /// The pause before a retry: a number of seconds, or an object.
    func backoff() throws(Problem) -> Backoff {
        if kind == .number {
            let pause = try duration()
            return Backoff(minimumMilliseconds: pause, maximumMilliseconds: pause, maximumDoublings: 0)
        }
        guard kind == .object else { throw flaw("a number of seconds or an object") }
        var minimum: Int64?
        var maximum: Int64?
        var doublings = UInt32.max
        var jitter = 0.0
        do throws(Problem) {
            var members = Members()
            try members.read(bytes, kind: kind)
            try members.forEach(in: bytes, known: FieldValue.backoffMembers) {
                (place, value) throws(Problem) in
                switch place {
                case 0: minimum = try value.duration()
                case 1: maximum = try value.duration()
                case 2: doublings = try value.retryLimit()
                default: jitter = try value.fraction()
                }
            }
            guard let minimum else { throw Problem(400, "a backoff has a min: the first pause", field: "min") }
            if let maximum, maximum < minimum { throw Problem(400, "max is less than min", field: "max") }
            return Backoff(
                minimumMilliseconds: minimum, maximumMilliseconds: maximum ?? max(minimum, 86_400_000),
                maximumDoublings: doublings, jitter: jitter)
        } catch {
            throw error.inside("\(name)")
        }
    }
}
