// Changes of configurations that are only tried.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct DryRunTests {
    @Test func aDryRunAnswersLikeTheChangeAndChangesNothing() throws {
        let server = try Server.pushing()
        let first = #"{"retry": 5, "push": {"url": "http://localhost:1/", "secret": "s"}}"#
        #expect(try server.send("PUT", "/config/q", first).status == 200)
        #expect(try server.send("PUT", "/defaults/", #"{"retry": 7}"#).status == 200)
        let (before, defaults) = (try server.get("/config/q").body, try server.get("/defaults/").body)
        for (method, path, body) in [
            ("PUT", "/config/q", #"{"retry": 6}"#), ("PATCH", "/config/q", #"{"retry": 6, "push": {"rate": "1/s"}}"#),
            ("DELETE", "/config/q", nil), ("PUT", "/config/new", #"{"keep": 5}"#), ("DELETE", "/config/none", nil),
            ("PUT", "/defaults/", #"{"keep": 9}"#), ("PATCH", "/defaults/", #"{"keep": 9}"#),
            ("DELETE", "/defaults/", nil),
        ] {
            let dry = try server.send(method, "\(path)?dry_run=true", body)
            #expect(try server.get("/config/q").body == before && server.get("/defaults/").body == defaults)
            #expect(try server.get("/queues/").body == #"["q"]"#)
            let real = try server.send(method, "\(path)?dry_run=false", body)
            #expect(dry.status == real.status && dry.body == real.body, "\(method) \(path): \(dry.body)")
            // As before.
            #expect(try server.send("PUT", "/config/q", first).status == 200)
            #expect(try server.send("PUT", "/defaults/", #"{"retry": 7}"#).status == 200)
            #expect(try server.send("DELETE", "/config/new").status == 204)
        }
    }

    @Test(arguments: [
        ("PUT", "/config/q", #"{"rety": 5}"#, "rety"), ("PATCH", "/config/q", #"{"retry": 0}"#, "retry"),
        ("PUT", "/config/q", #"{"dead_letter": "d"}"#, "dead_letter"),
        ("PUT", "/defaults/", #"{"push": {}}"#, "push"), ("PATCH", "/defaults/", #"{"keep": -1}"#, "keep"),
    ])
    func aDryRunMakesAllChecks(method: String, path: String, body: String, field: String) throws {
        let answer = try Server().send(method, "\(path)?dry_run=true", body)
        #expect(answer.status == 400 && answer.field == field)
    }

    @Test func aWrongValueChangesNothing() throws {
        let server = try Server()
        for value in ["1", "yes", ""] {
            let answer = try server.send("PUT", "/config/q?dry_run=\(value)", #"{"retry": 5}"#)
            #expect(answer.status == 400 && answer.field == "dry_run")
        }
        #expect(try server.get("/config/q").body == "{}")
    }

    @Test func aDryRunLeavesNoLineInTheLog() throws {
        let server = try Server()
        _ = try server.send("PUT", "/config/q?dry_run=true", #"{"retry": 5}"#)
        _ = try server.send("DELETE", "/defaults/?dry_run=true")
        _ = try server.send("PUT", "/config/q", #"{"retry": 6}"#)
        let lines = try eventually("the line of the change") { () -> [Substring]? in
            let lines = server.messages.filter { $0.hasPrefix("audit ") }
            return lines.isEmpty ? nil : Array(lines)
        }
        #expect(lines.count == 1)
    }
}
