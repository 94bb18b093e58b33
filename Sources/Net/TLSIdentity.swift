// The certificate and the key with which a server speaks TLS. They can be replaced while it runs.

import Bytes
import CLibraries
import Glibc

/// The files of a server's certificate.
public struct TLSFiles: Equatable, Sendable {
    /// The path of a PEM file: the server's certificate, followed by those of its issuers except the root.
    public var certificate: String
    /// The path of the key's PEM file, which is not encrypted.
    public var key: String
    /// The path of a PEM file with the issuers of clients' certificates; nil if clients need none.
    public var clientAuthorities: String?

    /// The paths of the files.
    public init(certificate: String, key: String, clientAuthorities: String? = nil) {
        self.certificate = certificate
        self.key = key
        self.clientAuthorities = clientAuthorities
    }

    var paths: [String] { [certificate, key] + [clientAuthorities].compactMap { $0 } }
}

/// The certificate with which a server speaks TLS 1.2 and 1.3 (RFC 5246, RFC 8446). Used by one thread at a time.
///
/// Connections resume by session tickets (RFC 5077). The keys of the tickets are this process's own and end with the
/// certificate.
public final class TLSIdentity {
    private let files: TLSFiles
    private(set) var context: TLSContext
    private var versions: [FileVersion?]

    /// When the certificate begins, in milliseconds since the Unix epoch.
    public private(set) var certificateStartMilliseconds: Int64
    /// When the certificate ends, in milliseconds since the Unix epoch.
    public private(set) var certificateEndMilliseconds: Int64

    /// When the certificate begins, as `2026-11-29 06:00:00 UTC`.
    public var certificateStart: String { UTC.text(ofUnixSeconds: certificateStartMilliseconds / 1000) }

    /// When the certificate ends, as `2026-11-29 06:00:00 UTC`.
    public var certificateEnd: String { UTC.text(ofUnixSeconds: certificateEndMilliseconds / 1000) }

    /// Loads OpenSSL and reads the files.
    ///
    /// - Throws: `TLSError` if there is no OpenSSL, or the files are not of use.
    public init(_ files: TLSFiles) throws(TLSError) {
        self.files = files
        versions = files.paths.map(FileVersion.init)
        (context, certificateStartMilliseconds, certificateEndMilliseconds) = try TLSIdentity.load(files)
    }

    /// Whether the files are not those that were last read. A few system calls.
    public var filesHaveChanged: Bool { files.paths.map(FileVersion.init) != versions }

    /// Reads the files again. New connections then get the new certificate; others continue.
    ///
    /// - Throws: `TLSError` if the files are not of use; the former ones stay in use.
    public func reload() throws(TLSError) {
        // Noted first, so that a change during the reading is noticed later.
        versions = files.paths.map(FileVersion.init)
        (context, certificateStartMilliseconds, certificateEndMilliseconds) = try TLSIdentity.load(files)
    }

    private static func load(_ files: TLSFiles) throws(TLSError) -> (TLSContext, Int64, Int64) {
        let context = try TLSContext(isServer: true)
        let (ssl, pointer) = unsafe (context.openSSL.ssl, context.pointer)
        for path in files.paths {
            guard unsafe access(path, R_OK) == 0 else { throw TLSError("\(SystemError("read '\(path)'"))") }
        }
        unsafe ssl.SSL_CTX_set_default_passwd_cb(pointer, noPassword)
        func failure(of path: String, _ content: String) -> TLSError {
            context.failure(of: path, content: content, reason: context.openSSL.takeError())
        }
        guard unsafe ssl.SSL_CTX_use_certificate_chain_file(pointer, files.certificate) == 1 else {
            throw failure(of: files.certificate, "certificate")
        }
        guard unsafe ssl.SSL_CTX_use_PrivateKey_file(pointer, files.key, OpenSSL.filePEM) == 1,
            unsafe ssl.SSL_CTX_check_private_key(pointer) == 1
        else {
            switch context.openSSL.takeError() {
            // The last one is said of a key of another algorithm.
            case "key values mismatch", "key type mismatch", "no certificate assigned":
                throw TLSError("the key '\(files.key)' does not belong to the certificate '\(files.certificate)'")
            case "interrupted or cancelled", "bad password read":
                throw TLSError(
                    "the key '\(files.key)' has a password; emq needs one without, which this makes: "
                        + "openssl pkey -in '\(files.key)' -out NEW")
            case let reason: throw context.failure(of: files.key, content: "key", reason: reason)
            }
        }
        if let path = files.clientAuthorities {
            guard unsafe ssl.SSL_CTX_load_verify_locations(pointer, path, nil) == 1,
                let names = unsafe ssl.SSL_load_client_CA_file(path)
            else { throw failure(of: path, "certificate") }
            unsafe ssl.SSL_CTX_set_client_CA_list(pointer, names)
            unsafe ssl.SSL_CTX_set_verify(
                pointer, OpenSSL.verifyPeer | OpenSSL.verifyFailIfNoPeerCertificate, nil)
        }
        context.control(OpenSSL.Command.setSessionCacheMode, OpenSSL.sessionCacheOff)
        _ = unsafe ssl.SSL_CTX_set_session_id_context(pointer, "emq", 3)
        _ = unsafe ssl.SSL_CTX_set_num_tickets(pointer, 1)
        unsafe ssl.SSL_CTX_set_alpn_select_cb(pointer, chooseProtocol, nil)
        guard let certificate = unsafe ssl.SSL_CTX_get0_certificate(pointer) else {
            throw context.failure("find a certificate in '\(files.certificate)'")
        }
        let times = unsafe TLSCertificate(certificate, context.openSSL)
        defer { _ = context.openSSL.takeError() }
        return (context, times.startSeconds * 1000, times.endSeconds * 1000)
    }
}

/// Chooses `http/1.1` if the client offers it. If it offers only others, such as `h2`, the handshake fails (RFC 7301
/// section 3.2).
private let chooseProtocol: emq_ssl_alpn_callback = { _, chosen, chosenLength, offered, offeredLength, _ in
    guard let chosen = unsafe chosen, let chosenLength = unsafe chosenLength, let offered = unsafe offered else {
        return alpnAlert
    }
    // OpenSSL has checked that the list is well formed; the bounds are checked all the same.
    let list = unsafe UnsafeBufferPointer(start: offered, count: Int(offeredLength))
    var place = 0
    while place < list.count, case let end = place + 1 + Int(unsafe list[place]), end <= list.count {
        if unsafe list[place..<end].elementsEqual(httpProtocolName) {
            unsafe chosen.pointee = offered + place + 1
            unsafe chosenLength.pointee = UInt8(end - place - 1)
            return 0
        }
        place = end
    }
    return alpnAlert
}

/// SSL_TLSEXT_ERR_ALERT_FATAL.
private let alpnAlert: Int32 = 2
