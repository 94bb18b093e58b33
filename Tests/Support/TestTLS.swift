// One side's settings for TLS, over the system's OpenSSL. They share no code with emq, so that emq's TLS is tested
// against something else.

import Foundation

/// The functions of OpenSSL that the tests use, loaded when they are first needed.
enum OpenSSL {
    // It stays loaded, and is never changed.
    private nonisolated(unsafe) static let library = dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL)

    static var isAvailable: Bool { library != nil }

    /// A function by its name. `Function` must be its type.
    private static func function<Function>(_ name: String) -> Function {
        guard let library, let symbol = dlsym(library, name) else { preconditionFailure("OpenSSL has no \(name)") }
        return unsafeBitCast(symbol, to: Function.self)
    }

    typealias Make = @convention(c) () -> OpaquePointer?
    typealias MakeFrom = @convention(c) (OpaquePointer?) -> OpaquePointer?
    typealias Use = @convention(c) (OpaquePointer?) -> Void
    typealias Ask = @convention(c) (OpaquePointer?) -> Int32
    typealias Read = @convention(c) (OpaquePointer?, UnsafeMutableRawPointer?, Int32) -> Int32
    typealias Write = @convention(c) (OpaquePointer?, UnsafeRawPointer?, Int32) -> Int32
    typealias Control = @convention(c) (OpaquePointer?, Int32, Int, UnsafeMutableRawPointer?) -> Int

    static let method: Make = function("TLS_method")
    static let makeContext: MakeFrom = function("SSL_CTX_new")
    static let freeContext: Use = function("SSL_CTX_free")
    static let controlContext: Control = function("SSL_CTX_ctrl")
    static let setVerify: @convention(c) (OpaquePointer?, Int32, OpaquePointer?) -> Void = function(
        "SSL_CTX_set_verify")
    static let useChainFile: @convention(c) (OpaquePointer?, UnsafePointer<CChar>) -> Int32 = function(
        "SSL_CTX_use_certificate_chain_file")
    static let useKeyFile: @convention(c) (OpaquePointer?, UnsafePointer<CChar>, Int32) -> Int32 = function(
        "SSL_CTX_use_PrivateKey_file")
    static let trustFile: @convention(c) (OpaquePointer?, UnsafePointer<CChar>?, UnsafePointer<CChar>?) -> Int32 =
        function(
            "SSL_CTX_load_verify_locations")
    static let make: MakeFrom = function("SSL_new")
    static let free: Use = function("SSL_free")
    static let setBIOs: @convention(c) (OpaquePointer?, OpaquePointer?, OpaquePointer?) -> Void = function(
        "SSL_set_bio")
    static let setConnectState: Use = function("SSL_set_connect_state")
    static let setAcceptState: Use = function("SSL_set_accept_state")
    static let doHandshake: Ask = function("SSL_do_handshake")
    static let read: Read = function("SSL_read")
    static let peek: Read = function("SSL_peek")
    static let write: Write = function("SSL_write")
    static let shutDown: Ask = function("SSL_shutdown")
    static let error: @convention(c) (OpaquePointer?, Int32) -> Int32 = function("SSL_get_error")
    static let memory: Make = function("BIO_s_mem")
    static let makeBIO: MakeFrom = function("BIO_new")
    static let readBIO: Read = function("BIO_read")
    static let writeBIO: Write = function("BIO_write")
    static let clearErrors: @convention(c) () -> Void = function("ERR_clear_error")
    static let takeError: @convention(c) () -> UInt = function("ERR_get_error")
    static let reason: @convention(c) (UInt) -> UnsafePointer<CChar>? = function("ERR_reason_error_string")

    // From ssl.h and bio.h.
    static let errorWantsRead: Int32 = 2
    static let errorEnded: Int32 = 6
    static let verifyPeer: Int32 = 1
    static let fileIsPEM: Int32 = 1

    /// Takes the reason of the last error of this thread.
    static func takeReason() -> String { reason(takeError()).map { String(cString: $0) } ?? "no reason" }
}

/// What one side of TLS connections knows: its certificate, and whom it trusts.
public final class TestTLS: @unchecked Sendable {
    // The pointer never changes, and OpenSSL locks what is behind it.
    let pointer: OpaquePointer
    let isServer: Bool

    /// Whether the suites run over TLS: EMQ_TEST_TLS is 1.
    public static let isOverTLS = ProcessInfo.processInfo.environment["EMQ_TEST_TLS"] == "1"
    /// How the URLs of suites begin.
    public static let scheme = isOverTLS ? "https" : "http"
    /// Whether this machine has what the tests of TLS need: OpenSSL 3, as a library and as a tool.
    public static let isAvailable = OpenSSL.isAvailable && Certificates.isAvailable

    /// A client that trusts the tests' own issuer.
    public static var standardClient: TestTLS { get throws { try sharedClient.get() } }

    /// The client of suites; nil unless they run over TLS.
    public static var suiteClient: TestTLS? { get throws { isOverTLS ? try sharedClient.get() : nil } }
    /// The server of suites; nil unless they run over TLS.
    public static var suiteServer: TestTLS? { get throws { isOverTLS ? try sharedServer.get() : nil } }

    private static let sharedClient = Result { try client() }
    private static let sharedServer = Result { try server(.good) }

    private init(isServer: Bool) throws {
        guard OpenSSL.isAvailable, let pointer = OpenSSL.makeContext(OpenSSL.method()) else {
            throw Failure(description: "there is no OpenSSL 3 (libssl.so.3)")
        }
        (self.pointer, self.isServer) = (pointer, isServer)
    }

    deinit { OpenSSL.freeContext(pointer) }

    /// A client that trusts the issuer in a file, the tests' own if it is nil. It has a certificate unless that is nil.
    public static func client(
        trusting authorityFile: String? = nil, as certificate: Certificates.Kind? = nil
    ) throws -> TestTLS {
        let context = try TestTLS(isServer: false)
        let path = try authorityFile ?? Certificates.shared.authorityFile
        guard OpenSSL.trustFile(context.pointer, path, nil) == 1 else {
            throw Failure(description: "OpenSSL cannot read \(path): \(OpenSSL.takeReason())")
        }
        OpenSSL.setVerify(context.pointer, OpenSSL.verifyPeer, nil)
        if let certificate { try context.use(certificate) }
        return context
    }

    /// A server with a certificate.
    public static func server(_ certificate: Certificates.Kind) throws -> TestTLS {
        let context = try TestTLS(isServer: true)
        try context.use(certificate)
        return context
    }

    private func use(_ certificate: Certificates.Kind) throws {
        let pair = try Certificates.shared.pair(certificate)
        guard OpenSSL.useChainFile(pointer, pair.chain) == 1,
            OpenSSL.useKeyFile(pointer, pair.key, OpenSSL.fileIsPEM) == 1
        else { throw Failure(description: "OpenSSL cannot use \(pair): \(OpenSSL.takeReason())") }
    }
}
