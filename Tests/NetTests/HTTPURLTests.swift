// The client's URLs: which are accepted, which are refused and why, and how references are resolved.

import Support
import Testing

@testable import Net

private func url(_ text: String) throws -> HTTPURL { try HTTPURL(Array(text.utf8).span) }

@Suite(.blocking) struct HTTPURLTests {
    @Test(arguments: [
        ("http://example.com", "example.com", 80, "/", "example.com"),
        ("HTTP://Example.COM:8080/A/b?C=d", "example.com", 8080, "/A/b?C=d", "example.com:8080"),
        ("http://example.com:/", "example.com", 80, "/", "example.com"),
        ("http://example.com:080/", "example.com", 80, "/", "example.com"),
        ("http://example.com?q", "example.com", 80, "/?q", "example.com"),
        ("http://example.com#f/@[", "example.com", 80, "/", "example.com"),
        ("http://example.com/a#f", "example.com", 80, "/a", "example.com"),
        ("http://h_1.x-y.example./%7E@:", "h_1.x-y.example.", 80, "/%7E@:", "h_1.x-y.example."),
        ("http://127.0.0.1:1/", "127.0.0.1", 1, "/", "127.0.0.1:1"),
        ("http://[2001:DB8::0:1]:65535/", "2001:db8::1", 65535, "/", "[2001:db8::1]:65535"),
        ("http://[::1]", "::1", 80, "/", "[::1]"), ("https://h", "h", 443, "/", "h"),
        ("HTTPS://h:443/x", "h", 443, "/x", "h"), ("https://h:80/", "h", 80, "/", "h:80"),
    ])
    func readsItsParts(_ text: String, host: String, port: UInt16, target: String, authority: String) throws {
        let read = try url(text)
        #expect(read.host == host)
        #expect(read.port == port)
        #expect(String(decoding: read.target, as: UTF8.self) == target)
        #expect(String(decoding: read.authority, as: UTF8.self) == authority)
        #expect(try url(read.description) == read)
    }

    @Test(arguments: [
        ("http://example.com", "http://example.com"), ("HTTP://Example.COM:080", "HTTP://Example.COM:080"),
        ("http://example.com:80/A?b=C", "http://example.com:80/A?b=C"), ("http://h?q#f", "http://h?q"),
        ("http://[::0:1]/#", "http://[::0:1]/"), ("http://h/%7e", "http://h/%7e"),
    ])
    func isShownAsItWasWritten(_ text: String, description: String) throws {
        #expect(try url(text).description == description)
    }

