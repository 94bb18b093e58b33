// A message of taskqueue: the content of a task, which says where and when it is sent, and how often.

import Bytes
import JSON
import Net
import Queues

/// The settings and the payload of a message.
struct TaskqueueMessage {
    /// The URL of its payload.
    let url: HTTPURL
    /// The URL to which the payload goes if the first one fails for good; nil if there is none, or if emq cannot send to
    /// it.
    let rollBackURL: HTTPURL?
    /// The time before which it is not sent, and the time at which it expires, in Unix milliseconds.
    private(set) var eta: Int64?
    private(set) var expires: Int64?
    /// The number of attempts in all, at least 1; nil for the queue's own.
    private(set) var attempts: Int64?
    /// Its payload, JSON; empty if there is none.
    private(set) var payload: [UInt8] = []
    /// The queue that it names; nil for none.
    private(set) var queueName: [UInt8]?

    /// Reads a message. A time, a duration or a limit that is 0 or below says nothing, and neither does an empty text:
    /// taskqueue writes them into each message for what its producer leaves out.
    ///
    /// - Parameters:
    ///   - content: JSON.
    ///   - baseURL: the URL before a path.
    ///   - now: the time at which a countdown begins.
    /// - Throws: `Problem` with what is wrong.
    init(_ content: Span<UInt8>, baseURL: String?, now: Int64) throws(Problem) {
        guard content.count > 0, content[0] == UInt8(ascii: "{") else {
            throw Problem(.invalidBody, "a message must be a JSON object")
        }
        var members = Members()
        try members.read(content, kind: .object)
        var (url, rollBack): ([UInt8], [UInt8]) = ([], [])
        var (eta, countdown, expires, attempts): (Int64?, Int64?, Int64?, Int64?)
        var payload: Range<Int>?
        var queue: [UInt8]?
        let names: [StaticString] = [
            "url", "roll_back", "payload", "queue", "eta", "countdown", "expires", "max_retries",
        ]
        try members.forEach(in: content, known: names, isLenient: true) { (place, value) throws(Problem) in
            switch place {
            case 0: url = try value.string(maximumBytes: HTTPURL.maximumLength)
            // A flaw in it does not keep the payload from being sent.
            case 1: rollBack = (try? value.string(maximumBytes: HTTPURL.maximumLength)) ?? []
            case 2: payload = value.range
            case 3: queue = value.isBlank ? nil : try value.string(maximumBytes: QueueName.maximumByteCount)
            case _ where value.isZeroOrBelow: break
            case 4: eta = try value.time(now: now)
            case 5: countdown = try value.duration()
            case 6: expires = try value.time(now: now)
            default: attempts = try value.integer(.min ... .max)
            }
        }
        guard !url.isEmpty else { throw Problem(.missingField, "a message needs a url", field: "url") }
        self.url = try Self.resolve(url, behind: baseURL, field: "url")
        rollBackURL = rollBack.isEmpty ? nil : try? Self.resolve(rollBack, behind: baseURL, field: "roll_back")
        self.eta = eta ?? countdown.map { now + $0 }
        self.expires = expires
        self.attempts = attempts
        if let payload { self.payload = Array(copying: content.extracting(payload)) }
        queueName = queue
    }

    /// The body for a payload: the text of a string, or any other JSON as it is.
    static func body(of payload: [UInt8]) -> [UInt8] {
        guard payload.first == UInt8(ascii: "\"") else {
            return payload.elementsEqual("null".utf8) ? [] : payload
        }
        var decoded: [UInt8] = []
        return JSONValue.decodeString(payload.span, into: &decoded) ? decoded : payload
    }

    private static func resolve(_ text: [UInt8], behind baseURL: String?, field: String) throws(Problem) -> HTTPURL {
        var whole = text
        // A scheme ends with a colon that comes before any slash.
        if !text.prefix(while: { $0 != UInt8(ascii: "/") }).contains(UInt8(ascii: ":")) {
            guard let baseURL else {
                throw Problem(
                    .invalidField, "\(field) is a path, but the ini file has no base_url; write a whole URL",
                    field: field)
            }
            whole = Array(baseURL.utf8) + (text.first == UInt8(ascii: "/") ? [] : [UInt8(ascii: "/")]) + text
        }
        do throws(HTTPURLError) { return try HTTPURL(whole.span) } catch {
            throw Problem(.invalidField, "\(field): \(error)", field: field)
        }
    }
}

extension FieldValue {
    /// Whether it is a number that is not above zero.
    fileprivate var isZeroOrBelow: Bool {
        guard kind == .number else { return false }
        if bytes[0] == UInt8(ascii: "-") { return true }
        var index = 0
        while index < bytes.count, bytes[index] == UInt8(ascii: "0") || bytes[index] == UInt8(ascii: ".") { index += 1 }
        return index == bytes.count || bytes[index] | 0x20 == UInt8(ascii: "e")
    }
}
