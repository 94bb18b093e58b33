// Bytes over TLS (RFC 5246, RFC 8446): OpenSSL between a connection and its socket. OpenSSL reads and writes through
// two calls of this file, so this file knows what went over the socket and when it is empty.

import CLibraries
import CLinux
import Glibc

/// A TLS connection over TCP. A client's transport also does the handshake while it connects; a server's is made for
/// its handshake (`TLSHandshake`).
@safe final class TLSTransport: Transport {
    /// What a handshake has come to.
    enum Progress {
        case unfinished
        case done
        case failed
    }

    /// The part of a client's transport that a server's has not.
    struct Client {
        let host: String
        let trust: TLSTrust
    }

    /// About how much memory OpenSSL takes for a connection during its handshake and after it, in bytes.
    static let handshakeBytes = 64 * 1024
    static let idleBytes = 16 * 1024
    /// The most plaintext of one record (RFC 8446 section 5.1).
    private static let recordBytes = 16 * 1024
    /// With more records than this in flight, the kernel is asked which have arrived.
    private static let recordsToKeep = 64
    /// The most records without application data that one call reads. A peer needs one or two of them.
    private static let controlRecordsPerCall = 16
    /// How much of OpenSSL's own messages may wait for the kernel.
    private static let pendingBytes = 4096

    private let socket: SocketTransport
    private let openSSL: OpenSSL
    /// The `SSL`; nil once the connection is closed.
    private var ssl: OpaquePointer?
    let client: Client?
    /// The socket is connected.
    private var isConnected = false
    /// The session that the server offered last; nil once it is taken.
    var newSession: TLSSession?
    /// Why the client refuses the peer's certificate.
    private var refusal: TLSError?

    // What the calls below saw of the socket.
    /// Within one call: the last read of the socket did not fill its buffer; and the socket had nothing more to read.
    private var wasShort = false
    private var isDrained = false
    /// The peer has ended its side of the socket.
    private var socketHasEnded = false
    /// Within a read: what OpenSSL writes is its own messages, which must not wait for the kernel.
    private var keepsOutput = false
    /// OpenSSL's own messages that the kernel has not taken.
    private var pending: [UInt8] = []
    /// How many bytes the kernel has taken.
    private var written: UInt64 = 0

    /// The connection is broken. OpenSSL must not be called again.
    private var isBroken = false
    private(set) var failure: TLSError?
    /// Nothing more can be sent.
    private var outputHasFailed = false
    /// This side has sent its last record; and it has ended its side of the socket.
    private var hasEnded = false
    private var outputHasEnded = false
    /// OpenSSL has a record that the kernel took a part of, or nothing of.
    private var hasUnsentRecord = false
    /// How much plaintext the records contain that the kernel has taken whole, and how much of it has arrived.
    private var sent: UInt64 = 0
    private var arrived: UInt64 = 0
    /// The records that may not have arrived: `written` and `sent` at the end of each.
    private var records: [(written: UInt64, sent: UInt64)] = []

    // MARK: Opening

    /// Takes over a connected, non-blocking TCP socket of a server. If there is no memory, the result is nil, and the
    /// socket stays open.
    init?(accepted descriptor: Int32, context: TLSContext) {
        socket = SocketTransport(descriptor: descriptor, isLocal: false)
        openSSL = context.openSSL
        client = nil
        guard attach(context) else { return nil }
        unsafe openSSL.ssl.SSL_set_accept_state(ssl)
    }

    /// Takes over a client's TCP socket that is connected or being connected. `takeConnectResult` does the handshake.
    /// If there is no memory, the result is nil, and the socket stays open.
    ///
    /// - Parameters:
    ///   - socket: The socket.
    ///   - host: What the certificate must be for: a name or an address.
    ///   - trust: The issuers of acceptable certificates.
    ///   - session: A session to resume. It must be one with the same host under the same trust.
    ///   - offersHTTP: Whether to name HTTP/1.1 to the server as what follows the handshake (RFC 7301).
    init?(
        connecting socket: SocketTransport, host: String, trust: TLSTrust, session: TLSSession?, offersHTTP: Bool = true
    ) {
        self.socket = socket
        openSSL = trust.context.openSSL
        client = Client(host: host, trust: trust)
        guard attach(trust.context), verify(host), !offersHTTP || offerHTTP() else { return nil }
        unsafe openSSL.ssl.SSL_set_connect_state(ssl)
        if let session {
            _ = unsafe openSSL.ssl.SSL_set_session(ssl, session.pointer)
        }
    }

    var descriptor: Int32 { socket.descriptor }

    deinit { if let ssl = unsafe ssl { unsafe openSSL.ssl.SSL_free(ssl) } }

