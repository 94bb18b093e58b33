// TLS on a socket of the tests. OpenSSL encrypts into memory and decrypts from it, so that each call on the socket can
// block or not, as the test wants.

import Foundation

/// TLS over a connected socket. Threads may share it: one can send while another receives.
final class TLSStream: @unchecked Sendable {
    private static let recordSize = 16384

    private let descriptor: Int32
    private let context: TestTLS

    /// Held while bytes are sent, so that records leave in order. Taken before `lock`.
    private let sendLock = NSLock()
    // Protected by `sendLock`.
    private var unsent: ArraySlice<UInt8> = []
    /// How many of a caller's bytes are in `unsent`. They count as sent when all of it is.
    private var unsentPlainCount = 0

    /// Held while OpenSSL works, which never blocks.
    private let lock = NSLock()
    // Protected by `lock`.
    private let session: OpaquePointer
    private let input: OpaquePointer
    private let output: OpaquePointer
    private var failure: String?
    private var isTruncated = false

    init(descriptor: Int32, context: TestTLS) throws {
        guard let session = OpenSSL.make(context.pointer), let input = OpenSSL.makeBIO(OpenSSL.memory()),
            let output = OpenSSL.makeBIO(OpenSSL.memory())
        else { throw Failure(description: "OpenSSL has no memory") }
        (self.descriptor, self.context) = (descriptor, context)
        (self.session, self.input, self.output) = (session, input, output)
        OpenSSL.setBIOs(session, input, output)
        context.isServer ? OpenSSL.setAcceptState(session) : OpenSSL.setConnectState(session)
    }

    deinit { OpenSSL.free(session) }

    /// Why the stream failed, or that it ended without close_notify; nil while it is sound.
    var problem: String? {
        lock.withLock { failure ?? (isTruncated ? "the peer ended the connection without close_notify" : nil) }
    }

    /// How many of a caller's bytes are encrypted, but do not count as sent yet.
    var pendingCount: Int { sendLock.withLock { unsentPlainCount } }

    // MARK: Calls in the manner of the system's: -1 means that `errno` says why

    /// Completes the handshake.
    ///
    /// - Returns: 1, or -1.
    func shakeHands(flags: Int32 = 0) -> Int {
        repeatedly(flags) { OpenSSL.doHandshake($0) }
    }

    /// Sends bytes. Unless all were sent, the next call must begin with those that were not.
    func send(_ bytes: UnsafeRawBufferPointer, flags: Int32) -> Int {
        guard shakeHands(flags: flags) == 1 else { return -1 }
        return sendLock.withLock {
            var sent = 0
            while true {
                if unsentPlainCount > 0 || sent == bytes.count {
                    guard flush(flags) else { return sent > 0 ? sent : -1 }
                    sent += unsentPlainCount
                    unsentPlainCount = 0
                    if sent == bytes.count { return sent }
                }
                let record = bytes[sent...].prefix(Self.recordSize)
                let count = ask {
                    OpenSSL.write($0, UnsafeRawBufferPointer(rebasing: record).baseAddress, Int32(record.count))
                }
                guard count > 0 else {
                    errno = EPIPE
                    return -1
                }
                unsentPlainCount = count
            }
        }
    }

    func receive(_ buffer: UnsafeMutableRawBufferPointer, flags: Int32) -> Int {
        repeatedly(flags) { OpenSSL.read($0, buffer.baseAddress, Int32(buffer.count)) }
    }

    /// Looks at what would be received, and completes the handshake before it: at least 1 if there is something, 0 at
    /// the end of input.
    func peek(flags: Int32) -> Int {
        var byte: UInt8 = 0
        return repeatedly(flags) { OpenSSL.peek($0, &byte, 1) }
    }

    /// Sends close_notify, if there is room for it.
    func endOutput() {
        _ = ask { OpenSSL.shutDown($0) }
        _ = sendLock.withLock { flush(Int32(MSG_DONTWAIT)) }
    }

    // MARK: Between OpenSSL and the socket

    /// What OpenSSL returns, or a negated `SSL_get_error`.
    private func ask(_ call: (OpaquePointer) -> Int32) -> Int {
        lock.withLock {
            OpenSSL.clearErrors()
            let result = call(session)
            if result > 0 { return Int(result) }
            let code = OpenSSL.error(session, result)
            if code != OpenSSL.errorWantsRead, code != OpenSSL.errorEnded, failure == nil {
                failure = OpenSSL.takeReason()
            }
            return -Int(code)
        }
    }

    /// Repeats a call until it needs no more input.
    private func repeatedly(_ flags: Int32, _ call: (OpaquePointer) -> Int32) -> Int {
        while true {
            let result = ask(call)
            // If another thread is sending, it sends this thread's output too. What the kernel does not take now follows
            // with the next call: the peer may have to be read from first.
            if sendLock.try() {
                _ = flush(Int32(MSG_DONTWAIT))
                sendLock.unlock()
            }
            if result > 0 { return result }
            switch Int32(-result) {
            case OpenSSL.errorEnded: return 0
            case OpenSSL.errorWantsRead:
                guard fill(flags) else { return -1 }
            default:
                errno = EPROTO
                return -1
            }
        }
    }

    /// Receives bytes for OpenSSL.
    private func fill(_ flags: Int32) -> Bool {
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = uninterrupted { recv(descriptor, &bytes, bytes.count, flags) }
        if count < 0 { return false }
        if count == 0 {
            lock.withLock { isTruncated = true }
            errno = EPROTO
            return false
        }
        return lock.withLock { OpenSSL.writeBIO(input, bytes, Int32(count)) } == Int32(count)
    }

    /// Sends what OpenSSL has written. Call it with `sendLock` held.
    ///
    /// - Returns: Whether all of it was sent.
    private func flush(_ flags: Int32) -> Bool {
        while true {
            if unsent.isEmpty {
                unsent =
                    [UInt8](unsafeUninitializedCapacity: 2 * Self.recordSize) { buffer, count in
                        count = Int(
                            max(0, lock.withLock { OpenSSL.readBIO(output, buffer.baseAddress, Int32(buffer.count)) }))
                    }[...]
                if unsent.isEmpty { return true }
            }
            let count = unsent.withUnsafeBytes { bytes in
                uninterrupted { Glibc.send(descriptor, bytes.baseAddress, bytes.count, flags | Int32(MSG_NOSIGNAL)) }
            }
            if count < 0 { return false }
            unsent = unsent.dropFirst(count)
        }
    }
}
