// The settings that TLS connections share: of a server with one certificate, or of a client with its issuers.

import CLibraries
import Glibc

/// An `SSL_CTX`. Connections that use it keep its contents alive.
@safe final class TLSContext: @unchecked Sendable {
    // @unchecked: its maker configures it before anybody else has it. From then on, OpenSSL permits its use from any
    // thread: it counts references atomically, and locks the store of issuers, whose roots it loads when needed.

    let openSSL: OpenSSL
    let pointer: OpaquePointer

    /// TLS 1.2 and 1.3 with modern ciphers, and what both sides have in common.
    init(isServer: Bool) throws(TLSError) {
        openSSL = try OpenSSL.system.get()
        let ssl = openSSL.ssl
        guard let pointer = unsafe ssl.SSL_CTX_new(isServer ? ssl.TLS_server_method() : ssl.TLS_client_method()) else {
            throw TLSError("OpenSSL cannot start: \(openSSL.takeError() ?? "no memory")")
        }
        unsafe self.pointer = pointer
        _ = unsafe ssl.SSL_CTX_set_options(pointer, OpenSSL.options)
        control(OpenSSL.Command.setMinimumVersion, OpenSSL.version1_2)
        control(OpenSSL.Command.setMode, OpenSSL.mode)
        control(OpenSSL.Command.clearMode, OpenSSL.modeAutoRetry)
        guard unsafe ssl.SSL_CTX_set_cipher_list(pointer, OpenSSL.ciphers) == 1 else { throw failure("choose ciphers") }
    }

    deinit { unsafe openSSL.ssl.SSL_CTX_free(pointer) }

    func control(_ command: Int32, _ number: Int) {
        _ = unsafe openSSL.ssl.SSL_CTX_ctrl(pointer, command, number, nil)
    }

    /// A failed call; `operation` follows "cannot".
    func failure(_ operation: String) -> TLSError {
        TLSError("cannot \(operation): \(openSSL.takeError() ?? "OpenSSL says no reason")")
    }

    /// A file that is not of use. `content` is what it must have, and `reason` what OpenSSL says.
    func failure(of path: String, content: String, reason: String?) -> TLSError {
        switch reason {
        // The second is said of issuers, and the third of keys.
        case "no start line", "no certificate or crl found", "unsupported", nil:
            TLSError("'\(path)' has no valid \(content) in PEM")
        case let reason?: TLSError("cannot use the \(content) in '\(path)': \(reason)")
        }
    }
}

/// What OpenSSL calls for the password of an encrypted PEM text. There is none: without this, OpenSSL would ask on the
/// terminal, and the event loop would wait for the answer.
let noPassword: emq_ssl_password_callback = { _, _, _, _ in -1 }

/// `http/1.1` as ALPN writes it (RFC 7301 section 3.1): its length, and the name.
let httpProtocolName: [UInt8] = [8] + Array("http/1.1".utf8)
