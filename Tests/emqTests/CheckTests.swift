// `emq check`: what it finds, and how it says that to monitoring systems.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct CheckTests {
    private func options(_ arguments: String...) throws -> CheckOptions {
        try CheckOptions(arguments) { _ in nil }
    }

    /// The report on a server with this response to `/stats/`.
    private func report(_ statistics: String, _ arguments: String...) throws -> CheckReport {
        var report = CheckReport()
        let body = try #require(JSONPart(Array(statistics.utf8)[...]))
        report.readStatistics(body, try CheckOptions(arguments) { _ in nil }, now: 1_000_000)
        return report
    }

    private func queue(_ members: String) -> String {
        #"{"queues":{"a|b \u00e9":{"queue":"a|b é",\#(members)}},"memory":{"used":10,"limit":100},"tasks":2}"#
    }

    // MARK: Finding

    @Test func aHealthyServerIsOK() throws {
        let members = #""ready":2,"dead":0,"waiters":0,"oldest_ready":299.9,"paused":false"#
        let report = try report(queue(members + #","circuit":{"state":"closed"}"#))
        #expect(report.level == .ok)
        #expect(
            report.line == "EMQ OK - all is well | ready=2;;;0 dead=0;0;;0 paused_queues=0;;;0 "
                + "oldest_ready=299.9s;;300;0 memory=10B;80;95;0;100 tasks=2;;;0")
        #expect(
            report.json == #"{"status":"ok","code":0,"problems":[],"measures":{"ready":2,"dead":0,"paused_queues":0,"#
                + #""oldest_ready":299.9,"memory":10,"tasks":2}}"#)
    }

    @Test(arguments: [
        (#""oldest_ready":301,"waiters":0,"paused":false"#, 2, "queue_stalled"),
        (#""oldest_ready":301,"waiters":0,"dispatched":0,"paused":false"#, 2, "queue_stalled"),
        (#""oldest_ready":301,"waiters":0,"dispatched":1,"paused":false"#, 1, "queue_late"),
        (#""oldest_ready":301,"waiters":0,"dispatched":2,"paused":false,"sending":2"#, 2, "queue_stalled"),
        (#""oldest_ready":301,"waiters":0,"dispatched":2,"paused":false,"sending":1"#, 1, "queue_late"),
        (#""oldest_ready":299,"waiters":0,"dispatched":1,"paused":false"#, 0, nil),
        (#""oldest_ready":301,"waiters":0,"dispatched":1,"paused":true"#, 0, nil),
        (#""oldest_ready":301,"waiters":1,"dispatched":1,"paused":false"#, 0, nil),
        (#""oldest_ready":301,"waiters":1,"paused":false"#, 0, nil),
        (#""oldest_ready":301,"waiters":0,"paused":true"#, 0, nil),
        (#""oldest_ready":301,"waiters":0,"paused":false,"pushed":true"#, 1, "queue_late"),
        (#""oldest_ready":299,"waiters":0,"paused":false,"pushed":true"#, 0, nil),
        (#""oldest_ready":null,"waiters":0,"paused":false"#, 0, nil),
        (#""ready":1001,"oldest_ready":301,"waiters":1,"rates":{"enqueued":2,"done":2.2}"#, 1, "queue_backlog"),
        (#""ready":1001,"oldest_ready":301,"waiters":1,"rates":{"enqueued":2,"done":2.3}"#, 0, nil),
        (#""ready":1001,"oldest_ready":300,"waiters":1,"rates":{"enqueued":2,"done":1}"#, 0, nil),
        (#""ready":1000,"oldest_ready":301,"waiters":1,"rates":{"enqueued":2,"done":1}"#, 0, nil),
        (#""ready":1001,"oldest_ready":301,"paused":true,"rates":{"enqueued":2,"done":1}"#, 0, nil),
        (#""dead":1,"paused":false"#, 1, "dead_tasks"),
        (#""paused":true,"paused_since":913600.001"#, 0, nil),
        (#""paused":true,"paused_since":913600"#, 1, "queue_paused"),
        (#""circuit":{"state":"open","failures":12,"until":1}"#, 1, "push"),
        (#""circuit":{"state":"half-open","failures":12}"#, 1, "push"),
    ])
    func aQueueIsJudged(members: String, status: Int32, kind: String?) throws {
        let report = try report(queue(members))
        #expect(report.level.rawValue == status && report.problems.first?.kind == kind)
        #expect(report.problems.allSatisfy { $0.queue == "a|b é" && $0.text.contains("'a|b é'") })
        // A bar would end the text.
        #expect(report.line.filter { $0 == "|" }.count == 1)
        #expect(try JSONSerialization.jsonObject(with: Data(report.json.utf8)) is [String: Any])
    }

    @Test(arguments: [
        (#""memory":{"used":81,"limit":100}"#, 1, "memory"), (#""memory":{"used":96,"limit":100}"#, 2, "memory"),
        (#""memory":{"used":80,"limit":100}"#, 0, nil), (#""journal":{"problem":"the disk is full"}"#, 2, "journal"),
        (#""journal":{"problem":null}"#, 0, nil), (#""sources":{"s":{"state":"stopped"}}"#, 1, "source"),
        (#""sources":{"s":{"state":"paused"}}"#, 0, nil),
    ])
    func aServerIsJudged(members: String, status: Int32, kind: String?) throws {
        let report = try report("{\"queues\":{},\(members)}")
        #expect(report.level.rawValue == status && report.problems.first?.kind == kind)
    }

    @Test func theAgeOfMatchingQueuesIsJudged() throws {
        func statistics(_ age: Double, _ members: String = #""waiters":5,"paused":false"#) -> String {
            #"{"queues":{"mail":{"oldest_ready":\#(age),\#(members)},"other":{"dead":1}},"memory":{"used":99,"limit":100}}"#
        }
        for (age, status) in [(59, 0), (60, 1), (299, 1), (300, 2)] {
            #expect(try report(statistics(Double(age)), "--queue", "ma*").level.rawValue == Int32(status))
        }
        #expect(try report(statistics(9), "--queue", "mail", "--oldest-warn=5").level == .warning)
        #expect(try report(statistics(9), "--queue", "mail", "--oldest-critical", "5").level == .critical)
        #expect(try report(statistics(900, #""paused":true"#), "--queue", "mail").level == .ok)
        let none = try report(statistics(900), "--queue", "m")
        #expect(none.level == .ok && none.line.hasPrefix("EMQ OK - no queue in use matches 'm' | "))
        #expect(try report(statistics(1e300), "--queue", "mail").level == .critical)
        // As in `match` and in the queues of tokens, only `*` is special.
        #expect(try report(statistics(900), "--queue", "m[a]?l").level == .ok)
        #expect(try report(statistics(0), "--queue", "o*").problems.map(\.kind) == ["dead_tasks"])
    }

    @Test func theEndOfACertificateIsNear() throws {
        for (end, level, text) in [
            (1_000_000 + 14.0 * 86_400, CheckReport.Level.ok, ""), (1_000_000 + 13.9 * 86_400, .warning, "in 13 days"),
            (1_000_100.5, .warning, "in 100 s"), (1_000_000, .critical, "has ended"),
        ] {
            var report = CheckReport()
            let body = JSONPart(Array("{\"status\":\"ok\",\"certificate_end\":\(end)}".utf8)[...])
            let isUp = report.readHealth(status: 200, body, now: 1_000_000)
            #expect(isUp && report.level == level && report.problems.allSatisfy { $0.text.hasSuffix(text) })
        }
    }

    @Test func theWorstIsSaidFirst() throws {
        var report = CheckReport()
        for number in 1...5 { report.add(.warning, "w", "warning \(number)") }
        report.add(.unknown, "u", "unknown")
        report.add(.critical, "c", "critical")
        #expect(report.level == .critical)
        #expect(
            report.line
                == "EMQ CRITICAL - critical; unknown; warning 1; warning 2; warning 3; and 2 more")
    }

    // MARK: Options

    @Test(arguments: [
        (["x"], "it takes options only"), (["--quue", "x"], "did you mean '--queue'?"), (["--queue"], "needs a value"),
        (["--queue", "a", "--queue", "b"], "given twice"), (["--oldest-warn", "5"], "requires --queue"),
        (["--queue", "a", "--oldest-warn", "9", "--oldest-critical", "5"], "must not exceed"),
        (["--queue", "a", "--oldest-warn", "x"], "must be a duration"),
        (["--timeout", "0"], "must be longer than 0"),
        (["--url", "ftp://x"], "http:// or https://"), (["--url", "http://x/?a"], "leave out the query"),
        (["--url", "unix:"], "unix:"), (["--ca", "x"], "requires an https URL"), (["--json=1"], "takes no value"),
        (["--health", "--queue", "a"], "--health checks no queue"),
    ])
    func wrongOptionsAreUnknown(arguments: [String], words: String) throws {
        let result = try Server.run(["check"] + arguments)
        #expect(result.status == 3 && result.error.isEmpty)
        #expect(result.output.hasPrefix("EMQ UNKNOWN - ") && result.output.contains(words), "\(result.output)")
        #expect(result.output.filter { $0 == "\n" }.count == 1)
    }

    // MARK: The program

    private func check(
        _ server: Server, _ arguments: String..., environment: [String: String] = [:]
    ) throws -> (status: Int32, output: String) {
        let isOverTLS = TestTLS.isOverTLS
        var all = ["check", "--url", "\(isOverTLS ? "https" : "http")://127.0.0.1:\(server.port)/"] + arguments
        if isOverTLS { all += ["--ca", try Certificates.shared.authorityFile] }
        let result = try Server.run(all, environment: environment)
        #expect(result.error.isEmpty, "\(result.error)")
        return (result.status, result.output)
    }

    @Test func theProgramChecksAServer() throws {
        let server = try Server()
        try server.enqueue("mail")
        let fine = try check(server, environment: ["EMQ_TOKEN": "a.b"])
        #expect(fine.status == 0 && fine.output.hasPrefix("EMQ OK - all is well | "), "\(fine.output)")
        #expect(fine.output.contains(" ready=1;;;0 ") && fine.output.filter { $0 == "\n" }.count == 1)
        let task = try #require(try server.take("mail").first?["id"] as? String)
        _ = try server.post("/nak", "{\"ids\": [\"\(task)\"], \"dead\": true}")
        let dead = try check(server)
        #expect(dead.status == 1 && dead.output.hasPrefix("EMQ WARNING - 'mail' has 1 dead task | "), "\(dead.output)")
        let json = try check(server, "--json", "--queue", "mail")
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any])
        #expect(object["status"] as? String == "warning" && object["code"] as? Int == 1)
        // It is up, and that is all that a container's health check asks.
        #expect(try check(server, "--health").status == 0)
    }

    @Test func allPagesAreChecked() throws {
        let server = try Server()
        // Names of which two pages are full; the last one is on the third page.
        let client = try server.connect()
        for number in 0..<2001 { client.sendPost("/enqueue/q\(10_000 + number)", "{}") }
        for _ in 0..<2001 { #expect(try client.response().status == 200) }
        let result = try check(server)
        #expect(result.status == 0 && result.output.contains(" ready=2001;;;0 "), "\(result.output)")
    }

    @Test func aServerThatIsDownIsCritical() throws {
        let server = try Server()
        server.signal(SIGTERM)
        _ = try server.exitStatus()
        let result = try check(server)
        #expect(result.status == 2 && result.output.hasPrefix("EMQ CRITICAL - cannot connect to 127.0.0.1:"))
        let path = NSTemporaryDirectory() + "emq-check-" + UUID().uuidString
        let local = try Server.run(["check"], environment: ["EMQ_URL": "unix:\(path)"])
        #expect(local.status == 2 && local.output.hasPrefix("EMQ CRITICAL - cannot connect to unix:\(path)"))
    }

    @Test func aUnixDomainSocketCanBeChecked() throws {
        let path = NSTemporaryDirectory() + "emq-check-" + UUID().uuidString
        let server = try Server(["--addr", "unix:\(path)"])
        let result = try Server.run(["check"], environment: ["EMQ_URL": "unix:\(path)"])
        #expect(result.status == 0 && result.output.hasPrefix("EMQ OK - all is well | "), "\(result.output)")
        withExtendedLifetime(server) {}
    }

    @Test func strangersAtASocketAreUnknownAndSilenceIsCritical() throws {
        let path = NSTemporaryDirectory() + "emq-check-" + UUID().uuidString
        defer { unlink(path) }
        let listener = try TestSocket(listeningAt: .path(path))
        let silent = try Server.run(["check", "--url", "unix:\(path)", "--timeout", "0.2"])
        #expect(silent.status == 2 && silent.output.contains("200 ms"), "\(silent.output)")
        // The connection of the first check.
        _ = listener.accept()
        Thread.detachNewThread {
            guard let connection = listener.accept(), (try? connection.receive()) != nil else { return }
            connection.send(Array("SSH-2.0-x\r\n".utf8))
        }
        let stranger = try Server.run(["check", "--url", "unix:\(path)"])
        #expect(stranger.status == 3 && stranger.output.contains("\(path) is not emq"), "\(stranger.output)")
    }

    /// What answers is not emq, or says nothing at all.
    @Test func strangersAreUnknownAndSilenceIsCritical() throws {
        let listener = try TestSocket(listeningAt: .ipv4(port: 0))
        let silent = try Server.run(["check", "--url", "http://127.0.0.1:\(listener.localPort)", "--timeout", "0.2"])
        #expect(silent.status == 2 && silent.output.contains("200 ms"), "\(silent.output)")
        if TestTLS.isOverTLS { return }
        let receiver = try Receiver()
        receiver.script("/healthz", [.answer("200 OK", "<html>")])
        let stranger = try Server.run(["check", "--url", "http://127.0.0.1:\(receiver.port)"])
        #expect(stranger.status == 3 && stranger.output.contains("is not emq's"), "\(stranger.output)")
    }
}
