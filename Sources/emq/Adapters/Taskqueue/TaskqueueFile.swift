// taskqueue's ini file, which lists the queues and says how each is sent.

import Bytes
import Delivery
import Glibc
import Net
import Queues

/// The settings in an ini file.
struct TaskqueueFile: Equatable {
    /// How a queue is sent.
    struct Section: Equatable {
        /// How many requests may be in flight at once.
        var concurrency = 1
        /// The maximum rate at which requests are started.
        var rate = TaskqueueFile.usualRate
        /// The maximum number of retries after the first attempt; nil for no limit.
        var retryLimit: UInt32?
        var minimumBackoffSeconds: Int64 = 0
        /// nil for no limit.
        var maximumBackoffSeconds: Int64?
        /// nil for no limit.
        var maximumDoublings: UInt32?

        var backoff: Backoff {
            Backoff(
                minimumMilliseconds: minimumBackoffSeconds * 1000,
                maximumMilliseconds: maximumBackoffSeconds.map { $0 * 1000 } ?? maximumMilliseconds,
                maximumDoublings: maximumDoublings ?? .max)
        }
    }

    /// The largest file, in bytes.
    private static let maximumByteCount = 1 << 20
    private static let usualRate = try? Rate("1/s")

    private let path: String
    /// The broker's AMQP address; nil if there is none.
    private(set) var server: String?
    /// The URL before a path in a message, without a slash at its end.
    private(set) var baseURL: String?
    /// The queues by their names.
    private(set) var sections: [[UInt8]: Section] = [:]

    /// Reads the file at a path.
    ///
    /// - Throws: `TaskqueueFileError` if it cannot be read or is invalid.
    init(path: String) throws(TaskqueueFileError) {
        let text: String
        do throws(FileError) { text = try TaskqueueFile.contents(of: path) } catch {
            throw TaskqueueFileError("cannot read '\(path)': \(error)")
        }
        try self.init(text, path: path)
    }

