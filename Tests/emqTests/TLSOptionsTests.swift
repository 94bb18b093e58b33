// The options of TLS, and the addresses to which they apply.

import Support
import Testing

@testable import emq

@Suite(.blocking) struct TLSOptionsTests {
    private static let pair = ["--tls-cert", "c.pem", "--tls-key", "k.pem"]

    private func options(_ arguments: [String], environment: [String: String] = [:]) throws(UsageError) -> Options {
        try Options(arguments) { environment[$0] }
    }

    /// All addresses of a server, with the schemes that it speaks.
    private func places(_ options: Options) -> [String] {
        options.endpoints.map { "\(options.speaksTLS(at: $0) ? "https" : "http") \($0.address)" }
    }

    @Test(arguments: [
        ([], ["http localhost:8080"]),
        (["--addr", "http://:1"], ["http :1"]),
        (pair, ["https localhost:8080"]),
        (["--addr", ":1"] + pair, ["https :1"]),
        (pair + ["--addr", "unix:/s", "--addr", "[::1]:1"], ["http unix:/s", "https [::1]:1"]),
        (
            ["--addr", "http://localhost:1", "--addr", "https://[::]:2/"] + pair,
            ["http localhost:1", "https [::]:2"]
        ),
        (["--addr", "HTTP://a.test:0", "--addr=HTTPS://0.0.0.0:0"] + pair, ["http a.test:0", "https 0.0.0.0:0"]),
        (
            ["--addr", "http://:1", "--htq", "https://a.test", "--httpqueue", "http://:2", "--delay-tasks", ":3"]
                + pair,
            ["http :1", "https a.test:5000", "http :2", "https :3"]
        ),
        (["--delay-tasks", "https://[::1]/", "--addr", ":1"] + pair, ["https :1", "https [::1]:7080"]),
    ])
    func aSchemeOrTheCertificateDecides(arguments: [String], expected: [String]) throws {
        #expect(places(try options(arguments)) == expected)
    }

    @Test func theEnvironmentSetsThemToo() throws {
        let variables = [
            "EMQ_TLS_CERT": "c.pem", "EMQ_TLS_KEY": "k.pem", "EMQ_TLS_CLIENT_CA": "ca.pem", "EMQ_TLS_CA": "i.pem",
            "EMQ_ADDR": "http://localhost:1,https://:2",
        ]
        let read = try options([], environment: variables)
        #expect(places(read) == ["http localhost:1", "https :2"])
        #expect(read.tlsFiles?.certificate == "c.pem" && read.tlsFiles?.key == "k.pem")
        #expect(read.tlsFiles?.clientAuthorities == "ca.pem" && read.issuersPath == "i.pem")
        #expect(Options.strayVariables(of: variables).isEmpty)
        // A part may come from the command line. Without an address that speaks TLS, no file is read.
        let mixed = try options(["--tls-key", "k.pem", "--addr", "unix:/s"], environment: ["EMQ_TLS_CERT": "c.pem"])
        #expect(mixed.tlsFiles == nil)
    }

