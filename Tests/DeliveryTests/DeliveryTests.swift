// Push in virtual time: requests and their outcomes. The tests respond to the requests.

import Queues
import Support
import Testing
import UID

@testable import Delivery
@testable import Net

@Suite("Delivery", .blocking)
struct DeliveryTests {
    // MARK: Requests

    @Test("A task with its own request and one of a pushed queue are sent by their options")
    func requests() throws {
        try withWorld { world, broker in
            try world.push(
                "hooks", #"{"url":"http://a.test/q?x=1","method":"PUT","headers":{"X-Key":"k"},"timeout":7}"#, broker)
            try world.add("hooks", content: #"{"n": 1}"#, broker)
            try world.add("own", content: "2", request: #"{"url":"http://b.test:81/","body":{"b":true}}"#, broker)
            world.turn(broker)
            let requests = world.sender.requests.values.sorted { $0.url.host < $1.url.host }
            try #require(requests.count == 2)
            #expect(requests[0].url.description == "http://a.test/q?x=1")
            #expect(text(requests[0].method) == "PUT")
            #expect(requests[0].body == Array(#"{"n": 1}"#.utf8))
            #expect(requests[0].timeoutMilliseconds == 7000)
            let fields = text(requests[0].fields)
            #expect(fields.contains("X-Key: k\r\n"))
            #expect(fields.contains("Content-Type: application/json\r\n"))
            #expect(fields.contains("Emq-Queue: hooks\r\n"))
            #expect(fields.contains("Emq-Attempt: 1\r\n"))
            #expect(!fields.contains("Emq-Signature"))
            #expect(text(requests[1].method) == "POST")
            #expect(requests[1].body == Array(#"{"b":true}"#.utf8))
            #expect(requests[1].timeoutMilliseconds == 30_000)
        }
    }

    @Test("GET and HEAD have no body", arguments: ["GET", "HEAD"])
    func noBody(method: String) throws {
        try withWorld { world, broker in
            try world.add("q", request: #"{"url":"http://a.test/","method":"\#(method)"}"#, broker)
            world.turn(broker)
            let request = try #require(world.sender.requests.values.first)
            #expect(request.body == nil)
            #expect(!text(request.fields).contains("Content-Type"))
        }
    }

    @Test("A queue's headers go only to its own receiver, and a task's own header takes precedence")
    func headers() throws {
        try withWorld { world, broker in
            try world.push(
                "q", #"{"url":"http://a.test/","headers":{"Authorization":"secret","X-Both":"queue"}}"#, broker)
            try world.add("q", request: #"{"url":"http://a.test/other","headers":{"x-both":"task"}}"#, broker)
            try world.add("q", request: #"{"url":"http://a.test:8080/"}"#, broker)
            world.turn(broker)
            for request in world.sender.requests.values {
                let fields = text(request.fields)
                #expect(fields.contains("Authorization: secret") == (request.url.port == 80))
                #expect(!fields.contains("X-Both: queue") || request.url.port != 80)
                #expect(fields.contains("x-both: task") == (request.url.port == 80))
            }
            #expect(world.sender.requests.count == 2)
        }
    }

    @Test("A dead-letter notification does not carry the queue's headers, whether the queue has a URL or not")
    func headersOfNotifications() throws {
        try withWorld { world, broker in
            try world.push(
                "q", #"{"headers":{"Authorization":"secret"},"on_dead":"http://grave.test/"}"#, retries: 0, broker)
            try world.add("q", request: #"{"url":"http://a.test/"}"#, broker)
            world.turn(broker)
            let task = try #require(world.sender.requests.values.first)
            #expect(text(task.fields).contains("Authorization: secret"))
            world.answerAll("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", broker)
            world.turn(broker)
            let notification = try #require(world.sender.requests.values.first)
            #expect(notification.url.host == "grave.test")
            #expect(!text(notification.fields).contains("Authorization"))
        }
    }

    @Test(
        "*** keeps the value of a header only for the same host and port",
        arguments: [
            ("http://a.test/", "http://a.test/other?x", true), ("http://a.test/", "http://A.test:80/", true),
            ("http://a.test/", "http://b.test/", false), ("http://a.test/", "http://a.test:81/", false),
        ])
    func maskedHeaders(before: String, after: String, isKept: Bool) throws {
        let json = Array(#"{"url":"\#(before)","headers":{"X-Key":"k"},"secret":"s"}"#.utf8)
        let masked = Array(#"{"url":"\#(after)","headers":{"x-key":"***"},"secret":"***"}"#.utf8)
        let previous = try PushOptions(json.span, of: .queue)
        var options = try PushOptions(masked.span, of: .queue)
        if isKept {
            try options.keepMaskedValues(of: previous)
            #expect(options.headers.map(\.value) == [Array("k".utf8)])
            #expect(options.secrets == [Array("s".utf8)])
        } else {
            #expect(throws: PushOptionsError.self) { try options.keepMaskedValues(of: previous) }
        }
    }

    @Test("Options are refused if their stored form could not be read again")
    func lengths() throws {
        let place = "http://a.test?"
        for (count, isTaken) in [(8000, true), (8001, false)] {
            let url = place + String(repeating: "x", count: count - place.utf8.count)
            let json = Array(#"{"url":"\#(url)"}"#.utf8)
            guard isTaken else {
                #expect(throws: PushOptionsError.self) { _ = try PushOptions(json.span, of: .queue) }
                continue
            }
            let options = try PushOptions(json.span, of: .queue)
            var stored: [UInt8] = []
            options.write(isMasked: false, to: &stored)
            #expect(PushOptions(stored: stored, of: .queue) == options)
        }
        let name = String(repeating: "n", count: 257)
        let json = Array(#"{"headers":{"\#(name)":"v"}}"#.utf8)
        #expect(throws: PushOptionsError.self) { _ = try PushOptions(json.span, of: .queue) }
    }

    @Test("A queue's name is percent-encoded in its header")
    func queueName() throws {
        try withWorld { world, broker in
            try world.add("a b/ü\r\n", request: #"{"url":"http://a.test/"}"#, broker)
            world.turn(broker)
            let request = try #require(world.sender.requests.values.first)
            #expect(text(request.fields).contains("Emq-Queue: a%20b%2F%C3%BC%0D%0A\r\n"))
        }
    }

    @Test("A task that no longer has a URL dies with the reason")
    func noURL() throws {
        try withWorld { world, broker in
            let id = try world.add("q", request: #"{"timeout":1}"#, broker)
            world.turn(broker)
            #expect(world.state(id, broker) == .dead)
            #expect(world.error(id, broker).contains("url"))
            #expect(world.sender.requests.isEmpty)
        }
    }

    // MARK: Outcomes

    @Test("2xx acknowledges, anything else is a failed attempt", arguments: [200, 204, 299, 302, 400, 404, 500, 599])
    func statuses(status: Int) throws {
        try withWorld { world, broker in
            let id = try world.add("q", request: #"{"url":"http://a.test/"}"#, broker)
            world.turn(broker)
            world.answerAll("HTTP/1.1 \(status) X\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n", broker)
            if status < 300 {
                #expect(world.state(id, broker) == nil)
            } else {
                #expect(world.state(id, broker) == .delayed)
                #expect(world.error(id, broker).contains("\(status)"))
                #expect(world.error(id, broker).contains("/there") == (status == 302))
            }
        }
    }

    @Test("Pauses before retries start at 1 s and double, within 10 %, until no retries are left")
    func backoff() throws {
        try withWorld { world, broker in
            let id = try world.add("q", request: #"{"url":"http://a.test/"}"#, retries: 3, broker)
            for attempt in 0..<4 {
                world.turn(broker)
                try #require(world.sender.requests.count == 1, "attempt \(attempt)")
                let failed = world.now
                world.failAll(.broken(authority: "a.test", isReset: true), broker)
                if attempt == 3 { break }
                world.advance(broker) { !world.sender.requests.isEmpty }
                let pause = Double(world.now - failed)
                let expected = 1000 * Double(1 << attempt)
                #expect(abs(pause - expected) <= expected * 0.1 + 1, "attempt \(attempt) paused \(pause)")
            }
            #expect(world.state(id, broker) == .dead)
            #expect(world.error(id, broker).contains("reset"))
        }
    }

    @Test(
        "Retry-After replaces the backoff, up to a day",
        arguments: [
            ("429", "7", 7000), ("503", "120", 120_000), ("503", "99999999999999999999", 86_400_000),
            ("503", "Tue, 14 Nov 2023 22:13:50 GMT", 30_000),
            ("503", "Tuesday, 14-Nov-23 22:13:50 GMT", 30_000), ("503", "Tue Nov 14 22:13:50 2023", 30_000),
            // A receiver's clock may be wrong; that must not remove the pause.
            ("503", "Tue, 14 Nov 2000 22:13:50 GMT", 1000), ("429", "0", 1000),
            ("500", "7", 1000), ("503", "soon", 1000),
        ] as [(String, String, Int64)])
    func retryAfter(status: String, value: String, pause: Int64) throws {
        // 2023-11-14 22:13:20.
        try withWorld(now: 1_700_000_000_000) { world, broker in
            try world.add(
                "q", request: #"{"url":"http://a.test/"}"#, backoff: 1000, expiry: 2 * 86_400_000, broker)
            world.turn(broker)
            let failed = world.now
            world.answerAll("HTTP/1.1 \(status) X\r\nRetry-After: \(value)\r\nContent-Length: 0\r\n\r\n", broker)
            world.advance(broker) { !world.sender.requests.isEmpty }
            #expect(world.now - failed == pause)
        }
    }

    @Test("A task for a forbidden address dies at once")
    func refusedAddress() throws {
        try withWorld { world, broker in
            let id = try world.add("q", request: #"{"url":"http://a.test/"}"#, broker)
            world.turn(broker)
            let address = try #require(IPAddress("10.0.0.1"))
            world.failAll(.refusedAddress(host: "a.test", address: address, reason: "a reason"), broker)
            #expect(world.state(id, broker) == .dead)
            // The reason names the host and the address.
            #expect(world.error(id, broker) == "http://a.test/: a reason")
        }
    }

    @Test("An error shows the printable parts of a response's body")
    func shownBodies() throws {
        func filled(_ beginning: String, _ filler: String, _ count: Int, _ end: String) -> [UInt8] {
            Array((beginning + String(repeating: filler, count: count) + end).utf8)
        }
        let bodies: [(body: [UInt8], shown: String)] = [
            (Array("a\u{1}b".utf8), "a\u{FFFD}b"), (Array("\u{1B}[31mred".utf8), "\u{FFFD}[31mred"),
            ([0x63, 0x61, 0x66, 0xE9], "caf\u{FFFD}"), ([0xE9, 0x74, 0xC3, 0xA9], "\u{FFFD}t\u{E9}"),
            ([0, 1], "\u{FFFD}\u{FFFD}"), (Array("a\u{85}b\u{7F}\u{9B}".utf8), "a b\u{FFFD}\u{FFFD}"),
            // A character that is cut off is not shown.
            (filled("x", " ", 802, "\u{E4}"), "x"), (filled("x", " ", 800, "\u{1F600}"), "x"),
            (filled("x", " ", 801, "\u{E4}..."), "x \u{E4}"),
            ([UInt8](repeating: 0xFF, count: 1000), String(repeating: "\u{FFFD}", count: 200) + "…"),
        ]
        for (body, shown) in bodies {
            try withWorld { world, broker in
                let id = try world.add("q", request: #"{"url":"http://a.test/p?token"}"#, broker)
                world.turn(broker)
                let head = Array("HTTP/1.1 500 X\r\nContent-Length: \(body.count)\r\n\r\n".utf8)
                world.answerAll(head + body, broker)
                #expect(world.error(id, broker) == "http://a.test/p answered 500 Internal Server Error: \(shown)")
            }
        }
    }

    @Test("With keep, the last response becomes the result, also if the task dies")
    func results() throws {
        try withWorld { world, broker in
            let id = try world.add("q", request: #"{"url":"http://a.test/"}"#, retries: 1, keep: 60_000, broker)
            world.turn(broker)
            world.now += 250
            world.answerAll(
                "HTTP/1.1 500 X\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 5\r\n\r\nsaid\"", broker, elapsed: 250)
            let result =
                #"{"status":500,"headers":{"X-A":"1, 2","Content-Length":"5"},"body":"said\"","elapsed":0.25}"#
            #expect(world.result(id, broker) == result)
            // The last attempt gets no response, so the result stays.
            world.advance(broker) { !world.sender.requests.isEmpty }
            world.failAll(.broken(authority: "a.test", isReset: false), broker)
            #expect(world.state(id, broker) == .dead)
            #expect(world.result(id, broker) == result)
        }
    }

    @Test(
        "A body that is not text is shown as base64, and a truncated one is marked",
        arguments: [
            ([0xFF], false, #""body_base64":"/w==""#), ([0x61, 0xFF, 0x62], false, #""body_base64":"Yf9i""#),
            ([0x61, 0xC3], false, #""body_base64":"YcM=""#), ([0x61, 0xC3], true, #""body":"a","truncated":true"#),
            ([0xC3, 0xBC], false, #""body":"ü""#), ([], false, #""body":"""#),
        ] as [([UInt8], Bool, String)])
    func bodies(body: [UInt8], isCut: Bool, expected: String) throws {
        try withWorld { world, broker in
            let id = try world.add("q", request: #"{"url":"http://a.test/"}"#, keep: 60_000, broker)
            world.turn(broker)
            let head = Array("HTTP/1.1 200 OK\r\nContent-Length: \(body.count + (isCut ? 10 : 0))\r\n\r\n".utf8)
            world.answerAll(head + body + (isCut ? Array("0123456789".utf8) : []), broker, bodyLimit: body.count)
            #expect(world.result(id, broker).contains(expected), "\(world.result(id, broker))")
        }
    }

    @Test("If memory is short, a response is kept without its body")
    func noRoom() throws {
        try withWorld { world, broker in
            let id = try world.add("q", request: #"{"url":"http://a.test/"}"#, keep: 60_000, broker)
            world.turn(broker)
            world.delivery.isShortOfMemory = true
            world.answerAll("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", broker)
            #expect(world.result(id, broker).contains(#""body":"","truncated":true"#))
        }
    }

    @Test("Outcomes wait while there is no room for their changes")
    func noRoomAtAll() throws {
        try withWorld { world, broker in
            let id = try world.add("q", request: #"{"url":"http://a.test/"}"#, broker)
            world.turn(broker)
            world.sender.answers = world.sender.requests.keys.map {
                ($0, .response(Array("HTTP/1.1 204 X\r\n\r\n".utf8), 1, 1))
            }
            world.delivery.beginTurn(on: broker, now: world.now) { _ in false }
            #expect(world.state(id, broker) == .dispatched)
            world.turn(broker)
            #expect(world.state(id, broker) == nil)
        }
    }

    @Test("A client that waits for the result gets it without keep, also if the task dies")
    func waitedResult() throws {
        try withWorld { world, broker in
            let id = try world.add("q", request: #"{"url":"http://a.test/"}"#, broker)
            world.turn(broker)
            let log = Log()
            _ = broker.waitForResult(of: id, deadline: world.now + 1000, now: world.now) { state, result in
                log.lines.append("\(state) \(text(Array(copying: result)))")
            }
            world.answerAll("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", broker)
            #expect(log.lines.count == 1)
            #expect(log.lines.first?.hasPrefix("done {\"status\":200") == true)
        }
    }

    @Test("A client that waits for a task that dies gets the last response, also without keep")
    func waitedDeath() throws {
        try withWorld { world, broker in
            let id = try world.add("q", request: #"{"url":"http://a.test/"}"#, retries: 0, broker)
            world.turn(broker)
            let log = Log()
            _ = broker.waitForResult(of: id, deadline: world.now + 1000, now: world.now) { state, result in
                log.lines.append("\(state) \(text(Array(copying: result)))")
            }
            world.answerAll("HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n", broker)
            #expect(log.lines.first?.hasPrefix("dead {\"status\":404") == true, "\(log.lines)")
        }
    }
}

private final class Log {
    var lines: [String] = []
}
