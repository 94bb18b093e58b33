// How an event becomes a line: as text, as text for systemd's journal, or as JSON. Texts of clients and files cannot
// break a line, begin another one, look like a field, or control a terminal.

import Bytes
import JSON

/// The form of the log's lines.
enum LogFormat {
    /// `2026-11-29T18:30:00.123Z warning MESSAGE name="value"`
    case text
    /// The same for systemd's journal, which has the time itself: the priority (sd-daemon(3)) in place of it.
    case journal
    /// One JSON object.
    case json
}

/// Writes the lines of a log. It remembers the text of the current second.
struct LogLines {
    /// The longest message, in bytes.
    static let maximumMessageByteCount = 16 << 10

    var format: LogFormat
    private var second = Int64.min
    private var secondText: [UInt8] = []

    init(_ format: LogFormat) { self.format = format }

    /// Appends the line of an event, without a line feed. O(length).
    ///
    /// - Parameters:
    ///   - event: the event.
    ///   - now: the time, in milliseconds since the Unix epoch.
    ///   - repetition: how often it has come again; nil if this is the event itself.
    ///   - line: takes the line.
    mutating func write(
        _ event: LogEvent, at now: Int64, repetition: LogRepeats.Repetition? = nil, to line: inout [UInt8]
    ) {
        switch format {
        case .text:
            writeTime(now, to: &line)
            line += " \(event.level.name) ".utf8
        case .journal: line += "<\(event.level.rawValue)>\(event.level.name) ".utf8
        case .json: return writeJSON(event, at: now, repetition, to: &line)
        }
        Self.writeMessage(event.message, to: &line)
        if let repetition { line += Self.note(repetition, now: now).utf8 }
        for field in event.fields {
            line.append(UInt8(ascii: " "))
            line.append(field.name)
            line.append(UInt8(ascii: "="))
            write(field.value, to: &line)
        }
    }

    private mutating func writeJSON(
        _ event: LogEvent, at now: Int64, _ repetition: LogRepeats.Repetition?, to line: inout [UInt8]
    ) {
        line += "{\"time\":\"".utf8
        writeTime(now, to: &line)
        line += "\",\"level\":\"\(event.level.name)\",\"message\":".utf8
        Self.writeQuoted(Array(Self.beginning(of: event.message).utf8), to: &line)
        for field in event.fields {
            line += ",\"".utf8
            line.append(field.name)
            line += "\":".utf8
            write(field.value, to: &line)
        }
        if let repetition { line += ",\"repeated\":\(repetition.count)".utf8 }
        line.append(UInt8(ascii: "}"))
    }

    private func write(_ value: LogEvent.Field.Value, to line: inout [UInt8]) {
        switch value {
        case .text(let text?): Self.writeQuoted(text, to: &line)
        case .text(nil): line += (format == .json ? "null" : "-").utf8
        case .word(let word) where format == .json: Self.writeQuoted(Array(word.utf8), to: &line)
        case .word(let word): line += word.utf8
        case .number(let number): JSONWriter.writeInteger(number, to: &line)
        case .flag(let flag): line += (flag ? "true" : "false").utf8
        case .duration(let microseconds): Self.writeMilliseconds(microseconds, to: &line)
        case .seconds(let milliseconds): JSONWriter.writeSeconds(milliseconds: milliseconds, to: &line)
        }
    }

    private static func note(_ repetition: LogRepeats.Repetition, now: Int64) -> String {
        let times = repetition.count == 1 ? "1 more time" : "\(repetition.count) more times"
        return " (\(times) in \(max(0, now - repetition.since) / 1000) s)"
    }

    // MARK: Parts

    private mutating func writeTime(_ now: Int64, to line: inout [UInt8]) {
        let milliseconds = now % 1000 < 0 ? now % 1000 + 1000 : now % 1000
        let second = (now - milliseconds) / 1000
        if second != self.second {
            self.second = second
            // The last character is the zone.
            secondText = Array(UTC.timestamp(ofUnixSeconds: second).utf8.dropLast())
        }
        line += secondText
        line.append(UInt8(ascii: "."))
        Self.writeThousandths(milliseconds, to: &line)
        line.append(UInt8(ascii: "Z"))
    }

    private static func writeMilliseconds(_ microseconds: Int64, to line: inout [UInt8]) {
        let microseconds = max(0, microseconds)
        JSONWriter.writeInteger(microseconds / 1000, to: &line)
        line.append(UInt8(ascii: "."))
        writeThousandths(microseconds % 1000, to: &line)
    }

    private static func writeThousandths(_ number: Int64, to line: inout [UInt8]) {
        for divisor: Int64 in [100, 10, 1] { line.append(UInt8(ascii: "0") + UInt8(number / divisor % 10)) }
    }

    private static func beginning(of message: String) -> String {
        guard message.utf8.count > maximumMessageByteCount else { return message }
        return String(decoding: message.utf8.prefix(maximumMessageByteCount), as: UTF8.self) + "…"
    }

    /// Appends a text, or the beginning of a long one. Characters that could break the line or control a terminal are
    /// escaped as in Swift: `\n`, `\u{1B}`.
    static func writePlain(_ text: String, to line: inout [UInt8]) {
        let text = beginning(of: text)
        if text.utf8.allSatisfy(isVisibleASCII) { return line += text.utf8 }
        for scalar in text.unicodeScalars {
            let character = isDangerous(scalar) ? scalar.escaped(asASCII: true) : String(scalar)
            line += character.utf8
        }
    }

    /// Appends a message in which nothing looks like a field: it has `'` in place of `"`, and `=` is escaped.
    private static func writeMessage(_ text: String, to line: inout [UInt8]) {
        let start = line.count
        writePlain(text, to: &line)
        guard line[start...].contains(where: { $0 == UInt8(ascii: "\"") || $0 == UInt8(ascii: "=") }) else { return }
        let message = Array(line[start...])
        line.removeLast(message.count)
        for byte in message {
            switch byte {
            case UInt8(ascii: "\""): line.append(UInt8(ascii: "'"))
            case UInt8(ascii: "="): line += "\\u{3D}".utf8
            default: line.append(byte)
            }
        }
    }

    /// Appends a JSON string. It has U+FFFD in place of bytes that are not UTF-8, and escapes what `writePlain` does.
    static func writeQuoted(_ text: [UInt8], to line: inout [UInt8]) {
        if text.allSatisfy(isVisibleASCII) { return JSONWriter.writeString(text.span, to: &line) }
        var quoted: [UInt8] = []
        JSONWriter.writeString(text.span, to: &quoted)
        for scalar in String(decoding: quoted, as: UTF8.self).unicodeScalars {
            if isDangerous(scalar) {
                for unit in String(scalar).utf16 {
                    line += "\\u".utf8
                    for shift: UInt16 in [12, 8, 4, 0] {
                        line.append(UInt8(hexadecimalDigit: UInt8(truncatingIfNeeded: unit >> shift) & 15))
                    }
                }
            } else {
                line += String(scalar).utf8
            }
        }
    }

    private static func isVisibleASCII(_ byte: UInt8) -> Bool { byte >= 0x20 && byte < 0x7F }

    /// Whether a character ends a line for some reader, controls a terminal, or changes the direction of what follows.
    private static func isDangerous(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: true
        default: false
        }
    }
}
