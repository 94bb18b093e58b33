// A command that runs for a task: its process group, its output and its end, noticed by the event loop.

import CLinux
import CProcess
import Glibc
import Net

/// How a command ended.
enum SubprocessEnd: Equatable {
    case exited(Int32)
    case signalled(Int32)
}

/// A program to run, with its environment.
struct SubprocessImage {
    /// The path of the program.
    let path: String
    /// The arguments; the first one is the program's name.
    let arguments: [String]
    /// The variables, each `NAME=VALUE`.
    let environment: [String]
}

/// A running command. Its events come from the loop on which it was started.
final class Subprocess {
    /// A pipe from the command.
    private final class Output: EventSource {
        let descriptor: Int32
        let received: (ArraySlice<UInt8>?) -> Void
        private var isOpen = true
        private let loop: EventLoop

        init(_ descriptor: Int32, _ loop: EventLoop, received: @escaping (ArraySlice<UInt8>?) -> Void) {
            (self.descriptor, self.loop, self.received) = (descriptor, loop, received)
        }

        override func ready(events: UInt32) { read(atMost: 16) }

        /// Reads blocks of what has arrived. What is left is reported again, because the events are level-triggered.
        func read(atMost blocks: Int) {
            for _ in 0..<blocks where isOpen {
                let block = unsafe [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
                    count = unsafe max(0, Glibc.read(descriptor, buffer.baseAddress, buffer.count))
                }
                if block.isEmpty {
                    if errno == EAGAIN || errno == EINTR { return }
                    return close()
                }
                received(block[...])
            }
        }

        func close() {
            if !isOpen { return }
            isOpen = false
            loop.unwatch(descriptor, for: self)
            Glibc.close(descriptor)
            received(nil)
        }
    }

    /// The descriptor that tells the end of the process.
    private final class Ending: EventSource {
        let noticed: () -> Void
        init(_ noticed: @escaping () -> Void) { self.noticed = noticed }
        override func ready(events: UInt32) { noticed() }
    }

    /// The process, which leads its group.
    let process: pid_t
    private let loop: EventLoop
    private let watcher: GroupWatcher
    private var outputs: [Output] = []
    private var ending: Ending?
    private let endDescriptor: Int32
    private let ended: (SubprocessEnd) -> Void

    /// Starts a command.
    ///
    /// - Parameters:
    ///   - image: the program.
    ///   - input: what it reads from its standard input.
    ///   - loop: the loop that watches it.
    ///   - watcher: kills its group if this program dies.
    ///   - output: receives parts of its standard output.
    ///   - error: receives parts of its standard error.
    ///   - ended: called when it has ended, and nothing more comes from it. Its group is gone then.
    /// - Throws: `SystemError` if it cannot be run.
    init(
        _ image: SubprocessImage, input: [UInt8], on loop: EventLoop, watcher: GroupWatcher,
        output: @escaping (ArraySlice<UInt8>) -> Void, error: @escaping (ArraySlice<UInt8>) -> Void,
        ended: @escaping (SubprocessEnd) -> Void
    ) throws(SystemError) {
        let inputFile = try Self.file(with: input)
        defer { close(inputFile) }
        let outputPipe = try Self.pipe()
        let errorPipe: (reading: Int32, writing: Int32)
        do throws(SystemError) { errorPipe = try Self.pipe() } catch {
            close(outputPipe.reading)
            close(outputPipe.writing)
            throw error
        }
        var failure: Int32 = 0
        process = Self.start(
            image, (inputFile, outputPipe.writing, errorPipe.writing), watcher.announcement, &failure)
        close(outputPipe.writing)
        close(errorPipe.writing)
        (self.loop, self.watcher, self.ended) = (loop, watcher, ended)
        endDescriptor = process < 0 ? -1 : emq_pidfd(process)
        if endDescriptor < 0 {
            let code = process < 0 ? failure : errno
            close(outputPipe.reading)
            close(errorPipe.reading)
            if process > 0 {
                kill(-process, SIGKILL)
                var status: Int32 = 0
                unsafe waitpid(process, &status, 0)
                watcher.forget(process)
            }
            throw SystemError("run \(image.path)", code: code)
        }
        outputs = [
            Output(outputPipe.reading, loop) { if let part = $0 { output(part) } },
            Output(errorPipe.reading, loop) { if let part = $0 { error(part) } },
        ]
        let ending = Ending { [weak self] in self?.finish() }
        self.ending = ending
        for source in outputs { try loop.watch(source.descriptor, for: source, events: UInt32(EPOLLIN.rawValue)) }
        try loop.watch(endDescriptor, for: ending, events: UInt32(EPOLLIN.rawValue))
    }

