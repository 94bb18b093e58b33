// The command line of the server, and its twins in the environment.

import Delivery
import Glibc
import Journal
import Net
import Queues

/// What `emq serve` was asked to do.
struct Options {
    static let version = "0.1.0"

    var addresses: [Address] = []
    var drainMilliseconds: Int64 = 5000
    var maximumConnections: Int?
    var maximumMemoryBytes: Int?
    /// How much address space to reserve; nil for what `ulimit -v` allows.
    var addressSpaceBytes: Int?
    /// Where tasks are kept on disk; nil for in memory only.
    var directory: String?
    var syncMode = LogConfiguration.SyncMode.always
    var graceMilliseconds: Int64 = 30_000
    /// How long to wait for another process to close the journal. A server that was killed holds its lock until the kernel has
    /// taken its memory back.
    var lockWaitMilliseconds: Int64 = 3000
    /// Where tasks may be sent; nil if none are.
    var destinations: DestinationPolicy?
    private(set) var destinationLists: [String] = []
    /// What queues leave unsaid; nil leaves it as it was.
    var defaults: QueueConfiguration?
    /// Where legacy systems are stood in for.
    var services: [(system: LegacySystem, address: Address)] = []
    /// How many requests of htq may be in flight at once.
    var htqWorkers = 10
    /// Names of this server besides the machine's own, in lower case: browsers may reach it under them.
    var hostNames: [String] = []
    /// The queues of taskqueue, as its ini file has them.
    var taskqueueFile: TaskqueueFile?
    /// Whether what is being read comes from the environment, where an option is not repeated.
    private var readsVariable = false

    static let help = """
        emq: a work-queue server over HTTP. Tasks live in memory, and on disk too with --data.

        usage: emq [serve] [options]      run the server
               emq bench --help           measure a running server
               emq journal --help         check and repair a directory of --data

          --addr ADDRESS         where to listen: localhost:8080 (default), :8080 for every address of
                                 the machine, [::1]:8080, unix:/path; may be repeated
          --host NAME            another name of this server, under which browsers may use it, such as
                                 queue.example.com; may be repeated (docs/operations.md, "Browsers")
          --data DIR             keep tasks in this directory: what was answered survives a restart
          --fsync WHEN           always (default): before it is answered; a number of milliseconds: after
                                 that at most; never: when the system likes. Matters in a power cut only
          --recovery-grace SECS  how long leases last at least after a restart (default 30)
          --lock-wait SECONDS    how long to wait for another process to close DIR (default 3)
          --push WHERE           send tasks that have a URL: public, private, loopback, a network such as
                                 10.1.0.0/16, a host name or *.example.com, or several with commas
          --defaults FILE        what queues leave unsaid, as JSON: the fields of PUT /defaults/
          --drain SECONDS        how long workers may acknowledge their work after SIGTERM (default 5)
          --max-connections N    how many connections may be open at once (default 20000, or less)
          --max-memory SIZE      how much memory tasks may take: 512M, 4G, or a number of bytes (default:
                                 three quarters of what the machine or the cgroup has)
          --address-space SIZE   how much address space to reserve for tasks (default: ample, or half of
                                 what ulimit -v leaves)

          --httpqueue, --delay-tasks, --htq ADDRESS; --htq-workers N; --taskqueue FILE.ini
                                 stand in for these systems, at addresses of their own: docs/migration.md

        Every option has a twin in the environment, such as EMQ_MAX_MEMORY; several addresses or hosts have commas between.

          curl --json '{"content": "hello"}' localhost:8080/enqueue/greetings
          curl --json '{"queues": ["greetings"], "max": 1, "timeout": 10000}' localhost:8080/wait/
        """