    private func attach(_ context: TLSContext) -> Bool {
        guard let method = unsafe socketMethod, let bio = unsafe openSSL.crypto.BIO_new(method) else { return false }
        guard let ssl = unsafe openSSL.ssl.SSL_new(context.pointer) else {
            _ = unsafe openSSL.crypto.BIO_free(bio)
            return false
        }
        unsafe self.ssl = ssl
        // The calls below get this object back. It owns the SSL, and the SSL the BIO, so it outlives both.
        unsafe openSSL.crypto.BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
        unsafe openSSL.crypto.BIO_set_init(bio, 1)
        unsafe openSSL.ssl.SSL_set_bio(ssl, bio, bio)
        unsafe openSSL.ssl.SSL_set_read_ahead(ssl, 1)
        return true
    }

    private func offerHTTP() -> Bool {
        unsafe openSSL.ssl.SSL_set_alpn_protos(ssl, httpProtocolName, UInt32(httpProtocolName.count)) == 0
    }

    /// Makes OpenSSL check the certificate's host (RFC 9525), and names the host to the server (RFC 6066 section 3).
    private func verify(_ host: String) -> Bool {
        if let address = IPAddress(host) {
            return unsafe openSSL.crypto.X509_VERIFY_PARAM_set1_ip_asc(
                openSSL.ssl.SSL_get0_param(ssl), address.description) == 1
        }
        // A final dot belongs to the look-up and not to the name.
        let name = host.hasSuffix(".") ? String(host.dropLast()) : host
        unsafe openSSL.ssl.SSL_set_hostflags(ssl, Self.hostFlags)
        let isNamed = unsafe name.withCString { name in
            // The name's type is 0, a host name.
            unsafe openSSL.ssl.SSL_ctrl(
                ssl, OpenSSL.Command.setServerName, 0, UnsafeMutableRawPointer(mutating: name)) == 1
        }
        return unsafe isNamed && openSSL.ssl.SSL_set1_host(ssl, name) == 1
    }

    /// X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS and X509_CHECK_FLAG_NEVER_CHECK_SUBJECT: a common name names no host.
    private static let hostFlags: UInt32 = 4 | 32

    // MARK: The handshake

    /// Continues the handshake as far as possible now.
    func shakeHands() -> Progress {
        if isBroken { return .failed }
        isDrained = false
        // TLS 1.3 takes three records of each side, and a hostile peer may split them.
        for _ in 0..<Self.controlRecordsPerCall {
            let result = unsafe openSSL.ssl.SSL_do_handshake(ssl)
            if result == 1 { return .done }
            switch unsafe openSSL.ssl.SSL_get_error(ssl, result) {
            case OpenSSL.errorWantRead where isDrained, OpenSSL.errorWantWrite: return .unfinished
            case OpenSSL.errorWantRead: continue
            default:
                isBroken = true
                return .failed
            }
        }
        isBroken = true
        return .failed
    }

    /// Why the handshake failed, as far as OpenSSL says.
    func takeHandshakeError() -> TLSError {
        let error = openSSL.takeError()
        if let alert = error.flatMap(Self.alert(in:)) { return TLSError(alert) }
        if socketHasEnded { return TLSError("it closed the connection during the handshake", isBroken: true) }
        return switch error {
        case "wrong version number", "http request", "packet length too long": TLSError("it does not speak TLS")
        case let error?: TLSError(error)
        case nil: TLSError("the connection broke during the handshake", isBroken: true)
        }
    }

    /// What the peer says with an alert (RFC 8446 section 6.2); nil if OpenSSL's error is none.
    private static func alert(in error: String) -> String? {
        // As in "tlsv1 alert protocol version".
        let words = error.split(separator: " ")
        guard let place = words.firstIndex(of: "alert") else { return nil }
        return switch words[(place + 1)...].joined(separator: " ") {
        case "protocol version": "it speaks neither TLS 1.2 nor TLS 1.3"
        case "certificate required": "it requires a certificate of its clients, and emq has none for it"
        case let name: "it refuses the connection with the alert '\(name)'"
        }
    }

    func takeConnectResult() -> ConnectResult? {
        if !isConnected {
            let result = socket.takeConnectResult()
            guard case .connected? = result else { return result }
            isConnected = true
        }
        switch shakeHands() {
        case .unfinished: return nil
        case .done: return .connected
        case .failed:
            let reason = takeHandshakeError()
            return .refused(refusal ?? reason)
        }
    }

    /// Notes why the client's check refuses a certificate.
    func note(_ refusal: TLSError) { self.refusal = refusal }

    // MARK: Reading

