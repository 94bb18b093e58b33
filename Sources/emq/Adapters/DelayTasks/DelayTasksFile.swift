// The configuration file of delay-tasks, to which CONF_FILE points, and the file of handlers in its `saving-home`.

import Bytes
import Glibc
import JSON
import Net
import Queues

/// The settings in a configuration file of delay-tasks.
struct DelayTasksFile {
    /// The number of attempts, also in place of one that is out of range.
    static let usualAttempts = 3
    /// The largest file, in bytes.
    private static let maximumByteCount = 16 << 20

    /// A registered handler.
    struct Handler {
        let category: String
        let url: HTTPURL
    }

    let path: String
    /// How many attempts a task has.
    private(set) var attempts = usualAttempts
    /// The path of the file of handlers.
    private(set) var handlersPath: String?
    /// The handlers in that file that emq can call, sorted by category.
    private(set) var handlers: [Handler] = []
    /// The address to listen at; nil if the file has no `listen-port`.
    private(set) var address: Address?
    /// What emq does not use of the file.
    private var ignored: [String] = []
    /// The log lines about handlers that emq cannot call.
    private var flaws: [String] = []

    /// Whether a value of `--delay-tasks` is the path of a file, not an address.
    static func isPath(_ value: String) -> Bool {
        !value.hasPrefix("unix:") && Endpoint.scheme(of: value) == nil
            && (value.contains("/") || value.hasSuffix(".json"))
    }

    /// Reads the file at a path, and the handlers in its `saving-home`.
    ///
    /// - Throws: `UsageError` if a file cannot be read or is invalid.
    init(path: String) throws(UsageError) {
        self.path = path
        var (host, port, home) = ("", Int64(0), "")
        guard let bytes = try Self.contents(of: path) else {
            throw UsageError("cannot read '\(path)': \(FileError(code: ENOENT))")
        }
        for member in try Self.members(of: bytes, in: path) {
            switch member.name.lowercased() {
            case "listen-host": host = try member.string()
            case "listen-port": port = try member.integer()
            case "cb-retry-times":
                let number = try member.integer()
                attempts = (1...5).contains(number) ? Int(number) : Self.usualAttempts
            case "saving-home": home = try member.string()
            default: ignored.append(member.name)
            }
        }
        if port > 0 {
            do throws(AddressError) { address = try Address("\(host):\(port)") } catch {
                throw UsageError("\(path): listen-host and listen-port: \(error)")
            }
        }
        if home.isEmpty { return }
        ignored.append("the tasks in saving-home")
        if !home.hasPrefix("/"), let slash = path.lastIndex(of: "/") { home = path[...slash] + home }
        guard Self.isDirectory(home) else {
            throw UsageError(
                "\(path): saving-home '\(home)' is not a directory; a relative one begins at the file's directory")
        }
        try readHandlers(home + "/delay-task-handlers.json")
    }

    private static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    private mutating func readHandlers(_ path: String) throws(UsageError) {
        guard let bytes = try Self.contents(of: path) else { return }
        handlersPath = path
        var urls: [String: HTTPURL] = [:]
        for member in try Self.members(of: bytes, in: path) {
            let text = Array(try member.string().utf8)
            let queueName = LegacySystem.delayTasks.queueName(Array(member.name.utf8))
            var flaw = QueueName.flaw(in: queueName.span)
            do throws(HTTPURLError) { urls[member.name] = try HTTPURL(text.span) } catch { flaw = "\(error)" }
            if let flaw {
                urls[member.name] = nil
                flaws.append("\(path): ignoring the handler of '\(member.name)': \(flaw)")
            }
        }
        handlers = urls.map { Handler(category: $0.key, url: $0.value) }.sorted { $0.category < $1.category }
    }

    /// What the log says about the files when the server starts, and listens at the file's address or at another one.
    func startEvents(isAddressUsed: Bool) -> [LogEvent] {
        let unused = (isAddressUsed || address == nil ? [] : ["listen-host", "listen-port"]) + ignored
        let rest = unused.isEmpty ? "" : "; ignoring \(unused.joined(separator: ", "))"
        let limit = attempts == 1 ? "1 attempt" : "\(attempts) attempts"
        let start = "read '\(path)' for delay-tasks: \(limit) for each task\(rest)"
        return [.info(start)] + flaws.map { .warning($0) }
    }

    // MARK: Files

    /// A member of the object in a file.
    private struct Member {
        let path: String
        let name: String
        let kind: JSONKind
        let bytes: ArraySlice<UInt8>

        func string() throws(UsageError) -> String {
            var decoded: [UInt8] = []
            guard JSONValue.decodeString(Array(bytes).span, into: &decoded) else {
                throw UsageError("\(path): \(name) must be a string, not \(describe(kind))")
            }
            return String(decoding: decoded, as: UTF8.self)
        }

        func integer() throws(UsageError) -> Int64 {
            guard kind == .number, let number = try? JSONValue.integer(Array(bytes).span) else {
                let got = kind == .number ? String(decoding: bytes.prefix(shownBytes), as: UTF8.self) : describe(kind)
                throw UsageError("\(path): \(name) must be a whole number, not \(got)")
            }
            return number
        }
    }

    /// The bytes of a file, with U+FFFD in place of those that are not UTF-8; nil if there is no such file.
    private static func contents(of path: String) throws(UsageError) -> [UInt8]? {
        do throws(FileError) {
            let bytes = try File.read(path, maximumByteCount: maximumByteCount + 1)
            guard bytes.count <= maximumByteCount else { throw FileError(code: EFBIG) }
            return Array(String(decoding: bytes, as: UTF8.self).utf8)
        } catch {
            if error.code == ENOENT { return nil }
            throw UsageError("cannot read '\(path)': \(error)")
        }
    }

    /// The members of the object in a file, without those that are null, which count as absent.
    private static func members(of bytes: [UInt8], in path: String) throws(UsageError) -> [Member] {
        var scanner = JSONScanner(maximumEntries: 1_000_000)
        do throws(JSONError) {
            try scanner.consume(bytes.span)
            try scanner.finish()
        } catch {
            // The original passes over what follows the object.
            guard error.expected == .end else {
                throw UsageError("\(path): the file is not valid JSON: \(error)")
            }
        }
        guard scanner.kind == .object else {
            throw UsageError("\(path): the file must be a JSON object, not \(describe(scanner.kind))")
        }
        var members: [Member] = []
        for index in 0..<scanner.entryCount where scanner.entry(index).kind != .null {
            let entry = scanner.entry(index)
            var name: [UInt8] = []
            let quoted = Array(bytes[entry.name.lowerBound - 1..<entry.name.upperBound + 1])
            _ = JSONValue.decodeString(quoted.span, into: &name)
            members.append(
                Member(
                    path: path, name: String(decoding: name, as: UTF8.self), kind: entry.kind,
                    bytes: bytes[entry.value]))
        }
        return members
    }
}
