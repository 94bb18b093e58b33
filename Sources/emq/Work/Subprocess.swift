// A command that runs for a worker: its process group, its pipes and its end, noticed by the event loop.

import CLinux
import CProcess
import Glibc
import Net

/// How a command ended.
enum SubprocessEnd: Equatable {
    case exited(Int32)
    case signalled(Int32)
    /// It could not be started: the error number.
    case notStarted(Int32)
}

/// What commands share: the loop, the launcher, and the worker's own output.
final class CommandRunner {
    let loop: EventLoop
    let events = WorkEvents()
    let standardOutput: OutputRelay
    let standardError: OutputRelay
    fileprivate let launcher: CommandLauncher
    fileprivate let watcher: GroupWatcher
    private var starting: [UInt64: Subprocess] = [:]
    private var later: [() -> Void] = []
    private var watcherEnding: ProcessEnding?

    init(_ loop: EventLoop, _ watcher: GroupWatcher, commandCount: Int) throws(SystemError) {
        (self.loop, self.watcher) = (loop, watcher)
        launcher = try CommandLauncher(loop, watcher, commandCount: commandCount)
        standardOutput = OutputRelay(STDOUT_FILENO, loop, events)
        standardError = OutputRelay(STDERR_FILENO, loop, events)
        try watchWatcher()
    }

    // MARK: The watcher

    private func watchWatcher() throws(SystemError) {
        if watcher.ending < 0 { return }
        let ending = ProcessEnding(watcher.ending, events) { [weak self] in self?.watcherEnded() }
        try loop.watch(ending.descriptor, for: ending, events: UInt32(EPOLLIN.rawValue))
        watcherEnding = ending
    }

    /// Starts another watcher: without one, what commands have started would outlive a worker that is killed.
    private func watcherEnded() {
        guard let ending = watcherEnding else { return }
        watcherEnding = nil
        loop.unwatch(ending.descriptor, for: ending)
        do throws(SystemError) {
            try watcher.restart()
            try watchWatcher()
            Log.standard.warning("the process that watches the commands was killed; there is another one")
        } catch {
            Log.standard.error("\(error); if this worker is killed, commands may outlive it")
        }
    }

    // MARK: Commands

    /// Whether output waits for the reader of the worker's own output.
    var isOutputFull: Bool { standardOutput.isFull || standardError.isFull }

    /// Handles what has happened. Call this after each turn of the loop.
    func advance() {
        for (key, start) in launcher.takeStarted() { starting.removeValue(forKey: key)?.started(start) }
        let bodies = later
        later = []
        for body in bodies { body() }
        events.handle()
    }

    /// Runs something in the next `advance`.
    func later(_ body: @escaping () -> Void) {
        later.append(body)
        loop.wake()
    }

    fileprivate func start(_ command: Subprocess, _ order: CommandLauncher.Order) {
        starting[launcher.start(order)] = command
    }
}

/// Notices the end of a process.
private final class ProcessEnding: WorkSource {
    let descriptor: Int32
    var noticed: (() -> Void)?

    init(_ descriptor: Int32, _ events: WorkEvents, noticed: @escaping () -> Void) {
        (self.descriptor, self.noticed) = (descriptor, noticed)
        super.init(events)
    }

    override func handle() { noticed?() }
}

/// A command. It begins to run soon after it is made.
final class Subprocess {
    /// What a command reads from its standard input.
    enum Input {
        /// These bytes, from a file in memory: it cannot block or break, whatever the command reads.
        case bytes([UInt8])
        /// What is written to `Subprocess.input`.
        case pipe
    }

    private enum State {
        /// With the signal to send when it has started.
        case starting(signal: Int32?)
        case running(pid_t, ProcessEnding)
        case ended
    }

    /// The pipe to its standard input, if that is one.
    private(set) var input: InputPipe?
    private let runner: CommandRunner
    private let slot: Int
    private var state = State.starting(signal: nil)
    private var outputs: [OutputPipe] = []
    /// The ends of pipes, and the file, that are the command's own.
    private var given: [Int32] = []
    private let ended: (SubprocessEnd) -> Void

