// The command line of `emq work`.

import Bytes
import Delivery
import Glibc
import Net

/// The options of a worker.
struct WorkOptions {
    /// A queue, and its weight among several.
    struct Queue: Equatable {
        let name: String
        let weight: Int
    }

    /// The program to run.
    struct Program {
        let path: String
        /// The words of its command line.
        let words: [String]
        /// The same words with places for what a task has.
        let template: CommandTemplate
    }

    /// What does the tasks.
    enum Mode {
        /// A run of the program for each.
        case command(Program)
        /// One process of the program for all.
        case persistent(Program)
        /// A request to this URL for each.
        case application(HTTPURL)
    }

    let queues: [Queue]
    /// Whether the queues have weights. If not, those named first come first.
    let isWeighted: Bool
    let jobCount: Int
    let mode: Mode
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

    /// Reads the values of a command line.
    ///
    /// - Throws: `UsageError` if something is wrong, also if there is no such program.
    init(_ invocation: Invocation) throws(UsageError) {
        var queues: [Queue] = []
        let words = invocation.operands.flatMap(Self.queueWords)
        var isWeighted = false
        for word in words {
            let (queue, hasWeight) = try Self.queue(word)
            queues.append(queue)
            if hasWeight { isWeighted = true }
        }
        self.isWeighted = isWeighted
        self.queues = queues
        mode = try Self.mode(invocation)
        jobCount = try invocation.number(of: Self.jobs, in: 1...1000) ?? 1
        leaseMilliseconds = try invocation.milliseconds(of: Self.lease)
        if let leaseMilliseconds, leaseMilliseconds < 1000 { throw UsageError("--lease must be at least 1s") }
        timeoutMilliseconds = try invocation.milliseconds(of: Self.timeout)
        if timeoutMilliseconds == 0 { throw UsageError("--timeout must be more than 0; leave it out for no limit") }
        graceMilliseconds = try invocation.milliseconds(of: Self.grace) ?? 25_000
        switch invocation.value(of: Self.result) ?? "file" {
        case "file": takesOutputAsResult = false
        case "stdout":
            takesOutputAsResult = true
            guard case .command = mode else {
                throw UsageError("--result is for a command for each task; leave it out with --persistent and --http")
            }
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
        if name.isEmpty || name.utf8.count > 255 { throw UsageError("--worker must have from 1 to 255 bytes") }
    }

    private static func mode(_ invocation: Invocation) throws(UsageError) -> Mode {
        let words = invocation.program ?? []
        if let text = invocation.value(of: Self.http) {
            if invocation.has(Self.persistent) { throw UsageError("give --persistent or --http, not both") }
            if !words.isEmpty { throw UsageError("give --http or a command, not both") }
            do throws(HTTPURLError) { return .application(try HTTPURL(text.utf8Span.span)) } catch {
                throw UsageError("--http: \(error)")
            }
        }
        guard let name = words.first else { throw UsageError("the command to run is missing") }
        if words.contains(where: { $0.unicodeScalars.contains("\u{FFFD}") }), !ProcessStart.areArgumentsUTF8 {
            throw UsageError("the command line has bytes that are not UTF-8; put them in a script, and run that")
        }
        let path = try path(of: name, invocation.variable("PATH") ?? "/usr/local/bin:/usr/bin:/bin")
        if invocation.has(Self.persistent) {
            return .persistent(Program(path: path, words: words, template: try CommandTemplate(plain: words)))
        }
        return .command(Program(path: path, words: words, template: try CommandTemplate(words)))
    }

    /// The queues of an operand: `a=3,b=1` are two. Other names may have commas.
    private static func queueWords(_ operand: String) -> [String] {
        let parts = operand.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        return parts.allSatisfy { weighted($0) != nil } ? parts : [operand]
    }

    private static func queue(_ word: String) throws(UsageError) -> (Queue, isWeighted: Bool) {
        guard let (name, digits) = weighted(word) else { return (Queue(name: word, weight: 1), false) }
        guard let weight = Int(decimal: digits.utf8), (1...1000).contains(weight) else {
            throw UsageError(
                "a queue's weight must be from 1 to 1000, not '\(digits)' as in '\(word)'; if that is the queue's name, "
                    + "write '\(word)=1'")
        }
        return (Queue(name: name, weight: weight), true)
    }

    /// A name, and what follows the last equals sign, if there are only digits or nothing, as in `mail=3`; nil for
    /// other words.
    private static func weighted(_ word: String) -> (name: String, digits: String)? {
        guard let equals = word.lastIndex(of: "="), equals > word.startIndex else { return nil }
        let digits = word[word.index(after: equals)...]
        return digits.utf8.allSatisfy { $0.isDigit } ? (String(word[..<equals]), String(digits)) : nil
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
            guard unsafe access(program, X_OK) == 0 else {
                let reason = unsafe String(cString: strerror(errno))
                throw UsageError("cannot run '\(program)': \(reason)")
            }
            if !isFile(program) { throw UsageError("cannot run '\(program)': it is no file") }
            return program
        }
        for folder in folders.split(separator: ":") {
            let path = "\(folder)/\(program)"
            if isFile(path), unsafe access(path, X_OK) == 0 { return path }
        }
        throw UsageError("there is no program '\(program)' in the folders of PATH")
    }

    private static func isFile(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    }

    private static var hostName: String {
        var name = [CChar](repeating: 0, count: 256)
        guard unsafe gethostname(&name, 255) == 0 else { return "worker" }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
