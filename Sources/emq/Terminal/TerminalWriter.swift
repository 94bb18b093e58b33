// Writes to a terminal that never wait: a terminal that nobody reads must not keep a command from its signals.

import CLinux
import CProcess
import Glibc
import Net

/// Writes texts to a terminal. What the terminal does not take at once waits here.
final class TerminalWriter: EventSource {
    /// Takes what is written; writes to it do not wait.
    let descriptor: Int32
    private let isOwn: Bool
    private let loop: EventLoop?
    private var isWatched = false
    private var rest: ArraySlice<UInt8> = []
    /// Whether the terminal is gone.
    private(set) var isGone = false

    /// Opens the terminal of a descriptor again. If that fails, writes wait, as those of other programs do. With a loop,
    /// the rest is written as soon as there is room; without one, `flush` does.
    init(_ descriptor: Int32, on loop: EventLoop? = nil) {
        let own = Terminal.reopened(descriptor)
        (self.descriptor, isOwn, self.loop) = (own ?? descriptor, own != nil, loop)
    }

    deinit { if isOwn { close(descriptor) } }

    /// Whether everything is written. Only then, something whole can follow.
    var isIdle: Bool { rest.isEmpty }

    /// Writes a text.
    func write(_ text: String) {
        rest += text.utf8
        flush()
    }

    /// Writes as much of the rest as the terminal takes now.
    func flush() {
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if count == 0 || errno == EAGAIN {
                break
            } else if errno != EINTR {
                isGone = true
                rest = []
            }
        }
        watch(!rest.isEmpty)
    }

    /// Forgets the rest.
    func discard() {
        rest = []
        watch(false)
    }

    override func ready(events: UInt32) { flush() }

    private func watch(_ isNecessary: Bool) {
        guard let loop, isNecessary != isWatched else { return }
        if isNecessary {
            do throws(SystemError) { try loop.watch(descriptor, for: self, events: UInt32(EPOLLOUT.rawValue)) } catch {
                return
            }
        } else {
            loop.unwatch(descriptor, for: self)
        }
        isWatched = isNecessary
    }
}

extension Terminal {
    /// Opens the terminal of a descriptor again, for writes that do not wait. The flags of the descriptor itself do not
    /// change, because other processes, such as a shell, share them.
    ///
    /// - Returns: a new descriptor; nil if there is no terminal, or if it cannot be opened.
    static func reopened(_ descriptor: Int32) -> Int32? {
        let device = emq_terminal_device(descriptor)
        if device == 0 { return nil }
        // After a change of the user, only the second may be allowed; it may be another terminal.
        for path in ["/proc/self/fd/\(descriptor)", "/dev/tty"] {
            let opened = unsafe open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
            if opened < 0 { continue }
            if emq_terminal_device(opened) == device { return opened }
            close(opened)
        }
        return nil
    }
}
