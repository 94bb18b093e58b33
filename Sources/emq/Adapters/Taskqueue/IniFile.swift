// The dialect of ini files that Go's ini package reads, and so taskqueue too.

/// The sections of an ini file, with their keys and values as text.
struct IniFile {
    /// A key and its value.
    struct Entry {
        let key: String
        let value: String
        /// The line of the key, counted from 1.
        let line: Int
    }

    /// A section: what stands below its headers. A name may have several headers.
    struct Section {
        let name: String
        /// The line of its first header.
        let line: Int
        fileprivate(set) var entries: [Entry] = []
    }

    /// The name of the section before the first header. A header can have this name too.
    static let unnamed = "DEFAULT"

    /// The sections in the order of their first headers, after the unnamed one.
    private(set) var sections = [Section(name: unnamed, line: 1)]

    /// Reads the text of a file.
    ///
    /// - Throws: `IniError` for a line that is neither a section, a key with a value, a comment nor empty, and for a
    ///   quoted text without an end.
    init(_ text: String) throws(IniError) {
        // Some editors begin a file with a byte order mark.
        let text = text.hasPrefix("\u{FEFF}") ? text.dropFirst() : text[...]
        var lines = Lines(text)
        var places = [Self.unnamed: 0]
        var place = 0
        while let line = lines.next() {
            let number = lines.number
            let line = line.trimmed
            if line.isEmptyOrComment { continue }
            do throws(Flaw) {
                if line.first == "[" {
                    let name = try Self.name(in: line)
                    place = places[name] ?? sections.count
                    if place == sections.count {
                        sections.append(Section(name: name, line: number))
                        places[name] = place
                    }
                } else {
                    let (key, rest) = try Self.key(in: line)
                    let value = try Self.value(rest, &lines)
                    sections[place].entries.append(Entry(key: key, value: value, line: number))
                }
            } catch {
                throw IniError(line: number, reason: error.reason)
            }
        }
    }

    private struct Flaw: Error { let reason: String }

    /// The lines of a text, counted.
    private struct Lines {
        private var rest: ArraySlice<Substring.UTF8View>
        private(set) var number = 0

        init(_ text: Substring) {
            rest = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)[...]
        }

        mutating func next() -> Substring? {
            number += 1
            guard let line = rest.popFirst() else { return nil }
            return Substring(line.last == UInt8(ascii: "\r") ? line.dropLast() : line)
        }
    }

    /// The name in a section's header.
    private static func name(in line: Substring) throws(Flaw) -> String {
        // The name may have brackets, and a comment too.
        let end = line.indices.first { index in
            line[index] == "]" && line[line.index(after: index)...].trimmed.isEmptyOrComment
        }
        guard let end = end ?? line.lastIndex(of: "]") else {
            throw Flaw(reason: "a section must be [name], not '\(beginning(of: line))'")
        }
        let name = String(line[..<end].dropFirst().trimmed)
        if name.isEmpty { throw Flaw(reason: "a section needs a name, as in [name]") }
        return name
    }

    /// A line's key, and what follows the delimiter.
    private static func key(in line: Substring) throws(Flaw) -> (key: String, rest: Substring) {
        var start = line.startIndex
        if let quote = line.first, quote == "\"" || quote == "`" {
            guard let end = line.dropFirst().firstIndex(of: quote) else {
                throw Flaw(reason: "the closing \(quote) of the key is missing")
            }
            start = end
        }
        guard let delimiter = line[start...].firstIndex(where: { $0 == "=" || $0 == ":" }) else {
            throw Flaw(reason: "a line must be [section] or key = value, not '\(beginning(of: line))'")
        }
        let key = start == line.startIndex ? line[..<delimiter].trimmed : line[..<start].dropFirst().trimmed
        return (String(key), line[line.index(after: delimiter)...])
    }

    /// A value, which may go on in the next lines.
    private static func value(_ text: Substring, _ lines: inout Lines) throws(Flaw) -> String {
        let text = text.trimmed
        for quote in ["\"\"\"", "`"] where text.hasPrefix(quote) {
            var value = ""
            var line = text.dropFirst(quote.count)
            while true {
                if let end = line.beforeLast(quote) { return value + end }
                value += line + "\n"
                guard let next = lines.next() else { throw Flaw(reason: "the closing \(quote) is missing") }
                line = next
            }
        }
        var value = String(text)
        while value.last == "\\" {
            value.removeLast()
            guard let next = lines.next()?.trimmed, !next.isEmpty else { break }
            value += next
        }
        return String(withoutQuotes(value[...]))
    }

    /// A value without quotes around it, and without a comment after it.
    private static func withoutQuotes(_ value: Substring) -> Substring {
        if let quote = value.first, quote == "\"" || quote == "'",
            let end = value.dropFirst().firstIndex(of: quote),
            value[value.index(after: end)...].trimmed.isEmptyOrComment
        {
            return value[..<end].dropFirst()
        }
        return value.prefix { $0 != "#" && $0 != ";" }.trimmed
    }
}

/// Why an ini file cannot be read.
struct IniError: Error {
    /// The line at fault, counted from 1.
    let line: Int
    /// A clause without a full stop.
    let reason: String
}

extension Substring {
    /// The text without blanks around it.
    fileprivate var trimmed: Substring {
        var text = self
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return text
    }

    fileprivate var isEmptyOrComment: Bool { isEmpty || first == "#" || first == ";" }

    /// What stands before the last `mark`; nil if there is none.
    fileprivate func beforeLast(_ mark: String) -> Substring? {
        var text = self
        while !text.isEmpty {
            if text.hasSuffix(mark) { return text.dropLast(mark.count) }
            text.removeLast()
        }
        return nil
    }
}
