// Push under virtual time: what is sent when, and what becomes of it. Requests go nowhere; the tests answer them.

import Queues
import Support
import Testing
import UID

@testable import Delivery
@testable import Net

@Suite("Delivery")
struct DeliveryTests {
    // MARK: What is sent

    @Test("A task of its own request and one of a pushed queue are sent as their options say")
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

    @Test("With a secret, the body is signed as a receiver expects")
    func signature() throws {
        try withWorld(now: 1_700_000_000_123) { world, broker in
            try world.push("q", #"{"url":"http://a.test/","secret":"s3"}"#, broker)
            try world.add("q", content: #"{"a":1}"#, broker)
            world.turn(broker)
            let request = try #require(world.sender.requests.values.first)
            let body = Array(#"{"a":1}"#.utf8)
            let expected = Signature.value(secret: Array("s3".utf8), unixSeconds: 1_700_000_000, body: body.span)
            #expect(text(request.fields).contains("Emq-Signature: \(text(expected))\r\n"))
        }
    }

    @Test("A queue's headers go to its own receiver only, and a task's own header goes before")
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
            #expect(options.secret == Array("s".utf8))
        } else {
            #expect(throws: PushOptionsError.self) { try options.keepMaskedValues(of: previous) }
        }
    }

    @Test("Options that could not be read again as they are kept are refused")
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

    @Test("A task that has no URL any more is dead, with the reason")
    func noURL() throws {
        try withWorld { world, broker in
            let id = try world.add("q", request: #"{"timeout":1}"#, broker)
            world.turn(broker)
            #expect(world.state(id, broker) == .dead)
            #expect(world.error(id, broker).contains("url"))
            #expect(world.sender.requests.isEmpty)
        }
    }

    // MARK: What comes back

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

    @Test("Retries pause from 1 s on, doubling, within 10 %, until they are used up")
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
        "Retry-After takes the place of the backoff, up to a day",
        arguments: [
            ("429", "7", 7000), ("503", "120", 120_000), ("503", "99999999999999999999", 86_400_000),
            ("503", "Tue, 14 Nov 2023 22:13:50 GMT", 30_000),
            ("503", "Tuesday, 14-Nov-23 22:13:50 GMT", 30_000), ("503", "Tue Nov 14 22:13:50 2023", 30_000),
            // A receiver's clock may be wrong: this is no reason to send without any pause.
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

    @Test("An address that may not be reached makes a task dead at once")
    func refusedAddress() throws {
        try withWorld { world, broker in
            let id = try world.add("q", request: #"{"url":"http://a.test/"}"#, broker)
            world.turn(broker)
            let address = try #require(IPAddress("10.0.0.1"))
            world.failAll(.refusedAddress(host: "a.test", address: address, reason: "a reason"), broker)
            #expect(world.state(id, broker) == .dead)
            // Whoever refuses says which host and address it was.
            #expect(world.error(id, broker) == "http://a.test/: a reason")
        }
    }

    @Test("Of an answer's body, an error shows what can be shown")
    func shownBodies() throws {
        func filled(_ beginning: String, _ filler: String, _ count: Int, _ end: String) -> [UInt8] {
            Array((beginning + String(repeating: filler, count: count) + end).utf8)
        }
        let bodies: [(body: [UInt8], shown: String)] = [
            (Array("a\u{1}b".utf8), "a\u{FFFD}b"), (Array("\u{1B}[31mred".utf8), "\u{FFFD}[31mred"),
            ([0x63, 0x61, 0x66, 0xE9], "caf\u{FFFD}"), ([0xE9, 0x74, 0xC3, 0xA9], "\u{FFFD}t\u{E9}"),
            ([0, 1], "\u{FFFD}\u{FFFD}"), (Array("a\u{85}b\u{7F}\u{9B}".utf8), "a b\u{FFFD}\u{FFFD}"),
            // Of characters that the end of what is looked at cuts, nothing is shown.
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

    @Test("With keep, the last answer is the result, also of a dead task")
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
            // The last attempt gets no answer: that of the one before stays.
            world.advance(broker) { !world.sender.requests.isEmpty }
            world.failAll(.broken(authority: "a.test", isReset: false), broker)
            #expect(world.state(id, broker) == .dead)
            #expect(world.result(id, broker) == result)
        }
    }

    @Test(
        "A body that is no text is base64, and one that is cut says so",
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

    @Test("Without room for it, an answer is kept without its body")
    func noRoom() throws {
        try withWorld { world, broker in
            let id = try world.add("q", request: #"{"url":"http://a.test/"}"#, keep: 60_000, broker)
            world.turn(broker)
            world.delivery.isShortOfMemory = true
            world.answerAll("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", broker)
            #expect(world.result(id, broker).contains(#""body":"","truncated":true"#))
        }
    }

    @Test("What came back waits while there is no room for what it changes")
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

    @Test("Who waits for the result gets it without keep, also of a task that dies")
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

    @Test("Who waits for a task that dies gets the last answer, without keep too")
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

    // MARK: Concurrency, rates, fairness

    @Test("Not more than the concurrency of a queue are in flight, 10 if it does not say")
    func concurrency() throws {
        try withWorld { world, broker in
            try world.push("three", #"{"url":"http://a.test/","concurrency":3}"#, broker)
            for _ in 0..<20 {
                try world.add("three", broker)
                try world.add("usual", request: #"{"url":"http://b.test/"}"#, broker)
            }
            world.turn(broker)
            #expect(world.sender.count(to: "a.test") == 3)
            #expect(world.sender.count(to: "b.test") == 10)
            var (a, b) = (3, 10)
            while world.delivery.inFlightCount > 0 {
                world.answerAll("HTTP/1.1 204 X\r\n\r\n", broker)
                world.turn(broker)
                #expect(world.sender.count(to: "a.test") <= 3)
                #expect(world.sender.count(to: "b.test") <= 10)
                a += world.sender.count(to: "a.test")
                b += world.sender.count(to: "b.test")
            }
            #expect(a == 20 && b == 20)
            // A higher one works at once.
            for _ in 0..<20 { try world.add("three", broker) }
            world.turn(broker)
            try world.push("three", #"{"url":"http://a.test/","concurrency":7}"#, broker)
            world.turn(broker)
            #expect(world.sender.count(to: "a.test") == 7)
        }
    }

    @Test(
        "Starts keep to the rate, in bursts of a second's worth",
        arguments: [("10/s", 10, 20, 210), ("21.5/m", 1, 1 + 7, 1 + 71)])
    func rate(rate: String, burst: Int, after: Int, later: Int) throws {
        try withWorld { world, broker in
            try world.push("q", #"{"url":"http://a.test/","rate":"\#(rate)","concurrency":1000}"#, broker)
            for _ in 0..<300 { try world.add("q", broker) }
            let start = world.now
            let unit: Int64 = rate == "10/s" ? 1000 : 20_000
            world.turn(broker)
            #expect(world.sender.started == burst)
            world.advance(broker, to: start + unit) { world.now == start + unit }
            #expect(world.sender.started == after)
            let end = start + unit * (rate == "10/s" ? 20 : 10)
            world.advance(broker, to: end) { world.now == end }
            #expect(world.sender.started == later)
        }
    }

    @Test("Setting a configuration with the same rate anew starts nothing early")
    func sameRate() throws {
        try withWorld { world, broker in
            for timeout in 1...5 {
                try world.push("q", #"{"url":"http://a.test/","rate":"1/h","timeout":\#(timeout)}"#, broker)
                try world.add("q", broker)
                world.turn(broker)
                world.answerAll("HTTP/1.1 204 X\r\n\r\n", broker)
            }
            #expect(world.sender.started == 1)
        }
    }

    @Test("A million tasks for one receiver that says nothing hold up no other queue")
    func fairness() throws {
        try withWorld(maximumTasks: 30_000) { world, broker in
            try world.push("slow", #"{"url":"http://slow.test/","concurrency":1000}"#, broker)
            for _ in 0..<20_000 { try world.add("slow", broker) }
            for _ in 0..<10 { world.turn(broker) }
            #expect(world.sender.count(to: "slow.test") == 1000)
            try world.add("other", request: #"{"url":"http://b.test/"}"#, broker)
            world.turn(broker)
            #expect(world.sender.count(to: "b.test") == 1)
        }
    }

    @Test("Many queues for one receiver that says nothing hold up none for another, and go on when it answers")
    func crowd() throws {
        try withWorld(maximumTasks: 10_000) { world, broker in
            for number in 0..<150 {
                for _ in 0..<10 { try world.add("slow\(number)", request: #"{"url":"http://slow.test/"}"#, broker) }
            }
            world.turn(broker)
            #expect(world.sender.count(to: "slow.test") == 1000)
            try world.add("other", request: #"{"url":"http://b.test/"}"#, broker)
            world.turn(broker)
            #expect(world.sender.count(to: "b.test") == 1)
            while world.delivery.inFlightCount > 0 {
                world.answerAll("HTTP/1.1 204 X\r\n\r\n", broker)
                world.turn(broker)
                #expect(world.sender.count(to: "slow.test") <= 1000)
            }
            #expect(world.sender.started == 1501)
            #expect(broker.counts.tasks == 0)
        }
    }

    @Test("Those who wait for a receiver do so no longer than there is something on its way to it")
    func leftCrowd() throws {
        try withWorld(maximumTasks: 10_000) { world, broker in
            try world.push("many", #"{"url":"http://slow.test/","concurrency":1000}"#, broker)
            for _ in 0..<1000 { try world.add("many", broker) }
            world.turn(broker)
            var waiting: [UID] = []
            for number in 0..<50 {
                waiting.append(try world.add("q\(number)", request: #"{"url":"http://slow.test/"}"#, broker))
            }
            world.turn(broker)
            #expect(world.sender.started == 1000)
            // Those who are woken first have nothing left to send.
            for id in waiting.dropLast() { _ = broker.cancelTask(id, now: world.now) }
            world.answerAll("HTTP/1.1 204 X\r\n\r\n", broker)
            world.turn(broker)
            #expect(world.sender.started == 1001)
        }
    }

    @Test("Signatures have the time of the clock on the wall")
    func wallClock() throws {
        try withWorld(now: 1_700_000_000_000) { world, broker in
            world.delivery.wallClockLeadMilliseconds = 60_000
            try world.push("q", #"{"url":"http://a.test/","secret":"s"}"#, broker)
            try world.add("q", broker)
            world.turn(broker)
            let request = try #require(world.sender.requests.values.first)
            #expect(text(request.fields).contains("Emq-Signature: t=1700000060,"))
        }
    }

    @Test("Queues take turns while both have tasks")
    func turns() throws {
        try withWorld { world, broker in
            try world.push("a", #"{"url":"http://a.test/","concurrency":1000}"#, broker)
            try world.push("b", #"{"url":"http://b.test/","concurrency":1000}"#, broker)
            for _ in 0..<400 { try world.add("a", broker) }
            for _ in 0..<400 { try world.add("b", broker) }
            _ = world.delivery.endTurn(on: broker, now: world.now)
            #expect(world.sender.count(to: "a.test") == world.sender.count(to: "b.test"))
        }
    }

    @Test("What is not safe in the journal yet is not sent")
    func safety() throws {
        try withWorld(isJournaled: true) { world, broker in
            let id = try world.add("q", request: #"{"url":"http://a.test/"}"#, broker)
            world.delivery.safeSequence = broker.lastFrameSequence
            world.turn(broker)
            #expect(world.state(id, broker) == .ready)
            broker.writeChanges { _, _ in }
            world.turn(broker)
            #expect(world.state(id, broker) == .ready)
            world.delivery.safeSequence = broker.lastFrameSequence
            world.turn(broker)
            #expect(world.state(id, broker) == .dispatched)
        }
    }

    // MARK: Breaking off

    @Test("Cancelling, purging and expiry break a request off")
    func breakingOff() throws {
        try withWorld { world, broker in
            let cancelled = try world.add("q", request: #"{"url":"http://a.test/"}"#, broker)
            world.turn(broker)
            let isCancelled = broker.cancelTask(cancelled, now: world.now)
            #expect(isCancelled)
            world.turn(broker)
            #expect(world.sender.cancelled == 1)
            try world.add("q", request: #"{"url":"http://a.test/"}"#, expiry: 5000, broker)
            world.turn(broker)
            world.advance(broker) { world.sender.cancelled == 2 }
            #expect(world.delivery.inFlightCount == 0)
            try world.add("p", request: #"{"url":"http://a.test/"}"#, broker)
            world.turn(broker)
            try broker.purge(try broker.queue(named: Array("p".utf8).span), states: [.dispatched], now: world.now) {
                _ in
            }
            world.turn(broker)
            #expect(world.sender.cancelled == 3)
            #expect(broker.counts.tasks == 0)
        }
    }

    @Test("A paused queue starts nothing, and a stopping server neither; what is in flight is ended")
    func pausing() throws {
        try withWorld { world, broker in
            try world.push("q", #"{"url":"http://a.test/","concurrency":1}"#, broker)
            for _ in 0..<3 { try world.add("q", broker) }
            world.turn(broker)
            let queue = try broker.queue(named: Array("q".utf8).span)
            broker.pause(queue)
            world.answerAll("HTTP/1.1 204 X\r\n\r\n", broker)
            world.turn(broker)
            #expect(world.sender.started == 1)
            broker.resume(queue)
            world.turn(broker)
            #expect(world.sender.started == 2)
            world.delivery.isStopping = true
            world.answerAll("HTTP/1.1 204 X\r\n\r\n", broker)
            world.turn(broker)
            #expect(world.sender.started == 2)
            #expect(broker.counts.tasks == 1)
        }
    }

    // MARK: Deaths

    @Test("A death is told as a task of the same queue, which is signed alike and whose own death is told to nobody")
    func deaths() throws {
        try withWorld { world, broker in
            try world.push(
                "q", #"{"url":"http://a.test/","secret":"s","on_dead":"http://grave.test/"}"#, retries: 0, broker)
            let id = try world.add("q", content: #"{"n":1}"#, broker)
            world.turn(broker)
            world.answerAll("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", broker)
            #expect(world.state(id, broker) == .dead)
            world.turn(broker)
            let request = try #require(world.sender.requests.values.first)
            #expect(request.url.host == "grave.test")
            #expect(text(request.method) == "POST")
            #expect(text(request.body ?? []) == "task \(id.low)")
            #expect(text(request.fields).contains("Emq-Signature: "))
            // It is tried again, whatever the queue says of its tasks, until it expires; that is told to nobody.
            world.answerAll("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", broker)
            world.advance(broker) { !world.sender.requests.isEmpty }
            #expect(world.sender.count(to: "grave.test") == 1)
            world.advance(broker) { broker.counts.tasks == 1 }
            #expect(world.sender.requests.isEmpty)
        }
    }

    @Test("A task's own on_dead goes before its queue's, and a full queue still takes the notification")
    func ownOnDead() throws {
        try withWorld { world, broker in
            try world.push("q", #"{"on_dead":"http://queue.test/"}"#, retries: 0, length: 1, broker)
            try world.add("q", request: #"{"url":"http://a.test/","on_dead":"http://task.test/"}"#, broker)
            world.turn(broker)
            world.answerAll("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", broker)
            world.turn(broker)
            #expect(world.sender.count(to: "task.test") == 1)
            #expect(world.sender.count(to: "queue.test") == 0)
        }
    }

    @Test("A notification's death causes no other one: queues that are each other's dead-letter queue come to an end")
    func noticesThatDieElsewhere() throws {
        try withWorld { world, broker in
            for (name, other) in [("a", "b"), ("b", "a")] {
                let queue = try broker.queue(named: Array(name.utf8).span)
                var configuration = QueueConfiguration()
                configuration.push = Array(#"{"url":"http://a.test/","on_dead":"http://grave.test/"}"#.utf8)
                configuration.isPushed = true
                configuration.maximumRetries = 0
                // Notifications have retries; they die when they expire.
                configuration.isExpiryDeath = true
                configuration.deadLetter = Array(other.utf8)
                try broker.configure(queue, configuration)
            }
            try world.add("a", broker)
            for _ in 0..<200 {
                world.turn(broker)
                world.answerAll("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", broker)
                world.now += 3_600_000
            }
            // The task dies once in each queue: two notifications.
            #expect(world.made.count == 2)
            #expect(world.sender.requests.isEmpty)
        }
    }

    @Test("The death of a task that can never be sent is told in the same turn")
    func deathAtOnce() throws {
        try withWorld { world, broker in
            try world.push("q", #"{"on_dead":"http://grave.test/"}"#, broker)
            try world.add("q", request: #"{"timeout":1}"#, broker)
            world.turn(broker)
            #expect(world.sender.count(to: "grave.test") == 1)
        }
    }

    @Test("Many deaths at once are told in several turns, and none while there is no room")
    func manyDeaths() throws {
        try withWorld { world, broker in
            try world.push("q", #"{"on_dead":"http://grave.test/","concurrency":100}"#, isExpiryDeath: true, broker)
            world.notifications.paddingByteCount = 5 << 20
            for _ in 0..<6 { try world.add("q", expiry: 1000, broker) }
            world.now += 1000
            while !broker.advance(to: world.now) {}
            world.delivery.postponesNotifications = true
            let pause = world.delivery.endTurn(on: broker, now: world.now)
            #expect(pause == nil)
            #expect(world.sender.started == 0)
            world.delivery.postponesNotifications = false
            let next = world.delivery.endTurn(on: broker, now: world.now)
            #expect(next == world.now)
            #expect(world.sender.started == 4)
            world.turn(broker)
            #expect(world.sender.count(to: "grave.test") == 6)
        }
    }

    @Test("Bodies in flight have so many bytes at most, but for a single one")
    func bodyBytes() throws {
        try withWorld { world, broker in
            world.delivery.maximumBodyBytes = 100
            for queue in ["a", "b"] { try world.push(queue, #"{"url":"http://\#(queue).test/"}"#, broker) }
            try world.add("a", content: String(repeating: "1", count: 200), broker)
            world.turn(broker)
            #expect(world.sender.started == 1)
            for _ in 0..<3 { try world.add("b", content: String(repeating: "1", count: 40), broker) }
            world.turn(broker)
            #expect(world.sender.started == 1)
            world.answerAll("HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n", broker)
            world.turn(broker)
            #expect(world.sender.started == 3)
            world.answerAll("HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n", broker)
            world.turn(broker)
            #expect(world.sender.started == 4)
        }
    }

    @Test("What came back waits until there is room for it, and loses nothing")
    func room() throws {
        try withWorld { world, broker in
            try world.push("q", #"{"url":"http://a.test/"}"#, broker)
            let ids = try (0..<3).map { _ in try world.add("q", keep: 60_000, broker) }
            world.turn(broker)
            for (key, _) in world.sender.requests {
                let body = String(repeating: "x", count: 1_000_000)
                let bytes = Array("HTTP/1.1 200 OK\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)".utf8)
                world.sender.answers.append((key, .response(bytes, 1 << 20, 1)))
            }
            // A journal that is just beginning has room for little; the last of them is not wanted any more.
            world.delivery.beginTurn(on: broker, now: world.now) { $0 < 1_000_000 }
            #expect(ids.map { world.state($0, broker) } == [.dispatched, .dispatched, .dispatched])
            #expect(world.delivery.inFlightCount == 3)
            let isCancelled = broker.cancelTask(ids[2], now: world.now)
            #expect(isCancelled)
            var isFirst = true
            world.delivery.beginTurn(on: broker, now: world.now) { _ in
                defer { isFirst = false }
                return isFirst
            }
            #expect(ids.count { world.state($0, broker) == .done } <= 1)
            world.turn(broker)
            #expect(ids.map { world.state($0, broker) } == [.done, .done, .cancelled])
            #expect(world.delivery.inFlightCount == 0)
            for id in ids[..<2] { #expect(world.result(id, broker).utf8.count > 1_000_000) }
        }
    }

    @Test("Behind results that wait for room, what nobody wants to know of does not wait, and what waits is counted")
    func roomForResults() throws {
        try withWorld { world, broker in
            try world.push("q", #"{"url":"http://a.test/"}"#, broker)
            let kept = try world.add("q", keep: 60_000, broker)
            world.turn(broker)
            let key = try #require(world.sender.requests.keys.first)
            let rest = try [world.add("q", broker), world.add("q", retries: 0, broker)]
            world.turn(broker)
            world.sender.answers = [
                (key, .response(Array("HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nabcde".utf8), 9, 1))
            ]
            var looks = 0
            world.delivery.beginTurn(on: broker, now: world.now) { _ in
                looks += 1
                return looks == 1
            }
            #expect(world.state(kept, broker) == .dispatched && world.delivery.waitingOutcomeBytes > 5)
            for (key, status) in zip(world.sender.requests.keys, [204, 500]) {
                world.sender.answers.append(
                    (key, .response(Array("HTTP/1.1 \(status) X\r\nContent-Length: 0\r\n\r\n".utf8), 9, 1)))
            }
            looks = -1
            world.delivery.beginTurn(on: broker, now: world.now) { _ in
                looks += 1
                return looks == 1
            }
            #expect(rest.allSatisfy { world.state($0, broker) != .dispatched })
            #expect(world.state(kept, broker) == .dispatched && world.delivery.waitingOutcomeBytes > 5)
            world.turn(broker)
            #expect(world.state(kept, broker) == .done && world.delivery.waitingOutcomeBytes == 0)
        }
    }

    @Test("The death of a task that expires is told too")
    func expiry() throws {
        try withWorld { world, broker in
            try world.push(
                "q", #"{"url":"http://a.test/","on_dead":"http://grave.test/","concurrency":1}"#, isExpiryDeath: true,
                broker)
            try world.add("q", expiry: 5000, broker)
            world.turn(broker)
            world.advance(broker) { world.sender.count(to: "grave.test") == 1 }
            #expect(world.sender.cancelled == 1)
        }
    }
}

private final class Log {
    var lines: [String] = []

    @Test("A task whose host cannot be looked up yet waits without an attempt, and the queues that wait take turns")
    func unresolvedHosts() throws {
        try withWorld { world, broker in
            world.sender.unresolvedHosts = ["a.test"]
            let ids = try (0..<300).map { try world.add("q\($0)", request: #"{"url":"http://a.test/"}"#, broker) }
            let other = try world.add("other", request: #"{"url":"http://b.test/"}"#, broker)
            world.turn(broker)
            #expect(world.sender.started == 1)
            #expect(world.state(other, broker) == .dispatched)
            #expect(ids.allSatisfy { world.state($0, broker) == .ready })
            // A look-up has ended, and there is still no room: nobody is forgotten.
            world.sender.endedLookUps = 1
            world.turn(broker)
            #expect(world.sender.started == 1)
            world.sender.unresolvedHosts = []
            world.turn(broker)
            #expect(world.sender.started == 1)
            world.sender.endedLookUps = 1
            world.turn(broker)
            #expect(world.sender.started == 301)
            #expect(broker.withTask(id: ids[299], now: world.now) { $0.attempt } == 1)
        }
    }
}