    /// Sends a signal to its process group.
    func signal(_ number: Int32) { kill(-process, number) }

    /// Takes the end of the process: kills what is left of its group, reads what is left of its output.
    private func finish() {
        guard let ending else { return }
        self.ending = nil
        // The process is not reaped yet, so the group's number cannot mean another one.
        kill(-process, SIGKILL)
        for output in outputs {
            // A process outside the group may hold the pipe, so its end is not awaited.
            output.read(atMost: 1024)
            output.close()
        }
        loop.unwatch(endDescriptor, for: ending)
        close(endDescriptor)
        var status: Int32 = 0
        while unsafe waitpid(process, &status, 0) < 0, errno == EINTR {}
        watcher.forget(process)
        let signal = status & 0x7F
        ended(signal == 0 ? .exited(status >> 8 & 0xFF) : .signalled(signal))
    }

    // MARK: Starting

    /// A file in memory from which a command reads its input. It cannot block or break, whatever the command reads.
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

    /// A pipe whose reading end does not block.
    private static func pipe() throws(SystemError) -> (reading: Int32, writing: Int32) {
        var ends: [Int32] = [-1, -1]
        guard unsafe pipe2(&ends, O_CLOEXEC) == 0 else { throw SystemError("make a pipe") }
        _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
        return (ends[0], ends[1])
    }

    private static func start(
        _ image: SubprocessImage, _ descriptors: (Int32, Int32, Int32), _ announcement: Int32,
        _ failure: inout Int32
    ) -> pid_t {
        unsafe withTexts(image.arguments) { arguments in
            unsafe withTexts(image.environment) { environment in
                unsafe image.path.withCString { path in
                    var command = unsafe emq_command(
                        path: path, arguments: arguments, environment: environment, input: descriptors.0,
                        output: descriptors.1, error: descriptors.2, announcement: announcement)
                    return unsafe emq_start(&command, &failure)
                }
            }
        }
    }

    /// Calls `body` with a list of C strings that ends with a null, and frees it afterwards.
    private static func withTexts<Result>(
        _ texts: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
    ) -> Result {
        var pointers: [UnsafeMutablePointer<CChar>?] = unsafe texts.map { unsafe strdup($0) } + [nil]
        defer { unsafe pointers.forEach { unsafe free($0) } }
        return unsafe body(&pointers)
    }
}

/// A process that kills the groups of commands if this program dies, however it dies.
final class GroupWatcher {
    /// Where a command writes its number when it starts.
    let announcement: Int32
    private let process: pid_t

    /// Starts the watcher. Call this while the program has one thread.
    ///
    /// - Parameters:
    ///   - directory: a folder that the watcher removes in the end.
    ///   - fileCount: how many files may be in it, named 0, 1 and so on.
    /// - Throws: `SystemError` if it cannot be started.
    init(directory: String, fileCount: Int) throws(SystemError) {
        var ends: [Int32] = [-1, -1]
        guard unsafe pipe2(&ends, O_CLOEXEC) == 0 else { throw SystemError("make a pipe") }
        process = unsafe emq_start_watcher(ends[0], ends[1], directory, Int32(fileCount))
        close(ends[0])
        announcement = ends[1]
        if process < 0 {
            let error = SystemError("start a process")
            close(announcement)
            throw error
        }
    }

    deinit {
        close(announcement)
        var status: Int32 = 0
        while unsafe waitpid(process, &status, 0) < 0, errno == EINTR {}
    }

    /// Notes that a command's group is gone.
    func forget(_ group: pid_t) {
        var number = -group
        unsafe write(announcement, &number, 4)
    }
}
