// The server's options, on the command line and as variables in the environment.

import Bytes
import CBuild
import Delivery
import Glibc
import Journal
import Net
import Queues

/// The options of `emq serve`.
struct Options {
    static let version = "0.1.0"

    /// The version, and the commit if the build was told (`contrib/commit`).
    static var versionWithCommit: String {
        let commit = unsafe String(cString: emq_commit())
        return commit.isEmpty ? version : "\(version) (commit \(commit))"
    }

    var addresses: [Endpoint] = []
    /// The paths of the server's certificate and of its key; nil to serve plain HTTP only.
    var certificatePath: String?
    var keyPath: String?
    /// The path of the issuers of clients' certificates; nil if clients need none.
    var clientIssuersPath: String?
    /// The path of issuers that emq trusts beside the system's when it sends requests.
    var issuersPath: String?
    /// The path of the file of tokens; nil if clients need none.
    var tokensPath: String?
    /// Whether emq must not start without tokens.
    var requiresTokens = false
    var drainMilliseconds: Int64 = 5000
    var maximumConnections: Int?
    var maximumMemoryBytes: Int?
    /// How much address space to reserve; nil if the option is not given.
    var addressSpaceBytes: Int?
    /// The directory of the journal; nil to keep tasks in memory only.
    var directory: String?
    var syncMode = LogConfiguration.SyncMode.always
    var graceMilliseconds: Int64 = 30_000
    /// How long to wait for another process to close the journal. A killed server holds its lock until the kernel has
    /// freed its memory.
    var lockWaitMilliseconds: Int64 = 3000
    /// Where tasks may be sent; nil to send none.
    var destinations: DestinationPolicy?
    var destinationLists: [String] = []
    /// The defaults for all queues; nil to keep the current ones.
    var defaults: QueueConfiguration?
    /// The addresses that serve the clients of legacy systems.
    var services: [(system: LegacySystem, endpoint: Endpoint)] = []
    /// The longest time that a handler of delay-tasks may take.
    var delayTasksTimeoutMilliseconds = DelayTasksCourier.usualTimeoutMilliseconds
    /// The configuration file of delay-tasks.
    var delayTasksFile: DelayTasksFile?
    /// The maximum number of htq requests in flight.
    var htqWorkers = 10
    /// Names of this server besides the machine's own, in lower case. Browsers may use them.
    var hostNames: [String] = []
    /// The queues in taskqueue's ini file.
    var taskqueueFile: TaskqueueFile?
    /// The prefetch of sources that do not say it.
    var prefetch = SourceDefinition.usualPrefetch
    /// Whether the log's lines are JSON.
    var logsJSON = false
    /// The least important events that the log has.
    var logLevel = LogEvent.Level.info
    /// Whether the log has a line for each request.
    var logsAccess = false
    /// What the log says about options that have no effect.
    var notes: [String] = []
    /// Whether the value being read comes from the environment, where an option cannot be repeated.
    private(set) var readsVariable = false

