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
    /// The variables, each `NAME=VALUE`.
    let environment: [String]
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
        let process = unsafe Self.withTexts(image.arguments) { arguments in
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
        _ texts: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
    ) -> Result {
        var pointers: [UnsafeMutablePointer<CChar>?] = unsafe texts.map { unsafe strdup($0) } + [nil]
        defer { unsafe pointers.forEach { unsafe free($0) } }
        return unsafe body(&pointers)
    }
}

/// A process that kills the groups of commands if this program dies, however it dies.
@safe final class GroupWatcher: @unchecked Sendable {
    // @unchecked: each place of `groups` is written atomically, and the rest does not change.

    /// The numbers of the groups that run, in memory that the watcher shares; 0 for none.
    private let groups: UnsafeMutablePointer<Int32>
    private let count: Int
    /// The watcher sees when this is closed.
    private let lifeline: Int32
    private let process: pid_t

    /// Starts the watcher. Call this while the program has one thread.
    ///
    /// - Parameters:
    ///   - directory: a folder that the watcher removes in the end, with the files 0, 1 and so on.
    ///   - count: how many groups run at once at most, and how many files there are.
    /// - Throws: `SystemError` if it cannot be started.
    init(directory: String, count: Int) throws(SystemError) {
        guard let groups = unsafe emq_shared_groups(Int32(count)) else { throw SystemError("share memory") }
        unsafe self.groups = groups
        self.count = count
        var ends: [Int32] = [-1, -1]
        guard unsafe pipe2(&ends, O_CLOEXEC) == 0 else { throw SystemError("make a pipe") }
        process = unsafe emq_start_watcher(ends[0], ends[1], groups, directory, Int32(count))
        close(ends[0])
        lifeline = ends[1]
        if process < 0 {
            let error = SystemError("start a process")
            close(lifeline)
            throw error
        }
    }

    /// Where the number of a group is noted.
    fileprivate func group(_ slot: Int) -> UnsafeMutablePointer<Int32> {
        precondition(0..<count ~= slot, "a command has no place")
        return unsafe groups + slot
    }

    /// Notes that the group at a place is gone. Call this before its leader is reaped.
    ///
    /// - Returns: the error number with which its command could not run; nil if it ran.
    @discardableResult
    func forget(_ slot: Int) -> Int32? {
        let code = unsafe emq_forget_group(group(slot))
        return code == 0 ? nil : code
    }

    /// Lets the watcher remove the folder, and waits for its end. Nothing may run any more.
    func end() {
        close(lifeline)
        var status: Int32 = 0
        while unsafe waitpid(process, &status, 0) < 0, errno == EINTR {}
    }
}
