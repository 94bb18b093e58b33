// A command for each task.

import Bytes
import CProcess
import Glibc
import JSON

/// Runs a command for each task.
final class CommandTasks: TaskRunner {
    /// The most of the end of an output that is kept: as the task's log, and of standard error for the reason.
    static let logBytes = 65_536
    static let errorTailBytes = 8192
    /// The most lines, and bytes, of standard error that the reason of a failure has.
    static let errorLines = 5
    static let errorBytes = 2000

    private let options: WorkOptions
    private let program: WorkOptions.Program
    private let runner: CommandRunner
    private let directory: String
    private let environment: [[UInt8]]
    /// How many files of results there have been. Each has a name of its own: a process that outlives its task must not
    /// write the result of another one.
    private var resultFileCount = 0
    private unowned let holder: any TaskHolder

    /// A runner of a program, with a folder for the files of results, and the variables of all commands.
    init(
        _ options: WorkOptions, _ program: WorkOptions.Program, _ runner: CommandRunner, directory: String,
        environment: [[UInt8]], for holder: any TaskHolder
    ) {
        (self.options, self.program, self.runner) = (options, program, runner)
        (self.directory, self.environment, self.holder) = (directory, environment, holder)
    }

    func begin(_ task: WorkTask, slot: Int, now: Int64) -> Job? {
        resultFileCount += 1
        let path = "\(directory)/\(resultFileCount)"
        let job = CommandJob(task, slot: slot, resultPath: path, now: now)
        job.startClock(timeoutMilliseconds: options.timeoutMilliseconds, now: now)
        let words: [String]
        do throws(TemplateFailure) { words = try program.template.words(for: task) } catch {
            // The worker does not know of the job yet.
            runner.later { [weak self] in self?.holder.ended(job, .dead(error: error.description), log: "") }
            return job
        }
        let image = SubprocessImage(
            path: program.path, arguments: words, environment: environment + job.variables.map { Array($0.utf8) })
        job.process = Subprocess(
            image, slot: slot, input: .bytes(task.input), on: runner, isOutputPassedOn: !options.takesOutputAsResult,
            output: { [options] part in
                if options.takesOutputAsResult {
                    job.takeOutput(part)
                } else {
                    job.tail.append(part)
                }
            },
            error: { part in
                job.tail.append(part)
                job.errorTail.append(part)
            }, ended: { [weak self] in self?.ended(job, $0) })
        return job
    }

    private func ended(_ job: CommandJob, _ end: SubprocessEnd) {
        job.process = nil
        defer { removeResult(job.resultPath) }
        var outcome = WorkOutcome(
            end, lastLines: job.errorTail.lastLines(Self.errorLines, maximumBytes: Self.errorBytes),
            deadStatuses: options.deadStatuses)
        if case .done = outcome {
            do throws(ResultFailure) {
                outcome = .done(result: try job.result(takesOutput: options.takesOutputAsResult), log: nil)
            } catch {
                outcome = .failed(error: error.description)
            }
        } else if job.stopping == .released {
            // A command that ends well although it was asked to stop has done its work.
            outcome = .released()
        }
        holder.ended(job, outcome, log: job.tail.text)
    }

    /// How many files are removed at once if a command has made a folder of its result. The watcher removes the rest.
    private static let maximumRemovalSteps: Int32 = 1000

    private func removeResult(_ path: String) {
        var steps = Self.maximumRemovalSteps
        unsafe emq_remove(AT_FDCWD, path, emq_removal_depth(), &steps)
    }
}

/// A task with its command.
final class CommandJob: Job {
    /// The largest result, in bytes.
    static let maximumResultBytes = 8 << 20

    var process: Subprocess?
    /// The end of all output, and that of standard error.
    var tail = OutputTail(maximumByteCount: CommandTasks.logBytes)
    var errorTail = OutputTail(maximumByteCount: CommandTasks.errorTailBytes)
    let resultPath: String
    private var output: [UInt8] = []
    private var isOutputTooLong = false

    init(_ task: WorkTask, slot: Int, resultPath: String, now: Int64) {
        self.resultPath = resultPath
        super.init(task, slot: slot, now: now)
    }

