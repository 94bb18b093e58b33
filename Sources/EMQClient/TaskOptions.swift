// What a task may have beside its content.

import Bytes
import Glibc
import JSON

/// A limit that may be lifted.
public enum Limit<Value: Sendable & Hashable & Codable>: Sendable, Hashable, Codable {
    /// No limit.
    case unlimited
    /// At most this.
    case value(Value)

    /// Reads a limit; `null` and `"never"` are none.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let isNone = container.decodeNil() || (try? container.decode(String.self)) == "never"
        self = isNone ? .unlimited : .value(try container.decode(Value.self))
    }

    /// Writes the limit; no limit is `null`.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .unlimited: try container.encodeNil()
        case .value(let value): try container.encode(value)
        }
    }
}

extension KeyedDecodingContainer {
    // `null` is a value of these types, which the usual function would take for a missing member.
    func decodeIfPresent(_ type: Limit<Int>.Type, forKey key: Key) throws -> Limit<Int>? {
        contains(key) ? try decode(type, forKey: key) : nil
    }
    func decodeIfPresent(_ type: Limit<Duration>.Type, forKey key: Key) throws -> Limit<Duration>? {
        contains(key) ? try decode(type, forKey: key) : nil
    }
    func decodeIfPresent(_ type: Limit<String>.Type, forKey key: Key) throws -> Limit<String>? {
        contains(key) ? try decode(type, forKey: key) : nil
    }
}

extension Limit: ExpressibleByIntegerLiteral where Value == Int {
    /// A limit that is a number.
    public init(integerLiteral value: Int) { self = .value(value) }
}

extension Limit where Value == Duration {
    /// So many seconds.
    public static func seconds(_ seconds: Int) -> Self { .value(.seconds(seconds)) }
    /// So many milliseconds.
    public static func milliseconds(_ milliseconds: Int) -> Self { .value(.milliseconds(milliseconds)) }
}

/// The pauses before retries.
public struct Backoff: Sendable, Hashable, Codable {
    /// The first pause.
    public var min: Duration
    /// The longest pause; nil for a day.
    public var max: Duration?
    /// How often the pause doubles at most; nil for no limit.
    public var doublings: Int?
    /// By which fraction, 0 to 1, a pause may be longer or shorter, at random; nil for none.
    public var jitter: Double?

    /// Pauses that grow.
    ///
    /// - Parameters:
    ///   - min: The first pause.
    ///   - max: The longest pause; nil for a day.
    ///   - doublings: How often the pause doubles at most; nil for no limit.
    ///   - jitter: By which fraction a pause may differ, at random; nil for none.
    public init(min: Duration, max: Duration? = nil, doublings: Int? = nil, jitter: Double? = nil) {
        (self.min, self.max, self.doublings, self.jitter) = (min, max, doublings, jitter)
    }

    /// Pauses that are all the same.
    public static func constant(_ pause: Duration) -> Backoff { Backoff(min: pause, doublings: 0) }

    private enum CodingKeys: CodingKey { case min, max, doublings, jitter }

    /// Reads an object, or a number of seconds.
    public init(from decoder: any Decoder) throws {
        if let single = try? decoder.singleValueContainer(), let pause = try? single.decode(Duration.self) {
            self = .constant(pause)
            return
        }
        let container = try decoder.container(keyedBy: CodingKeys.self)
        min = try container.decodeIfPresent(Duration.self, forKey: .min) ?? .zero
        max = try container.decodeIfPresent(Duration.self, forKey: .max)
        doublings = try container.decodeIfPresent(Int.self, forKey: .doublings)
        jitter = try container.decodeIfPresent(Double.self, forKey: .jitter)
    }
}

/// What to do if an unfinished task already has the key of a new one.
public enum KeyConflict: String, Sendable, Hashable, Codable {
    /// Add nothing.
    case keep
    /// Give the first task the new content and options, and move it to the back of its queue.
    case replace
    /// Fail with ``ProblemType/keyTaken``.
    case reject
}

/// A request that makes emq send a task itself, instead of leaving it to workers. What it leaves out comes from the
/// `push` of the task's queue.
public struct PushRequest: Sendable, Codable {
    /// The target, `http://…` or `https://…`.
    public var url: String?
    /// The method; nil for POST.
    public var method: String?
    /// The header fields.
    public var headers: [String: String]?
    /// How long the request may take in all; nil for 30 s.
    public var timeout: Duration?
    /// A URL that emq notifies when the task dies.
    public var onDead: String?
    /// What is sent instead of the content.
    public var body: RawJSON?

    /// A request.
    ///
    /// - Parameters:
    ///   - url: The target; nil for that of the queue.
    ///   - method: The method; nil for POST.
    ///   - headers: The header fields.
    ///   - timeout: The limit for the request; nil for 30 s.
    ///   - onDead: A URL that emq notifies when the task dies.
    ///   - body: What is sent instead of the content.
    public init(
        url: String? = nil, method: String? = nil, headers: [String: String]? = nil, timeout: Duration? = nil,
        onDead: String? = nil, body: RawJSON? = nil
    ) {
        (self.url, self.method, self.headers, self.timeout) = (url, method, headers, timeout)
        (self.onDead, self.body) = (onDead, body)
    }
}