    @Test(arguments: [
        (["--tls-cert", "c.pem"], "--tls-cert requires --tls-key"),
        (["--tls-key", "k.pem"], "--tls-key requires --tls-cert"),
        (["--tls-client-ca", "ca.pem"], "--tls-client-ca requires --tls-cert and --tls-key"),
        (["--addr", "https://:1"], "'https://:1' requires --tls-cert and --tls-key"),
        (["--htq", "https://localhost"], "'https://localhost:5000' requires --tls-cert and --tls-key"),
        (
            ["--addr", "unix:/s"] + pair,
            "--tls-cert requires an address that speaks TLS, such as --addr https://:8443"
        ),
        (
            ["--addr", "http://:1"] + pair,
            "--tls-cert requires an address that speaks TLS, such as --addr https://:8443"
        ),
        (
            ["--tls-ca", "i.pem"],
            "--tls-ca requires --push or a legacy system: without them, emq sends no requests"
        ),
        (["--tls-cert", "", "--tls-key", "k.pem"], "--tls-cert needs the path of a file"),
        (["--tls-key", "a\0b"], "--tls-key needs the path of a file"),
        (pair + ["--tls-key", "k.pem"], "--tls-key is given twice; give it once"),
        (["--cert", "c.pem"], "unknown option '--cert'; did you mean '--tls-cert'?"),
        (["--cacert", "c.pem"], "unknown option '--cacert'; did you mean '--tls-ca'?"),
        (
            ["--addr", "https://unix:/s"] + pair,
            "a Unix-domain socket has no TLS and no scheme; write 'unix:/s', not 'https://unix:/s'"
        ),
        (
            ["--addr", "http://unix:/s"],
            "a Unix-domain socket has no TLS and no scheme; write 'unix:/s', not 'http://unix:/s'"
        ),
        (["--addr", "https://:1/api"] + pair, "an address has no path; write 'https://:1'"),
        (["--addr", "https://:1//"] + pair, "an address has no path; write 'https://:1'"),
        (["--htq", "HTTP://a.test?x"] + pair, "--htq: an address has no path; write 'HTTP://a.test'"),
        (
            ["--addr", "https://queue.example.com/"] + pair,
            "an address must be HOST:PORT, :PORT or unix:PATH, not 'queue.example.com'; "
                + "did you mean 'https://queue.example.com:443'?"
        ),
        (
            ["--addr", "http://0.0.0.0"],
            "an address must be HOST:PORT, :PORT or unix:PATH, not '0.0.0.0'; did you mean 'http://0.0.0.0:80'?"
        ),
        (["--addr", "https://"] + pair, "an address must be HOST:PORT, :PORT or unix:PATH, not ''"),
        (
            ["--addr", "https://8443"] + pair,
            "an address must be HOST:PORT or :PORT, not '8443'; did you mean 'https://:8443'?"
        ),
        (
            ["--addr", "https:localhost:1"] + pair,
            "a scheme is http:// or https://, as in https://localhost:8443, not 'https:localhost:1'"
        ),
        (["--addr", "https://:x"] + pair, "a port must be a number from 0 to 65535, not 'x'"),
        (["--addr", "tls://:1"], "a scheme is http:// or https://, as in https://localhost:8443, not 'tls://:1'"),
    ])
    func whatDoesNotBelongTogetherIsExplained(arguments: [String], reason: String) {
        let error = #expect(throws: UsageError.self) { try options(arguments) }
        #expect(error?.description == reason)
    }

    /// A server that ignored them would be open to everyone.
    @Test(arguments: [
        (["EMQ_TLS_CERT": "c.pem"], "--tls-cert requires --tls-key"),
        (["EMQ_TLS_KEY": "k.pem"], "--tls-key requires --tls-cert"),
        (["EMQ_TLS_CLIENT_CA": "ca.pem"], "--tls-client-ca requires --tls-cert and --tls-key"),
        (["EMQ_ADDR": ":1,https://:2"], "'https://:2' requires --tls-cert and --tls-key"),
    ])
    func variablesOfTLSAreNeverIgnored(variables: [String: String], reason: String) {
        let error = #expect(throws: UsageError.self) { try options([], environment: variables) }
        #expect(error?.description == reason)
    }

    @Test func browsersMayUseTheHostOfAnHTTPSAddress() throws {
        let hosts = BrowserHosts(try options(["--addr", "https://Queue.example.com:443"] + Self.pair))
        for (host, isAdmitted) in [("queue.example.com", true), ("other.example.com", false)] {
            let bytes = Array(host.utf8)
            let answer = hosts.admits(bytes.span)
            #expect(answer == isAdmitted, "\(host)")
        }
    }

    // MARK: The load generator

    @Test func theLoadGeneratorTakesAURL() throws {
        func target(_ arguments: String...) throws -> String { "\(try BenchOptions(arguments).endpoint)" }
        #expect(try target() == "localhost:8080")
        #expect(try target("--addr", "unix:/s") == "unix:/s")
        #expect(try target("--url", "https://a.test") == "https://a.test:443")
        #expect(try target("--url", "http://[::1]/") == "http://[::1]:80")
        #expect(try target("--url", "https://a.test:8443", "--ca", "ca.pem") == "https://a.test:8443")
        let options = try BenchOptions(["--url", "https://a.test:1/", "--ca", "ca.pem"])
        #expect(options.issuersPath == "ca.pem" && options.endpoint.authority == "a.test:1")
    }

    @Test(arguments: [
        (["--url", "localhost:8443"], "--url must begin with http:// or https://"),
        (["--url", "https://a.test/queues"], "an address has no path; write 'https://a.test'"),
        (["--url", "http://a.test", "--ca", "ca.pem"], "--ca requires an https URL"),
        (["--ca", "ca.pem"], "--ca requires an https URL"), (["--ca"], "--ca needs a value"),
        (["--url", "https://a.test", "--addr", ":1"], "give --addr or --url, not both"),
    ])
    func aWrongURLIsExplained(arguments: [String], reason: String) {
        let error = #expect(throws: UsageError.self) { try BenchOptions(arguments) }
        #expect(error?.description.hasPrefix(reason) == true, "\(error?.description ?? "")")
    }
}
