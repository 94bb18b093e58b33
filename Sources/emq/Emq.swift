// The entry point, and the assembly of the server.

import Bytes
import Glibc
import Journal
import Net
import Queues
import UID

@main
enum Emq {
    static func main() {
        ProcessStart.prepare()
        exit(Command.run(Array(ProcessStart.arguments.dropFirst())) { ProcessStart.environment[$0] })
    }

    /// Runs the server until it is stopped.
    static func serve(_ options: Options) throws {
        let log = Log.standard
        log.configure(options.logsJSON ? .json : .text(ProcessStart.environment), options.logLevel)
        for line in Options.strayVariables(of: ProcessStart.environment) { log.warning(line) }
        do { try serve(options, log) } catch let error as UsageError {
            throw error
        } catch {
            log.error("\(error)")
            throw CommandFailure(.failed)
        }
    }

    #if !DEBUG
        /// Keeps the broker, and with it the loop, until the program has ended. Debug builds free it, so that the
        /// address sanitizer finds leaks.
        private static let lastBroker = Locked<Broker?>(nil)
    #endif

    private static func serve(_ options: Options, _ log: Log) throws {
        Memory.configureAllocator()
        let shutdown = Shutdown(drainMilliseconds: options.drainMilliseconds)
        let loop = try EventLoop()
        try checkClock(loop.now)
        try shutdown.watch(on: loop)
        var random = KernelRandom()
        let addressSpace = try addressSpace(asked: options.addressSpaceBytes)
        let memory = options.maximumMemoryBytes ?? min(Memory.available / 4 * 3, addressSpace ?? .max)
        // Contents of a new size may need new addresses.
        let broker = Broker(
            executor: loop, firstToken: random.next(), seed: random.next(), now: loop.now,
            contentAddressBytes: max(64 << 30, 8 * memory), addressBytes: addressSpace ?? .max)
        var limits = ServerLimits()
        let files = raiseFileLimit()
        let adapters = Adapters(options)
        if let letter = options.defaults?.deadLetter {
            do throws(Problem) { try adapters.checkEnqueue(in: letter.span) } catch {
                throw UsageError("--defaults: dead_letter: \(error.detail)")
            }
        }
        let sends = options.destinations != nil || !adapters.isEmpty
        let pushConnections = sends ? max(1, min(4000, files / 4)) : 0
        limits.connections = try connectionLimit(asked: options.maximumConnections, files: files - pushConnections)
        limits.bufferBytes = min(memory, addressSpace ?? .max) / 4
        if options.maximumMemoryBytes == nil, !Memory.isLimitKnown {
            log.warning("cannot read /proc, so emq may not see a memory limit of its control group; set --max-memory")
        }
        let certificate: ServerCertificate?
        let trust: TLSTrust?
        do throws(TLSError) {
            certificate = try options.tlsFiles.map { files throws(TLSError) in try ServerCertificate(files) }
            trust =
                sends
                ? try options.issuersPath.map { path throws(TLSError) in try TLSTrust(additionalFile: path) } : nil
        } catch {
            throw UsageError(error.description)
        }
        let access: Access?
        do throws(TokensFileError) {
            access = try options.tokensPath.map { path throws(TokensFileError) in
                try Access(path: path, now: loop.now)
            }
        } catch {
            throw UsageError("--tokens: \(error.description)")
        }
        let durability: (any Durability)? = try DurableStore(options, loop: loop)
        #if !DEBUG
            // The system takes the memory of the tasks back at once. To free that of each would take seconds.
            lastBroker.with { $0 = broker }
        #endif
        // The isolation is entered once, around the whole loop, so each call on the broker is a plain call.
        try broker.assumeIsolated { broker in
            // The adapters of legacy systems set every option of their tasks.
            broker.exemptFromDefaults { LegacySystem(of: $0) != nil || adapters.owner(of: $0) != nil }
            broker.limitHistories(toBytes: memory / 16)
            let server = HTTPServer(loop: loop, limits: limits)
            // The files of Unix-domain sockets go with their listeners.
            defer { server.stopListening() }
            let push =
                sends
                ? Push(
                    options.destinations, for: adapters, loop: loop, connections: pushConnections,
                    maximumBodyBytes: memory / 4, on: broker, trust: trust) : nil
            func listen(_ endpoints: [Endpoint], service: Int) throws -> (places: String, openPlaces: String) {
                var places: [String] = []
                var openPlaces: [String] = []
                for endpoint in endpoints {
                    let identity = options.speaksTLS(at: endpoint) ? certificate?.identity : nil
                    for actual in try bind(endpoint, of: server, service: service, tls: identity) {
                        push?.policy.ownListeners.append(actual)
                        let link = Endpoint(actual, isSecure: endpoint.isLocal ? nil : identity != nil).link
                        if places.contains(link) { continue }
                        places.append(link)
                        let checksClients = identity != nil && options.clientIssuersPath != nil
                        if actual.isReachableFromOutside, !checksClients { openPlaces.append(link) }
                    }
                }
                return (places.joined(separator: " and "), openPlaces.joined(separator: " and "))
            }
            let (places, openPlaces) = try listen(options.addresses, service: 0)
            var startEvents: [LogEvent] = []
            if access == nil, !openPlaces.isEmpty {
                startEvents.append(
                    .warning(
                        "whoever reaches \(openPlaces) may do everything; to change that, use --tokens FILE "
                            + "(`emq token new` makes tokens) or listen at localhost"))
            }
            for (place, system) in options.systems.enumerated() {
                let endpoints = options.services.filter { $0.system == system }.map(\.endpoint)
                let listening: (places: String, openPlaces: String)
                do { listening = try listen(endpoints, service: place + 1) } catch {
                    throw SystemError("replace \(system.rawValue)", reason: "\(error)")
                }
                startEvents.append(.info("replacing \(system.rawValue) at \(listening.places)"))
                if !listening.openPlaces.isEmpty {
                    startEvents.append(
                        .warning(
                            "whoever reaches \(listening.openPlaces) may do everything that \(system.rawValue) offers, "
                                + "because its clients have no tokens; to change that, let only them reach that address"
                        ))
                }
            }
            if let file = options.delayTasksFile {
                let isAddressUsed = options.services.contains {
                    $0.system == .delayTasks && $0.endpoint.address == file.address
                }
                startEvents += file.startEvents(isAddressUsed: isAddressUsed)
            }
            if let file = options.taskqueueFile { startEvents += file.startEvents }
            if let event = certificate?.startEvent(now: loop.now) { startEvents.append(event) }
            if let access { startEvents += access.startEvents(now: loop.now) }
            startEvents += options.notes.map { .warning($0) }
            // Lower case is how emq reads them: a keyword in capitals could look like a host name.
            let destinations = options.destinationLists.joined(separator: ", ").lowercased()
            let sending = destinations.isEmpty ? "" : " and may be sent to: \(destinations)"
            let home = durability.map { "are kept in \($0.location)" } ?? "live in memory"
            log.info("emq \(Options.version) listening on \(places); tasks \(home)\(sending)")
            for event in startEvents { log.write(event) }
            let gate = Gate(
                server: server, durability: durability, push: push,
                sources: Sources(options, push: push, trust: trust, loop: loop), maximumMemoryBytes: memory,
                resident: ResidentMemory.ofProgram())
            var handler = TaskServer(
                gate, shutdown: shutdown, adapters: adapters,
                browserHosts: BrowserHosts(options), certificate: certificate, access: access,
                defaults: options.defaults, manager: ServiceManager(ProcessStart.environment),
                recordsRequests: options.logsAccess)
            if options.logsAccess { LineWriter.standardError.allowMoreWaitingBytes() }
            Memory.giveBackCodePages()
            server.run(&handler, on: broker)
            let count = broker.counts.tasks == 1 ? "1 task" : "\(broker.counts.tasks) tasks"
            if let durability {
                let kept = durability.isReady ? count : "all tasks"
                log.info("stopped; \(kept) kept in \(durability.location)")
            } else {
                log.info("stopped; \(count) in memory \(broker.counts.tasks == 1 ? "was" : "were") discarded")
            }
        }
    }