    static let help = """
        emq: a work-queue server over HTTP. Tasks live in memory, and with --data also on disk.

        usage: emq [serve] [options]      run the server
               emq check --help           check a running server; emq bench --help: measure one
               emq journal --help         back up, check and repair a --data directory
               emq token --help           make a token for a client

          --addr ADDRESS         address to listen on: localhost:8080 (default), :8080 for every address
                                 of the machine, https://:8443, [::1]:8080 or unix:/path; may be repeated
          --tls-cert FILE, --tls-key FILE
                                 speak TLS with this certificate, followed by its intermediates, and this
                                 key (PEM), but not at http:// and unix: (docs/operations.md, "TLS")
          --tls-client-ca FILE   accept only clients that have a certificate from these issuers (PEM)
          --tls-ca FILE          trust these issuers too (PEM) when sending tasks to https://
          --tokens FILE          accept only requests with a token of this file (docs/operations.md, "Access")
          --require-tokens       do not start without --tokens
          --host NAME            another name that browsers may use for this server, such as
                                 queue.example.com; may be repeated (docs/operations.md, "Browsers")
          --data DIR             keep tasks in this directory, so that they survive a restart
          --fsync WHEN           always (default): sync before replying; N: within N ms; never: leave it
                                 to the OS. Matters only in a power cut or a system crash
          --recovery-grace SECS  minimum time left on leases after a restart (default 30)
          --lock-wait SECS       how long to wait for another process to close DIR (default 3)
          --push WHERE           where emq may send tasks, and take messages of RabbitMQ: public, private,
                                 loopback, 10.1.0.0/16, a host name or *.example.com, or several with commas
          --defaults FILE        defaults for all queues, as JSON: the fields of PUT /defaults/
          --drain SECS           how long workers may acknowledge tasks after SIGTERM (default 5)
          --max-connections N    maximum number of open connections (default 20000, if ulimit -n allows it)
          --max-memory SIZE      memory for tasks, such as 512M or 4G (default: three quarters of all memory)
          --address-space SIZE   address space to reserve (default: ample, or half of what ulimit -v leaves)

          --httpqueue, --htq ADDRESS; --delay-tasks ADDRESS or FILE.json; --taskqueue FILE.ini
                                 replace these legacy systems: docs/migration.md
          --delay-tasks-timeout SECS, --htq-workers N, --amqp-prefetch N
                                 how long a handler of delay-tasks may take (default 5), and how many htq
                                 requests (10) and messages of a RabbitMQ queue (1000) may be in flight
          --log-format FORMAT, --log-level LEVEL, --access-log
                                 the log: text (default) or json; error, warning or info (default); with a
                                 line for each request (docs/operations.md, "Logs")
          --gc-freq DURATION     ignored; the original emq has it

        Each option has an EMQ_… variable, such as EMQ_MAX_MEMORY. Separate several addresses or hosts with commas.

          curl --json '{"content": "hello"}' localhost:8080/enqueue/greetings
          curl --json '{"queues": ["greetings"], "max": 1, "timeout": 10000}' localhost:8080/wait/
        """

    /// The options and their readers.
    private static let readers: [(flag: String, read: @Sendable (inout Options, String) throws(UsageError) -> Void)] =
        [
            ("--addr", readAddress), ("--tls-cert", readCertificate), ("--tls-key", readKey),
            ("--tls-client-ca", readClientIssuers), ("--tls-ca", readIssuers), ("--drain", readDrain),
            ("--tokens", readTokens), ("--require-tokens", readRequiresTokens),
            ("--max-connections", readMaximumConnections),
            ("--max-memory", readMaximumMemory), ("--address-space", readAddressSpace), ("--data", readData),
            ("--fsync", readSyncMode),
            ("--recovery-grace", readGrace), ("--lock-wait", readLockWait), ("--push", readDestinations),
            ("--defaults", readDefaults), ("--htq-workers", readWorkers), ("--taskqueue", readTaskqueue),
            ("--delay-tasks-timeout", readDelayTasksTimeout), ("--host", readHost), ("--amqp-prefetch", readPrefetch),
            ("--log-format", readLogFormat), ("--log-level", readLogLevel), ("--access-log", readLogsAccess),
            ("--gc-freq", readCollectionFrequency),
        ]
        + LegacySystem.allCases.map { system in
            (system.flag, { (options, value) throws(UsageError) in try options.readService(system, value) })
        }
    /// The options that may be repeated. In the environment, their values are lists.
    private static let lists = ["--addr", "--host"] + LegacySystem.allCases.map(\.flag)

    /// The options that need no value: without one, they are true.
    private static let switches = ["--require-tokens", "--access-log"]

    /// The options of the original emq. Like all of Go's programs, it takes them with one dash too.
    private static let originalFlags = ["--addr", "--gc-freq"]

    /// The legacy systems whose clients have an address here.
    var systems: [LegacySystem] { LegacySystem.allCases.filter { isServing($0) } }