    /// The options that take a value, each with what reads it.
    private static let readers: [(flag: String, read: @Sendable (inout Options, String) throws(UsageError) -> Void)] = [
        ("--addr", readAddress), ("--drain", readDrain), ("--max-connections", readMaximumConnections),
        ("--max-memory", readMaximumMemory), ("--address-space", readAddressSpace), ("--data", readData),
        ("--fsync", readSyncMode),
        ("--recovery-grace", readGrace), ("--lock-wait", readLockWait), ("--push", readDestinations),
        ("--defaults", readDefaults), ("--htq-workers", readWorkers), ("--taskqueue", readTaskqueue),
        ("--host", readHost),
        ("--httpqueue", { (options, value) throws(UsageError) in try options.readService(.httpqueue, value) }),
        ("--delay-tasks", { (options, value) throws(UsageError) in try options.readService(.delayTasks, value) }),
        ("--htq", { (options, value) throws(UsageError) in try options.readService(.htq, value) }),
    ]
    /// Those that may be repeated; in the environment each of them is a list.
    private static let lists = ["--addr", "--host", "--httpqueue", "--delay-tasks", "--htq"]

    /// The legacy systems with an interface that are stood in for.
    var systems: [LegacySystem] { LegacySystem.allCases.filter { system in services.contains { $0.system == system } } }

