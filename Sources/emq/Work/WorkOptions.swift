// The command line of `emq work`.

import Bytes
import Glibc

/// The options of a worker.
struct WorkOptions {
    /// A queue, and its weight among several.
    struct Queue: Equatable {
        let name: String
        let weight: Int
    }

    let queues: [Queue]
    /// Whether the queues have weights. If not, those named first come first.
    let isWeighted: Bool
    let jobCount: Int
    let template: CommandTemplate
    /// The path of the program.
    let programPath: String
    /// Whether standard output is the result.
    let takesOutputAsResult: Bool
    /// The exit statuses after which a task is dead at once.
    let deadStatuses: Set<Int32>
    /// How long a command has to end after a SIGTERM, in milliseconds.
    let graceMilliseconds: Int64
    /// How long a command may run; nil for as long as it wants.
    let timeoutMilliseconds: Int64?
    /// The lease to ask for; nil for that of each task.
    let leaseMilliseconds: Int64?
    /// After how long without a task the worker ends; nil for never.
    let idleMilliseconds: Int64?
    let maximumTaskCount: Int?
    let maximumMilliseconds: Int64?
    let name: String
    let isDryRun: Bool

    private static let jobs = CommandOption("--jobs", "N", letter: "j", "how many commands run at once (default 1)")
    private static let lease = CommandOption("--lease", "TIME", "the lease to ask for (default: each task's own)")
    private static let timeout = CommandOption(
        "--timeout", "TIME", "stop a command that runs longer; the task has failed")
    private static let grace = CommandOption(
        "--grace", "TIME", "how long a command has to end after a SIGTERM, before SIGKILL (default 25s)")
    private static let result = CommandOption(
        "--result", "WHERE", completion: .words(["file", "stdout"]),
        "where the result is: file (default: what the command writes to EMQ_RESULT_FILE) or stdout")
    private static let deadOn = CommandOption(
        "--dead-on", "STATUS", "exit statuses after which a task is not tried again, with commas (default 65)")
    private static let exitWhenEmpty = CommandOption(
        "--exit-when-empty", takesTruthValue: true,
        "end when there is no task; with =TIME, when there has been none for so long")
    private static let maxTasks = CommandOption("--max-tasks", "N", "end after N tasks")
    private static let maxTime = CommandOption("--max-time", "TIME", "end after this time")
    private static let worker = CommandOption("--worker", "NAME", "the worker's name (default: HOST-PROCESS)")
    private static let dryRun = CommandOption("--dry-run", "show what would run for the first tasks, and take none")

    static let command = Command(
        name: "work", section: .tasks, operands: "QUEUE[=WEIGHT]... -- COMMAND [ARGUMENT...]", operandCount: 1...1000,
        operandCompletion: .queue, runsProgram: true, summary: "run a command for each task",
        text: [
            "The command reads the content from its standard input: a string as its text, other values as JSON. Its "
                + "environment has EMQ_ID, EMQ_QUEUE, EMQ_ATTEMPT, EMQ_KEY, EMQ_LEASE_UNTIL (a Unix time), "
                + "EMQ_META_NAME for each NAME of the metadata, EMQ_RESULT_FILE and TRACEPARENT. In its arguments, {id}, "
                + "{queue}, {attempt}, {.} and {.field.of.the.content} stand for parts of the task; no shell reads them.",
            "The exit status says how the task ended:",
            "  0         it is done",
            "  75        it goes back, and this counts as no attempt",
            "  65        it is dead: no retries (--dead-on)",
            "  126, 127  the command cannot be run: the task goes back, and the worker ends",
            "  others    it has failed, with the last lines of standard error as the reason",
            "The worker extends the lease while the command runs. When the lease is lost or the task is cancelled, it stops "
                + "the command. After ten failures in a row it tries one task at a time, with growing pauses.",
            "SIGTERM or SIGINT: the worker takes no more tasks, lets commands end for --grace, then stops them and gives "
                + "their tasks back. A second signal does so at once.",
            "Queues come in the order in which you name them. With weights, as in a=3 b=1, they come in turn, by weight.",
        ],
        options: [
            jobs, lease, timeout, grace, result, deadOn, exitWhenEmpty, maxTasks, maxTime, worker, dryRun,
        ] + ServerPlace.options,
        examples: [
            CommandExample("emq work mail -- ./send-mail", "run a script for each task"),
            CommandExample(
                "emq work thumbnails -j 4 -- convert {.file} -resize 200 {.target}", "put fields in the command line"),
        ], run: Worker.run)