    /// Listens at `endpoint`, and returns the actual addresses: a host name may have several.
    private static func bind(
        _ endpoint: Endpoint, of server: HTTPServer, service: Int, tls identity: TLSIdentity?
    ) throws(SystemError) -> [Address] {
        let address = endpoint.address
        if let descriptor = endpoint.descriptor {
            try server.listen(inherited: descriptor, address, service: service, tls: identity)
            return [address]
        }
        do throws(SystemError) { return try server.listen(address, service: service, tls: identity) } catch {
            guard error.code == EADDRINUSE else { throw error }
            throw SystemError(
                error.operation,
                reason: "the address is already in use; stop the program that uses it, or choose another address")
        }
    }

    /// The maximum number of open connections, within the limit of open files.
    private static func connectionLimit(asked: Int?, files: Int) throws(SystemError) -> Int {
        // The program itself needs some descriptors: listeners, the loop's, standard input and output.
        let allowed = files - 32
        if allowed < 1 {
            throw SystemError("accept connections", reason: "the limit of open files is too low; raise it (ulimit -n)")
        }
        if let asked, asked > allowed {
            throw SystemError(
                "allow \(asked) connections",
                reason: "the limit of open files leaves \(allowed); raise it (ulimit -n) or lower --max-connections")
        }
        return asked ?? min(20_000, allowed)
    }