/// What a task has beside its content. What is nil comes from the configuration of its queue.
public struct TaskOptions: Sendable {
    /// How long a worker may hold the task before the attempt counts as failed.
    public var lease: Duration?
    /// After how long emq deletes the task.
    public var expiry: Limit<Duration>?
    /// How long the task is not given out; not together with `eta`.
    public var delay: Duration?
    /// The earliest time to give out the task, in Unix seconds.
    public var eta: Double?
    /// −128 to 127, higher first.
    public var priority: Int?
    /// How many retries may follow the first attempt.
    public var maxRetries: Limit<Int>?
    /// How many leases of the task may run out.
    public var maxCrashes: Limit<Int>?
    /// The pauses before retries.
    public var backoff: Backoff?
    /// A string of up to 255 bytes. A queue has at most one unfinished task with a given key.
    public var key: String?
    /// What to do if the key is taken; nil for ``KeyConflict/keep``.
    public var onConflict: KeyConflict?
    /// How long from now the key stays taken, even after the task has ended.
    public var uniqueFor: Duration?
    /// How long emq keeps the record, with its result, after the task has ended.
    public var keep: Duration?
    /// Strings that are shown with the task; up to 64 KiB.
    public var metadata: [String: String]?
    /// Makes emq send the task itself.
    public var request: PushRequest?
    /// The name of the request, for logs (`X-Request-Id`): 1 to 128 visible ASCII characters. In an enqueue of many
    /// tasks, that of the first task counts for all.
    public var requestID: String?
    /// The place in a trace (W3C Trace Context). In an enqueue of many tasks, that of the first task counts for all.
    public var traceparent: String?
    /// Whether the client gives a task without a key one of its own, which is taken for two minutes. So it can send the
    /// task again if the connection breaks before the answer, without adding it twice. With false, such a failure is
    /// reported as ``EMQError/Kind/outcomeUnknown``, and the server saves the memory for the key.
    public var isRepeatable: Bool

    /// Options for a task.
    ///
    /// - Parameters:
    ///   - lease: How long a worker may hold the task.
    ///   - expiry: After how long emq deletes the task.
    ///   - delay: How long the task is not given out.
    ///   - eta: The earliest time to give out the task, in Unix seconds.
    ///   - priority: −128 to 127, higher first.
    ///   - maxRetries: How many retries may follow the first attempt.
    ///   - maxCrashes: How many leases of the task may run out.
    ///   - backoff: The pauses before retries.
    ///   - key: A string that at most one unfinished task of the queue has.
    ///   - onConflict: What to do if the key is taken.
    ///   - uniqueFor: How long the key stays taken.
    ///   - keep: How long emq keeps the record after the task has ended.
    ///   - metadata: Strings that are shown with the task.
    ///   - request: Makes emq send the task itself.
    ///   - requestID: The name of the request, for logs.
    ///   - traceparent: The place in a trace.
    ///   - isRepeatable: Whether the client gives a task without a key one of its own.
    public init(
        lease: Duration? = nil, expiry: Limit<Duration>? = nil, delay: Duration? = nil, eta: Double? = nil,
        priority: Int? = nil, maxRetries: Limit<Int>? = nil, maxCrashes: Limit<Int>? = nil, backoff: Backoff? = nil,
        key: String? = nil, onConflict: KeyConflict? = nil, uniqueFor: Duration? = nil, keep: Duration? = nil,
        metadata: [String: String]? = nil, request: PushRequest? = nil, requestID: String? = nil,
        traceparent: String? = nil, isRepeatable: Bool = true
    ) {
        (self.lease, self.expiry, self.delay, self.eta, self.priority) = (lease, expiry, delay, eta, priority)
        (self.maxRetries, self.maxCrashes, self.backoff, self.key) = (maxRetries, maxCrashes, backoff, key)
        (self.onConflict, self.uniqueFor, self.keep, self.metadata) = (onConflict, uniqueFor, keep, metadata)
        (self.request, self.requestID, self.traceparent) = (request, requestID, traceparent)
        self.isRepeatable = isRepeatable
    }
}

/// The keys that make it safe to send an enqueue again.
enum RepetitionKey {
    /// No key of a program's own begins so.
    static let prefix = "emq-client:"
    /// How long such a key stays taken: longer than all tries of a call with the default timeout.
    static let validity = Duration.seconds(120)
    /// The longest time that the server takes.
    static let longestValidity = Duration.seconds(4_294_967_295)

    /// A key that nothing else has.
    static func next() -> String {
        var random = SystemRandomNumberGenerator()
        return prefix + String(random.next(), radix: 36) + String(random.next(), radix: 36)
    }
}