    private func isServing(_ system: LegacySystem) -> Bool { services.contains { $0.system == system } }

    /// Reads the command line after the program's name. Options that it does not have come from the environment.
    ///
    /// - Throws: `UsageError`: one line that says what is wrong and what would be right.
    init(_ arguments: [String], environment: (String) -> String?) throws(UsageError) {
        let given = try readArguments(arguments, environment)
        try readVariables(except: given, environment)
        try readInheritedSockets(environment)
        try readFilesOfSystems(given, environment)
        if addresses.isEmpty { addresses = [Endpoint(.tcp(host: "localhost", port: 8080))] }
        try checkTLS()
        if requiresTokens, tokensPath == nil {
            throw UsageError("--require-tokens requires --tokens FILE; `emq token new` makes a token for it")
        }
        let needs =
            ["--fsync", "--recovery-grace", "--lock-wait"].map {
                ($0, directory != nil, "--data: without it, nothing is on disk")
            } + [
                ("--delay-tasks-timeout", isServing(.delayTasks), "--delay-tasks"),
                ("--htq-workers", isServing(.htq), "--htq"),
                (
                    "--amqp-prefetch", destinations != nil || taskqueueFile?.server != nil,
                    "--push, or --taskqueue and a file that names a server: without them, emq has no sources"
                ),
                (
                    "--tls-cert", endpoints.contains(where: speaksTLS),
                    "an address that speaks TLS, such as --addr https://:8443"
                ),
                (
                    "--tls-ca", destinations != nil || !systems.isEmpty || taskqueueFile != nil,
                    "--push or a legacy system: without them, emq sends no requests"
                ),
            ]
        for (flag, isMet, need) in needs where !isMet && given.contains(flag) {
            throw UsageError("\(flag) requires \(need)")
        }
    }

