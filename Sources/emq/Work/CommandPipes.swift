// The worker's ends of a command's pipes.

import CLinux
import CProcess
import Glibc
import Net

/// The ends of a pipe. The program that is started inherits neither of them.
struct PipeEnds {
    let reading: Int32
    let writing: Int32

    /// Makes a pipe.
    ///
    /// - Throws: `SystemError` if there are no descriptors.
    init() throws(SystemError) {
        var ends: [Int32] = [-1, -1]
        guard unsafe pipe2(&ends, O_CLOEXEC) == 0 else { throw SystemError("make a pipe") }
        (reading, writing) = (ends[0], ends[1])
    }

    func closeBoth() {
        close(reading)
        close(writing)
    }
}

/// A pipe that a command writes to.
final class OutputPipe: WorkSource {
    /// How much is read at once, in bytes: what a pipe usually holds.
    private static let blockBytes = 65_536
    /// How many blocks are read before other events have their turn.
    private static let blocksAtOnce = 4
    /// How many blocks are read after the end of the command. Others may write to the pipe without an end.
    private static let lastBlocks = 64

    private let descriptor: Int32
    private let loop: EventLoop
    /// Takes what the command prints for people; nil if nobody does.
    private let relay: OutputRelay?
    private let received: (ArraySlice<UInt8>) -> Void
    private let ended: (() -> Void)?
    private var isOpen = true
    private var isWatched = false

    /// Reads from a descriptor, which belongs to the pipe from now on.
    init(
        _ descriptor: Int32, _ loop: EventLoop, _ events: WorkEvents, relay: OutputRelay?,
        received: @escaping (ArraySlice<UInt8>) -> Void, ended: (() -> Void)?
    ) {
        (self.descriptor, self.loop, self.relay) = (descriptor, loop, relay)
        (self.received, self.ended) = (received, ended)
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        super.init(events)
    }

    /// Begins to read.
    ///
    /// - Throws: `SystemError` if the system refuses to watch it.
    func watch() throws(SystemError) {
        try loop.watch(descriptor, for: self, events: UInt32(EPOLLIN.rawValue))
        isWatched = true
    }

    /// Reads on after a pause.
    func resume() {
        if isOpen, !isWatched { try? watch() }
    }

    override func handle() { if isOpen, isWatched { read(atMost: Self.blocksAtOnce, pausing: true) } }

    /// Reads what is left, and closes the pipe.
    func finish() {
        read(atMost: Self.lastBlocks, pausing: false)
        close()
    }

    private func read(atMost count: Int, pausing: Bool) {
        for _ in 0..<count where isOpen {
            if pausing, let relay, relay.isFull {
                // A pipe whose writer is gone is always ready, whatever events are asked for.
                loop.unwatch(descriptor, for: self)
                isWatched = false
                return relay.resumeLater(self)
            }
            var isLater = false
            let block = unsafe [UInt8](unsafeUninitializedCapacity: Self.blockBytes) { buffer, count in
                let result = unsafe Glibc.read(descriptor, buffer.baseAddress, buffer.count)
                isLater = result < 0 && (errno == EAGAIN || errno == EINTR)
                count = max(0, result)
            }
            if isLater { return }
            if block.isEmpty {
                close()
                ended?()
                return
            }
            received(block[...])
            relay?.pass(block[...])
        }
    }

    func close() {
        if !isOpen { return }
        isOpen = false
        if isWatched { loop.unwatch(descriptor, for: self) }
        isWatched = false
        Glibc.close(descriptor)
    }
}

/// A pipe that a process reads its tasks from. Writing to it never waits.
final class InputPipe: WorkSource {
    private let descriptor: Int32
    private let loop: EventLoop
    private var waiting: [UInt8] = []
    private var waitingStart = 0
    private var isOpen = true
    private var isWatched = false
    /// Whether the pipe is closed when nothing waits any more.
    private var isEnding = false
    /// How many bytes have been written.
    private var writtenCount = 0
    /// How many of them the process had read when the pipe was closed.
    private(set) var readCount = 0
    /// Whether the process has closed its end.
    private(set) var isBroken = false

    /// Writes to a descriptor, which belongs to the pipe from now on.
    init(_ descriptor: Int32, _ loop: EventLoop, _ events: WorkEvents) {
        (self.descriptor, self.loop) = (descriptor, loop)
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        super.init(events)
    }

    /// Writes bytes as soon as the process takes them.
    ///
    /// - Returns: the value of `readCount` from which on the process has read all of them.
    func write(_ bytes: [UInt8]) -> Int {
        if waitingStart > 1 << 20, 2 * waitingStart > waiting.count {
            waiting.removeFirst(waitingStart)
            waitingStart = 0
        }
        waiting += bytes
        let end = writtenCount + waiting.count - waitingStart
        handle()
        return end
    }

    /// Closes the pipe when everything is written.
    func end() {
        isEnding = true
        handle()
    }

    override func handle() {
        while isOpen, waitingStart < waiting.count {
            let count = unsafe waiting[waitingStart...].withUnsafeBytes {
                unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EAGAIN {
                do throws(SystemError) { if !isWatched { try watch() } } catch { fail() }
                return
            }
            if count < 0 { return fail() }
            waitingStart += count
            writtenCount += count
        }
        (waiting, waitingStart) = ([], 0)
        if isWatched { loop.unwatch(descriptor, for: self) }
        isWatched = false
        if isEnding { close() }
    }

    private func watch() throws(SystemError) {
        try loop.watch(descriptor, for: self, events: UInt32(EPOLLOUT.rawValue))
        isWatched = true
    }

    private func fail() {
        isBroken = true
        close()
    }

    func close() {
        if !isOpen { return }
        isOpen = false
        (waiting, waitingStart) = ([], 0)
        if isWatched { loop.unwatch(descriptor, for: self) }
        isWatched = false
        var unreadCount: Int32 = 0
        if unsafe ioctl(descriptor, UInt(FIONREAD), &unreadCount) < 0 { unreadCount = 0 }
        readCount = writtenCount - Int(unreadCount)
        Glibc.close(descriptor)
    }
}
