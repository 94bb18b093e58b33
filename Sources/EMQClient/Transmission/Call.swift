// A request as the client's methods make it, and the answer to it.

import Bytes
import JSON
import Net

/// A request to the server, with what the client may do if it fails.
struct Call: Sendable {
    /// Where the time goes that the server may wait before it answers.
    enum WaitPlace: Sendable { case body, query }
    /// What becomes of a request in flight that is not wanted any more.
    enum Abandonment: Sendable {
        /// Its connection closes.
        case close
        /// It is told to end, and tasks in the answer are given back.
        case release
    }

    static let get = Array("GET".utf8)
    private static let post = Array("POST".utf8)

    let method: [UInt8]
    /// The path and the query, percent-encoded.
    var target: String
    /// A JSON body; nil for none.
    var body: [UInt8]?
    var contentType = "application/json"
    /// Further complete lines of the header.
    var fields: [UInt8] = []
    /// How long the server may wait before it answers, in milliseconds; nil if it does not. A repetition waits for what
    /// is left of that.
    var waitMilliseconds: Int64?
    var waitPlace = WaitPlace.body
    /// Whether it may occupy its connection for long. Some connections are reserved for other requests.
    var isLong = false
    /// Whether a request that may have arrived can be sent again without doing anything twice.
    var isRepeatable = true
    /// Whether only the client can send it again safely, because it has a key of the client's: a new call would do it
    /// again.
    var isSafeWithinCall = false
    var abandonment = Abandonment.close
    /// How often it is sent at most; nil for the client's default.
    var tries: Int?
    /// The limit for all of it without the wait, in milliseconds; nil for the client's default.
    var timeoutMilliseconds: Int64?

    /// A request without a body.
    init(_ method: String, _ target: String) { (self.method, self.target) = (Array(method.utf8), target) }

    /// A POST with a JSON body.
    init(_ target: String, json: [UInt8]) { (method, self.target, body) = (Self.post, target, json) }

    /// What messages call the request.
    var name: String { "\(String(decoding: method, as: UTF8.self)) \(target.prefix { $0 != "?" })" }

    /// A path: the parts between slashes, of which the last, a name, is percent-encoded, and the query.
    static func target(_ path: String, name: String = "", query: [(String, String?)] = []) -> String {
        if name.isEmpty, query.isEmpty { return path }
        var bytes = Array(path.utf8)
        PercentEncoding.encode(Array(name.utf8).span, into: &bytes)
        var separator = UInt8(ascii: "?")
        for (key, value) in query {
            guard let value else { continue }
            bytes.append(separator)
            bytes += key.utf8
            bytes.append(UInt8(ascii: "="))
            PercentEncoding.encode(Array(value.utf8).span, into: &bytes)
            separator = UInt8(ascii: "&")
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// What the server has answered.
struct Answer: Sendable {
    let status: Int
    let body: [UInt8]
    /// The pause that the server asks for, in seconds.
    var retryAfterSeconds: Int64?
    /// The tasks that a wait could not acknowledge.
    var missing: [String] = []
    /// Where a list goes on.
    var link: String?
    /// Whether an earlier try of the same request may have arrived.
    var isRepeated = false

    var isSuccess: Bool { (200..<300).contains(status) }

    init(_ response: borrowing ClientResponse) {
        status = response.status
        body = Array(copying: response.body)
        var (retryAfter, missing, link): (String?, String?, String?)
        response.forEachField { name, value in
            if name.equalsIgnoringCase("Retry-After") { retryAfter = String(decoding: value) }
            if name.equalsIgnoringCase("Emq-Missing") { missing = String(decoding: value) }
            if name.equalsIgnoringCase("Link") { link = String(decoding: value) }
        }
        retryAfterSeconds = retryAfter.flatMap { Int64($0) }.flatMap { $0 >= 0 ? $0 : nil }
        if let missing {
            self.missing = missing.split(separator: ",").map { String($0.drop { $0 == " " }) }
        }
        self.link = link
    }
}
