// The system's OpenSSL, loaded when TLS is first needed. Everything else that knows OpenSSL is in the files TLS….swift.

import CLibraries
import Glibc

/// The functions of libssl and libcrypto. Holding them is safe; only calls can go wrong.
///
/// OpenSSL keeps the errors of a thread in a queue. Each call that can fail finds the queue empty, because whoever
/// finds an error empties it (`takeError`).
@safe final class OpenSSL: @unchecked Sendable {
    // @unchecked: it never changes, and the functions may be called from any thread.

    /// The pointers of libssl: none of them is null.
    let ssl: emq_ssl_functions
    /// The pointers of libcrypto: none of them is null.
    let crypto: emq_crypto_functions

    /// The library, or why there is none. The first use loads it, and it stays loaded.
    static let system = Result { () throws(TLSError) in try OpenSSL() }

    private init() throws(TLSError) {
        for version in ["3", "1.1"] {
            var (sslFunctions, cryptoFunctions) = (emq_ssl_functions(), emq_crypto_functions())
            guard let crypto = SystemLibrary("libcrypto.so.\(version)"),
                let ssl = SystemLibrary("libssl.so.\(version)"),
                ssl.load(&sslFunctions, emq_ssl_names), crypto.load(&cryptoFunctions, emq_crypto_names)
            else { continue }
            self.ssl = sslFunctions
            self.crypto = cryptoFunctions
            return
        }
        throw TLSError(
            "TLS needs OpenSSL 3 or 1.1.1, which this system does not have; install the package libssl3 (Debian, Ubuntu, "
                + "Alpine), openssl-libs (Fedora) or libopenssl3 (SUSE)", isLibraryMissing: true)
    }

    // MARK: Errors

    /// The first error in the thread's queue, in OpenSSL's words; nil if there is none. Empties the queue.
    func takeError() -> String? {
        defer { crypto.ERR_clear_error() }
        let code = crypto.ERR_peek_error()
        if code == 0 { return nil }
        guard let reason = crypto.ERR_reason_error_string(code) else { return "error \(code)" }
        return unsafe String(cString: reason)
    }

    // MARK: Texts

    /// What `write` prints, at most 4 KB of it.
    func text(_ write: (_ output: OpaquePointer) -> Void) -> String {
        guard let output = unsafe crypto.BIO_new(crypto.BIO_s_mem()) else { return "" }
        defer { _ = unsafe crypto.BIO_free(output) }
        unsafe write(output)
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = unsafe bytes.withUnsafeMutableBytes {
            unsafe crypto.BIO_read(output, $0.baseAddress, Int32($0.count))
        }
        return String(decoding: bytes.prefix(max(0, Int(count))), as: UTF8.self)
    }

    // MARK: Numbers of its macros

    static let filePEM: Int32 = 1
    static let verifyPeer: Int32 = 1
    static let verifyFailIfNoPeerCertificate: Int32 = 2
    /// X509_V_FLAG_PARTIAL_CHAIN.
    static let verifyPartialChain: UInt = 0x80000
    static let errorWantRead: Int32 = 2
    static let errorWantWrite: Int32 = 3
    static let errorZeroReturn: Int32 = 6
    /// Both directions are shut down.
    static let shutdownBoth: Int32 = 3

    /// Commands of `SSL_ctrl` and `SSL_CTX_ctrl`.
    enum Command {
        static let setMode: Int32 = 33
        static let setSessionCacheMode: Int32 = 44
        static let setServerName: Int32 = 55
        static let clearMode: Int32 = 78
        static let setMinimumVersion: Int32 = 123
    }

    /// ENABLE_PARTIAL_WRITE, ACCEPT_MOVING_WRITE_BUFFER and RELEASE_BUFFERS: a write takes one record at a time, may be
    /// repeated from another address, and an idle connection owns no buffers.
    static let mode = 1 | 2 | 16
    /// A read that finds no application data returns, so that a peer cannot keep it busy.
    static let modeAutoRetry = 4
    static let sessionCacheOff = 0
    /// The client gets its sessions by a call and keeps them itself.
    static let sessionCacheClientOnlyByCall = 1 | 0x300
    static let version1_2 = 0x303
    /// NO_COMPRESSION, CIPHER_SERVER_PREFERENCE, PRIORITIZE_CHACHA and NO_RENEGOTIATION.
    static let options: UInt64 = 1 << 17 | 1 << 22 | 1 << 21 | 1 << 30
    /// The ciphers of TLS 1.2: those with forward secrecy and authenticated encryption. TLS 1.3 has no others.
    static let ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20"
}

/// Why TLS cannot work, in a sentence without an initial capital and a full stop.
public struct TLSError: Error, Equatable, CustomStringConvertible {
    /// The sentence.
    public let description: String
    /// Whether the system has no OpenSSL, which TLS needs.
    public let isLibraryMissing: Bool
    /// Whether the connection ended during the handshake, and neither side refused the other.
    public let isBroken: Bool

    init(_ description: String, isLibraryMissing: Bool = false, isBroken: Bool = false) {
        (self.description, self.isLibraryMissing, self.isBroken) = (description, isLibraryMissing, isBroken)
    }
}
