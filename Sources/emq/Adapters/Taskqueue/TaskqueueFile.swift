// taskqueue's ini file, which lists the queues and says how each is sent.

import AMQP
import Bytes
import Delivery
import Glibc
import Net
import Queues

/// The settings in an ini file.
struct TaskqueueFile {
    /// How a queue is sent.
    struct Section: Equatable {
        /// How many requests may be in flight at once.
        var concurrency = 1
        /// The maximum rate at which requests are started; nil for no limit.
        var rate = TaskqueueFile.usualRate
        /// The maximum number of retries after the first attempt; nil for no limit.
        var retryLimit: UInt32?
        var minimumBackoffSeconds: Int64 = 0
        /// nil for no limit.
        var maximumBackoffSeconds: Int64? = 7 * 86_400
        /// nil for no limit.
        var maximumDoublings: UInt32?

        var backoff: Backoff {
            let maximum = maximumBackoffSeconds ?? maximumMilliseconds / 1000
            return Backoff(
                minimumMilliseconds: minimumBackoffSeconds * 1000,
                maximumMilliseconds: max(minimumBackoffSeconds, maximum) * 1000,
                maximumDoublings: maximumDoublings ?? .max)
        }
    }

    /// What a key changes in a section.
    private typealias Edit = (inout Section) -> Void

    /// The largest file, in bytes.
    private static let maximumByteCount = 1 << 20
    private static let usualRate = try? Rate("1/s")

    let path: String
    /// The RabbitMQ from which messages come; nil if it names none.
    private(set) var server: AMQPURL?
    /// The URL before a path in a message, without a slash at its end.
    private(set) var baseURL: String?
    /// How long the `message_id` of a message from the broker stays taken as a key; 0 if message ids are not keys.
    private(set) var uniqueForMilliseconds = SourceDefinition.usualUniqueForMilliseconds
    /// The queues by their names.
    private(set) var sections: [[UInt8]: Section] = [:]
    /// What the file says that has no effect, in the order of its lines, for the log.
    private(set) var warnings: [String] = []

    /// Reads the file at a path.
    ///
    /// - Throws: `TaskqueueFileError` if it cannot be read or understood.
    init(path: String) throws(TaskqueueFileError) {
        let text: String
        do throws(FileError) { text = try TaskqueueFile.contents(of: path) } catch {
            throw TaskqueueFileError("cannot read '\(path)': \(error)")
        }
        try self.init(text, path: path)
    }

    /// Reads the text of the file at a path.
    ///
    /// - Throws: `TaskqueueFileError` if it cannot be understood.
    init(_ text: String, path: String) throws(TaskqueueFileError) {
        self.path = path
        let file: IniFile
        do throws(IniError) { file = try IniFile(text) } catch {
            throw TaskqueueFileError("\(path), line \(error.line): \(error.reason)")
        }
        // The edits of each section by its name and their keys.
        var edits: [String: [String: Edit]] = [:]
        for section in file.sections {
            // The last of several values of a key counts.
            let entries = Dictionary(section.entries.map { ($0.key.lowercased(), $0) }) { $1 }
            for (key, entry) in entries.sorted(by: { $0.value.line < $1.value.line }) {
                do throws(TaskqueueFileError) {
                    if section.name == IniFile.unnamed {
                        try read(key, entry)
                    } else if let change = try edit(key, entry) {
                        edits[section.name, default: [:]][key] = change
                    }
                } catch {
                    throw TaskqueueFileError("\(path), line \(entry.line): \(error.description)")
                }
            }
        }
        for section in file.sections where section.name != IniFile.unnamed {
            let name = Array(section.name.utf8)
            if let flaw = Self.flaw(in: name) {
                warn(section.line, "ignoring the section [\(beginning(of: section.name))]: \(flaw)")
                continue
            }
            var settings = Section()
            for ancestor in Self.ancestors(of: section.name) {
                for change in (edits[ancestor] ?? [:]).values { change(&settings) }
            }
            sections[name] = settings
            if let maximum = settings.maximumBackoffSeconds, maximum < settings.minimumBackoffSeconds {
                warn(
                    section.line,
                    "max_backoff_seconds of [\(section.name)] is less than min_backoff_seconds, which counts instead")
            }
        }
        if server != nil, sections.count > Sources.maximumCount {
            throw TaskqueueFileError(
                "\(path) has \(sections.count) sections, but emq takes messages from at most \(Sources.maximumCount) "
                    + "queues of a server; split it into several files, each for an emq of its own")
        }
        if sections.isEmpty {
            warnings.append("\(path) has no section, so it makes emq send nothing; add one for each queue: [name]")
        }
    }

