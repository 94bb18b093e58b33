// The process that ends what a worker has started if the worker dies.

import CProcess
import Glibc
import Net

/// A process that kills the groups of commands if this program dies, however it dies.
@safe final class GroupWatcher: @unchecked Sendable {
    // @unchecked: each place of `groups` is written atomically. Only the thread of the loop uses what changes.

    /// How many times the watcher is started again.
    private static let maximumRestarts = 10

    /// The numbers of the groups that run, in memory that the watcher shares; 0 for none.
    private let groups: UnsafeMutablePointer<Int32>
    private let count: Int
    private let directory: String
    /// The watcher sees when this is closed.
    private var lifeline: Int32
    private var process: pid_t
    /// Becomes readable at the watcher's end; -1 if the system has no such descriptors.
    private(set) var ending: Int32
    private var restartCount = 0

    /// Starts the watcher. Call this while the program has one thread.
    ///
    /// - Parameters:
    ///   - directory: a folder that the watcher removes in the end, with what is in it.
    ///   - count: how many groups run at once at most.
    /// - Throws: `SystemError` if it cannot be started.
    init(directory: String, count: Int) throws(SystemError) {
        guard let groups = unsafe emq_shared_groups(Int32(count)) else { throw SystemError("share memory") }
        unsafe self.groups = groups
        (self.count, self.directory) = (count, directory)
        (process, lifeline, ending) = try unsafe Self.start(groups, directory, count)
    }

    private static func start(
        _ groups: UnsafeMutablePointer<Int32>, _ directory: String, _ count: Int
    ) throws(SystemError) -> (process: pid_t, lifeline: Int32, ending: Int32) {
        var ends: [Int32] = [-1, -1]
        guard unsafe pipe2(&ends, O_CLOEXEC) == 0 else { throw SystemError("make a pipe") }
        let process = unsafe emq_start_watcher(ends[0], groups, directory, Int32(count))
        if process < 0 {
            let error = SystemError("start a process")
            close(ends[0])
            close(ends[1])
            throw error
        }
        close(ends[0])
        return (process, ends[1], emq_pidfd(process))
    }

    /// Where the number of a group is noted.
    func group(_ slot: Int) -> UnsafeMutablePointer<Int32> {
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

    /// Starts another watcher after the end of the one before: something else has killed it. `ending` is another one
    /// afterwards.
    ///
    /// - Throws: `SystemError` if it cannot be started, or has ended too often.
    func restart() throws(SystemError) {
        reap()
        restartCount += 1
        if restartCount > Self.maximumRestarts {
            errno = EAGAIN
            throw SystemError("keep the process that watches the commands")
        }
        (process, lifeline, ending) = try unsafe Self.start(groups, directory, count)
    }

    /// Lets the watcher remove the folder, and waits for its end. Nothing may run any more.
    func end() { reap() }

    private func reap() {
        if process < 0 { return }
        close(lifeline)
        if ending >= 0 { close(ending) }
        var status: Int32 = 0
        while unsafe waitpid(process, &status, 0) < 0, errno == EINTR {}
        (process, lifeline, ending) = (-1, -1, -1)
    }
}
