// The URL of a server as users write it.

import Net
import Support
import Testing

@Suite(.blocking) struct ServerURLTests {
    @Test(arguments: [
        ("localhost:8080", "http://localhost:8080"), ("http://a.example/emq//", "http://a.example/emq"),
        ("https://a.example:8443", "https://a.example:8443"), ("http://[::1]:80", "http://[::1]:80"),
    ])
    func hasNoSlashAtItsEnd(_ text: String, base: String) throws {
        let url = try ServerURL(text)
        #expect(url.base == base && url.name == base && url.socketPath == nil && url.token == nil)
        #expect(url.isSecure == base.hasPrefix("https"))
    }

    @Test(arguments: ["unix:/run/emq.sock", "unix:///run/emq.sock"])
    func isASocket(_ text: String) throws {
        let url = try ServerURL(text, allowsToken: true)
        #expect(url.socketPath == "/run/emq.sock" && url.base == "http://localhost" && !url.isSecure)
        #expect(url.name == "unix:/run/emq.sock")
    }

    @Test(arguments: ["https://a%40b@host/", "https://a%40b:@host"])
    func mayHaveAToken(_ text: String) throws {
        let url = try ServerURL(text, allowsToken: true)
        #expect(url.token == "a@b" && url.base == "https://host" && url.name == "https://host")
        #expect(throws: HTTPURLError.self) { try ServerURL(text) }
    }

    @Test(arguments: ["", "ftp://a", "http://", "http://a?b", "http://a:b@c", "http://@a", "unix:", "http://a b"])
    func isRefusedWithoutItsToken(_ text: String) {
        #expect { try ServerURL(text, allowsToken: true) } throws: { !"\($0)".contains("a:b") }
    }
}
