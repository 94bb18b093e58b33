// The server's options, from the command line and from variables in the environment (Options+Command.swift has the
// table of them).

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

    /// The legacy systems whose clients have an address here.
    var systems: [LegacySystem] { LegacySystem.allCases.filter { isServing($0) } }

    private func isServing(_ system: LegacySystem) -> Bool { services.contains { $0.system == system } }

    /// Reads the values of a command line. Options that it does not have come from the environment.
    ///
    /// - Throws: `UsageError`: one line that says what is wrong and what would be right.
    init(_ invocation: Invocation) throws(UsageError) {
        let environment = invocation.environment
        let given = try readValues(invocation)
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

    /// Reads the values of the command line.
    ///
    /// - Returns: the options that it has.
    private mutating func readValues(_ invocation: Invocation) throws(UsageError) -> Set<String> {
        for (flag, value) in invocation.values {
            guard let reader = Options.readers.first(where: { $0.option.flag == flag }) else { continue }
            // delay-tasks itself has no options; CONF_FILE says everything.
            if value.isEmpty, let name = reader.option.variableInsteadOfValue, invocation.variable(name) != nil {
                continue
            }
            try reader.read(&self, value)
        }
        return Set(invocation.values.map(\.flag))
    }

    /// Reads the variables of options that the command line does not have.
    private mutating func readVariables(
        except given: Set<String>, _ environment: (String) -> String?
    ) throws(UsageError) {
        readsVariable = true
        for (option, read) in Options.readers where !given.contains(option.flag) {
            let variable = Options.variable(of: option.flag)
            // An empty variable counts as unset, except EMQ_DATA: without a directory, tasks would be lost.
            guard let value = environment(variable), !value.isEmpty || option.flag == "--data" else { continue }
            do throws(UsageError) {
                // The value of --push is a list itself.
                let isList = option.isRepeatable && option.flag != "--push"
                let parts = isList ? value.split(separator: ",", omittingEmptySubsequences: false) : [value[...]]
                for part in parts { try read(&self, String(part)) }
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

    // MARK: Variables

    /// The name of an option's variable in the environment.
    private static func variable(of flag: String) -> String {
        "EMQ_" + flag.dropFirst(2).uppercased().split(separator: "-").joined(separator: "_")
    }

    /// Variables that begin with `EMQ_` but are not options: those of clients, workers, container images, builds and
    /// tests.
    private static let variablesOfOthers = [
        "EMQ_URL", "EMQ_TOKEN", "EMQ_TOKEN_FILE", "EMQ_CONTEXT", "EMQ_CA", "EMQ_ID", "EMQ_QUEUE", "EMQ_ATTEMPT",
        "EMQ_KEY", "EMQ_LEASE_UNTIL", "EMQ_RESULT_FILE", "EMQ_VERSION", "EMQ_COMMIT", "EMQ_HOME", "EMQ_FUZZ",
    ]

    /// A line for each variable that looks like an option but is not one, sorted.
    static func strayVariables(of environment: [String: String]) -> [String] {
        let variables = readers.map { variable(of: $0.option.flag) }
        let stray = environment.keys.filter { name in
            name.hasPrefix("EMQ_") && !variables.contains(name) && !variablesOfOthers.contains(name)
                && !name.hasPrefix("EMQ_TEST_") && !name.hasPrefix("EMQ_META_")
                && !isOfService(name, environment[name] ?? "")
        }
        return stray.sorted().map { name in
            let flag = "--" + name.dropFirst(4).lowercased().split(separator: "_").joined(separator: "-")
            var hint = ""
            if let known = readers.first(where: { $0.option.otherNames.contains(flag) })?.option.flag {
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
    /// Whether the word that is wrong is a command's name, so that the command's own help does not help.
    let isUnknownCommand: Bool

    init(_ description: String, isUnknownCommand: Bool = false) {
        self.description = description
        self.isUnknownCommand = isUnknownCommand
    }
}