    func receive(into buffer: inout Buffer, atMost size: Int) -> ReceiveResult {
        guard !isBroken, flush() else { return endOfBroken }
        (isDrained, wasShort) = (false, false)
        keepsOutput = true
        defer { keepsOutput = false }
        var total = 0
        var controlRecords = 0
        while total < size {
            let count = unsafe buffer.append(atMost: size - total) { room in
                unsafe Int(openSSL.ssl.SSL_read(ssl, room.baseAddress, Int32(clamping: room.count)))
            }
            if count > 0 {
                total += count
                // A short read emptied the kernel's queue.
                if wasShort, unsafe openSSL.ssl.SSL_has_pending(ssl) == 0 { return .bytes(total, isAll: true) }
                continue
            }
            if buffer.isExhausted { return total > 0 ? .bytes(total, isAll: false) : .noMemory }
            switch unsafe openSSL.ssl.SSL_get_error(ssl, Int32(count)) {
            case OpenSSL.errorWantRead where isDrained: return total > 0 ? .bytes(total, isAll: true) : .nothing
            case OpenSSL.errorWantRead where controlRecords < Self.controlRecordsPerCall: controlRecords += 1
            case OpenSSL.errorZeroReturn: return total > 0 ? .bytes(total, isAll: false) : .end
            default:
                // What was read before the error counts; the next call reports the error.
                isBroken = true
                noteFailure()
                return total > 0 ? .bytes(total, isAll: false) : endOfBroken
            }
        }
        return .bytes(total, isAll: false)
    }

    /// Notes why OpenSSL could not read. What comes without the alert that ends a connection may have been cut by
    /// somebody else.
    private func noteFailure() {
        let reason = openSSL.takeError()
        if let alert = reason.flatMap(Self.alert(in:)) {
            failure = TLSError(alert)
        } else if socketHasEnded {
            failure = TLSError("it ended without the close_notify of TLS, so what it sent may be incomplete")
        } else if let reason {
            failure = TLSError(reason)
        }
    }

    var hasInput: Bool {
        guard !isBroken, flush() else { return true }
        (isDrained, wasShort) = (false, false)
        keepsOutput = true
        defer { keepsOutput = false }
        var byte: UInt8 = 0
        for _ in 0..<Self.controlRecordsPerCall {
            let count = unsafe openSSL.ssl.SSL_peek(ssl, &byte, 1)
            if count > 0 { return true }
            guard unsafe openSSL.ssl.SSL_get_error(ssl, count) == OpenSSL.errorWantRead else { break }
            if isDrained { return false }
        }
        isBroken = true
        _ = openSSL.takeError()
        return true
    }

    // MARK: Writing

    func send(_ bytes: Span<UInt8>) -> SendResult {
        guard !isBroken, !outputHasFailed, flush() else { return .failed }
        if !pending.isEmpty { return .full }
        if bytes.isEmpty { return .bytes(0) }
        let count = unsafe bytes.withUnsafeBytes { bytes in
            unsafe openSSL.ssl.SSL_write(ssl, bytes.baseAddress, Int32(min(bytes.count, Self.recordBytes)))
        }
        hasUnsentRecord = count <= 0
        if count > 0 {
            noteRecord(Int(count))
            return .bytes(Int(count))
        }
        if unsafe openSSL.ssl.SSL_get_error(ssl, count) == OpenSSL.errorWantWrite { return .full }
        noteOutputFailure()
        _ = openSSL.takeError()
        return .failed
    }

    func send(_ first: Span<UInt8>, _ second: Span<UInt8>) -> SendResult {
        if first.isEmpty { return send(second) }
        let room = Self.recordBytes - first.count
        if room <= 0 || second.isEmpty { return send(first) }
        // One record costs less than two. If the kernel does not take it, the same bytes come again.
        var joined = Buffer()
        joined.append(first)
        joined.append(second.extracting(first: min(room, second.count)))
        return joined.isExhausted ? send(first) : send(joined.span)
    }

    /// Notes that nothing more can be sent. A client still reads: the server may have said why it stopped reading.
    private func noteOutputFailure() {
        outputHasFailed = true
        if client == nil { isBroken = true }
    }

    /// Notes a record that the kernel has taken whole.
    private func noteRecord(_ byteCount: Int) {
        sent += UInt64(byteCount)
        records.append((written, sent))
        if records.count <= Self.recordsToKeep { return }
        _ = unacknowledged()
        // If the peer acknowledges nothing, two records become one, which arrives with the second.
        if records.count > Self.recordsToKeep / 2 {
            records = records.indices.filter { $0 % 2 == 1 || $0 == records.count - 1 }.map { records[$0] }
        }
    }