    /// What the log says about it when the server starts.
    var startEvents: [LogEvent] {
        let queues = sections.count == 1 ? "1 queue" : "\(sections.count) queues"
        let origin = server.map { ", whose messages come from \($0.masked)" } ?? ""
        return [.info("replacing taskqueue for \(queues) of \(path)\(origin)")] + warnings.map { .warning($0) }
    }

    /// Reads the text of a settings file.
    ///
    /// - Throws: `FileError` if the file cannot be read, or is too large.
    static func contents(of path: String) throws(FileError) -> String {
        let bytes = try File.read(path, maximumByteCount: maximumByteCount + 1)
        guard bytes.count <= maximumByteCount else { throw FileError(code: EFBIG) }
        return String(decoding: bytes, as: UTF8.self)
    }

    // MARK: Sections

    /// Why no queue can have this name; nil if one can.
    private static func flaw(in name: [UInt8]) -> String? {
        if let flaw = QueueName.flaw(in: name.span) { return flaw }
        return LegacySystem(of: name.span).map { "this queue name is reserved for \($0.rawValue)" }
    }

    /// The names of the sections that a section inherits from, and its own: `mail`, then `mail.low`.
    private static func ancestors(of name: String) -> [String] {
        name.indices.filter { name[$0] == "." }.map { String(name[..<$0]) } + [name]
    }

    // MARK: Keys

    private mutating func warn(_ line: Int, _ warning: String) {
        warnings.append("\(path), line \(line): \(warning)")
    }

    /// Reads a key of the section without a name.
    private mutating func read(_ key: String, _ entry: IniFile.Entry) throws(TaskqueueFileError) {
        let value = entry.value
        switch key {
        case "server":
            if value.isEmpty { return server = nil }
            let text = Array(value.utf8)
            do throws(AMQPURLError) { server = try AMQPURL(text.span) } catch {
                throw TaskqueueFileError("server: \(error)")
            }
        case "base_url":
            if value.isEmpty { return baseURL = nil }
            let text = Array(value.utf8)
            do throws(HTTPURLError) { _ = try HTTPURL(text.span) } catch {
                throw TaskqueueFileError("base_url: \(error)")
            }
            baseURL = value.hasSuffix("/") ? String(value.dropLast()) : value
        case "unique_for":
            guard let seconds = number(entry, 0...maximumMilliseconds / 1000) else { return }
            uniqueForMilliseconds = seconds * 1000
        default:
            let hint = nearestName(to: key, among: ["server", "base_url", "unique_for"])
            let shownKey = beginning(of: entry.key)
            warn(entry.line, "ignoring the unknown key '\(shownKey)' outside the queues' sections; \(hint)")
        }
    }

    private static let keys = [
        "concurrency", "rate", "retry_limit", "min_backoff_seconds", "max_backoff_seconds", "max_doublings",
    ]

    /// Reads a key of a section: what it changes; nil if it is unknown. A value that is empty or no number, with a
    /// warning, stands for the default.
    private mutating func edit(_ key: String, _ entry: IniFile.Entry) throws(TaskqueueFileError) -> Edit? {
        let usual = Section()
        let maximumSeconds = maximumMilliseconds / 1000
        switch key {
        case "concurrency":
            let count = number(entry, 1...Int64(PushOptions.maximumConcurrency)).map { Int($0) } ?? usual.concurrency
            return { $0.concurrency = count }
        case "rate":
            let rate = try self.rate(entry)
            return { $0.rate = rate }
        case "retry_limit":
            let limit = number(entry, 0...Int64(UInt32.max), orNone: true)
            return { $0.retryLimit = limit.flatMap { UInt32(exactly: $0) } }
        case "min_backoff_seconds":
            let seconds = number(entry, 0...maximumSeconds) ?? usual.minimumBackoffSeconds
            return { $0.minimumBackoffSeconds = seconds }
        case "max_backoff_seconds":
            let seconds = number(entry, 0...maximumSeconds, orNone: true) ?? usual.maximumBackoffSeconds
            return { $0.maximumBackoffSeconds = seconds == -1 ? nil : seconds }
        case "max_doublings":
            let doublings = number(entry, 0...Int64(UInt32.max), orNone: true)
            return { $0.maximumDoublings = doublings.flatMap { UInt32(exactly: $0) } }
        case "server", "base_url", "unique_for":
            warn(entry.line, "ignoring '\(key)' in a section; it belongs before the first section")
            return nil
        default:
            let hint = nearestName(to: key, among: Self.keys)
            warn(entry.line, "ignoring the unknown key '\(beginning(of: entry.key))' in a section; \(hint)")
            return nil
        }
    }

