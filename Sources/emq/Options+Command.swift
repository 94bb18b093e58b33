// The command `serve`: its help, and the table of its options with their readers.

extension Command {
    static let serve = Command(
        name: "serve", section: .server, summary: "run the server",
        text: [
            "Tasks live in memory, and with --data also on disk. Each option has an EMQ_… variable, such as "
                + "EMQ_MAX_MEMORY; in it, separate several addresses or hosts with commas."
        ],
        options: Options.readers.map(\.option) + [.version],
        examples: [
            CommandExample("emq --addr :8080 --data /var/lib/emq", "serve every address, and keep tasks on disk"),
            CommandExample(
                #"curl --json '{"content": "hello"}' localhost:8080/enqueue/greetings"#, "add a task with curl"),
            CommandExample(
                #"curl --json '{"queues": ["greetings"], "max": 1, "timeout": 10000}' localhost:8080/wait/"#, "take it"),
        ]
    ) { invocation in
        if invocation.has(.version) { return try Command.version.run(invocation) }
        try Emq.serve(Options(invocation))
        return .done
    }
}

extension CommandOption {
    static let version = CommandOption("--version", otherNames: ["-v", "-V"], "show the version")
}

extension Options {
    /// An option, and what takes its value.
    typealias OptionReader = (
        option: CommandOption, read: @Sendable (inout Options, String) throws(UsageError) -> Void
    )

    /// The options and their readers, in the order of help.
    static let readers: [OptionReader] =
        [
            (
                CommandOption(
                    "--addr", "ADDRESS", isRepeatable: true, takesOneDash: true,
                    otherNames: [
                        "--port", "-p", "--listen", "-l", "--bind", "-b", "--address", "-a", "--listen-address",
                        "--http",
                    ],
                    "address to listen on: localhost:8080 (default), :8080 for every address of the machine, "
                        + "https://:8443, [::1]:8080 or unix:/path; may be repeated"), readAddress
            ),
            (
                CommandOption(
                    "--tls-cert", "FILE",
                    otherNames: ["--cert", "--certfile", "--tls-certificate", "--ssl-cert", "--ssl-certfile"],
                    completion: .file,
                    "speak TLS with this certificate, followed by its intermediates (PEM), but not at http:// and "
                        + "unix: (docs/operations.md, \"TLS\")"), readCertificate
            ),
            (
                CommandOption(
                    "--tls-key", "FILE",
                    otherNames: ["--key", "--keyfile", "--tls-private-key", "--ssl-key", "--ssl-keyfile"],
                    completion: .file, "the key of the certificate (PEM)"), readKey
            ),
            (
                CommandOption(
                    "--tls-client-ca", "FILE", completion: .file,
                    "accept only clients that have a certificate from these issuers (PEM)"), readClientIssuers
            ),
            (
                CommandOption(
                    "--tls-ca", "FILE", otherNames: ["--ca", "--cacert", "--ca-file", "--cafile"], completion: .file,
                    "trust these issuers too (PEM) when sending tasks to https://"), readIssuers
            ),
            (
                CommandOption(
                    "--tokens", "FILE", completion: .file,
                    "accept only requests with a token of this file (docs/operations.md, \"Access\")"), readTokens
            ),
            (
                CommandOption("--require-tokens", takesTruthValue: true, "do not start without --tokens"),
                readRequiresTokens
            ),
            (
                CommandOption(
                    "--host", "NAME", isRepeatable: true,
                    "another name that browsers may use for this server, such as queue.example.com; may be "
                        + "repeated (docs/operations.md, \"Browsers\")"), readHost
            ),
            (
                CommandOption(
                    "--data", "DIR",
                    otherNames: [
                        "--dir", "-d", "--directory", "--data-dir", "--path", "--storage", "--db", "--journal",
                    ], completion: .directory, "keep tasks in this directory, so that they survive a restart"),
                readData
            ),
            (
                CommandOption(
                    "--fsync", "WHEN", completion: .words(["always", "never"]),
                    "always (default): sync before replying; N: within N ms; never: leave it to the OS. Matters "
                        + "only in a power cut or a system crash"), readSyncMode
            ),
            (
                CommandOption(
                    "--recovery-grace", "SECS", "minimum time left on leases after a restart (default 30)"),
                readGrace
            ),
            (
                CommandOption(
                    "--lock-wait", "SECS", "how long to wait for another process to close DIR (default 3)"),
                readLockWait
            ),
            (
                CommandOption(
                    "--push", "WHERE", isRepeatable: true,
                    completion: .words(["public", "private", "loopback"]),
                    "where emq may send tasks, and take messages of RabbitMQ: public, private, loopback, "
                        + "10.1.0.0/16, a host name or *.example.com, or several with commas"), readDestinations
            ),
            (
                CommandOption(
                    "--defaults", "FILE", completion: .file,
                    "defaults for all queues, as JSON: the fields of PUT /defaults/"), readDefaults
            ),
            (
                CommandOption(
                    "--drain", "SECS", "how long workers may acknowledge tasks after SIGTERM (default 5)"),
                readDrain
            ),
            (
                CommandOption(
                    "--max-connections", "N",
                    "maximum number of open connections (default 20000, if ulimit -n allows it)"),
                readMaximumConnections
            ),
            (
                CommandOption(
                    "--max-memory", "SIZE", otherNames: ["--memory", "-m", "--maxmemory", "--memory-limit"],
                    "memory for tasks, such as 512M or 4G (default: three quarters of all memory)"),
                readMaximumMemory
            ),
            (
                CommandOption(
                    "--address-space", "SIZE",
                    "address space to reserve (default: ample, or half of what ulimit -v leaves)"),
                readAddressSpace
            ),
        ] + systemReaders + [
            (
                CommandOption(
                    "--taskqueue", "FILE.ini", completion: .file,
                    "replace taskqueue: take messages of RabbitMQ as its file says (docs/migration.md)"),
                readTaskqueue
            ),
            (
                CommandOption(
                    "--delay-tasks-timeout", "SECS", "how long a handler of delay-tasks may take (default 5)"),
                readDelayTasksTimeout
            ),
            (
                CommandOption("--htq-workers", "N", "how many requests of htq may be in flight (default 10)"),
                readWorkers
            ),
            (
                CommandOption(
                    "--amqp-prefetch", "N",
                    "how many messages of a queue of RabbitMQ may be in flight (default 1000)"), readPrefetch
            ),
            (
                CommandOption(
                    "--log-format", "FORMAT", completion: .words(["text", "json"]),
                    "the log's format: text (default) or json (docs/operations.md, \"Logs\")"), readLogFormat
            ),
            (
                CommandOption(
                    "--log-level", "LEVEL", completion: .words(["error", "warning", "info"]),
                    "the least important lines of the log: error, warning or info (default)"), readLogLevel
            ),
            (CommandOption("--access-log", takesTruthValue: true, "log a line for each request"), readLogsAccess),
            (
                CommandOption(
                    "--gc-freq", "DURATION", takesOneDash: true, "ignored; the original emq has it"),
                readCollectionFrequency
            ),
        ]

    private static let systemReaders: [OptionReader] =
        LegacySystem.allCases.map { system in
            (
                CommandOption(
                    system.flag, system == .delayTasks ? "ADDRESS|FILE" : "ADDRESS", isRepeatable: true,
                    variableInsteadOfValue: system == .delayTasks ? "CONF_FILE" : nil,
                    "replace \(system.rawValue) at this address"
                        + (system == .delayTasks ? ", or as its file says" : "") + " (docs/migration.md)"),
                { (options, value) throws(UsageError) in try options.readService(system, value) }
            )
        }
}