    /// Reads the values of a command line.
    ///
    /// - Throws: `UsageError` if something is wrong, also if there is no such program.
    init(_ invocation: Invocation) throws(UsageError) {
        var queues: [Queue] = []
        for word in invocation.operands { queues.append(try Self.queue(word)) }
        isWeighted = invocation.operands.contains { Self.weight(in: $0) != nil }
        self.queues = queues
        let words = invocation.program ?? []
        guard let program = words.first else { throw UsageError("the command to run is missing") }
        programPath = try Self.path(of: program, invocation.variable("PATH") ?? "/usr/local/bin:/usr/bin:/bin")
        template = try CommandTemplate(words)
        jobCount = try invocation.number(of: Self.jobs, in: 1...1000) ?? 1
        leaseMilliseconds = try invocation.milliseconds(of: Self.lease)
        if let leaseMilliseconds, leaseMilliseconds < 1000 { throw UsageError("--lease must be at least 1s") }
        timeoutMilliseconds = try invocation.milliseconds(of: Self.timeout)
        graceMilliseconds = try invocation.milliseconds(of: Self.grace) ?? 25_000
        switch invocation.value(of: Self.result) ?? "file" {
        case "file": takesOutputAsResult = false
        case "stdout": takesOutputAsResult = true
        case let other: throw UsageError("--result is file or stdout, not '\(other)'")
        }
        deadStatuses = try Self.statuses(invocation.value(of: Self.deadOn) ?? "65")
        switch invocation.value(of: Self.exitWhenEmpty) {
        case nil: idleMilliseconds = nil
        case "true": idleMilliseconds = 0
        case let text?:
            guard let time = Duration.milliseconds(text) else {
                throw UsageError("--exit-when-empty takes a duration such as =30s, not '=\(text)'")
            }
            idleMilliseconds = time
        }
        maximumTaskCount = try invocation.number(of: Self.maxTasks, in: 1...1_000_000_000)
        maximumMilliseconds = try invocation.milliseconds(of: Self.maxTime)
        isDryRun = invocation.has(Self.dryRun)
        name = invocation.value(of: Self.worker) ?? "\(Self.hostName)-\(getpid())"
        if name.utf8.count > 255 { throw UsageError("--worker must have at most 255 bytes") }
    }

    private static func queue(_ word: String) throws(UsageError) -> Queue {
        guard let (name, weight) = weight(in: word) else { return Queue(name: word, weight: 1) }
        return Queue(name: name, weight: weight)
    }

    /// A name and a weight, as in `mail=3`; nil if there is no weight.
    private static func weight(in word: String) -> (name: String, weight: Int)? {
        guard let equals = word.lastIndex(of: "="), equals > word.startIndex,
            let weight = Int(decimal: word[word.index(after: equals)...].utf8), (1...1000).contains(weight)
        else { return nil }
        return (String(word[..<equals]), weight)
    }

    private static func statuses(_ text: String) throws(UsageError) -> Set<Int32> {
        var statuses: Set<Int32> = []
        for word in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let status = Int32(word), (1...255).contains(status), ![75, 126, 127].contains(status) else {
                throw UsageError(
                    "--dead-on takes exit statuses from 1 to 255, with commas between, but not 75, 126 and 127; not "
                        + "'\(text)'")
            }
            statuses.insert(status)
        }
        return statuses
    }

    /// The path of a program: itself if it has a slash, or else the first one of that name in the folders of `PATH`.
    private static func path(of program: String, _ folders: String) throws(UsageError) -> String {
        if program.contains("/") {
            if unsafe access(program, X_OK) == 0 { return program }
            let reason = unsafe String(cString: strerror(errno))
            throw UsageError("cannot run '\(program)': \(reason)")
        }
        for folder in folders.split(separator: ":") {
            let path = "\(folder)/\(program)"
            var status = stat()
            let isFile = unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
            if unsafe isFile && access(path, X_OK) == 0 { return path }
        }
        throw UsageError("there is no program '\(program)' in the folders of PATH")
    }

    private static var hostName: String {
        var name = [CChar](repeating: 0, count: 256)
        guard unsafe gethostname(&name, 255) == 0 else { return "worker" }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
