// Starts commands on threads of its own: vfork suspends its caller until the command's program runs, which takes longer
// than everything else that a worker does for a task.

import Bytes
import CLinux
import CProcess
import Glibc
import Net

/// A program to run, with its environment.
struct SubprocessImage: Sendable {
    /// The path of the program.
    let path: String
    /// The arguments; the first one is the program's name.
    let arguments: [String]
    /// The variables, each `NAME=VALUE`. They need not be UTF-8.
    let environment: [[UInt8]]
}

/// The threads that start commands. A command is killed when its thread ends, that is, when the program ends.
final class CommandLauncher: Sendable {
    /// A command to start, and the descriptors that become its standard input, output and error.
    struct Order: Sendable {
        let image: SubprocessImage
        let input: Int32
        let output: Int32
        let error: Int32
        /// Its place among the groups that the watcher kills.
        let slot: Int
    }

    /// What became of an order.
    enum Start: Sendable {
        /// The process, and a descriptor that becomes readable at its end.
        case running(process: pid_t, end: Int32)
        /// The error number.
        case failed(Int32)
    }

    /// How many threads there are at most. More do not help: they only wait for the processors.
    private static let maximumThreadCount = 4

    private let orders = Locked<(waiting: [(key: UInt64, order: Order)], nextKey: UInt64)>(([], 1))
    private let started = Locked<[(key: UInt64, start: Start)]>([])
    /// Counts the orders, so that threads wait for them.
    private let semaphore: Int32
    private let loop: EventLoop
    private let watcher: GroupWatcher

    /// Starts the threads, for so many commands at once. They wake the loop when a command has started.
    ///
    /// - Throws: `SystemError` if the system has no threads or descriptors.
    init(_ loop: EventLoop, _ watcher: GroupWatcher, commandCount: Int) throws(SystemError) {
        (self.loop, self.watcher) = (loop, watcher)
        semaphore = eventfd(0, Int32(EFD_CLOEXEC | EFD_SEMAPHORE))
        guard semaphore >= 0 else { throw SystemError("make an eventfd") }
        for _ in 0..<min(commandCount, Self.maximumThreadCount) { try DetachedThread.start { self.run() } }
    }

    /// Starts a command soon. `takeStarted` returns what became of it, under the key that this returns.
    func start(_ order: Order) -> UInt64 {
        let key = orders.with { orders in
            orders.waiting.append((orders.nextKey, order))
            orders.nextKey += 1
            return orders.nextKey - 1
        }
        var one: UInt64 = 1
        unsafe write(semaphore, &one, 8)
        return key
    }

    /// The commands that have started, or could not be, since the last call.
    func takeStarted() -> [(key: UInt64, start: Start)] {
        started.with { started in
            defer { started = [] }
            return started
        }
    }

    private func run() {
        var count: UInt64 = 0
        while true {
            guard unsafe read(semaphore, &count, 8) == 8 else { continue }
            let next = orders.with { $0.waiting.isEmpty ? nil : $0.waiting.removeFirst() }
            guard let next else { continue }
            let start = start(now: next.order)
            started.with { $0.append((next.key, start)) }
            loop.wake()
        }
    }

    private func start(now order: Order) -> Start {
        let image = order.image
        var failure: Int32 = 0
        let process = unsafe Self.withTexts(image.arguments.map { Array($0.utf8) }) { arguments in
            unsafe Self.withTexts(image.environment) { environment in
                unsafe image.path.withCString { path in
                    var command = unsafe emq_command(
                        path: path, arguments: arguments, environment: environment, input: order.input,
                        output: order.output, error: order.error, group: watcher.group(order.slot))
                    return unsafe emq_start(&command, &failure)
                }
            }
        }
        if process < 0 { return .failed(failure) }
        let end = emq_pidfd(process)
        if end >= 0 { return .running(process: process, end: end) }
        failure = errno
        kill(-process, SIGKILL)
        watcher.forget(order.slot)
        var status: Int32 = 0
        while unsafe waitpid(process, &status, 0) < 0, errno == EINTR {}
        return .failed(failure)
    }

    /// Calls `body` with a list of C strings that ends with a null, and frees it afterwards.
    private static func withTexts<Result>(
        _ texts: [[UInt8]], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
    ) -> Result {
        var pointers: [UnsafeMutablePointer<CChar>?] = unsafe texts.map { unsafe copy($0) } + [nil]
        defer { unsafe pointers.forEach { unsafe free($0) } }
        return unsafe body(&pointers)
    }

    private static func copy(_ text: [UInt8]) -> UnsafeMutablePointer<CChar>? {
        unsafe strdup(text.map { CChar(bitPattern: $0) } + [0])
    }
}
