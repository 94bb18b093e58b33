// Bodies in gzip and deflate are unpacked by the system's zlib.

import Foundation
import Support
import Testing

@testable import Net

@Suite(
    .blocking, .timeLimit(.minutes(10)), .enabled(if: ClientRequest.canDecodeContent, "this system has no libz.so.1"))
struct DecodingTests {
    /// `hello, hello, hello` in gzip, zlib's format and bare deflate.
    private static let hello = [
        ("gzip", "H4sIAAAAAAACA8tIzcnJ11HIQKIAn6HKCRMAAAA="), ("X-GZIP", "H4sIAAAAAAACA8tIzcnJ11HIQKIAn6HKCRMAAAA="),
        ("deflate", "eJzLSM3JyddRyECiAEQoBtU="), ("deflate", "y0jNycnXUchAogA="),
    ]
    /// A million times `x` in gzip.
    private static let packedLarge =
        "H4sIAAAAAAACA+3BAQEAAACCoNvOb0hAAQ" + String(repeating: "A", count: 1290) + "rwbCW3RjQEIPAA=="

    /// The outcome of an exchange whose response has a packed body.
    private func unpack(
        _ coding: String, _ packed: Data, _ change: (inout ClientRequest) -> Void = { _ in }
    ) throws -> Ended {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url) {
            $0.decodesContent = true
            change(&$0)
        }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send("HTTP/1.1 200 OK\r\nContent-Encoding: \(coding)\r\nContent-Length: \(packed.count)\r\n\r\n")
        peer.send(Array(packed))
        let end = try client.end(of: 1)
        #expect(client.client.bufferBytes == 0)
        return end
    }

    private func data(_ text: String) throws -> Data { try #require(Data(base64Encoded: text)) }

    @Test(arguments: hello)
    func packedBodiesAreUnpacked(_ coding: String, _ packed: String) throws {
        let end = try unpack(coding, try data(packed))
        #expect(end.body == "hello, hello, hello")
        #expect(end.fields.first == "Content-Encoding=\(coding)")
        #expect(!end.isTruncated)
    }

    @Test func nothingIsUnpackedUnlessAskedFor() throws {
        let packed = try data(Self.hello[0].1)
        #expect(
            try unpack("gzip", packed) { $0.decodesContent = false }.body == String(decoding: packed, as: UTF8.self))
        #expect(try unpack("br", Data("as it is".utf8)).body == "as it is")
        #expect(try unpack("gzip", Data()).body.isEmpty)
    }

    @Test func severalMembersAreOneBody() throws {
        let two = try data("H4sIAAAAAAACA0sEAEO+t+gBAAAAH4sIAAAAAAACA0sCAPnvvnEBAAAA")
        #expect(try unpack("gzip", two).body == "ab")
        #expect(try unpack("gzip", two + Data("rest".utf8)).body == "ab")
    }

    @Test func largeBodiesAreUnpackedInPiecesAndBounded() throws {
        let packed = try data(Self.packedLarge)
        let whole = try unpack("gzip", packed)
        #expect(whole.body == String(repeating: "x", count: 1_000_000))
        for limit in [1, 999_999] {
            let end = try unpack("gzip", packed) { $0.bodyLimit = max(limit, packed.count) }
            #expect(end.body.utf8.count == max(limit, packed.count))
            #expect(end.isTruncated)
        }
        #expect(try !unpack("gzip", packed) { $0.bodyLimit = 1_000_000 }.isTruncated)
    }

    @Test func aBodyThatEndsTooEarlyIsTruncated() throws {
        let packed = try data(Self.hello[0].1)
        let end = try unpack("gzip", packed.dropLast(4))
        #expect(end.body == "hello, hello, hello")
        #expect(end.isTruncated)
        // The limit cuts the packed body.
        let cut = try unpack("gzip", packed) { $0.bodyLimit = packed.count - 10 }
        #expect("hello, hello, hello".hasPrefix(cut.body))
        #expect(cut.isTruncated)
    }

    @Test func chunkedBodiesAreUnpackedAndOthersLeftAlone() throws {
        let packed = try data(Self.hello[0].1)
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url) { $0.decodesContent = true }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        let size = String(packed.count, radix: 16)
        peer.send(Array("\(head)\(size)\r\n".utf8) + packed + Array("\r\n0\r\n\r\n".utf8))
        #expect(try client.end(of: 1).body == "hello, hello, hello")
        for (key, method, status) in [(UInt64(2), "HEAD", 200), (3, "GET", 204), (4, "GET", 304)] {
            try client.send(key, origin.url, method: method) { $0.decodesContent = true }
            _ = try client.request(at: peer)
            peer.send(
                "HTTP/1.1 \(status) x\r\nContent-Encoding: gzip\r\n\(status == 200 ? "Content-Length: 9\r\n" : "")\r\n")
            let end = try client.end(of: key)
            #expect(end.status == status && end.body.isEmpty && end.failure == nil)
        }
    }

    @Test func anExchangeCanBeCancelledWhileItsBodyIsUnpacked() throws {
        let packed = try data(Self.packedLarge)
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url) { $0.decodesContent = true }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: \(packed.count)\r\n\r\n")
        peer.send(Array(packed))
        // A turn unpacks for some milliseconds, so the body may also have ended by then.
        client.turn()
        client.client.cancel(1)
        #expect(client.client.bufferBytes == 0)
        #expect(client.client.exchangeCount == 0)
    }

    @Test func malformedBodiesAreFailures() throws {
        let packed = try data(Self.hello[0].1)
        for bad in [Data("not packed at all".utf8), packed.dropLast(1) + Data([7])] {
            guard case .malformed = try unpack("gzip", bad).failure else {
                Issue.record("\(Array(bad)) was unpacked")
                continue
            }
        }
    }
}
