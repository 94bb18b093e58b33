// The options with which commands add the tasks of a file, and the file itself.

import Bytes
import Glibc
import JSON
import Net

/// The file whose lines become tasks.
struct AddInput {
    /// It is open for reading.
    let descriptor: Int32
    /// Its size in bytes; nil for a pipe.
    let byteCount: Int64?
    /// Where the progress is kept; nil for a pipe, or if there is no place for it.
    let progress: AddProgress?
    /// Where to begin.
    let record: AddProgress.Record
}

/// Adding the tasks of files.
enum AddFiles {
    static let resume = CommandOption("--resume", "go on where an interrupted command has stopped")
    static let again = CommandOption("--again", "begin at the first line, although a command was interrupted")
    static let patience = CommandOption(
        "--retry-for", "TIME", "how long to wait for a server that is full or goes away (default 5m)")
    static let options = [resume, again, patience]

    /// What the help of commands says about files.
    static let text = [
        "Lines end with a line feed. A carriage return before it is a blank in JSON, but a part of a line's text.",
        "Tasks are sent in order, up to \(TaskBatch.maximumCount) in a request. A server that is full, or that goes away "
            + "meanwhile, is waited for. If it is away at the start, the command fails at once.",
        "After a failure or Ctrl-C, the command says which lines are in; the same command with --resume adds the rest, "
            + "also if you have corrected or appended lines that are not in. Without an interrupted command, --resume "
            + "begins at the first line. It does not work for a pipe. The progress is kept in ~/.local/state/emq; if it "
            + "cannot be written, nothing more is sent.",
        "No line is added twice, also if the connection breaks before the answer has come: the first task of each request "
            + "gets a key (\(TaskBatch.keyPrefix)…), which stays taken for a week, and the server refuses the request when "
            + "it comes again. So go on within a week. A purge, a move, or the death of that task in a queue with a "
            + "dead_letter frees the key before. Lines that are the same are different tasks.",
    ]

    /// Adds the tasks of a file.
    ///
    /// - Parameters:
    ///   - session: the command's session, whose first operand is the queue.
    ///   - path: the file; `-` for standard input.
    ///   - format: what its lines are.
    ///   - fields: fields for all tasks: members of an object, each after a comma.
    /// - Returns: the exit status.
    /// - Throws: `UsageError`, or `CommandFailure`, which says which lines are in.
    static func run(
        _ session: ClientSession, _ path: String, _ format: TaskLines.Format, fields: [UInt8] = []
    ) throws -> ExitCode {
        let invocation = session.invocation
        if invocation.has(ClientSession.curl) {
            throw UsageError("--curl shows one request, but the tasks of a file take many; leave it out")
        }
        if invocation.has(resume), invocation.has(again) { throw UsageError("give --resume or --again, not both") }
        let patience = try invocation.milliseconds(of: patience) ?? 300_000
        let kind = "\(format)"
        let input = try open(path, session, kind)
        defer { if input.descriptor != STDIN_FILENO { close(input.descriptor) } }
        return try FileAdder(session, input, format, fields: fields, patienceMilliseconds: patience).run()
    }

    private static func open(_ path: String, _ session: ClientSession, _ kind: String) throws -> AddInput {
        let descriptor = path == "-" ? STDIN_FILENO : unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC)
        if descriptor < 0 { throw CommandFailure(.usage, "cannot read '\(path)': \(FileError(code: errno))") }
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { throw SystemError("read '\(path)'") }
        if status.st_mode & S_IFMT == S_IFDIR { throw CommandFailure(.usage, "'\(path)' is a folder, not a file") }
        var record = AddProgress.Record(run: newRun())
        let invocation = session.invocation
        let isFile = status.st_mode & S_IFMT == S_IFREG
        guard isFile, path != "-", let resolved = unsafe realpath(path, nil) else {
            if invocation.has(resume) { throw UsageError("--resume needs a file, not a pipe or standard input") }
            if path == "-", isatty(descriptor) == 1 {
                Emq.printError("emq \(invocation.command.name): type a task on each line, and Ctrl-D at the end")
            }
            return AddInput(
                descriptor: descriptor, byteCount: isFile ? Int64(status.st_size) : nil, progress: nil, record: record)
        }
        defer { unsafe free(resolved) }
        let place = session.place
        let progress = try AddProgress(
            of: unsafe String(cString: resolved), descriptor, queue: session.name,
            [place.base, place.socketPath ?? "", kind], invocation.environment)
        if invocation.has(again) {
            // From the first line.
        } else if let earlier = progress?.record {
            let line = earlier.done.line
            if !invocation.has(resume) {
                throw CommandFailure(
                    .usage,
                    "an earlier command was interrupted after line \(line); --resume goes on there, --again begins at "
                        + "the first line")
            }
            record = earlier
            let age = time(nil) - earlier.time
            if let sentLine = earlier.sentLine, age > FileAdder.keptSeconds - 3600 {
                throw CommandFailure(
                    .failed,
                    "the earlier command sent its last request a week ago, so the server can no longer tell whether lines "
                        + "\(line + 1) to \(sentLine) are in; look, then add the rest as a file of its own, and --again "
                        + "forgets this")
            }
            guard lseek(descriptor, Int(record.done.offset), SEEK_SET) >= 0 else { throw SystemError("read '\(path)'") }
        } else if invocation.has(resume), progress == nil {
            throw CommandFailure(.failed, "there is no folder where the progress could be; set HOME")
        }
        return AddInput(
            descriptor: descriptor, byteCount: Int64(status.st_size), progress: progress, record: record)
    }

    /// A name that no other run has.
    private static func newRun() -> String {
        var random = SystemRandomNumberGenerator()
        return String(random.next() as UInt64, radix: 36)
    }
}
