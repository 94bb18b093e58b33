// The values of the options: how each is read from its text.

import Bytes
import Delivery
import Net
import Queues

extension Options {
    static func readAddress(_ options: inout Options, _ value: String) throws(UsageError) {
        options.addresses.append(try Endpoint(value))
    }

    static func readCertificate(_ options: inout Options, _ value: String) throws(UsageError) {
        options.certificatePath = try path(value, of: "--tls-cert")
    }

    static func readKey(_ options: inout Options, _ value: String) throws(UsageError) {
        options.keyPath = try path(value, of: "--tls-key")
    }

    static func readClientIssuers(_ options: inout Options, _ value: String) throws(UsageError) {
        options.clientIssuersPath = try path(value, of: "--tls-client-ca")
    }

    static func readIssuers(_ options: inout Options, _ value: String) throws(UsageError) {
        options.issuersPath = try path(value, of: "--tls-ca")
    }

    static func readTokens(_ options: inout Options, _ value: String) throws(UsageError) {
        options.tokensPath = try path(value, of: "--tokens")
    }

    static func readRequiresTokens(_ options: inout Options, _ value: String) throws(UsageError) {
        options.requiresTokens = try flag(value, of: "--require-tokens")
    }

    private static func flag(_ value: String, of flag: String) throws(UsageError) -> Bool {
        switch value.lowercased() {
        case "true", "yes", "1": return true
        case "false", "no", "0": return false
        default: throw UsageError("\(flag) is true or false, not '\(value)'")
        }
    }

    static func readLogFormat(_ options: inout Options, _ value: String) throws(UsageError) {
        switch value {
        case "text": options.logsJSON = false
        case "json": options.logsJSON = true
        default: throw UsageError("--log-format is text or json, not '\(value)'")
        }
    }

    static func readLogsAccess(_ options: inout Options, _ value: String) throws(UsageError) {
        options.logsAccess = try flag(value, of: "--access-log")
    }

    static func readLogLevel(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let level = LogEvent.Level.allCases.first(where: { $0.name == value }) else {
            throw UsageError("--log-level is error, warning or info, not '\(value)'")
        }
        options.logLevel = level
    }

    /// A file's path.
    static func path(_ value: String, of flag: String) throws(UsageError) -> String {
        guard !value.isEmpty, !value.utf8.contains(0) else { throw UsageError("\(flag) needs the path of a file") }
        return value
    }

    static func readCollectionFrequency(_ options: inout Options, _ value: String) throws(UsageError) {
        guard isGoDuration(value) else {
            throw UsageError("--gc-freq must be a duration above zero, such as 5m or 1h30m, not '\(value)'")
        }
        options.notes.append("ignoring --gc-freq: emq deletes each task as soon as it expires")
    }

    /// Whether a text is a duration above zero, as Go's programs read it.
    private static func isGoDuration(_ text: String) -> Bool {
        let units: Set<Substring> = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"]
        let digits = "0"..."9" as ClosedRange<Character>
        var rest = text.hasPrefix("+") ? text.dropFirst() : text[...]
        var isAboveZero = false
        repeat {
            let number = rest.prefix { digits.contains($0) || $0 == "." }
            rest = rest.dropFirst(number.count)
            let unit = rest.prefix { !digits.contains($0) && $0 != "." }
            rest = rest.dropFirst(unit.count)
            guard number.contains(where: digits.contains), number.count(where: { $0 == "." }) <= 1, units.contains(unit)
            else { return false }
            isAboveZero = isAboveZero || number.contains { $0 != "0" && $0 != "." }
        } while !rest.isEmpty
        return isAboveZero
    }

    static func readHost(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let name = BrowserHosts.name(value) else {
            throw UsageError(
                "--host takes a name such as queue.example.com, without scheme and port, not '\(value)'; "
                    + (options.readsVariable ? "separate several with commas" : "for several, repeat the option"))
        }
        options.hostNames.append(name)
    }

    static func readDestinations(_ options: inout Options, _ value: String) throws(UsageError) {
        options.destinationLists.append(value)
        do throws(DestinationPolicyError) {
            options.destinations = try DestinationPolicy(options.destinationLists)
        } catch {
            throw UsageError("\(error)")
        }
    }

    mutating func readDelayTasksFile(_ path: String) throws(UsageError) {
        guard delayTasksFile == nil else { throw UsageError("--delay-tasks names two files; name one") }
        delayTasksFile = try DelayTasksFile(path: path)
    }

    static func readDelayTasksTimeout(_ options: inout Options, _ value: String) throws(UsageError) {
        options.delayTasksTimeoutMilliseconds = try milliseconds(value, of: "--delay-tasks-timeout", least: 0.001)
    }

    mutating func readService(_ system: LegacySystem, _ value: String) throws(UsageError) {
        if system == .delayTasks, DelayTasksFile.isPath(value) { return try readDelayTasksFile(value) }
        do throws(UsageError) {
            services.append((system, try Endpoint(value, defaultPort: system.port)))
        } catch {
            throw UsageError("\(system.flag): \(error.description)")
        }
    }

