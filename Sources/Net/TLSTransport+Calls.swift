// OpenSSL's calls of a TLS transport: to read and write its socket, and to note certificates and sessions.

import CLibraries

extension TLSTransport {
    /// The transport of an `SSL`; nil if the object is being closed.
    private static func of(_ ssl: OpaquePointer, _ openSSL: OpenSSL) -> TLSTransport? {
        guard let bio = unsafe openSSL.ssl.SSL_get_rbio(ssl) else { return nil }
        return unsafe of(bio: bio, openSSL)
    }

    static func of(bio: OpaquePointer, _ openSSL: OpenSSL) -> TLSTransport? {
        // Set in `attach`, and alive: OpenSSL calls only from within a call of the transport.
        guard let data = unsafe openSSL.crypto.BIO_get_data(bio) else { return nil }
        return unsafe Unmanaged<TLSTransport>.fromOpaque(data).takeUnretainedValue()
    }

    /// Notes why a certificate is refused.
    static func noteRefusal(by store: OpaquePointer) {
        guard let openSSL = try? OpenSSL.system.get() else { return }
        let index = openSSL.ssl.SSL_get_ex_data_X509_STORE_CTX_idx()
        guard let ssl = unsafe openSSL.crypto.X509_STORE_CTX_get_ex_data(store, index),
            let transport = unsafe of(OpaquePointer(ssl), openSSL), let client = transport.client,
            let certificate = unsafe openSSL.crypto.X509_STORE_CTX_get_current_cert(store)
        else { return }
        let code = unsafe openSSL.crypto.X509_STORE_CTX_get_error(store)
        let depth = unsafe openSSL.crypto.X509_STORE_CTX_get_error_depth(store)
        let refusal = unsafe TLSCertificate(certificate, openSSL).refusal(
            code: code, depth: depth, host: client.host, trusted: client.trust.source)
        transport.note(TLSError(refusal))
    }

    /// Keeps a client's session until the client takes it; false if it is of no use.
    static func keep(_ session: OpaquePointer, of ssl: OpaquePointer) -> Bool {
        guard let openSSL = try? OpenSSL.system.get(), let transport = unsafe of(ssl, openSSL) else { return false }
        transport.newSession = unsafe TLSSession(session, openSSL)
        return true
    }
}

/// Flags of a BIO.
enum BIOFlags {
    static let read: Int32 = 1
    static let write: Int32 = 2
    static let shouldRetry: Int32 = 8
    static let all: Int32 = 15
}

/// The BIO whose socket is a transport's; nil if there is no OpenSSL or no memory.
///
/// nonisolated(unsafe): it is made once, and only read from then on.
nonisolated(unsafe) let socketMethod: OpaquePointer? = {
    guard let openSSL = try? OpenSSL.system.get() else { return nil }
    let crypto = openSSL.crypto
    // BIO_TYPE_SOURCE_SINK, and a number that no BIO of OpenSSL has.
    guard let method = unsafe crypto.BIO_meth_new(0x400 | 0x7F, "emq socket") else { return nil }
    _ = unsafe crypto.BIO_meth_set_write(method) { bio, bytes, length in
        guard let openSSL = try? OpenSSL.system.get(), let bio = unsafe bio else { return -1 }
        return unsafe TLSTransport.of(bio: bio, openSSL)?.write(bytes, length, bio) ?? -1
    }
    _ = unsafe crypto.BIO_meth_set_read(method) { bio, bytes, length in
        guard let openSSL = try? OpenSSL.system.get(), let bio = unsafe bio else { return -1 }
        return unsafe TLSTransport.of(bio: bio, openSSL)?.read(bytes, length, bio) ?? -1
    }
    // BIO_CTRL_FLUSH is all that OpenSSL needs.
    _ = unsafe crypto.BIO_meth_set_ctrl(method) { _, command, _, _ in command == 11 ? 1 : 0 }
    return unsafe method
}()
