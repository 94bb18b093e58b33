// Passes the output of commands on to the worker's own standard output or error, without ever waiting for its reader.

import CLinux
import Glibc
import Net

/// The worker's standard output or error.
///
/// What its reader does not take waits here. While something waits, the relay is full: commands' pipes are not read, so
/// that the commands wait. Only what is left in the pipes of commands that have ended is added all the same.
final class OutputRelay: WorkSource {
    private let descriptor: Int32
    private let loop: EventLoop
    /// How many bytes the descriptor takes without waiting when it is ready.
    private let atomicByteCount: Int
    private var pending: [UInt8] = []
    private var pendingStart = 0
    private var isWatched = false
    /// Whether the reader is gone. The worker goes on without it.
    private var isBroken = false
    private var paused: [OutputPipe] = []

    /// A relay to a descriptor, whose flags do not change: other processes, such as a shell, share them.
    init(_ descriptor: Int32, _ loop: EventLoop, _ events: WorkEvents) {
        (self.descriptor, self.loop) = (descriptor, loop)
        var status = stat()
        let kind = unsafe fstat(descriptor, &status) == 0 ? status.st_mode & S_IFMT : 0
        // A ready pipe takes PIPE_BUF bytes (pipe(7)), and a ready socket at least as many. A ready terminal promises
        // less.
        atomicByteCount =
            isatty(descriptor) == 1 ? 256 : kind == S_IFREG || kind == S_IFCHR ? 65_536 : Int(PIPE_BUF)
        super.init(events)
    }

    /// Whether something waits for the reader.
    var isFull: Bool { pendingStart < pending.count }

    /// Passes bytes on. What the reader does not take now waits.
    func pass(_ part: ArraySlice<UInt8>) {
        if isBroken { return }
        if isFull {
            pending += part
            return
        }
        let rest = part.dropFirst(write(part))
        if rest.isEmpty || isBroken { return }
        (pending, pendingStart) = (Array(rest), 0)
        do throws(SystemError) {
            try loop.watch(descriptor, for: self, events: UInt32(EPOLLOUT.rawValue))
            isWatched = true
        } catch {
            // A file of a kind that cannot be watched, such as a regular one, is always ready. So this one has failed.
            fail()
        }
    }

    /// Continues to read a pipe when nothing waits any more.
    func resumeLater(_ pipe: OutputPipe) { paused.append(pipe) }

    override func handle() {
        if !isFull { return }
        pendingStart += write(pending[pendingStart...])
        if !isFull { clear() }
    }

    /// Writes what can be written now, in steps that the descriptor takes without waiting.
    ///
    /// - Returns: the number of bytes.
    private func write(_ bytes: ArraySlice<UInt8>) -> Int {
        var rest = bytes
        while !rest.isEmpty {
            var readiness = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            guard unsafe poll(&readiness, 1, 0) == 1 else { break }
            let count = unsafe rest.prefix(atomicByteCount).withUnsafeBytes {
                unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if count < 0, errno == EAGAIN || errno == EINTR { break }
            if count <= 0 {
                fail()
                return bytes.count
            }
            rest = rest.dropFirst(count)
        }
        return bytes.count - rest.count
    }

    private func fail() {
        isBroken = true
        clear()
    }

    private func clear() {
        (pending, pendingStart) = ([], 0)
        if isWatched { loop.unwatch(descriptor, for: self) }
        isWatched = false
        let pipes = paused
        paused = []
        for pipe in pipes { pipe.resume() }
    }
}