    static func readWorkers(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let count = Int(value), (1...PushOptions.maximumConcurrency).contains(count) else {
            throw UsageError(
                "--htq-workers must be a whole number from 1 to \(PushOptions.maximumConcurrency), not '\(value)'")
        }
        options.htqWorkers = count
    }

    static func readPrefetch(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let count = Int64(value), SourceDefinition.prefetches.contains(count) else {
            throw UsageError("--amqp-prefetch must be a whole number from 1 to 65535, not '\(value)'")
        }
        options.prefetch = Int(count)
    }

    static func readTaskqueue(_ options: inout Options, _ value: String) throws(UsageError) {
        do throws(TaskqueueFileError) {
            options.taskqueueFile = try TaskqueueFile(path: value)
        } catch {
            throw UsageError("--taskqueue: \(error.description)")
        }
    }

    static func readDefaults(_ options: inout Options, _ value: String) throws(UsageError) {
        let text: String
        do throws(FileError) { text = try TaskqueueFile.contents(of: value) } catch {
            throw UsageError("--defaults: cannot read '\(value)': \(error)")
        }
        let bytes = Array(text.utf8)
        var members = Members()
        do throws(Problem) {
            try members.read(bytes.span, kind: .object, of: "the file")
            guard members.kind == .object else { throw Problem(.invalidBody, "the file is not a JSON object") }
            options.defaults = try QueueConfiguration(defaults: bytes.span, scannedBy: members)
        } catch {
            throw UsageError("--defaults: \(value): \(error.detail)")
        }
    }

    static func readData(_ options: inout Options, _ value: String) throws(UsageError) {
        guard !value.isEmpty, !value.utf8.contains(0) else { throw UsageError("--data needs the path of a directory") }
        options.directory = value
    }

    static func readSyncMode(_ options: inout Options, _ value: String) throws(UsageError) {
        switch value {
        case "always": options.syncMode = .always
        case "never": options.syncMode = .never
        default:
            guard let milliseconds = Int(value), (1...3_600_000).contains(milliseconds) else {
                throw UsageError(
                    "--fsync must be always, never or a number of milliseconds from 1 to 3600000, not '\(value)'")
            }
            options.syncMode = .interval(milliseconds: milliseconds)
        }
    }

    static func readGrace(_ options: inout Options, _ value: String) throws(UsageError) {
        options.graceMilliseconds = try milliseconds(value, of: "--recovery-grace")
    }

    static func readLockWait(_ options: inout Options, _ value: String) throws(UsageError) {
        options.lockWaitMilliseconds = try milliseconds(value, of: "--lock-wait")
    }

    static func readDrain(_ options: inout Options, _ value: String) throws(UsageError) {
        options.drainMilliseconds = try milliseconds(value, of: "--drain")
    }

    static func readMaximumConnections(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let count = Int(value), (1...10_000_000).contains(count) else {
            throw UsageError("--max-connections must be a whole number from 1 to 10000000, not '\(value)'")
        }
        options.maximumConnections = count
    }

    static func readMaximumMemory(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let bytes = byteCount(value), (1 << 20...1 << 50).contains(bytes) else {
            throw UsageError(
                "--max-memory must be a number of bytes from 1M to 1024T, such as 512M or 4G, not '\(value)'")
        }
        options.maximumMemoryBytes = bytes
    }

    static func readAddressSpace(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let bytes = byteCount(value), (16 << 20...1 << 50).contains(bytes) else {
            throw UsageError(
                "--address-space must be a number of bytes from 16M to 1024T, such as 512M or 64G, not '\(value)'")
        }
        options.addressSpaceBytes = bytes
    }

    /// A number of seconds up to a day, in milliseconds.
    private static func milliseconds(
        _ value: String, of flag: String, least: Double = 0
    ) throws(UsageError) -> Int64 {
        let seconds = Double(value) ?? Duration.milliseconds(value).map { Double($0) / 1000 }
        guard let seconds, (least...86_400).contains(seconds) else {
            let range = least == 0 ? "0" : "\(least)"
            throw UsageError(
                "\(flag) must be a number of seconds from \(range) to 86400, or a duration such as 5m, not '\(value)'")
        }
        return Int64((seconds * 1000).rounded())
    }

    /// The number of bytes in a size such as 512M; nil if `value` is not a size.
    private static func byteCount(_ value: String) -> Int? {
        let units: [Character: Int] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        let unit = value.last.flatMap { units[Character($0.uppercased())] }
        let digits = unit == nil ? Substring(value) : value.dropLast()
        guard let count = Int(decimal: digits.utf8),
            case let (bytes, overflow) = count.multipliedReportingOverflow(by: unit ?? 1), !overflow
        else { return nil }
        return bytes
    }
}