    @Test(arguments: [
        ("http://h/", "http://h"), ("http://H:80/x", "http://h"), ("https://h/", "https://h"),
        ("https://h:80/", "https://h:80"), ("http://h:443/", "http://h:443"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ])
    func knowsItsOrigin(_ text: String, origin: String) throws {
        #expect(String(decoding: try url(text).origin, as: UTF8.self) == origin)
        #expect(try url(text).isSecure == origin.hasPrefix("https"))
    }

    @Test func neverLeadsFromHTTPSToHTTP() throws {
        let base = try url("https://a/b")
        func resolved(_ text: String) throws -> String { try base.resolving(Array(text.utf8).span).description }
        #expect(try resolved("//x/y") == "https://x/y")
        #expect(try resolved("c") == "https://a/c")
        #expect(try url("http://a/").resolving(Array("https://a/".utf8).span).isSecure)
        #expect { try resolved("http://a/b") } throws: { "\($0)" == "it leads from https to http" }
    }

    @Test func knowsLiteralAddresses() throws {
        #expect(try url("http://192.0.2.1/").address == IPAddress("192.0.2.1"))
        #expect(try url("http://[::ffff:192.0.2.1]/").address == IPAddress("192.0.2.1"))
        #expect(try url("http://[2001:db8::1]/").address == IPAddress("2001:db8::1"))
        #expect(try url("http://example.com/").address == nil)
    }

    @Test(arguments: [
        ("https:/example.com/", "or https://"), ("httpss://example.com/", "or https://"),
        ("ftp://example.com/", "begins with http://"),
        ("example.com", "begins with http://"), ("", "begins with http://"), ("http:/", "begins with http://"),
        ("http://", "needs a host"), ("http:///path", "needs a host"), ("http://:80/", "needs a host"),
        ("http://.", "needs a host"), ("http://u:p@example.com/", "use a header"), ("http://u@h/", "use a header"),
        ("http://a b/", "0x20"), ("http://h/a b", "0x20"), ("http://h/\u{e9}", "0xC3"), ("http://h/\n", "0x0A "),
        ("http://h/\u{0}", "0x00 "), ("http://h/<", "0x3C"), ("http://h/\\", "0x5C"), ("http://h/?[]", "0x5B"),
        ("http://h/%", "hexadecimal"), ("http://h/%4", "hexadecimal"), ("http://h/%4g", "hexadecimal"),
        ("http://h/%4#1", "hexadecimal"), ("http://h:0/", "1 to 65535"), ("http://h:65536/", "1 to 65535"),
        ("http://h:+1/", "1 to 65535"), ("http://h:1:2/", "1 to 65535"), ("http://h!/", "letters"),
        ("http://h%41/", "letters"), ("http://h\\@x/", "use a header"), ("http://h\\x/", "letters"),
        ("http://127.1/", "IPv4"), ("http://2130706433/", "IPv4"), ("http://0x7f000001/", "IPv4"),
        ("http://127.0.0.1./", "IPv4"), ("http://127.0.0.256/", "IPv4"), ("http://1.2.3.04/", "IPv4"),
        ("http://[::1/", "IPv6"), ("http://[]/", "IPv6"), ("http://[1.2.3.4]/", "IPv6"),
        ("http://[fe80::1%25eth0]/", "IPv6"),
        ("http://[::1]x/", "followed by"), ("http://::1/", "needs a host"),
    ])
    func refusesWithASentence(_ text: String, word: String) {
        #expect { try url(text) } throws: { "\($0)".contains(word) }
    }

    @Test func lengthIsBoundedToTheByte() throws {
        let start = "http://h/"
        #expect(try url(start + String(repeating: "a", count: 8000 - start.utf8.count)).target.count == 7992)
        #expect { try url(start + String(repeating: "a", count: 8001 - start.utf8.count)) } throws: {
            "\($0)".contains("8000 bytes")
        }
        #expect(try url("http://" + String(repeating: "a", count: 253)).host.utf8.count == 253)
        #expect(throws: HTTPURLError.self) { try url("http://" + String(repeating: "a", count: 254)) }
    }

    /// Modelled on the examples of RFC 3986 section 5.4.
    @Test(arguments: [
        ("http://x/y", "http://x/y"), ("//x:81/y", "http://x:81/y"), ("/z", "http://a:8/z"), ("z", "http://a:8/b/c/z"),
        ("z/", "http://a:8/b/c/z/"), ("?y", "http://a:8/b/c/d;p?y"), ("g?y#s", "http://a:8/b/c/g?y"),
        ("", "http://a:8/b/c/d;p?q"), ("#s", "http://a:8/b/c/d;p?q"), (".", "http://a:8/b/c/"),
        ("./", "http://a:8/b/c/"),
        ("..", "http://a:8/b/"), ("../g", "http://a:8/b/g"), ("../../../g", "http://a:8/g"), ("/./g", "http://a:8/g"),
        ("/../g", "http://a:8/g"), ("g.", "http://a:8/b/c/g."), ("..g", "http://a:8/b/c/..g"),
        ("./g/.", "http://a:8/b/c/g/"), ("g/../h", "http://a:8/b/c/h"), ("g?y/../x", "http://a:8/b/c/g?y/../x"),
        ("/a//b", "http://a:8/a//b"),
    ])
    func resolvesReferences(_ reference: String, expected: String) throws {
        let base = try url("http://a:8/b/c/d;p?q")
        let resolved = try base.resolving(Array(reference.utf8).span)
        #expect(resolved.description == expected)
    }

    @Test(arguments: ["mailto:a@b", "//", "//u@h/", "/ ", "\u{e9}"])
    func refusesReferencesItCannotFollow(_ reference: String) throws {
        let base = try url("http://a/")
        #expect(throws: HTTPURLError.self) { try base.resolving(Array(reference.utf8).span) }
    }
}
