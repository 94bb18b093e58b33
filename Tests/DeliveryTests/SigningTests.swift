// How the options of a push sign requests: which secrets sign, what stays the same over retries, and which options are
// refused.

import Queues
import Support
import Testing
import UID

@testable import Delivery
@testable import Net

private let first = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
private let second = "whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"

@Suite("Signing", .blocking)
struct SigningTests {
    private func signed(_ signature: Signature, _ secrets: [String], id: UID, at time: Int64, body: String) -> String {
        var fields: [UInt8] = []
        let id = id.text
        signature.appendFields(
            id: Array(copying: id.span), secrets: secrets.map { Array($0.utf8) }, unixSeconds: time,
            body: Array(body.utf8).span, to: &fields)
        return text(fields)
    }

    @Test(
        "The body is signed as a receiver expects, with one kind of signature",
        arguments: [
            (#""secret":"s3""#, Signature.emq, ["s3"]), (#""signature":"emq","secrets":["s3","s4"]"#, .emq, ["s3"]),
            (#""signature":"standard","secret":"\#(first)""#, .standard, [first]),
            (#""signature":"standard","secrets":["\#(first)","\#(second)"]"#, .standard, [first, second]),
        ])
    func signature(options: String, signature: Signature, secrets: [String]) throws {
        try withWorld(now: 1_700_000_000_123) { world, broker in
            try world.push("q", "{\"url\":\"http://a.test/\",\(options)}", broker)
            let id = try world.add("q", content: #"{"a":1}"#, broker)
            world.turn(broker)
            let fields = text(try #require(world.sender.requests.values.first).fields)
            #expect(fields.contains(signed(signature, secrets, id: id, at: 1_700_000_000, body: #"{"a":1}"#)))
            #expect(fields.contains("Emq-Signature") == (signature == .emq))
            #expect(fields.contains("webhook-") == (signature == .standard))
            #expect(fields.contains("Emq-Task-Id: ") && fields.contains("Emq-Queue: q\r\nEmq-Attempt: 1\r\n"))
        }
    }

    @Test("Over retries webhook-id stays and the time is new; a dead-letter notification has an id of its own")
    func retries() throws {
        try withWorld(now: 1_700_000_000_000) { world, broker in
            try world.push(
                "q",
                #"{"url":"http://a.test/","on_dead":"http://a.test/","signature":"standard","secret":"\#(first)"}"#,
                retries: 1, broker)
            let id = try world.add("q", backoff: 60_000, broker)
            for time in [1_700_000_000, 1_700_000_060] as [Int64] {
                world.advance(broker) { world.sender.requests.count == 1 }
                let fields = text(try #require(world.sender.requests.values.first).fields)
                #expect(fields.contains(signed(.standard, [first], id: id, at: time, body: "1")))
                world.answerAll("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", broker)
            }
            world.turn(broker)
            let request = try #require(world.sender.requests.values.first)
            let notification = UID(high: 1 << 32 + 1, low: 1 << 32 + 1)
            let body = text(request.body ?? [])
            #expect(
                text(request.fields).contains(
                    signed(.standard, [first], id: notification, at: 1_700_000_060, body: body)))
        }
    }

    @Test("A GET is signed as one with an empty body")
    func noBody() throws {
        try withWorld(now: 1_700_000_000_000) { world, broker in
            try world.push(
                "q", #"{"url":"http://a.test/","method":"GET","signature":"standard","secret":"\#(first)"}"#, broker)
            let id = try world.add("q", broker)
            world.turn(broker)
            let request = try #require(world.sender.requests.values.first)
            #expect(
                text(request.fields).contains(signed(.standard, [first], id: id, at: 1_700_000_000, body: "")))
        }
    }

    @Test("A header that a task got before its queue's signature does not replace the signature's")
    func reservedHeader() throws {
        try withWorld { world, broker in
            try world.push("q", #"{"url":"http://a.test/"}"#, broker)
            try world.add("q", request: #"{"headers":{"Webhook-ID":"forged","X-A":"b"}}"#, broker)
            try world.push("q", #"{"url":"http://a.test/","signature":"standard","secret":"\#(first)"}"#, broker)
            world.turn(broker)
            let fields = text(try #require(world.sender.requests.values.first).fields)
            #expect(!fields.contains("forged") && fields.contains("X-A: b\r\nUser-Agent"))
        }
    }

    // MARK: Options

    private func read(_ members: String) throws -> PushOptions {
        try PushOptions(Array("{\(members)}".utf8).span, of: .queue)
    }

    @Test(
        "The masked secrets are the first of the previous ones",
        arguments: [
            // A new secret comes in front, and then the old one is left out.
            ("old", "new ***", "new old"), ("new old", "***", "new"), ("new old", "*** ***", "new old"),
            ("b a", "c ***", "c b"), ("a", "*** b", "a b"), ("b a", "*** c ***", "b c a"), ("a", "b", "b"),
            ("a", "*** ***", nil), ("", "***", nil), ("a", "b *** ***", nil),
        ] as [(String, String, String?)])
    func masks(before: String, said: String, after: String?) throws {
        func options(_ secrets: String) throws -> PushOptions {
            let list = secrets.split(separator: " ").map { "\"\($0)\"" }.joined(separator: ",")
            return try read(list.isEmpty ? "" : "\"secrets\":[\(list)]")
        }
        let previous = try options(before)
        var changed = try options(said)
        do throws(PushOptionsError) {
            try changed.keepMaskedValues(of: previous)
            #expect(changed.secrets.map(text).joined(separator: " ") == after)
        } catch {
            let count = changed.secrets.count
            #expect(after == nil && error.field == (count == 1 ? "secret" : "secrets[\(count - 1)]"))
            #expect(
                error.detail
                    == (before.isEmpty
                        ? "*** keeps the current secret, but there is none; send the secret itself"
                        : "each *** keeps one of the current secrets, of which there are \(previous.secrets.count)"))
        }
    }

    @Test("One secret may be given as a list, and is stored and shown alone")
    func oneSecret() throws {
        let listed = try read(#""secrets":["a"]"#)
        let alone = try read(#""secret":"a""#)
        #expect(listed == alone)
        for (options, shown) in [
            (listed, #"{"secret":"***"}"#), (try read(#""secrets":["a","b"]"#), #"{"secrets":["***","***"]}"#),
        ] {
            var json: [UInt8] = []
            options.write(isMasked: true, to: &json)
            #expect(text(json) == shown)
            var stored: [UInt8] = []
            options.write(isMasked: false, to: &stored)
            #expect(PushOptions(stored: stored, of: .queue) == options)
        }
    }
}