    override func askToEnd(now: Int64) { process?.signal(SIGTERM) }

    override func endNow(now: Int64) { process?.signal(SIGKILL) }

    /// The variables that tell the command about its task.
    var variables: [String] {
        var variables = [
            "EMQ_ID=\(task.id)", "EMQ_QUEUE=\(task.queue)", "EMQ_ATTEMPT=\(task.attempt)",
            "EMQ_LEASE_UNTIL=\(leaseEnd / 1000)", "EMQ_RESULT_FILE=\(resultPath)",
        ]
        if let key = task.key { variables.append("EMQ_KEY=\(key)") }
        if let traceparent = task.traceparent { variables.append("TRACEPARENT=\(traceparent)") }
        var metadataNames: Set<String> = []
        for (name, value) in task.metadata {
            let name = Self.variableName(name)
            // Different names of metadata may become the same one. The first counts.
            if metadataNames.insert(name).inserted { variables.append("EMQ_META_\(name)=\(value)") }
        }
        // A null byte would end the variable.
        return variables.map { $0.utf8.contains(0) ? String($0.prefix { $0 != "\0" }) : $0 }
    }

    /// A name of metadata as a part of a variable's name: letters in upper case, digits, and `_` for anything else.
    static func variableName(_ name: String) -> String {
        String(
            decoding: name.utf8.map { byte in
                byte.isLetter ? byte & ~0x20 : byte.isDigit ? byte : UInt8(ascii: "_")
            }, as: UTF8.self)
    }

    // MARK: Results

    func takeOutput(_ part: ArraySlice<UInt8>) {
        if output.count + part.count > Self.maximumResultBytes { isOutputTooLong = true } else { output += part }
    }

    /// The result as JSON: what was written, if it is JSON, or else its text; nil if there is none.
    ///
    /// - Throws: `ResultFailure` if it is too large, or cannot be read.
    func result(takesOutput: Bool) throws(ResultFailure) -> [UInt8]? {
        let bytes = takesOutput ? output : try file()
        if isOutputTooLong || bytes.count > Self.maximumResultBytes {
            throw ResultFailure(description: "the result is larger than \(Self.maximumResultBytes >> 20) MiB")
        }
        if bytes.isEmpty { return nil }
        return ResultJSON.value(bytes)
    }

    /// What the command wrote to its file; empty if it made none. One byte more than the limit if there is more.
    private func file() throws(ResultFailure) -> [UInt8] {
        // It may have put something else there, such as a pipe that nobody writes to.
        let descriptor = unsafe open(resultPath, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW)
        if descriptor < 0, errno == ENOENT { return [] }
        defer { if descriptor >= 0 { close(descriptor) } }
        var status = stat()
        guard descriptor >= 0, unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw ResultFailure(description: "EMQ_RESULT_FILE is no file that can be read")
        }
        var bytes: [UInt8] = []
        while bytes.count <= Self.maximumResultBytes {
            let block = unsafe [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
                count = unsafe max(0, read(descriptor, buffer.baseAddress, buffer.count))
            }
            if block.isEmpty { break }
            bytes += block
        }
        return bytes
    }
}

/// Why a result cannot be sent. The task has failed then: it must not seem done without its result.
struct ResultFailure: Error {
    let description: String
}

/// What is sent as a result.
enum ResultJSON {
    /// What is around a result in a request to the server: `{"tasks":[{"result":…}]}`.
    private static let outside = (start: Array("[[[".utf8), end: Array("]]]".utf8))

    /// The bytes if they are JSON, or else their text as JSON; also if they are nested more deeply than a request can
    /// be. A line feed at the end of a text is left out. O(length).
    static func value(_ bytes: [UInt8]) -> [UInt8] {
        if JSONPart(bytes[...]) != nil, JSONPart((outside.start + bytes + outside.end)[...]) != nil { return bytes }
        var text = String(decoding: bytes, as: UTF8.self)
        if text.last == "\n" { text.removeLast() }
        return JSONWriter.bytes(of: text)
    }
}