    /// Reads the command line.
    ///
    /// - Returns: the options that it has.
    private mutating func readArguments(
        _ arguments: [String], _ environment: (String) -> String?
    ) throws(UsageError) -> Set<String> {
        var given: Set<String> = []
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            let (flag, valueInArgument) = Options.parts(of: argument)
            guard let reader = Options.readers.first(where: { $0.flag == flag }) else {
                throw Options.unknown(argument, value: valueInArgument ?? rest.first)
            }
            let value: String
            if let valueInArgument {
                value = valueInArgument
            } else if Options.switches.contains(flag) {
                value = "true"
            } else if let next = rest.first, !Options.isOption(next) {
                value = next
                rest.removeFirst()
            } else if flag == LegacySystem.delayTasks.flag, environment("CONF_FILE")?.isEmpty == false {
                // delay-tasks itself has no options; CONF_FILE says everything.
                given.insert(flag)
                continue
            } else {
                guard let next = rest.first else { throw UsageError("\(flag) needs a value") }
                throw UsageError(
                    "\(flag) needs a value, but an option follows; if '\(next)' is the value, write \(flag)=\(next)")
            }
            if flag != "--push", !Options.lists.contains(flag), given.contains(flag) {
                throw UsageError("\(flag) is given twice; give it once")
            }
            given.insert(flag)
            try reader.read(&self, value)
        }
        return given
    }

    /// Reads the variables of options that the command line does not have.
    private mutating func readVariables(
        except given: Set<String>, _ environment: (String) -> String?
    ) throws(UsageError) {
        readsVariable = true
        for reader in Options.readers where !given.contains(reader.flag) {
            let variable = Options.variable(of: reader.flag)
            // An empty variable counts as unset, except EMQ_DATA: without a directory, tasks would be lost.
            guard let value = environment(variable), !value.isEmpty || reader.flag == "--data" else { continue }
            do throws(UsageError) {
                let isList = Options.lists.contains(reader.flag)
                let parts = isList ? value.split(separator: ",", omittingEmptySubsequences: false) : [value[...]]
                for part in parts { try reader.read(&self, String(part)) }
            } catch {
                throw UsageError("\(variable): \(error.description)")
            }
        }
    }

    /// Reads the files that the variables of legacy systems name, and takes what they say.
    private mutating func readFilesOfSystems(
        _ given: Set<String>, _ environment: (String) -> String?
    ) throws(UsageError) {
        if taskqueueFile == nil, let path = environment("TASKQUEUE_CONFIG_FILE"), !path.isEmpty {
            do throws(UsageError) { try Options.readTaskqueue(&self, path) } catch {
                throw UsageError("TASKQUEUE_CONFIG_FILE: \(error.description)")
            }
        }
        let isDelayTasksAsked = given.contains(LegacySystem.delayTasks.flag) || isServing(.delayTasks)
        if isDelayTasksAsked, delayTasksFile == nil, let path = environment("CONF_FILE"), !path.isEmpty {
            do throws(UsageError) { try readDelayTasksFile(path) } catch {
                throw UsageError("CONF_FILE: \(error.description)")
            }
        }
        if let file = delayTasksFile, !isServing(.delayTasks) {
            guard let address = file.address else {
                throw UsageError("\(file.path) has no listen-port; add one such as 7080, or use --delay-tasks :7080")
            }
            services.append((.delayTasks, Endpoint(address)))
        }
    }

    // MARK: TLS

    /// All addresses at which the server listens.
    var endpoints: [Endpoint] { addresses + services.map(\.endpoint) }

    /// Whether the server speaks TLS at an address.
    func speaksTLS(at endpoint: Endpoint) -> Bool {
        endpoint.isSecure ?? (certificatePath != nil && !endpoint.isLocal)
    }

    /// The files of the server's certificate; nil if it speaks TLS nowhere.
    var tlsFiles: TLSFiles? {
        guard let certificatePath, let keyPath, endpoints.contains(where: speaksTLS) else { return nil }
        return TLSFiles(certificate: certificatePath, key: keyPath, clientAuthorities: clientIssuersPath)
    }

    /// Checks that the options of TLS are complete, wherever they come from: a server that ignored some of them would
    /// be open to everyone.
    private func checkTLS() throws(UsageError) {
        let (hasCertificate, hasKey) = (certificatePath != nil, keyPath != nil)
        let secure = endpoints.first { $0.isSecure == true }
        let needs = [
            ("--tls-cert", hasCertificate, hasKey, "--tls-key"), ("--tls-key", hasKey, hasCertificate, "--tls-cert"),
            ("--tls-client-ca", clientIssuersPath != nil, hasCertificate, "--tls-cert and --tls-key"),
            (secure.map { "'\($0)'" } ?? "", secure != nil, hasCertificate, "--tls-cert and --tls-key"),
        ]
        for (option, isGiven, isMet, need) in needs where isGiven && !isMet {
            throw UsageError("\(option) requires \(need)")
        }
    }

    // MARK: Names

    /// An argument's flag, and its value if it has one after an equals sign.
    private static func parts(of argument: String) -> (flag: String, value: String?) {
        let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let flag = originalFlags.first { $0.dropFirst() == parts[0] } ?? String(parts[0])
        return (flag, parts.count > 1 ? String(parts[1]) : nil)
    }

    /// Whether an argument is an option, not a value.
    private static func isOption(_ argument: String) -> Bool { parts(of: argument).flag.hasPrefix("--") }

    // MARK: Mistakes

    /// The names that other programs have for emq's options.
    private static let otherNames: [(flag: String, others: [String])] = [
        (
            "--addr",
            ["--port", "-p", "--listen", "-l", "--bind", "-b", "--address", "-a", "--listen-address", "--http"]
        ),
        ("--data", ["--dir", "-d", "--directory", "--data-dir", "--path", "--storage", "--db", "--journal"]),
        ("--max-memory", ["--memory", "-m", "--maxmemory", "--memory-limit"]),
        ("--tls-cert", ["--cert", "--certfile", "--tls-certificate", "--ssl-cert", "--ssl-certfile"]),
        ("--tls-key", ["--key", "--keyfile", "--tls-private-key", "--ssl-key", "--ssl-keyfile"]),
        ("--tls-ca", ["--ca", "--cacert", "--ca-file", "--cafile"]),
        ("--version", ["-v", "-V"]),
    ]

    /// The hint for an option's name in other programs; nil if `flag` is not such a name.
    private static func hint(atOther flag: String, value: String?) -> String? {
        guard let known = otherNames.first(where: { $0.others.contains(flag) })?.flag else { return nil }
        // A port alone is not an address.
        let port = known == "--addr" ? value.flatMap { UInt16($0) } : nil
        return "did you mean '\(known)\(port.map { " :\($0)" } ?? "")'?"
    }

    /// The mistake of an argument that is no option; `value` is what may be its value.
    private static func unknown(_ argument: String, value: String?) -> UsageError {
        let flag = parts(of: argument).flag
        guard flag.hasPrefix("-") else {
            let commands = ["serve", "check", "bench", "journal", "token"]
            if commands.contains(flag) { return UsageError("put the command '\(flag)' before its options") }
            return UsageError("unknown command '\(flag)'; \(nearestName(to: flag, among: commands))")
        }
        let known = readers.map(\.flag) + ["--help", "--version"]
        return UsageError(
            "unknown option '\(argument)'; \(hint(atOther: flag, value: value) ?? nearestName(to: flag, among: known))")
    }

    /// The name of an option's variable in the environment.
    private static func variable(of flag: String) -> String {
        "EMQ_" + flag.dropFirst(2).uppercased().split(separator: "-").joined(separator: "_")
    }

    /// Variables that begin with `EMQ_` but are not options: those of clients, workers, container images, builds and
    /// tests.
    private static let variablesOfOthers = [
        "EMQ_URL", "EMQ_TOKEN", "EMQ_ID", "EMQ_QUEUE", "EMQ_ATTEMPT", "EMQ_VERSION", "EMQ_COMMIT", "EMQ_HOME",
        "EMQ_FUZZ",
    ]

    /// A line for each variable that looks like an option but is not one, sorted.
    static func strayVariables(of environment: [String: String]) -> [String] {
        let variables = readers.map { variable(of: $0.flag) }
        let stray = environment.keys.filter { name in
            name.hasPrefix("EMQ_") && !variables.contains(name) && !variablesOfOthers.contains(name)
                && !name.hasPrefix("EMQ_TEST_") && !isOfService(name, environment[name] ?? "")
        }
        return stray.sorted().map { name in
            let flag = "--" + name.dropFirst(4).lowercased().split(separator: "_").joined(separator: "-")
            var hint = ""
            if let known = otherNames.first(where: { $0.others.contains(flag) })?.flag, known != "--version" {
                hint = "; did you mean '\(variable(of: known))'?"
            } else {
                // The prefix that all of them share would make any two names similar.
                let found = nearestName(
                    to: String(name.dropFirst(4)), among: variables.map { $0.dropFirst(4).lowercased() }
                ) { "EMQ_" + $0.uppercased() }
                if found.hasPrefix("did") { hint = "; \(found)" }
            }
            return "ignoring the variable \(name), which is not an option of this server\(hint)"
        }
    }

    /// Whether Kubernetes or Docker sets such a variable for a service called emq.
    private static func isOfService(_ name: String, _ value: String) -> Bool {
        let words = name.split(separator: "_")
        if words.contains(where: { ["SERVICE", "TCP", "UDP", "ENV"].contains($0) }) { return true }
        let isURL = value.hasPrefix("tcp://") || value.hasPrefix("udp://")
        return words.last == "PORT" && isURL || name == "EMQ_NAME" && value.hasPrefix("/")
    }
}

/// A mistake in the options.
struct UsageError: Error {
    let description: String

    init(_ description: String) { self.description = description }

    /// The mistake, and where the options are explained.
    var advice: String { "\(description) (emq --help lists the options)" }
}
