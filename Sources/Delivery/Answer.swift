// Interprets the response to a task that was sent, and turns it into the task's result.

import Bytes
import JSON
import Net

/// Reads the responses of receivers.
enum Answer {
    /// The longest pause that a response may ask for.
    private static let maximumPauseMilliseconds: Int64 = 86_400_000

    /// The pause that a response asks for in place of the backoff (RFC 9110 section 10.2.3); nil if it asks for none. A
    /// pause of zero or a time in the past counts as none: otherwise a receiver with a wrong clock would get the same
    /// task again and again.
    static func pauseMilliseconds(_ response: borrowing ClientResponse, now: Int64) -> Int64? {
        guard response.status == 429 || response.status == 503 else { return nil }
        var pause: Int64?
        response.forEachField { name, value in
            guard name.equalsIgnoringCase("Retry-After"), pause == nil else { return }
            let text = String(decoding: value)
            if text.utf8.isDecimal {
                // A number too large for an integer is a long time too.
                pause = min(Int64(text) ?? .max, maximumPauseMilliseconds / 1000) * 1000
            } else if let time = HTTPDate.unixSeconds(text, now: now / 1000) {
                pause = min(max(0, time * 1000 - now), maximumPauseMilliseconds)
            }
        }
        return pause == 0 ? nil : pause
    }

    /// The number of characters of a response's body that an error shows.
    private static let shownCharacters = 200

    /// How much of a response's body the result keeps, in bytes.
    private static let keptBodyBytes = 1 << 20

    /// The error for an unsuccessful response: its status and the beginning of its body.
    static func error(_ response: borrowing ClientResponse, from place: String) -> String {
        let status = response.status
        let phrase = "\(reason(of: status))"
        var text = "\(place) answered \(status)" + (phrase.isEmpty ? "" : " \(phrase)")
        if (300...399).contains(status) {
            response.forEachField { name, value in
                guard name.equalsIgnoringCase("Location") else { return }
                text += "; redirects are not followed, its Location is "
                text += String(decoding: value.extracting(first: 500))
            }
        }
        let beginning = beginning(of: response.body)
        return beginning.isEmpty ? text : "\(text): \(beginning)"
    }

    /// The first characters of a body on one line, with U+FFFD in place of those that cannot be shown.
    private static func beginning(of body: Span<UInt8>) -> String {
        // A character has at most four bytes.
        var bytes = Array(copying: body.extracting(first: min(body.count, 4 * shownCharacters + 4)))
        // Leave out a last character that the limit has cut off.
        if bytes.count < body.count, let start = bytes.suffix(3).lastIndex(where: { $0 >= 0xC0 }) {
            let count = bytes[start] < 0xE0 ? 2 : bytes[start] < 0xF0 ? 3 : 4
            if start + count > bytes.count { bytes.removeSubrange(start...) }
        }
        let words = String(decoding: bytes, as: UTF8.self).unicodeScalars.split { $0.properties.isWhitespace }
        let line = words.joined(separator: CollectionOfOne(" " as Unicode.Scalar)).map { scalar in
            scalar.properties.generalCategory == .control ? "\u{FFFD}" : scalar
        }
        var text = String.UnicodeScalarView(line.prefix(shownCharacters))
        if line.count > shownCharacters { text.append("…") }
        return String(text)
    }

    /// The response as the task's result.
    ///
    /// - Parameters:
    ///   - response: the response.
    ///   - elapsedMilliseconds: the time from the request to the response.
    ///   - keepsBody: whether there is room for the body.
    /// - Returns: a JSON object.
    static func result(_ response: borrowing ClientResponse, elapsedMilliseconds: Int64, keepsBody: Bool) -> [UInt8] {
        var json = Array("{\"status\":".utf8)
        JSONWriter.writeInteger(Int64(response.status), to: &json)
        json += ",\"headers\":{".utf8
        for (index, field) in response.joinedFields.enumerated() {
            if index > 0 { json.append(UInt8(ascii: ",")) }
            let (name, value) = (Array(field.name.utf8), Array(field.value.utf8))
            JSONWriter.writeString(name.span, to: &json)
            json.append(UInt8(ascii: ":"))
            JSONWriter.writeString(value.span, to: &json)
        }
        json.append(UInt8(ascii: "}"))
        var isTruncated = response.isTruncated
        if keepsBody {
            let body = response.body
            isTruncated = isTruncated || body.count > keptBodyBytes
            writeBody(body.extracting(first: min(body.count, keptBodyBytes)), isTruncated: isTruncated, to: &json)
        } else {
            isTruncated = isTruncated || !response.body.isEmpty
            writeBody(Span(), isTruncated: true, to: &json)
        }
        if isTruncated { json += ",\"truncated\":true".utf8 }
        json += ",\"elapsed\":".utf8
        JSONWriter.writeSeconds(milliseconds: elapsedMilliseconds, to: &json)
        json.append(UInt8(ascii: "}"))
        return json
    }

    private static func writeBody(_ body: Span<UInt8>, isTruncated: Bool, to json: inout [UInt8]) {
        // A truncated body may end within a character.
        for dropped in 0...min(isTruncated ? 3 : 0, body.count) {
            let text = Array(copying: body.extracting(first: body.count - dropped))
            guard String(validating: text, as: UTF8.self) != nil else { continue }
            json += ",\"body\":".utf8
            return JSONWriter.writeString(text.span, to: &json)
        }
        json += ",\"body_base64\":\"".utf8
        Base64.standard.encode(body, into: &json)
        json.append(UInt8(ascii: "\""))
    }
}
