// The issuers whose certificates a client accepts.

import Bytes
import CLibraries
import Glibc

/// The issuers whose certificates a client accepts. Nothing else makes a certificate acceptable, and there is no way to
/// accept all. It never changes, and any thread may use it.
public final class TLSTrust: Sendable {
    /// Where systems keep the roots: Debian and Alpine, Fedora, SUSE, others. The first file that exists is read.
    private static let rootFiles = [
        "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
    ]
    /// Directories in which OpenSSL finds a root by the hash of its name, when it needs it.
    private static let rootDirectories = ["/etc/ssl/certs", "/etc/pki/tls/certs"]

    let context: TLSContext
    /// Whose certificates these are, in messages.
    let source: String

    /// The system's roots, and those of a file. `SSL_CERT_FILE` in the environment replaces the files where systems
    /// keep their roots, and `SSL_CERT_DIR` the directories. Takes some milliseconds.
    ///
    /// - Parameters:
    ///   - path: A PEM file with more issuers; nil for none.
    ///   - option: What messages call that file.
    /// - Throws: `TLSError` if there is no OpenSSL, or the file is not of use.
    public init(additionalFile path: String? = nil, option: String = "--tls-ca") throws(TLSError) {
        context = try TLSTrust.makeContext()
        source = "the system's issuers and those of \(option)"
        func variable(_ name: String) -> String? {
            guard let value = unsafe getenv(name) else { return nil }
            return unsafe value[0] == 0 ? nil : String(cString: value)
        }
        let named = (file: variable("SSL_CERT_FILE"), directories: variable("SSL_CERT_DIR"))
        let files = named.file.map { [$0] } ?? TLSTrust.rootFiles
        var directories = TLSTrust.rootDirectories
        if let list = named.directories { directories = list.split(separator: ":").map(String.init) }
        for directory in directories { _ = load(file: nil, directory: directory) }
        // A directory by hashes is looked into when a root is needed. Its roots are not read in advance.
        if named.file != nil || !directories.contains(where: TLSTrust.hasHashes) {
            _ = files.first { load(file: $0, directory: nil) }
        }
        if let path {
            guard unsafe access(path, R_OK) == 0 else { throw TLSError("\(SystemError("read '\(path)'"))") }
            guard load(file: path, directory: nil) else {
                throw context.failure(of: path, content: "certificate", reason: context.openSSL.takeError())
            }
        }
        _ = context.openSSL.takeError()
    }

    /// Only the issuers in a PEM text. O(length).
    ///
    /// - Parameters:
    ///   - pem: The text.
    ///   - source: What messages call these issuers.
    /// - Throws: `TLSError` if there is no OpenSSL, or the text has no certificate or a damaged one.
    public init(authorities pem: [UInt8], source: String = "the issuers of the queue's ca") throws(TLSError) {
        context = try TLSTrust.makeContext()
        self.source = source
        let count = unsafe pem.withUnsafeBytes { unsafe TLSTrust.add($0, to: context) }
        let reason = context.openSSL.takeError()
        // What ends the list is that there is no other certificate.
        if let reason, reason != "no start line" {
            throw TLSError("certificate \(count + 1) of the text is damaged: \(reason)")
        }
        guard count > 0 else { throw TLSError("the text has no certificate in PEM") }
    }

    /// Adds the certificates of a PEM text.
    ///
    /// - Returns: Their number. OpenSSL's error says why there are no more.
    private static func add(_ pem: UnsafeRawBufferPointer, to context: TLSContext) -> Int {
        let crypto = context.openSSL.crypto
        guard let input = unsafe crypto.BIO_new_mem_buf(pem.baseAddress, Int32(clamping: pem.count)) else { return 0 }
        defer { _ = unsafe crypto.BIO_free(input) }
        let store = unsafe context.openSSL.ssl.SSL_CTX_get_cert_store(context.pointer)
        var count = 0
        while let certificate = unsafe crypto.PEM_read_bio_X509(input, nil, noPassword, nil) {
            if unsafe crypto.X509_STORE_add_cert(store, certificate) == 1 { count += 1 }
            unsafe crypto.X509_free(certificate)
        }
        return count
    }

    private static func makeContext() throws(TLSError) -> TLSContext {
        let context = try TLSContext(isServer: false)
        let (ssl, pointer) = unsafe (context.openSSL.ssl, context.pointer)
        unsafe ssl.SSL_CTX_set_verify(pointer, OpenSSL.verifyPeer, noteVerification)
        // Whatever an operator names is trusted, also an intermediate certificate without its root.
        _ = unsafe context.openSSL.crypto.X509_STORE_set_flags(
            ssl.SSL_CTX_get_cert_store(pointer), OpenSSL.verifyPartialChain)
        context.control(OpenSSL.Command.setSessionCacheMode, OpenSSL.sessionCacheClientOnlyByCall)
        unsafe ssl.SSL_CTX_sess_set_new_cb(pointer, keepSession)
        return context
    }

    private func load(file: String?, directory: String?) -> Bool {
        unsafe context.openSSL.ssl.SSL_CTX_load_verify_locations(context.pointer, file, directory) == 1
    }

    /// Whether OpenSSL can look up roots in a directory: it has names such as `5ad8a5d6.0`.
    private static func hasHashes(_ directory: String) -> Bool {
        guard let listing = unsafe opendir(directory) else { return false }
        defer { unsafe closedir(listing) }
        while let entry = unsafe readdir(listing) {
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { unsafe Array($0.prefix(11)) }
            if name[8...].elementsEqual(".0\0".utf8), name[..<8].allSatisfy({ $0.hexadecimalValue != nil }) {
                return true
            }
        }
        return false
    }
}

/// A session that a later connection can resume (RFC 8446 section 2.2).
@safe final class TLSSession {
    let pointer: OpaquePointer
    private let openSSL: OpenSSL

    /// Takes over a reference.
    init(_ pointer: OpaquePointer, _ openSSL: OpenSSL) {
        unsafe self.pointer = pointer
        self.openSSL = openSSL
    }

    deinit { unsafe openSSL.ssl.SSL_SESSION_free(pointer) }
}

/// Notes why a certificate in the chain is refused, while it is at hand.
private let noteVerification: emq_ssl_verify_callback = { isValid, store in
    if isValid == 0, let store = unsafe store { unsafe TLSTransport.noteRefusal(by: store) }
    return isValid
}

/// Keeps a session that the server offers, which takes over its reference.
private let keepSession: emq_ssl_session_callback = { ssl, session in
    guard let ssl = unsafe ssl, let session = unsafe session else { return 0 }
    return unsafe TLSTransport.keep(session, of: ssl) ? 1 : 0
}

extension TLSTrust: Hashable {
    /// Whether both are the same object.
    public static func == (left: TLSTrust, right: TLSTrust) -> Bool { left === right }

    /// Hashes the identity of the object.
    public func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(self)) }
}
