// Metrics as Prometheus reads them, through real sockets. Every text passes a strict reader.

import Foundation
import Support
import Testing

extension Server {
    /// The server's metrics.
    fileprivate func metrics(_ path: String = "/metrics") throws -> MetricsText {
        let answer = try get(path)
        #expect(answer.status == 200, "\(answer.body)")
        #expect(answer.fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8")
        return try MetricsText(answer.body + "\n")
    }
}

@Suite(.blocking) struct MetricsTests {
    // MARK: What is counted

    @Test func tasksAreCountedFromTheBeginning() throws {
        let server = try Server()
        let empty = try server.metrics()
        #expect(empty["emq_build_info{version=\"0.1.0\"}"] == 1)
        #expect(empty["emq_ready"] == 1)
        for state in ["ready", "delayed", "dispatched", "dead", "done", "cancelled", "expired"] {
            #expect(empty["emq_tasks{state=\"\(state)\"}"] == 0)
        }
        for name in [
            "emq_tasks_enqueued_total", "emq_tasks_done_total", "emq_tasks_dead_total", "emq_tasks_expired_total",
            "emq_tasks_cancelled_total", "emq_tasks_released_total", "emq_queues", "emq_queues_paused",
            "emq_oldest_ready_seconds", "emq_waiters", "emq_task_ready_seconds_count",
        ] {
            #expect(empty[name] == 0, "\(name)")
        }
        let ids = try server.enqueueAll("a", [1, 2, 3, 4, 5, 6])
        try server.enqueue("a", #""content": 7, "expiry": 0"#)
        let delayed = try server.enqueue("b", #""content": 8, "delay": 600"#)
        #expect(try server.send("DELETE", "/task/\(delayed)").status == 204)
        #expect(try server.take("a", 5).count == 5)
        try server.post("/ack", "{\"ids\": [\"\(ids[0])\", \"\(ids[1])\"]}")
        try server.post("/nak", "{\"ids\": [\"\(ids[2])\"], \"dead\": true}")
        try server.post("/nak", "{\"ids\": [\"\(ids[3])\"], \"release\": true}")
        #expect(try server.send("POST", "/pause/c").status == 200)
        let full = try eventually("the expired task to be counted") {
            let metrics = try server.metrics()
            return metrics["emq_tasks_expired_total"] == 1 ? metrics : nil
        }
        #expect(full["emq_tasks_enqueued_total"] == 8)
        #expect(full["emq_tasks_dispatched_total{via=\"wait\"}"] == 5)
        #expect(full["emq_tasks_dispatched_total{via=\"push\"}"] == 0)
        #expect(full["emq_tasks_done_total"] == 2)
        #expect(full["emq_tasks_failed_total{reason=\"nack\"}"] == 1)
        #expect(full["emq_tasks_failed_total{reason=\"lease\"}"] == 0)
        #expect(full["emq_tasks_dead_total"] == 1)
        #expect(full["emq_tasks_cancelled_total"] == 1)
        #expect(full["emq_tasks_released_total"] == 1)
        #expect(full["emq_tasks{state=\"ready\"}"] == 2)
        #expect(full["emq_tasks{state=\"dispatched\"}"] == 1)
        #expect(full["emq_tasks{state=\"dead\"}"] == 1)
        #expect(full["emq_queues"] == 2)
        #expect(full["emq_queues_paused"] == 1)
        #expect(full["emq_task_ready_seconds_count"] == 5)
        #expect(full["emq_task_dispatched_seconds_count"] == 2)
    }

    @Test func leasesThatRanOutAndTheOldestTaskAreShown() throws {
        let server = try Server()
        try server.enqueue("q", #""content": 1, "retry": 0.05"#)
        #expect(try server.take("q").count == 1)
        _ = try eventually("the end of the lease") {
            try server.metrics()["emq_tasks_failed_total{reason=\"lease\"}"] == 1 ? true : nil
        }
        _ = try eventually("some time to pass") {
            try server.metrics()["emq_oldest_ready_seconds"] ?? 0 > 0.01 ? true : nil
        }
        let waiter = try server.begin("POST", "/wait", #"{"queues": ["other"], "timeout": 60000}"#)
        #expect(try server.metrics()["emq_waiters"] == 1)
        withExtendedLifetime(waiter) {}
    }

    @Test func requestsAreCountedByRouteAndCode() throws {
        let server = try Server()
        let waiter = try server.begin("POST", "/wait", #"{"queues": ["q"], "timeout": 60000}"#)
        let before = try server.metrics()
        // An answer that is owed counts when it is written; the work on its request counts at once.
        #expect(before[#"emq_http_requests_total{code="200",route="/wait/"}"#] == nil)
        #expect(before[#"emq_http_request_duration_seconds_count{route="/wait/"}"#] == 1)
        try server.enqueue("q")
        try server.enqueue("q%20with%22name")
        #expect(try waiter.response().status == 200)
        let client = try server.connect()
        client.send(
            Client.postText("/enqueue/q", "{\"content\": 1}") + Client.postText("/enqueue/q", "{\"bad\": 1}")
                + Client.postText("/ack", "{}") + "PUT /ack HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        for status in [200, 400, 200, 405] { #expect(try client.response().status == status) }
        #expect(try server.get("/nowhere").status == 404)
        let plain = try server.connect()
        plain.send("nonsense\r\n\r\n")
        #expect(try plain.response().status == 400)
        let after = try server.metrics()
        #expect(after[#"emq_http_requests_total{code="200",route="/enqueue/NAME"}"#] == 3)
        #expect(after[#"emq_http_requests_total{code="400",route="/enqueue/NAME"}"#] == 1)
        #expect(after[#"emq_http_request_duration_seconds_count{route="/enqueue/NAME"}"#] == 4)
        #expect(after[#"emq_http_requests_total{code="200",route="/wait/"}"#] == 1)
        #expect(after[#"emq_http_request_duration_seconds_count{route="/wait/"}"#] == 1)
        #expect(after[#"emq_http_requests_total{code="200",route="/ack/"}"#] == 1)
        #expect(after[#"emq_http_requests_total{code="405",route="/ack/"}"#] == 1)
        #expect(after[#"emq_http_requests_total{code="404",route="other"}"#] == 1)
        #expect(after[#"emq_http_requests_total{code="400",route="other"}"#] == 1)
        #expect(after[#"emq_http_requests_total{code="200",route="/metrics/"}"#] == 1)
        #expect(after[#"emq_http_request_duration_seconds_sum{route="/enqueue/NAME"}"#] ?? 0 > 0)
        // Nothing that a client has named is there.
        #expect(after.count(of: "emq_http_requests_total") == 9)
        #expect(after["emq_loop_lag_seconds_count"] ?? 0 > 5)
        #expect(after["emq_connections"] ?? 0 >= 1)
    }

    @Test func refusedTasksAreCountedByReason() throws {
        let server = try Server()
        #expect(try server.send("PUT", "/config/full", #"{"max_length": 1}"#).status == 200)
        try server.enqueue("full")
        #expect(try server.post("/enqueue/full", #"{"content": 1}"#).status == 429)
        try server.enqueue("q", #""key": "k""#)
        #expect(try server.post("/enqueue/q", #"{"key": "k", "on_conflict": "reject"}"#).status == 409)
        #expect(try server.post("/enqueue/q", #"{"retry": "x"}"#).status == 400)
        #expect(try server.post("/wait", #"{"queues": 1}"#).status == 400)
        let metrics = try server.metrics()
        let expected = [
            "queue_full": 1.0, "key_taken": 1, "invalid": 1, "memory": 0, "disk": 0, "limit": 0, "stopping": 0,
            "recovering": 0, "forbidden": 0,
        ]
        for (reason, count) in expected {
            #expect(metrics["emq_enqueue_rejected_total{reason=\"\(reason)\"}"] == count, "\(reason)")
        }
        #expect(metrics.count(of: "emq_enqueue_rejected_total") == expected.count)
    }

    @Test func aShortageOfMemoryIsShown() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--max-memory", "4M"])
        let content = String(repeating: "x", count: 60_000)
        _ = try eventually("memory to be used up") {
            try server.post("/enqueue/q", "{\"content\": \"\(content)\"}").status == 503 ? true : nil
        }
        let metrics = try server.metrics()
        #expect(metrics[#"emq_enqueue_rejected_total{reason="memory"}"#] == 1)
        #expect(metrics["emq_memory_limit_bytes"] == 4_194_304)
        #expect(metrics[#"emq_memory_bytes{kind="tasks"}"#] ?? 0 > 3 * 1024 * 1024)
    }

    @Test func pushIsCountedByTheClassOfResponses() throws {
        let receiver = try Receiver()
        let server = try Server.pushing()
        for status in [200, 404] {
            receiver.script("/\(status)", [.answer(status == 200 ? "200 OK" : "404 Not Found")])
            let options = #""max_retries": 0, "keep": 60"#
            let id = try server.enqueue("q", "\"content\": 1, \(options), " + receiver.request("/\(status)"))
            try server.wait(id, for: status == 200 ? "done" : "dead")
        }
        // Nothing listens at the first port.
        let id = try server.enqueue("q", #""max_retries": 0, "request": {"url": "http://127.0.0.1:1/"}"#)
        try server.wait(id, for: "dead")
        let metrics = try server.metrics()
        #expect(metrics[#"emq_push_requests_total{class="2xx"}"#] == 1)
        #expect(metrics[#"emq_push_requests_total{class="4xx"}"#] == 1)
        #expect(metrics[#"emq_push_requests_total{class="error"}"#] == 1)
        #expect(metrics["emq_push_in_flight"] == 0)
        #expect(metrics[#"emq_tasks_dispatched_total{via="push"}"#] == 3)
        #expect(metrics[#"emq_tasks_dispatched_total{via="wait"}"#] == 0)
        #expect(metrics[#"emq_tasks_failed_total{reason="push"}"#] == 2)
        #expect(metrics[#"emq_tasks_failed_total{reason="nack"}"#] == 0)
    }

    @Test(arguments: ["always", "10"])
    func theJournalIsMeasured(mode: String) throws {
        let directory = DataDirectory()
        let server = try directory.start("--fsync", mode)
        let before = try server.metrics()["emq_journal_sync_seconds_count"] ?? -1
        try server.enqueue("q", "\"content\": \"\(String(repeating: "x", count: 5000))\"")
        let metrics = try eventually("a sync") {
            let metrics = try server.metrics()
            return metrics["emq_journal_sync_seconds_count"] ?? 0 > before ? metrics : nil
        }
        #expect(before >= 0)
        #expect(metrics["emq_journal_problem"] == 0)
        #expect(metrics["emq_journal_live_bytes"] ?? 0 > 5000)
        #expect(metrics["emq_journal_bytes"] ?? 0 > metrics["emq_journal_live_bytes"] ?? 0)
    }

    @Test func theProcessIsMeasured() throws {
        let server = try Server()
        let metrics = try server.metrics()
        #expect(metrics["process_resident_memory_bytes"] ?? 0 > 1_000_000)
        #expect(metrics["process_virtual_memory_bytes"] ?? 0 > metrics["process_resident_memory_bytes"] ?? 0)
        #expect(metrics["process_open_fds"] ?? 0 >= 5)
        #expect(metrics["process_max_fds"] ?? 0 > metrics["process_open_fds"] ?? 0)
        #expect(metrics["process_cpu_seconds_total"] ?? 0 > 0)
        #expect(abs((metrics["process_start_time_seconds"] ?? 0) - Date().timeIntervalSince1970) < 3600)
    }

    @Test func refusedTokensAreCounted() throws {
        let scraper = TestToken("scraper", ["metrics"])
        let file = try TokenFile([scraper])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try server.connect()
        #expect(try client.ask("GET", "/metrics").status == 401)
        #expect(try client.ask("GET", "/metrics", nil, "Bearer unknown").status == 401)
        #expect(try client.ask("GET", "/queues/", nil, scraper.bearer).status == 403)
        let metrics = try MetricsText(client.ask("GET", "/metrics", nil, scraper.bearer).body + "\n")
        #expect(metrics[#"emq_auth_failures_total{reason="missing"}"#] == 1)
        #expect(metrics[#"emq_auth_failures_total{reason="unknown"}"#] == 1)
        #expect(metrics[#"emq_auth_failures_total{reason="forbidden"}"#] == 1)
        #expect(metrics.count(of: "emq_auth_failures_total") == 6)
    }

    // MARK: Queues

    @Test func eachQueueHasItsMetrics() throws {
        let server = try Server()
        let ids = try server.enqueueAll("mail", [1, 2, 3])
        #expect(try server.take("mail", 2).count == 2)
        try server.post("/ack", "{\"ids\": [\"\(ids[0])\"]}")
        try server.enqueue("a%22%5C%C3%BC")
        #expect(try server.send("POST", "/pause/paused").status == 200)
        let metrics = try server.metrics("/metrics/queues")
        #expect(metrics["emq_queue_left_out"] == 0)
        #expect(metrics[#"emq_queue_tasks{queue="mail",state="ready"}"#] == 1)
        #expect(metrics[#"emq_queue_tasks{queue="mail",state="dispatched"}"#] == 1)
        #expect(metrics[#"emq_queue_enqueued_total{queue="mail"}"#] == 3)
        #expect(metrics[#"emq_queue_dispatched_total{queue="mail"}"#] == 2)
        #expect(metrics[#"emq_queue_done_total{queue="mail"}"#] == 1)
        #expect(metrics[#"emq_queue_failed_total{queue="mail",reason="lease"}"#] == 0)
        #expect(metrics[#"emq_queue_tasks{queue="a\"\\ü",state="ready"}"#] == 1)
        #expect(metrics[#"emq_queue_paused{queue="paused"}"#] == 1)
        #expect(metrics[#"emq_queue_paused{queue="mail"}"#] == 0)
        // No name is that of a metric of the server, so sums count nothing twice.
        let ofServer = try server.metrics().kinds.keys
        #expect(Set(metrics.kinds.keys).isDisjoint(with: ofServer))
    }

    @Test func aTokenShowsOnlyItsQueues() throws {
        let (root, scraper) = (TestToken("root", ["enqueue"]), TestToken("s", ["metrics"], queues: ["mail*"]))
        let file = try TokenFile([root, scraper])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try server.connect()
        for name in ["mail", "other"] {
            #expect(try client.ask("POST", "/enqueue/\(name)", "{}", root.bearer).status == 200)
        }
        let metrics = try MetricsText(client.ask("GET", "/metrics/queues", nil, scraper.bearer).body + "\n")
        #expect(metrics[#"emq_queue_paused{queue="mail"}"#] == 0)
        #expect(metrics.count(of: "emq_queue_paused") == 1)
        #expect(metrics["emq_queue_left_out"] == 0)
    }

    @Test func queuesAreSelectedByTheirNamesAndCounted() throws {
        let server = try Server()
        for name in ["mail-a", "mail-b", "mail-c", "other"] { try server.enqueue(name) }
        let two = try server.metrics("/metrics/queues?match=mail*&n=2")
        #expect(two["emq_queue_left_out"] == 1)
        #expect(two.count(of: "emq_queue_waiters{") == 2)
        #expect(two[#"emq_queue_waiters{queue="mail-a"}"#] == 0)
        #expect(two[#"emq_queue_waiters{queue="mail-b"}"#] == 0)
        let none = try server.metrics("/metrics/queues/?match=nothing")
        #expect(none["emq_queue_left_out"] == 0)
        #expect(none.samples.count == 1)
        for (path, hint) in [
            ("/metrics/queues?n=0", "a whole number from 1 to 1000"),
            ("/metrics/queues?sort=1", "expected one of: match, n"),
            ("/metrics?n=1", "belongs to another path: /metrics/queues"),
            ("/metrics/queues?match=\(String(repeating: "x", count: 256))", "255 bytes"),
        ] {
            let answer = try server.get(path)
            #expect(answer.status == 400)
            #expect(answer.body.contains(hint), "\(answer.body)")
        }
        for path in ["/metrics/queue", "/metrics/queues/x", "/metrics//"] {
            #expect(try server.get(path).status == 404, "\(path)")
        }
    }

    // MARK: Formats

    @Test(arguments: [
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1",
            true
        ),
        ("application/openmetrics-text; version=1.0.0; q=0.5, text/plain; q=0.5", true),
        ("text/plain;version=0.0.4;q=0.5, application/openmetrics-text;version=1.0.0;q=0.2", false),
        ("application/openmetrics-text;q=0", false), ("application/openmetrics-text;version=2.0.0", false),
        ("*/*", false), ("text/plain", false),
    ])
    func openMetricsIsForThoseWhoPreferIt(accept: String, isOpenMetrics: Bool) throws {
        let server = try Server()
        let client = try server.connect()
        client.send("GET /metrics HTTP/1.1\r\nHost: h\r\nAccept: \(accept)\r\n\r\n")
        let answer = try client.response()
        let expected =
            isOpenMetrics
            ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain; version=0.0.4; charset=utf-8"
        #expect(answer.fields["content-type"] == expected)
        let metrics = try MetricsText(answer.body + "\n", isOpenMetrics: isOpenMetrics)
        #expect(metrics["emq_tasks_enqueued_total"] == 0)
        #expect(metrics.kinds[isOpenMetrics ? "emq_tasks_enqueued" : "emq_tasks_enqueued_total"] == "counter")
    }

    @Test func theSizeDoesNotDependOnTheQueues() throws {
        let server = try Server()
        try server.enqueue("q")
        _ = try server.metrics()
        let before = try server.metrics().samples.keys
        // More than a turn looks at.
        let client = try server.connect()
        for hundred in 0..<90 {
            for number in 0..<100 { client.sendPost("/enqueue/\(hundred)-\(number)", "{}") }
            for _ in 0..<100 { #expect(try client.response().status == 200) }
        }
        let after = try server.metrics()
        #expect(Set(after.samples.keys) == Set(before))
        #expect(after["emq_queues"] == 9001)
        #expect(after["emq_oldest_ready_seconds"] ?? 0 > 0)
        let queues = try server.metrics("/metrics/queues")
        #expect(queues["emq_queue_left_out"] == 8001)
        #expect(queues.count(of: "emq_queue_paused{") == 1000)
    }
}
