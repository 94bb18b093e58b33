// Which cookies of a redirect are kept, and where they are sent (RFC 6265).

import Support
import Testing

@testable import Net

@Suite(.blocking) struct CookieJarTests {
    /// The Cookie line for `target` after each of `fields` was set at `origin`.
    private func cookies(
        _ fields: String..., from origin: String = "http://a.example/d/e", at target: String
    ) throws -> String {
        var jar = CookieJar()
        let url = try HTTPURL(Array(origin.utf8).span)
        for field in fields { jar.store(Array(field.utf8).span, from: url) }
        return String(decoding: jar.field(for: try HTTPURL(Array(target.utf8).span)), as: UTF8.self)
    }

    @Test(arguments: [
        ("a=1", "Cookie: a=1\r\n"), (" a = 1=2 ; x", "Cookie: a=1=2\r\n"), ("a=\"1\"", "Cookie: a=\"1\"\r\n"),
        ("a=", "Cookie: a=\r\n"), ("a", ""), ("=1", ""), ("a=1; Secure", ""), ("a=1; Max-Age=0", ""),
        ("a=1; max-age=60; Expires=Sun, 06 Nov 1994 08:49:37 GMT", "Cookie: a=1\r\n"),
        ("a=1; Expires=Sun, 06 Nov 1994 08:49:37 GMT", ""), ("a=1; Expires=nonsense", "Cookie: a=1\r\n"),
        ("a=1; Domain=b.example", ""), ("a=1; Domain=example", ""), ("a=1; Domain=.A.example", "Cookie: a=1\r\n"),
        ("a=1; Path=/other", ""), ("a=1; Path=other", "Cookie: a=1\r\n"), ("a=1; path=/d/f", "Cookie: a=1\r\n"),
        (String(repeating: "a", count: 4096) + "=1", ""),
    ])
    func aCookieIsReadAsTheStandardSays(_ field: String, _ expected: String) throws {
        #expect(try cookies(field, at: "http://a.example/d/f") == expected)
    }

    @Test(arguments: [
        ("http://a.example/d", true), ("http://a.example/d/", true), ("http://a.example/d/x/y?q", true),
        ("http://a.example/", false), ("http://a.example/dd", false), ("http://b.example/d/", false),
        ("http://b.a.example/d/", false), ("http://a.example:8080/d/", true),
    ])
    func aCookieGoesToItsHostAndPath(_ target: String, _ isSent: Bool) throws {
        #expect(try cookies("a=1", at: target).isEmpty != isSent)
    }

    @Test func aCookieOfADomainGoesToItsHosts() throws {
        let field = "a=1; Domain=shop.example; Path=/"
        let origin = "http://www.shop.example/"
        for target in ["http://shop.example/", "http://x.shop.example/"] {
            #expect(try cookies(field, from: origin, at: target) == "Cookie: a=1\r\n")
        }
        #expect(try cookies(field, from: origin, at: "http://myshop.example/").isEmpty)
    }

    @Test func aCookieReplacesOneOfTheSameNameAndPath() throws {
        #expect(try cookies("a=1", "b=2", "a=3", at: "http://a.example/d/") == "Cookie: a=3; b=2\r\n")
        #expect(try cookies("a=1; Path=/", "a=2", at: "http://a.example/d/") == "Cookie: a=2; a=1\r\n")
        #expect(try cookies("a=1", "a=; Max-Age=0", at: "http://a.example/d/").isEmpty)
    }

    @Test func aSecureCookieStaysOnHTTPS() throws {
        #expect(try cookies("a=1; Secure", at: "http://a.example/d/").isEmpty)
        let secure = "https://a.example/d/"
        #expect(try cookies("a=1; Secure", from: secure, at: secure) == "Cookie: a=1\r\n")
        #expect(try cookies("a=1; Secure", from: secure, at: "http://a.example/d/").isEmpty)
    }

    @Test func theNumberOfCookiesIsBounded() throws {
        var jar = CookieJar()
        let url = try HTTPURL(Array("http://a.example/".utf8).span)
        for number in 0..<60 { jar.store(Array("c\(number)=1".utf8).span, from: url) }
        #expect(String(decoding: jar.field(for: url), as: UTF8.self).split(separator: ";").count == 50)
    }
}
