// The HTTP request that is sent for a client's request, as Python's requests 2.4 makes it.

import Bytes
import Delivery
import JSON
import Net

extension HtqRequest {
    private static let maximumRedirects = 30
    /// The beginning is that of the original, for receivers that look for it.
    private static let userAgent = "python-requests/2.4.3 emq"

    /// The HTTP request that is sent.
    ///
    /// - Throws: `HtqFlaw` for a request that cannot be sent.
    func clientRequest() throws(HtqFlaw) -> ClientRequest {
        let target = try HtqURL(url)
        let method = method.map { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) ? $0 & ~0x20 : $0 }
        guard ClientRequest.isAllowedMethod(method.span) else {
            throw HtqFlaw("'\(String(decoding: method, as: UTF8.self))' is not a method; use one such as get or post")
        }
        guard timeoutMilliseconds > 0 else { throw HtqFlaw("the timeout must be more than 0 seconds") }
        let headers: HtqHeaders
        do throws(Problem) { headers = try HtqHeaders(self.headers) } catch { throw HtqFlaw(error.detail) }
        var body = data.flatMap { $0.isEmpty ? nil : $0.asLatin1 }
        // The original sends a length even without content, but not where content is unusual.
        if body == nil, !method.span.equals("GET"), !method.span.equals("HEAD") { body = [] }
        var defaults = [("User-Agent", Self.userAgent), ("Accept", "*/*")]
        if ClientRequest.canDecodeContent { defaults.append(("Accept-Encoding", "gzip, deflate")) }
        let fields = headers.lines(defaults: defaults, authorization: target.authorization)
        var request = ClientRequest(url: target.url, method: method, fields: fields, body: body)
        request.host = headers.host
        // The time limit begins anew with each part of the response; only a day limits the whole.
        request.connectTimeoutMilliseconds = timeoutMilliseconds
        request.idleTimeoutMilliseconds = timeoutMilliseconds
        request.timeoutMilliseconds = Htq.lifeMilliseconds
        request.redirects = RedirectRules(limit: Self.maximumRedirects)
        request.redirects.failsBeyondLimit = true
        request.redirects.keepsMethodWhenMoved = true
        request.redirects.keepsCookies = true
        request.redirects.encodesTargets = true
        request.decodesContent = true
        return request
    }
}

/// The header fields that a client wants sent.
struct HtqHeaders {
    /// The value of Host; nil if the client sets none.
    private(set) var host: [UInt8]?
    /// The fields in order; one without a value keeps a default from being added.
    private var fields: [(name: [UInt8], value: [UInt8]?)] = []
    /// The places of the fields by their names in lower case.
    private var places: [[UInt8]: Int] = [:]

    /// Reads headers. Fields that concern the connection or the length of the body are left out.
    ///
    /// - Throws: 422 for headers that cannot be sent.
    init(_ json: [UInt8]) throws(Problem) {
        var scanner = JSONScanner()
        do throws(JSONError) {
            try scanner.consume(json.span)
            try scanner.finish()
        } catch {
            // It was valid as part of the body, so it has more entries than the scanner takes.
            throw Self.flaw("headers has too many members: \(error)")
        }
        var byteCount = 0
        for index in 0..<scanner.entryCount {
            let entry = scanner.entry(index)
            let quotedName = json.span.extracting(entry.name.lowerBound - 1..<entry.name.upperBound + 1)
            let value = json.span.extracting(entry.value)
            let shownName = text(quotedName.extracting(first: shownBytes))
            var name: [UInt8] = []
            guard JSONValue.decodeString(quotedName, into: &name), ClientRequest.isFieldName(name.span) else {
                throw Self.flaw("\(shownName) is not the name of a header")
            }
            let content: [UInt8]? =
                switch entry.kind {
                case .string, .true, .false: PythonText.str(value)?.asLatin1
                case .number: Array(copying: value)
                // Without this field, Python's http.client asks for no coding.
                case .null where name.span.equalsIgnoringCase("Accept-Encoding"): Array("identity".utf8)
                case .null, .object, .array: nil
                }
            guard entry.kind == .null || content.map({ ClientRequest.isFieldValue($0.span) }) == true else {
                throw Self.flaw(
                    "the header \(shownName) must be a string without control characters, a number or a boolean")
            }
            byteCount += name.count + (content?.count ?? 0)
            guard byteCount <= PushOptions.maximumHeaderBytes else {
                throw Self.flaw("headers must have at most \(PushOptions.maximumHeaderBytes) bytes in all")
            }
            add(name, content)
        }
    }

    private static func flaw(_ detail: String) -> Problem {
        Problem(.invalidField, legacyStatus: 422, detail, field: "headers")
    }

    /// Adds a field, or replaces the one with this name.
    private mutating func add(_ name: [UInt8], _ value: [UInt8]?) {
        if name.span.equalsIgnoringCase("Host") {
            host = value
            return
        }
        guard ClientRequest.isAllowedField(name: name.span) else { return }
        if let place = places[name.lowercasedASCII] {
            fields[place] = (name, value)
        } else {
            places[name.lowercasedASCII] = fields.count
            fields.append((name, value))
        }
    }

    /// The lines of the request.
    ///
    /// - Parameters:
    ///   - defaults: the fields for names that the client does not mention.
    ///   - authorization: the value of Authorization, in place of the client's; nil to keep that.
    /// - Returns: the lines.
    func lines(defaults: [(name: String, value: String)], authorization: [UInt8]?) -> [UInt8] {
        var all = self
        for (name, value) in defaults where places[Array(name.utf8).lowercasedASCII] == nil {
            all.add(Array(name.utf8), Array(value.utf8))
        }
        if let authorization { all.add(Array("Authorization".utf8), authorization) }
        var lines = Array("Connection: keep-alive\r\n".utf8)
        for case (let name, let value?) in all.fields {
            lines += name + Array(": ".utf8) + value + Array("\r\n".utf8)
        }
        return lines
    }
}