    /// How much address space to reserve: the option's value, or half of what the system leaves; nil if there is no
    /// limit.
    private static func addressSpace(asked: Int?) throws(SystemError) -> Int? {
        let free = Memory.addressSpace
        if let asked, let free, asked > free / 8 * 7 {
            throw SystemError(
                "reserve \(asked) bytes of address space",
                reason: "ulimit -v leaves \(free), and requests and responses need some of it too; reserve less")
        }
        if let free, free < 64 << 20 {
            throw SystemError(
                "reserve address space", reason: "ulimit -v leaves \(free) bytes, but emq needs at least 64 MB")
        }
        return asked ?? free.map { $0 / 2 }
    }

    /// Raises the limit of open files as far as the system allows, but not beyond `needed`, and returns it.
    @discardableResult
    static func raiseFileLimit(to needed: Int = .max) -> Int {
        var files = rlimit()
        unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files)
        files.rlim_cur = max(files.rlim_cur, min(rlim_t(needed), files.rlim_max))
        unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files)
        return Int(clamping: files.rlim_cur)
    }

    /// Checks that the clock fits into ids, responses and the journal, which count milliseconds from 1970.
    static func checkClock(_ unixMilliseconds: Int64) throws(SystemError) {
        // Ids have 48 bits for the time.
        guard (0..<1 << 48).contains(unixMilliseconds) else {
            let time = unixMilliseconds < 0 ? "before 1970" : "after the year 10000"
            throw SystemError("start", reason: "the machine's clock is wrong: it shows a time \(time); set it (`date`)")
        }
    }

    // MARK: Output

    /// How long the program waits at its end until the last lines of the log are read.
    private static let lastLinesMilliseconds = 1000

    /// Writes a command's line to standard error, without waiting until it is written.
    static func printError(_ text: String) {
        var line: [UInt8] = []
        LogLines.writePlain(text, to: &line)
        LineWriter.standardError.write(line.span)
    }

    /// Writes the rest of the log, and ends the program.
    static func exit(_ status: Int32) -> Never {
        Log.standard.writeNumbers()
        LineWriter.standardError.flush(milliseconds: lastLinesMilliseconds)
        Glibc.exit(status)
    }

    /// Writes a command's result to standard output, waiting until it is read. Ends the program if that fails.
    static func print(_ text: String) {
        var rest = Array((text + "\n").utf8)[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN {
                var readiness = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
                unsafe poll(&readiness, 1, -1)
            } else if errno != EINTR {
                printError("emq: \(SystemError("write to standard output"))")
                exit(1)
            }
        }
    }
}