    /// Makes a command that starts soon.
    ///
    /// - Parameters:
    ///   - image: the program.
    ///   - slot: its place among the commands that run at once.
    ///   - input: what it reads from its standard input.
    ///   - runner: what commands share.
    ///   - isOutputPassedOn: whether its standard output goes to the worker's own. Its standard error always does.
    ///   - output: receives parts of its standard output.
    ///   - outputEnded: called when nobody can write to its standard output any more.
    ///   - error: receives parts of its standard error.
    ///   - ended: called later, when it has ended or could not be started, and nothing more comes from it. Its group is
    ///     gone then.
    init(
        _ image: SubprocessImage, slot: Int, input: Input, on runner: CommandRunner, isOutputPassedOn: Bool,
        output: @escaping (ArraySlice<UInt8>) -> Void, outputEnded: (() -> Void)? = nil,
        error: @escaping (ArraySlice<UInt8>) -> Void,
        ended: @escaping (SubprocessEnd) -> Void
    ) {
        (self.runner, self.slot, self.ended) = (runner, slot, ended)
        do throws(SystemError) {
            try prepare(input)
            for (relay, received, ended) in [
                (isOutputPassedOn ? runner.standardOutput : nil, output, outputEnded),
                (runner.standardError, error, nil),
            ] {
                let pipe = try PipeEnds()
                given.append(pipe.writing)
                outputs.append(
                    OutputPipe(pipe.reading, runner.loop, runner.events, relay: relay, received: received, ended: ended)
                )
            }
            runner.start(
                self,
                CommandLauncher.Order(
                    image: image, input: given[0], output: given[1], error: given[2], slot: slot))
        } catch {
            runner.later { self.started(.failed(error.code)) }
        }
    }

    private func prepare(_ input: Input) throws(SystemError) {
        switch input {
        case .bytes(let bytes): given.append(try Self.file(with: bytes))
        case .pipe:
            let pipe = try PipeEnds()
            given.append(pipe.reading)
            self.input = InputPipe(pipe.writing, runner.loop, runner.events)
        }
    }

    /// Sends a signal to its process group; if it has not started yet, then as soon as it has. SIGKILL outweighs other
    /// signals.
    func signal(_ number: Int32) {
        switch state {
        case .starting(let earlier): state = .starting(signal: earlier == SIGKILL ? SIGKILL : number)
        case .running(let process, _): kill(-process, number)
        case .ended: break
        }
    }

    fileprivate func started(_ start: CommandLauncher.Start) {
        for descriptor in given { close(descriptor) }
        given = []
        guard case .starting(let signal) = state else { return }
        switch start {
        case .failed(let code): end(.notStarted(code))
        case .running(let process, let descriptor):
            let ending = ProcessEnding(descriptor, runner.events) { [weak self] in self?.finish() }
            state = .running(process, ending)
            do throws(SystemError) {
                for output in outputs { try output.watch() }
                try runner.loop.watch(descriptor, for: ending, events: UInt32(EPOLLIN.rawValue))
            } catch {
                // Without its end, nothing can be known of it.
                kill(-process, SIGKILL)
                reap(process, ending)
                return end(.notStarted(error.code))
            }
            if let signal { kill(-process, signal) }
        }
    }

    /// Takes the end of the process: kills what is left of its group, reads what is left of its output.
    private func finish() {
        guard case .running(let process, let ending) = state else { return }
        // The process is not reaped yet, so the group's number cannot mean another one.
        kill(-process, SIGKILL)
        // A process outside the group may hold a pipe, so its end is not awaited.
        for output in outputs { output.finish() }
        runner.loop.unwatch(ending.descriptor, for: ending)
        end(reap(process, ending))
    }

    @discardableResult
    private func reap(_ process: pid_t, _ ending: ProcessEnding) -> SubprocessEnd {
        ending.noticed = nil
        close(ending.descriptor)
        let failure = runner.watcher.forget(slot)
        var status: Int32 = 0
        while unsafe waitpid(process, &status, 0) < 0, errno == EINTR {}
        if let failure { return .notStarted(failure) }
        let signal = status & 0x7F
        return signal == 0 ? .exited(status >> 8 & 0xFF) : .signalled(signal)
    }

    private func end(_ end: SubprocessEnd) {
        state = .ended
        for output in outputs { output.close() }
        outputs = []
        input?.close()
        ended(end)
    }

    /// A file in memory, at its beginning.
    private static func file(with bytes: [UInt8]) throws(SystemError) -> Int32 {
        let file = emq_memory_file()
        guard file >= 0 else { throw SystemError("make a file in memory") }
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe write(file, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let error = SystemError("write to a file in memory")
                close(file)
                throw error
            }
            rest = rest.dropFirst(count)
        }
        lseek(file, 0, SEEK_SET)
        return file
    }
}

extension SubprocessEnd: CustomStringConvertible {
    /// The error number of a command line that is too long for the system.
    static let tooLong = E2BIG
    /// The error numbers of what the system lacks at the moment.
    static let shortages: Set<Int32> = [EAGAIN, ENOMEM, EMFILE, ENFILE, ETXTBSY]

    /// What happened, as the reason of a failure.
    var description: String {
        switch self {
        case .exited(let status): "exit status \(status)"
        case .signalled(let number): "killed by signal \(number)"
        case .notStarted(let code): unsafe String(cString: strerror(code))
        }
    }
}
