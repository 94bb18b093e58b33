// The TLS handshakes of a server. A connection has a conversation only after its handshake, so conversations and plain
// connections know nothing of this.

import CLinux
import Glibc

/// An accepted connection whose TLS handshake is not finished.
final class TLSHandshake: EventSource {
    private unowned let acceptor: TLSAcceptor
    let descriptor: Int32
    let service: Int
    let identity: TLSIdentity
    /// When it must be finished, in the loop's milliseconds.
    var deadline: Int64
    /// It has failed. The client is told why, and what it still sends is dropped.
    var hasFailed = false
    /// The transport, once the first bytes of a handshake have come.
    var transport: TLSTransport?
    var isOpen = true
    /// It is in the acceptor's list of handshakes to continue.
    var isQueued = false

    init(_ descriptor: Int32, service: Int, identity: TLSIdentity, deadline: Int64, acceptor: TLSAcceptor) {
        self.descriptor = descriptor
        self.service = service
        self.identity = identity
        self.deadline = deadline
        self.acceptor = acceptor
    }

    override func ready(events: UInt32) { acceptor.queue(self) }

    override func timerFired() { acceptor.queue(self) }
}

/// Does the handshakes of a server, a few in each turn. Their number and time are limited, so a flood of them does not
/// hold up the connections that work.
final class TLSAcceptor {
    /// A turn does handshakes for about this long, which is a fifth of a busy turn.
    private static let turnMilliseconds: Int64 = 1
    private static let drainsPerTurn = 8

    private unowned let server: HTTPServer
    /// The unfinished handshakes from `first` on, the oldest first; some have ended.
    private var line: [TLSHandshake?] = []
    private var first = 0
    /// The handshakes to continue.
    private var queued: [TLSHandshake] = []
    /// How many handshakes are unfinished.
    private(set) var count = 0

    /// The most handshakes at once. They may take a quarter of the memory for buffers, whatever else takes it: a client
    /// that cannot connect cannot free memory either. They leave three quarters of all connections to others.
    private let limit: Int

    init(server: HTTPServer) {
        self.server = server
        let room = server.limits.bufferBytes / 4 / TLSTransport.handshakeBytes
        limit = min(server.limits.handshakes, max(room, 16), max(server.limits.connections / 4, 1))
    }

    /// Whether there is something to do now.
    var isBusy: Bool { !queued.isEmpty }

    /// Schedules the continuation of a handshake.
    func queue(_ handshake: TLSHandshake) {
        if handshake.isQueued { return }
        handshake.isQueued = true
        queued.append(handshake)
    }

    /// Begins a handshake on an accepted connection. If there are too many, the oldest is given up: a client that means
    /// it is finished soon.
    func accept(_ descriptor: Int32, service: Int, identity: TLSIdentity) {
        let loop = server.loop
        let handshake = TLSHandshake(
            descriptor, service: service, identity: identity,
            deadline: loop.now + server.limits.handshakeTimeoutMilliseconds, acceptor: self)
        do throws(SystemError) {
            let events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
            try loop.watch(descriptor, for: handshake, events: events)
        } catch {
            close(descriptor)
            return
        }
        loop.setTimer(handshake, at: handshake.deadline)
        if count >= limit, let oldest = popOldest() { end(oldest) }
        if line.count > 2 * count + 64 {
            line = line[first...].filter { $0?.isOpen ?? false }
            first = 0
        }
        line.append(handshake)
        count += 1
        queue(handshake)
    }

    private func popOldest() -> TLSHandshake? {
        while first < line.count {
            let handshake = line[first]
            line[first] = nil
            first += 1
            if let handshake, handshake.isOpen { return handshake }
        }
        return nil
    }

    /// Continues handshakes for a while. The rest waits for the next turn.
    func advance() {
        if queued.isEmpty { return }
        let end = server.loop.updateNow() + Self.turnMilliseconds
        var continued: [TLSHandshake] = []
        swap(&continued, &queued)
        for (position, handshake) in continued.enumerated() {
            if position > 0, server.loop.updateNow() >= end {
                queued = continued[position...] + queued
                return
            }
            handshake.isQueued = false
            if handshake.isOpen { advance(handshake) }
        }
    }

    private func advance(_ handshake: TLSHandshake) {
        if server.loop.now >= handshake.deadline { return end(handshake) }
        if handshake.hasFailed { return drain(handshake) }
        guard let transport = handshake.transport ?? begin(handshake) else { return }
        switch transport.shakeHands() {
        case .unfinished: return
        case .failed:
            _ = transport.takeHandshakeError()
            // The alert that says why is on its way. A close with unread input would reset the connection and destroy
            // the alert.
            handshake.hasFailed = true
            transport.endOutput()
            let deadline = server.loop.now + server.limits.lingerTimeoutMilliseconds
            handshake.deadline = min(handshake.deadline, deadline)
            server.loop.setTimer(handshake, at: handshake.deadline)
            drain(handshake)
        case .done:
            leave(handshake)
            server.open(.tls(transport), service: handshake.service)
        }
    }

    /// Drops what the client of a failed handshake sends, until it has ended too.
    private func drain(_ handshake: TLSHandshake) {
        var dropped = [UInt8](repeating: 0, count: 16 * 1024)
        for _ in 0..<Self.drainsPerTurn {
            let count = unsafe recv(handshake.descriptor, &dropped, dropped.count, 0)
            if count > 0 || count < 0 && errno == EINTR { continue }
            if count == 0 || errno != EAGAIN { end(handshake) }
            return
        }
        queue(handshake)
    }

    /// Looks at the first byte; nil if there is none yet, or it does not begin a handshake.
    private func begin(_ handshake: TLSHandshake) -> TLSTransport? {
        var byte: UInt8 = 0
        let count = unsafe recv(handshake.descriptor, &byte, 1, Int32(MSG_PEEK))
        if count < 0, errno == EAGAIN || errno == EINTR { return nil }
        if count == 1, byte.isLetter {
            leave(handshake)
            server.openRefusing(handshake.descriptor, service: handshake.service)
            return nil
        }
        guard count == 1, byte == TLSAcceptor.handshakeType,
            let transport = TLSTransport(accepted: handshake.descriptor, context: handshake.identity.context)
        else {
            end(handshake)
            return nil
        }
        handshake.transport = transport
        server.bufferBytes += TLSTransport.handshakeBytes
        return transport
    }

    /// The first byte of a record that contains a part of a handshake (RFC 8446 section 5.1).
    static let handshakeType: UInt8 = 22

    /// Gives up a handshake.
    private func end(_ handshake: TLSHandshake) {
        leave(handshake)
        if let transport = handshake.transport {
            transport.close(isReset: false)
        } else {
            close(handshake.descriptor)
        }
    }

    /// Forgets a handshake whose descriptor is still open.
    private func leave(_ handshake: TLSHandshake) {
        server.loop.unwatch(handshake.descriptor, for: handshake)
        handshake.isOpen = false
        count -= 1
        if handshake.transport != nil { server.bufferBytes -= TLSTransport.handshakeBytes }
    }

    /// Gives up all handshakes.
    func endAll() { while let handshake = popOldest() { end(handshake) } }
}
