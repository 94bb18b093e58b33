// The program: which command was asked for, and how the server is put together.

import Glibc
import Journal
import Net
import Queues
import UID

@main
enum Emq {
    static func main() {
        var arguments = CommandLine.arguments.dropFirst()
        if arguments.first == "bench" { exit(Bench.run(Array(arguments.dropFirst()))) }
        if arguments.first == "journal" { exit(JournalCommand.run(Array(arguments.dropFirst()))) }
        if arguments.first == "serve" { arguments = arguments.dropFirst() }
        if arguments.contains("--help") || arguments.contains("-h") { return write(Options.help, to: STDOUT_FILENO) }
        if arguments.contains("--version") { return write("emq \(Options.version)", to: STDOUT_FILENO) }
        do {
            try serve(try Options(Array(arguments)) { name in unsafe getenv(name).map { unsafe String(cString: $0) } })
        } catch let error as UsageError {
            write("emq: \(error.description) (emq --help lists the options)", to: STDERR_FILENO)
            exit(2)
        } catch {
            write("emq: \(error)", to: STDERR_FILENO)
            exit(1)
        }
    }

    private static func serve(_ options: Options) throws {
        let shutdown = Shutdown(drainMilliseconds: options.drainMilliseconds)
        let loop = try EventLoop()
        try shutdown.watch(on: loop)
        var random = KernelRandom()
        let broker = Broker(executor: loop, firstToken: random.next(), seed: random.next(), now: loop.now)
        var limits = ServerLimits()
        let files = raiseFileLimit()
        let adapters = Adapters(options)
        let sends = options.destinations != nil || !adapters.isEmpty
        let pushConnections = sends ? max(1, min(4000, files / 4)) : 0
        limits.connections = try connectionLimit(asked: options.maximumConnections, files: files - pushConnections)
        let memory = options.maximumMemoryBytes ?? Memory.available / 4 * 3
        limits.bufferBytes = memory / 4
        let journal = try DurableStore(options, loop: loop)
        // Entered once, around the whole loop: from here on a call on the broker is a plain call.
        try broker.assumeIsolated { broker in
            // Older systems have said all that holds for their tasks.
            broker.exemptFromDefaults { OlderSystem(of: $0) != nil }
            let server = HTTPServer(loop: loop, limits: limits)
            let push =
                sends
                ? Push(
                    options.destinations, for: adapters, loop: loop, connections: pushConnections,
                    maximumBodyBytes: memory / 4, on: broker) : nil
            func listen(_ addresses: [Address], service: Int) throws -> String {
                var places: [String] = []
                for address in addresses {
                    for actual in try server.listen(address, service: service) {
                        push?.policy.ownListeners.append(actual)
                        if !places.contains(link(to: actual)) { places.append(link(to: actual)) }
                    }
                }
                return places.joined(separator: " and ")
            }
            let places = try listen(options.addresses, service: 0)
            var adapterLines: [String] = []
            for (place, system) in options.systems.enumerated() {
                let addresses = options.services.filter { $0.system == system }.map(\.address)
                let places: String
                do { places = try listen(addresses, service: place + 1) } catch {
                    throw SystemError("stand in for \(system.rawValue)", reason: "\(error)")
                }
                adapterLines.append("emq: in place of \(system.rawValue) at \(places)")
            }
            if let file = options.taskqueueFile { adapterLines += file.startLines }
            let destinations = options.destinationLists.joined(separator: ", ")
            let sending = destinations.isEmpty ? "" : " and may be sent to: \(destinations)"
            let home = journal.map { "are kept in \($0.directory)" } ?? "live in memory"
            write(
                "emq \(Options.version) listening on \(places); tasks \(home)\(sending)",
                to: STDERR_FILENO)
            for line in adapterLines { write(line, to: STDERR_FILENO) }
            var api = API(
                server: server, shutdown: shutdown, maximumMemoryBytes: memory, journal: journal, push: push,
                adapters: adapters)
            api.startDefaults = options.defaults
            server.run(&api, on: broker)
            let count = broker.counts.tasks == 1 ? "1 task" : "\(broker.counts.tasks) tasks"
            if let journal {
                let kept = journal.isReady ? count : "everything"
                write("emq: stopped; \(kept) stayed in \(journal.directory)", to: STDERR_FILENO)
            } else {
                write("emq: stopped; \(count) that lived in memory went with it", to: STDERR_FILENO)
            }
        }
    }

    private static func link(to address: Address) -> String {
        switch address {
        case .tcp("", let port): "http://localhost:\(port) (every address of this machine)"
        case .tcp: "http://\(address)"
        case .unix: "\(address)"
        }
    }

    /// How many connections may be open: what was asked for, as far as the limit of open files allows.
    private static func connectionLimit(asked: Int?, files: Int) throws(SystemError) -> Int {
        // Some descriptors are the program's own: listeners, the loop's, standard input and output.
        let allowed = files - 32
        if allowed < 1 { throw SystemError("accept connections", reason: "the limit of open files is too low") }
        if let asked, asked > allowed {
            throw SystemError("have \(asked) connections", reason: "the limit of open files allows \(allowed)")
        }
        return asked ?? min(20_000, allowed)
    }

    /// Raises the limit of open files as far as the system allows, and returns it.
    static func raiseFileLimit() -> Int {
        var files = rlimit()
        unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files)
        files.rlim_cur = files.rlim_max
        unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files)
        return Int(clamping: files.rlim_cur)
    }

    /// Writes one line to a descriptor.
    static func write(_ line: String, to descriptor: Int32) {
        let bytes = Array((line + "\n").utf8)
        unsafe _ = bytes.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
    }
}