    /// Reads the text of the file at a path.
    ///
    /// - Throws: `TaskqueueFileError` if it is invalid.
    init(_ text: String, path: String) throws(TaskqueueFileError) {
        self.path = path
        // Some editors begin a file with a byte order mark.
        let text = text.hasPrefix("\u{FEFF}") ? text.dropFirst() : text[...]
        var section: [UInt8]?
        var seen: Set<String> = []
        // A carriage return and a line feed are one character.
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            do throws(TaskqueueFileError) {
                let line = try TaskqueueFile.withoutComment(line)
                if line.isEmpty { continue }
                if line.hasPrefix("[") {
                    section = try begin(line)
                    seen = []
                } else {
                    try read(line, of: section, &seen)
                }
            } catch {
                throw TaskqueueFileError("\(path), line \(index + 1): \(error.description)")
            }
        }
        for (name, section) in sections {
            guard let maximum = section.maximumBackoffSeconds, maximum < section.minimumBackoffSeconds else { continue }
            let shown = String(decoding: name, as: UTF8.self)
            throw TaskqueueFileError(
                "\(path), [\(shown)]: max_backoff_seconds must not be less than min_backoff_seconds")
        }
        if sections.isEmpty {
            throw TaskqueueFileError("\(path) has no section; add one for each queue, such as [name]")
        }
    }

    /// The log lines about it when the server starts.
    var startLines: [String] {
        let queues = sections.count == 1 ? "1 queue" : "\(sections.count) queues"
        var lines = ["emq: replacing taskqueue for \(queues) of \(path)"]
        if server != nil {
            lines.append(
                "emq: \(path) names a server, but emq does not consume from AMQP; "
                    + "send messages with POST /enqueue/QUEUE")
        }
        return lines
    }

    // MARK: Lines

    /// Reads the text of a settings file.
    ///
    /// - Throws: `FileError` if the file cannot be read, or is too large.
    static func contents(of path: String) throws(FileError) -> String {
        let bytes = try File.read(path, maximumByteCount: maximumByteCount + 1)
        guard bytes.count <= maximumByteCount else { throw FileError(code: EFBIG) }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// A line without its comment, which begins at the first `;` or `#` outside quotes, and without blanks around it.
    private static func withoutComment(_ line: Substring) throws(TaskqueueFileError) -> Substring {
        var quote: Character?
        var end = line.endIndex
        for index in line.indices {
            let character = line[index]
            if quote == nil, character == ";" || character == "#" {
                end = index
                break
            }
            if character == quote {
                quote = nil
            } else if quote == nil, character == "\"" || character == "'" {
                quote = character
            }
        }
        if let quote { throw TaskqueueFileError("the closing \(quote) is missing") }
        return trimmed(line[..<end])
    }

    private static func trimmed(_ text: Substring) -> Substring {
        var text = text
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return text
    }

    private mutating func begin(_ line: Substring) throws(TaskqueueFileError) -> [UInt8] {
        guard line.hasSuffix("]") else { throw TaskqueueFileError("a section must be [name], not '\(line)'") }
        let name = Array(TaskqueueFile.trimmed(line.dropFirst().dropLast()).utf8)
        if let flaw = QueueName.flaw(in: name.span) { throw TaskqueueFileError(flaw) }
        if let system = LegacySystem(of: name.span) {
            throw TaskqueueFileError("this queue name is reserved for \(system.rawValue)")
        }
        let shown = String(decoding: name, as: UTF8.self)
        guard sections.updateValue(Section(), forKey: name) == nil else {
            throw TaskqueueFileError("the section [\(shown)] is given twice")
        }
        return name
    }

    private mutating func read(
        _ line: Substring, of section: [UInt8]?, _ seen: inout Set<String>
    ) throws(TaskqueueFileError) {
        guard let equals = line.firstIndex(of: "=") else {
            throw TaskqueueFileError("a line must be [section] or key = value, not '\(line)'")
        }
        let key = String(TaskqueueFile.trimmed(line[..<equals]))
        var value = TaskqueueFile.trimmed(line[line.index(after: equals)...])
        if value.count >= 2, let first = value.first, first == "\"" || first == "'", value.last == first {
            value = value.dropFirst().dropLast()
        }
        guard seen.insert(key).inserted else { throw TaskqueueFileError("'\(key)' is given twice") }
        if let section, var read = sections[section] {
            try TaskqueueFile.read(key, String(value), into: &read)
            sections[section] = read
        } else {
            try read(key, String(value))
        }
    }

    /// Reads a key before the first section.
    private mutating func read(_ key: String, _ value: String) throws(TaskqueueFileError) {
        switch key {
        case "server": server = value.isEmpty ? nil : value
        case "base_url":
            let text = Array(value.utf8)
            do throws(HTTPURLError) { _ = try HTTPURL(text.span) } catch {
                throw TaskqueueFileError("base_url: \(error)")
            }
            baseURL = value.hasSuffix("/") ? String(value.dropLast()) : value
        default:
            let hint = nearestName(to: key, among: ["server", "base_url"])
            throw TaskqueueFileError("unknown key '\(key)' before the first section; \(hint)")
        }
    }

    private static func read(
        _ key: String, _ value: String, into section: inout Section
    ) throws(TaskqueueFileError) {
        /// Reads a whole number in a range; nil for -1 where that means no limit.
        func number(_ lowest: Int64, _ highest: Int64, hasNone: Bool = false) throws(TaskqueueFileError) -> Int64? {
            guard let number = Int64(value), (lowest...highest).contains(number) || hasNone && number == -1 else {
                let none = hasNone ? ", or -1 for no limit" : ""
                throw TaskqueueFileError(
                    "\(key) must be a whole number from \(lowest) to \(highest)\(none), not '\(value)'")
            }
            return hasNone && number == -1 ? nil : number
        }
        switch key {
        case "concurrency": section.concurrency = Int(try number(1, Int64(PushOptions.maximumConcurrency)) ?? 1)
        case "rate":
            do throws(RateError) { section.rate = try Rate(value) } catch { throw TaskqueueFileError("\(error)") }
        case "retry_limit": section.retryLimit = try number(0, Int64(UInt32.max), hasNone: true).map { UInt32($0) }
        case "min_backoff_seconds": section.minimumBackoffSeconds = try number(0, maximumMilliseconds / 1000) ?? 0
        case "max_backoff_seconds":
            section.maximumBackoffSeconds = try number(0, maximumMilliseconds / 1000, hasNone: true)
        case "max_doublings":
            section.maximumDoublings = try number(0, Int64(UInt32.max), hasNone: true).map { UInt32($0) }
        default:
            let keys = [
                "concurrency", "rate", "retry_limit", "min_backoff_seconds", "max_backoff_seconds", "max_doublings",
            ]
            throw TaskqueueFileError("unknown key '\(key)' in a section; \(nearestName(to: key, among: keys))")
        }
    }
}

/// Why an ini file is refused.
struct TaskqueueFileError: Error {
    /// A sentence without a full stop that names the file, and the line at fault if there is one.
    let description: String

    init(_ description: String) { self.description = description }
}