    /// A record has arrived when the peer's kernel has acknowledged its last byte.
    func unacknowledged() -> Unacknowledged {
        let backlog = socket.unacknowledged().byteCount
        let acknowledged = written - min(written, UInt64(backlog))
        let count = records.prefix { $0.written <= acknowledged }.count
        if count > 0 {
            arrived = records[count - 1].sent
            records.removeFirst(count)
        }
        return Unacknowledged(byteCount: Int(sent - arrived), backlog: backlog + pending.count)
    }

    /// Sends OpenSSL's messages that wait.
    ///
    /// - Returns: false if the connection is broken.
    private func flush() -> Bool {
        if pending.isEmpty || outputHasFailed { return !isBroken }
        let count = unsafe pending.withUnsafeBytes { unsafe write($0) }
        if count > 0 { pending.removeFirst(count) }
        return !isBroken
    }

    // MARK: Ending

    var hasFailed: Bool { isBroken || socket.hasFailed }

    var keepsOutputForPeer: Bool { false }

    func endOutput() {
        if outputHasEnded { return }
        outputHasEnded = true
        sayGoodbye()
        // The kernel counts the end as a byte that the peer has to acknowledge.
        if shutdown(socket.descriptor, Int32(SHUT_WR)) == 0 { written += 1 }
    }

    /// Sends the alert that ends this side (RFC 8446 section 6.1), unless it is sent already.
    private func sayGoodbye() {
        if isBroken || outputHasFailed || hasEnded || hasUnsentRecord { return }
        hasEnded = true
        keepsOutput = true
        // -1 before the end of the handshake.
        _ = unsafe openSSL.ssl.SSL_shutdown(ssl)
        keepsOutput = false
        _ = openSSL.takeError()
        _ = flush()
    }

    func close(isReset: Bool) {
        if !isReset { sayGoodbye() }
        isBroken = true
        socket.close(isReset: isReset)
        // The server's lists may retain this object for a while. A session stays valid only if it seems complete.
        if let ssl = unsafe ssl {
            unsafe openSSL.ssl.SSL_set_shutdown(ssl, OpenSSL.shutdownBoth)
            unsafe openSSL.ssl.SSL_free(ssl)
        }
        unsafe ssl = nil
        (records, pending) = ([], [])
    }

    /// A peer that ends the socket without the alert: to a server that is the end of input.
    private var endOfBroken: ReceiveResult { socketHasEnded && client == nil ? .end : .failed }

    // MARK: The socket

    /// Passes bytes to the kernel.
    ///
    /// - Returns: How many it took; 0 if none for now, -1 if the connection is broken.
    private func write(_ bytes: UnsafeRawBufferPointer) -> Int {
        while true {
            let count = unsafe Glibc.send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
            if count >= 0 {
                written += UInt64(count)
                return count
            }
            if errno == EINTR { continue }
            if errno == EAGAIN { return 0 }
            // The kernel reports an error once, and OpenSSL may be sending what nobody waits for.
            noteOutputFailure()
            return -1
        }
    }

    /// Writes for OpenSSL, whose buffer has `length` bytes.
    func write(_ bytes: UnsafePointer<CChar>?, _ length: Int32, _ bio: OpaquePointer) -> Int32 {
        unsafe openSSL.crypto.BIO_clear_flags(bio, BIOFlags.all)
        let all = unsafe UnsafeRawBufferPointer(start: bytes, count: max(0, Int(length)))
        guard flush() else { return -1 }
        let count = pending.isEmpty ? unsafe write(all) : outputHasFailed ? -1 : 0
        if count < 0 { return -1 }
        if keepsOutput, count < all.count {
            // A peer that makes OpenSSL write and does not read gets no more.
            guard pending.count + all.count - count <= Self.pendingBytes else { return -1 }
            unsafe pending += all[count...]
            return length
        }
        if count > 0 { return Int32(count) }
        unsafe openSSL.crypto.BIO_set_flags(bio, BIOFlags.write | BIOFlags.shouldRetry)
        return -1
    }

    /// Reads for OpenSSL, whose buffer has `length` bytes.
    func read(_ bytes: UnsafeMutablePointer<CChar>?, _ length: Int32, _ bio: OpaquePointer) -> Int32 {
        unsafe openSSL.crypto.BIO_clear_flags(bio, BIOFlags.all)
        while !isDrained {
            let count = unsafe recv(descriptor, bytes, max(0, Int(length)), 0)
            if count > 0 {
                wasShort = count < Int(length)
                return Int32(count)
            }
            if count == 0 {
                socketHasEnded = true
                return 0
            }
            if errno == EINTR { continue }
            if errno != EAGAIN { return -1 }
            isDrained = true
        }
        unsafe openSSL.crypto.BIO_set_flags(bio, BIOFlags.read | BIOFlags.shouldRetry)
        return -1
    }
}