    /// Reads the command line after the program's name; what it leaves unsaid comes from the environment.
    ///
    /// - Throws: `UsageError` with one line that says what is wrong and what would be right.
    init(_ arguments: [String], environment: (String) -> String?) throws(UsageError) {
        var given: Set<String> = []
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let flag = String(parts[0])
            guard let reader = Options.readers.first(where: { $0.flag == flag }) else {
                let known = Options.readers.map(\.flag) + ["--help", "--version"]
                guard flag.hasPrefix("-") else {
                    let commands = ["serve", "bench", "journal"]
                    if commands.contains(flag) { throw UsageError("the command '\(flag)' comes first") }
                    let hint = nearestName(to: flag, among: commands)
                    throw UsageError("'\(flag)' is no option, and a command comes first; \(hint)")
                }
                let hint =
                    Options.hint(atOther: flag, value: parts.count > 1 ? String(parts[1]) : rest.first)
                    ?? nearestName(to: flag, among: known)
                throw UsageError("there is no option '\(argument)'; \(hint)")
            }
            if parts.count == 1, let next = rest.first, next.hasPrefix("--") {
                throw UsageError("\(flag) needs a value, and an option follows; if '\(next)' is meant: \(flag)=\(next)")
            }
            guard let value = parts.count > 1 ? String(parts[1]) : rest.popFirst() else {
                throw UsageError("\(flag) needs a value")
            }
            if flag != "--push", !Options.lists.contains(flag), given.contains(flag) {
                throw UsageError("\(flag) is given twice")
            }
            given.insert(flag)
            try reader.read(&self, value)
        }
        readsVariable = true
        for reader in Options.readers where !given.contains(reader.flag) {
            let twin = Options.twin(of: reader.flag)
            // An empty variable is as good as none, but for the one without which tasks would be lost.
            guard let value = environment(twin), !value.isEmpty || reader.flag == "--data" else { continue }
            do throws(UsageError) {
                // What may be repeated on the command line is a list here.
                let isList = Options.lists.contains(reader.flag)
                let parts = isList ? value.split(separator: ",", omittingEmptySubsequences: false) : [value[...]]
                for part in parts { try reader.read(&self, String(part)) }
            } catch {
                throw UsageError("\(twin): \(error.description)")
            }
        }
        if directory == nil, let flag = ["--fsync", "--recovery-grace", "--lock-wait"].first(where: given.contains) {
            throw UsageError("\(flag) goes with --data: without it nothing is on disk")
        }
        if taskqueueFile == nil, let path = environment("TASKQUEUE_CONFIG_FILE"), !path.isEmpty {
            do throws(UsageError) { try Options.readTaskqueue(&self, path) } catch {
                throw UsageError("TASKQUEUE_CONFIG_FILE: \(error.description)")
            }
        }
        if given.contains("--htq-workers"), !services.contains(where: { $0.system == .htq }) {
            throw UsageError("--htq-workers goes with --htq")
        }
        if addresses.isEmpty { addresses = [.tcp(host: "localhost", port: 8080)] }
    }

    // MARK: Mistakes

    /// What other programs call an option of this one.
    private static let otherNames: [(flag: String, others: [String])] = [
        (
            "--addr",
            ["--port", "-p", "--listen", "-l", "--bind", "-b", "--address", "-a", "--listen-address", "--http"]
        ),
        ("--data", ["--dir", "-d", "--directory", "--data-dir", "--path", "--storage", "--db", "--journal"]),
        ("--max-memory", ["--memory", "-m", "--maxmemory", "--memory-limit"]),
        ("--version", ["-v", "-V"]),
    ]

    /// What to say to somebody who knows an option by another name; nil if that is none.
    private static func hint(atOther flag: String, value: String?) -> String? {
        guard let known = otherNames.first(where: { $0.others.contains(flag) })?.flag else { return nil }
        // A port alone is no address.
        let port = known == "--addr" ? value.flatMap { UInt16($0) } : nil
        return "did you mean '\(known)\(port.map { " :\($0)" } ?? "")'?"
    }

    /// An option's name in the environment.
    private static func twin(of flag: String) -> String {
        "EMQ_" + flag.dropFirst(2).uppercased().split(separator: "-").joined(separator: "_")
    }

    /// Variables that begin with `EMQ_` and are for others: clients, workers, those who build and test emq, and images, which
    /// often have a version.
    private static let variablesOfOthers = [
        "EMQ_URL", "EMQ_TOKEN", "EMQ_ID", "EMQ_QUEUE", "EMQ_ATTEMPT", "EMQ_VERSION", "EMQ_HOME", "EMQ_FUZZ",
    ]

    /// A line for each variable of the environment that is probably meant to be an option and is none, sorted.
    static func strayVariables(of environment: [String: String]) -> [String] {
        let twins = readers.map { twin(of: $0.flag) }
        let stray = environment.keys.filter { name in
            name.hasPrefix("EMQ_") && !twins.contains(name) && !variablesOfOthers.contains(name)
                && !name.hasPrefix("EMQ_TEST_") && !isOfService(name, environment[name] ?? "")
        }
        return stray.sorted().map { name in
            let flag = "--" + name.dropFirst(4).lowercased().split(separator: "_").joined(separator: "-")
            var hint = ""
            if let known = otherNames.first(where: { $0.others.contains(flag) })?.flag, known != "--version" {
                hint = "; did you mean '\(twin(of: known))'?"
            } else {
                // What they all begin with tells nothing.
                let found = nearestName(
                    to: String(name.dropFirst(4)), among: twins.map { $0.dropFirst(4).lowercased() }
                ) { "EMQ_" + $0.uppercased() }
                if found.hasPrefix("did") { hint = "; \(found)" }
            }
            return "the variable \(name) is no option of this server and is ignored\(hint)"
        }
    }

    /// Whether Kubernetes sets such a variable, or Docker, since a service nearby is called emq.
    private static func isOfService(_ name: String, _ value: String) -> Bool {
        let words = name.split(separator: "_")
        if words.contains(where: { ["SERVICE", "TCP", "UDP", "ENV"].contains($0) }) { return true }
        let isURL = value.hasPrefix("tcp://") || value.hasPrefix("udp://")
        return words.last == "PORT" && isURL || name == "EMQ_NAME" && value.hasPrefix("/")
    }

    // MARK: Values

    private static func readAddress(_ options: inout Options, _ value: String) throws(UsageError) {
        do throws(AddressError) {
            options.addresses.append(try Address(value))
        } catch {
            throw UsageError("\(error)")
        }
    }

    private static func readHost(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let name = BrowserHosts.name(value) else {
            throw UsageError(
                "--host takes a name such as queue.example.com, without scheme and port, not '\(value)'; "
                    + (options.readsVariable ? "separate several with commas" : "for several, repeat the option"))
        }
        options.hostNames.append(name)
    }

    private static func readDestinations(_ options: inout Options, _ value: String) throws(UsageError) {
        options.destinationLists.append(value)
        do throws(DestinationPolicyError) {
            options.destinations = try DestinationPolicy(options.destinationLists)
        } catch {
            throw UsageError("\(error)")
        }
    }

    private mutating func readService(_ system: LegacySystem, _ value: String) throws(UsageError) {
        do throws(AddressError) {
            services.append((system, try Address(value, defaultPort: system.port)))
        } catch {
            throw UsageError("--\(system.rawValue): \(error)")
        }
    }

    private static func readWorkers(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let count = Int(value), (1...PushOptions.maximumConcurrency).contains(count) else {
            throw UsageError(
                "--htq-workers is a whole number from 1 to \(PushOptions.maximumConcurrency), not '\(value)'")
        }
        options.htqWorkers = count
    }

    private static func readTaskqueue(_ options: inout Options, _ value: String) throws(UsageError) {
        do throws(TaskqueueFileError) {
            options.taskqueueFile = try TaskqueueFile(path: value)
        } catch {
            throw UsageError("--taskqueue: \(error.description)")
        }
    }

    private static func readDefaults(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let text = TaskqueueFile.contents(of: value) else {
            throw UsageError("--defaults: cannot read '\(value)': \(unsafe String(cString: strerror(errno)))")
        }
        let bytes = Array(text.utf8)
        var members = Members()
        do throws(Problem) {
            try members.read(bytes.span, kind: .object, of: "the file")
            guard members.kind == .object else { throw Problem(400, "the file is not a JSON object") }
            options.defaults = try API.readDefaults(bytes.span, scannedBy: members)
        } catch {
            throw UsageError("--defaults: \(value): \(error.detail)")
        }
    }

    private static func readData(_ options: inout Options, _ value: String) throws(UsageError) {
        guard !value.isEmpty, !value.utf8.contains(0) else { throw UsageError("--data is a directory's path") }
        options.directory = value
    }

    private static func readSyncMode(_ options: inout Options, _ value: String) throws(UsageError) {
        switch value {
        case "always": options.syncMode = .always
        case "never": options.syncMode = .never
        default:
            guard let milliseconds = Int(value), (1...3_600_000).contains(milliseconds) else {
                throw UsageError(
                    "--fsync is always, never, or a number of milliseconds from 1 to 3600000, not '\(value)'")
            }
            options.syncMode = .interval(milliseconds: milliseconds)
        }
    }

    private static func readGrace(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let seconds = Double(value), (0...86_400).contains(seconds) else {
            throw UsageError("--recovery-grace is a number of seconds from 0 to 86400, not '\(value)'")
        }
        options.graceMilliseconds = Int64((seconds * 1000).rounded())
    }

    private static func readLockWait(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let seconds = Double(value), (0...86_400).contains(seconds) else {
            throw UsageError("--lock-wait is a number of seconds from 0 to 86400, not '\(value)'")
        }
        options.lockWaitMilliseconds = Int64((seconds * 1000).rounded())
    }

    private static func readDrain(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let seconds = Double(value), (0...86_400).contains(seconds) else {
            throw UsageError("--drain is a number of seconds from 0 to 86400, not '\(value)'")
        }
        options.drainMilliseconds = Int64((seconds * 1000).rounded())
    }

    private static func readMaximumConnections(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let count = Int(value), (1...10_000_000).contains(count) else {
            throw UsageError("--max-connections is a whole number from 1 to 10000000, not '\(value)'")
        }
        options.maximumConnections = count
    }

    private static func readMaximumMemory(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let bytes = byteCount(value), (1 << 20...1 << 50).contains(bytes) else {
            throw UsageError("--max-memory is a number of bytes from 1M to 1024T, such as 512M or 4G, not '\(value)'")
        }
        options.maximumMemoryBytes = bytes
    }

    private static func readAddressSpace(_ options: inout Options, _ value: String) throws(UsageError) {
        guard let bytes = byteCount(value), (16 << 20...1 << 50).contains(bytes) else {
            throw UsageError(
                "--address-space is a number of bytes from 16M to 1024T, such as 512M or 64G, not '\(value)'")
        }
        options.addressSpaceBytes = bytes
    }

    /// The bytes that a size stands for, such as 512M; nil if it is none.
    private static func byteCount(_ value: String) -> Int? {
        let units: [Character: Int] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        let unit = value.last.flatMap { units[Character($0.uppercased())] }
        let digits = unit == nil ? Substring(value) : value.dropLast()
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let count = Int(digits),
            case let (bytes, overflow) = count.multipliedReportingOverflow(by: unit ?? 1), !overflow
        else { return nil }
        return bytes
    }
}

/// A command line that cannot be understood.
struct UsageError: Error {
    let description: String

    init(_ description: String) { self.description = description }
}
