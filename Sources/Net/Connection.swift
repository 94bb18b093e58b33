// One client's socket: what came in, what is to go out, and where in the conversation it stands. It takes note of what
// the kernel reports; `HTTPServer` does the work.

import CLinux
import Glibc

/// An accepted connection.
final class Connection: EventSource {
    let descriptor: Int32
    /// Its place in the server's table.
    let index: Int
    private unowned let server: HTTPServer

    var input = Buffer()
    var parser: RequestParser
    var responses: ResponseStream

    /// Bytes may wait in the kernel. Events are edge-triggered: this stays set until a read finds nothing more.
    var isReadable = true
    /// The peer will send nothing more; what it sent may still have to be read.
    var peerHasEnded = false
    /// The end of input was read: all that was sent is in `input`.
    var inputHasEnded = false
    /// Nothing can be sent or received any more.
    var isBroken = false
    /// The last answer of this connection has been written.
    var isClosing = false
    /// Its side was shut down; what still comes is dropped until the peer closes too.
    var isLingering = false
    /// It stands in the server's list of connections to look at.
    var isQueued = false

    /// The request whose answer is owed: its serial number, and what the route gave to withdraw it by.
    var owed: (serial: UInt64, withdrawal: AnyObject)?
    var bodyObserver: BodyObserver?
    var observedBytes = 0

    /// When the connection has waited too long in the state that it is in; in the loop's milliseconds.
    var deadline = Int64.max
    /// Since when the request in hand, or the silence, lasts.
    var since: Int64
    /// When the peer last took any of what is to go out.
    var lastProgress: Int64

    init(descriptor: Int32, index: Int, server: HTTPServer, limits: RequestLimits, dates: DateField, now: Int64) {
        self.descriptor = descriptor
        self.index = index
        self.server = server
        parser = RequestParser(limits: limits)
        responses = ResponseStream(dates: dates)
        since = now
        lastProgress = now
    }

    override func ready(events: UInt32) {
        if events & (EPOLLIN.rawValue | EPOLLRDHUP.rawValue | EPOLLHUP.rawValue) != 0 { isReadable = true }
        if events & (EPOLLRDHUP.rawValue | EPOLLHUP.rawValue) != 0 { peerHasEnded = true }
        if events & EPOLLERR.rawValue != 0 { isBroken = true }
        server.queue(self)
    }

    override func timerFired() { server.queue(self) }

    /// How many bytes were handed to the kernel and not yet acknowledged by the peer's.
    var unacknowledgedBytes: Int {
        var count: Int32 = 0
        guard unsafe ioctl(descriptor, UInt(SIOCOUTQ), &count) == 0 else { return 0 }
        return Int(count)
    }
}