    /// Reads a whole number, or -1 for no limit where that is allowed; nil for the default. A number that is too large
    /// counts as the largest.
    private mutating func number(
        _ entry: IniFile.Entry, _ range: ClosedRange<Int64>, orNone: Bool = false
    ) -> Int64? {
        if entry.value.isEmpty { return nil }
        let number = Int64(entry.value)
        if let number, range.contains(number) || orNone && number == -1 { return number }
        let isTooLarge = number.map { $0 > range.upperBound } ?? false
        let wanted = describeWholeNumber(range) + (orNone ? ", or -1 for no limit" : "")
        let used = isTooLarge ? "\(range.upperBound)" : "the default"
        warn(entry.line, "\(entry.key) must be \(wanted), not '\(beginning(of: entry.value))'; using \(used)")
        return isTooLarge ? range.upperBound : nil
    }

    /// Reads a rate; nil for no limit, as one that is higher than emq can be, and one that is not above zero.
    private mutating func rate(_ entry: IniFile.Entry) throws(TaskqueueFileError) -> Rate? {
        if entry.value.isEmpty { return Self.usualRate }
        if let rate = try? Rate(entry.value) { return rate }
        guard let (amount, period) = Self.parts(ofRate: entry.value) else {
            throw TaskqueueFileError(
                "a rate must be a number of starts, a slash, and s, m, h or d, such as '21.5/m', not "
                    + "'\(beginning(of: entry.value))'")
        }
        // `.5` and `5.` are numbers too.
        guard let number = Double("0" + amount + (amount.contains(".") ? "0" : "")), number > 0 else {
            warn(entry.line, "\(entry.key) must be above zero, not '\(beginning(of: entry.value))'; using no limit")
            return nil
        }
        let seconds: [Character: Double] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
        let perSecond = number / (seconds[period] ?? 1)
        if perSecond > 1e6 { return nil }
        // Where the number is too large or too small for a `Rate`, another period makes it fit.
        if number > 1e9 { return try? Rate(Self.decimal(perSecond) + "/s") }
        if let rate = try? Rate(Self.decimal(number) + "/\(period)") { return rate }
        return try? Rate(Self.decimal(max(1e-6, perSecond * 86_400)) + "/d")
    }

    /// The number and the period of the first rate in a text: `10` and `s` in `at most 10/sec`.
    private static func parts(ofRate text: String) -> (amount: Substring, period: Character)? {
        for slash in text.indices where text[slash] == "/" {
            let before = text[..<slash]
            let amount = before.suffix(before.reversed().prefix { $0 == "." || "0"..."9" ~= $0 }.count)
            let period = text[text.index(after: slash)...].first
            if !amount.isEmpty, let period, "smhd".contains(period) { return (amount, period) }
        }
        return nil
    }

    /// A number up to 1e9 with six decimals.
    private static func decimal(_ number: Double) -> String {
        let millionths = Int64((number * 1e6).rounded())
        let decimals = String(millionths % 1_000_000)
        return "\(millionths / 1_000_000)." + String(repeating: "0", count: 6 - decimals.utf8.count) + decimals
    }
}

/// Why an ini file is refused.
struct TaskqueueFileError: Error {
    /// A sentence without a full stop that names the file, and the line at fault if there is one.
    let description: String

    init(_ description: String) { self.description = description }
}
