// Configurations of queues, changed in part, and defaults for all queues, through real sockets.

import Foundation
import Support
import Testing

@Suite(.blocking) struct DefaultsTests {
    @Test func aPatchChangesOnlyTheMembersThatItNames() throws {
        let server = try Server()
        func patch(_ json: String) throws -> String { try server.send("PATCH", "/config/q", json).body }
        #expect(try patch(#"{"max_retries": 3}"#) == #"{"max_retries":3}"#)
        #expect(try patch(#"{"backoff": {"min": 1, "max": 9}}"#) == #"{"max_retries":3,"backoff":{"min":1,"max":9}}"#)
        #expect(
            try patch(#"{"backoff": {"max": 5, "jitter": 0.5}, "max_retries": null, "retry": 7}"#)
                == #"{"retry":7,"backoff":{"min":1,"max":5,"jitter":0.5}}"#)
        #expect(try patch(#"{"backoff": null, "expiry": "never"}"#) == #"{"retry":7,"expiry":null}"#)
        #expect(try patch("{}") == #"{"retry":7,"expiry":null}"#)
        for (json, field) in [
            (#"{"retyr": null}"#, "retyr"), (#"{"retry": 1, "retry": null}"#, "retry"), (#"{"retry": -1}"#, "retry"),
            (#"{"backoff": {"maxx": null}}"#, "backoff.maxx"), (#"{"backoff": {"max": 4}}"#, "backoff.min"),
            (#"{"push": {"sercet": null}}"#, "push.sercet"), (#"{"dead_letter": "dead"}"#, "dead_letter"),
        ] {
            let refused = try server.send("PATCH", "/config/q", json)
            #expect(refused.status == 400 && refused.field == field, "\(refused.body)")
        }
        #expect(try server.send("PATCH", "/config/q", "[]").status == 400)
        let push = try server.send("PATCH", "/config/q", #"{"push": {"url": "http://127.0.0.1:1/"}}"#)
        #expect(push.status == 403 && push.body.contains("--push"), "\(push.body)")
        #expect(try server.get("/config/q").body == #"{"retry":7,"expiry":null}"#)
    }

    @Test func aPatchIsSentAsOneAndChangesThings() throws {
        let server = try Server()
        func status(_ fields: String) throws -> Int {
            let client = try server.connect()
            client.send(
                "PATCH /config/q HTTP/1.1\r\nHost: localhost\r\n\(fields)Content-Length: 11\r\n\r\n{\"retry\":5}")
            return try client.response().status
        }
        #expect(try status("Content-Type: application/merge-patch+json; charset=utf-8\r\n") == 200)
        #expect(try status("Content-Type: application/json\r\n") == 200)
        #expect(try status("Content-Type: application/json-patch+json\r\n") == 415)
        #expect(try status("Content-Type: application/json\r\nOrigin: http://evil.example\r\n") == 403)
        let put = try server.connect()
        put.send(
            "PUT /config/q HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/merge-patch+json\r\n"
                + "Content-Length: 2\r\n\r\n{}")
        #expect(try put.response().status == 415)
        #expect(try server.send("PATCH", "/enqueue/q", "{}").status == 405)
    }

    @Test func aPutThatDropsAPushReportsIt() throws {
        let receiver = try Receiver()
        let server = try Server.pushing()
        let url = receiver.url("/q")
        let push = #"{"url":"\#(url)","headers":{"Authorization":"Bearer x"},"secret":"s"}"#
        #expect(try server.send("PUT", "/config/q", "{\"push\": \(push)}").status == 200)
        // Masked values stay as they were.
        let shown = #""push":{"url":"\#(url)","headers":{"Authorization":"***"},"rate":"5/s","secret":"***"}}"#
        let patched = try server.send("PATCH", "/config/q", #"{"max_retries": 1, "push": {"rate": "5/s"}}"#)
        #expect(patched.body == #"{"max_retries":1,"# + shown)
        try server.enqueue("q")
        #expect(try receiver.wait("/q")[0]["Authorization"] == "Bearer x")
        let elsewhere = try server.send("PATCH", "/config/q", #"{"push": {"url": "http://127.0.0.1:1/"}}"#)
        #expect(elsewhere.status == 400 && elsewhere.field == "push.headers.Authorization", "\(elsewhere.body)")
        #expect(
            try elsewhere.object["detail"] as? String
                == "*** does not keep a header's value for another host or port; give the value again, or leave the "
                + "header out (in a PATCH, set it to null)")
        // The secret is never sent to the receiver, so it stays.
        for value in ["null", "\"y\""] {
            let moved = "{\"push\": {\"url\": \"http://127.0.0.1:1/\", \"headers\": {\"Authorization\": \(value)}}}"
            let answer = try server.send("PATCH", "/config/q", moved)
            #expect(answer.status == 200 && answer.body.contains(#""secret":"***""#), "\(answer.body)")
        }
        // The names of headers are case-insensitive.
        let renamed = try server.send(
            "PATCH", "/config/q", #"{"push": {"headers": {"AUTHORIZATION": null, "X-A": "1"}}}"#)
        #expect(!renamed.body.contains("Authorization") && renamed.body.contains("X-A"), "\(renamed.body)")
        let double = try server.send("PATCH", "/config/q", #"{"push": {"headers": {"x-a": "2", "X-A": "3"}}}"#)
        #expect(double.status == 400 && double.field == "push.headers.X-A", "\(double.body)")
        #expect(
            try server.send("PUT", "/config/q", #"{"max_retries": 1}"#).body == #"{"max_retries":1,"removed":["push"]}"#
        )
        #expect(try server.send("PUT", "/config/q", #"{"max_retries": 1}"#).body == #"{"max_retries":1}"#)
        // So is a member that is left out.
        let whole = try server.send("PUT", "/config/q", "{\"push\": \(push)}").object
        #expect(whole["removed"] == nil)
        let less = try server.send("PUT", "/config/q", #"{"push": {"url": "\#(url)", "rate": "1/s"}}"#).object
        #expect(less["removed"] as? [String] == ["push.headers", "push.secret"])
        #expect(try server.send("PUT", "/config/q", "{\"push\": \(push)}").status == 200)
        #expect(try server.send("PATCH", "/config/q", #"{"push": null, "keep": 5}"#).body == #"{"keep":5}"#)
    }

    @Test func defaultsAreSetShownAndDeleted() throws {
        let server = try Server()
        #expect(try server.get("/defaults/").body == "{}")
        let whole =
            #"{"retry":30,"expiry":null,"max_retries":3,"backoff":5,"keep":60,"priority":-3,"max_length":100,"#
            + #""dead_letter":"dead","dead_expiry":3600,"on_expiry":"dead"}"#
        #expect(try server.send("PUT", "/defaults", whole).body == whole)
        #expect(try server.get("/queues").body == "[]")
        #expect(try server.send("PATCH", "/defaults/", #"{"retry": 40, "keep": null}"#).object["retry"] as? Int == 40)
        let id = try server.enqueue("q")
        #expect(try server.take("q").map { $0["retry"] as? Int } == [40])
        #expect(try server.task(id)["priority"] as? Int == -3)
        // A queue overrides the defaults, even with a built-in value.
        let own =
            #"{"expiry":60,"max_retries":null,"priority":0,"max_length":null,"dead_letter":null,"on_expiry":"delete"}"#
        #expect(try server.send("PUT", "/config/own", own).body == own)
        #expect(try server.task(server.enqueue("own"))["priority"] as? Int == 0)
        #expect(try server.send("DELETE", "/defaults/").status == 204)
        #expect(try server.get("/defaults/").body == "{}")
        #expect(try server.task(server.enqueue("q"))["priority"] as? Int == 0)
        for (json, field) in [(#"{"push": {"url": "http://a.test/"}}"#, "push"), (#"{"rety": 1}"#, "rety")] {
            for method in ["PUT", "PATCH"] {
                let refused = try server.send(method, "/defaults/", json)
                #expect(refused.status == 400 && refused.field == field, "\(refused.body)")
            }
        }
        #expect(try server.send("POST", "/defaults/").status == 405)
    }

    @Test func aFileOfDefaultsOverridesEarlierDefaults() throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: directory) }
        let file = directory.appending(path: "defaults.json")
        try Data(#"{"retry": 11, "max_retries": 2}"#.utf8).write(to: file)
        let options = ["--addr", "127.0.0.1:0", "--data", directory.appending(path: "data").path]
        for (more, set, expected) in [
            ([], #"{"keep": 1}"#, "{}"), ([], nil, #"{"keep":1}"#),
            (["--defaults", file.path], #"{"keep": 2}"#, #"{"retry":11,"max_retries":2}"#), ([], nil, #"{"keep":2}"#),
        ] as [([String], String?, String)] {
            let server = try Server(options + more)
            let found = try eventually("an answer of a server that has started") {
                let answer = try server.get("/defaults/")
                return answer.status == 200 ? answer.body : nil
            }
            #expect(found == expected)
            if let set { #expect(try server.send("PUT", "/defaults/", set).status == 200) }
            server.signal(SIGTERM)
            #expect(try server.exitStatus() == 0)
        }
    }

    @Test func theQueueOfALegacySystemCannotBeTheDefaultDeadLetterQueue() throws {
        let file = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try Data(#"{"max_retries": 3, "dead_letter": "httpqueue/mail"}"#.utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        let server = try Server(["--addr", "127.0.0.1:0", "--httpqueue", "127.0.0.1:0", "--defaults", file.path])
        #expect(try server.exitStatus() == 2)
    }

    @Test(arguments: [
        ("", "the file is not valid JSON: at byte 0: expected a value, got the end"),
        ("{\"retry\":", "the file is not valid"),
        ("[]", "the file is not a JSON object"), (String(repeating: "[", count: 2000), "the file is nested deeper"),
        ("{\"retyr\": 5}", "did you mean 'retry'?"),
        ("{\"push\": {\"url\": \"http://a.test/\"}}", "use PUT /config/NAME"),
        ("{\"retry\": \"x\"}", "retry"),
    ])
    func aFileThatIsNoneIsRefused(text: String, reason: String) throws {
        let file = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try Data(text.utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        let server = try Server(["--addr", "127.0.0.1:0", "--defaults", file.path])
        #expect(try server.exitStatus() == 2)
        #expect(server.output.hasPrefix("emq: --defaults: \(file.path): ") && server.output.contains(reason))
    }
}
