// A receiver that fails for long, as an operator sees it: the queue's statistics, and changes of its circuit.

import Foundation
import Support
import Testing

@Suite(.blocking) struct CircuitTests {
    private let receiver: Receiver
    private let server: Server

    init() throws {
        receiver = try Receiver()
        server = try Server.pushing()
    }

    private func circuit(of queue: String = "q") throws -> [String: Any]? {
        try server.get("/stats/\(queue)").object["circuit"] as? [String: Any]
    }

    private func waitForState(_ state: String) throws -> [String: Any] {
        try eventually("the circuit to be \(state)") {
            let circuit = try circuit()
            return circuit?["state"] as? String == state ? circuit : nil
        }
    }

    @Test func statisticsShowWhenAFailingReceiverIsTriedAgain() throws {
        receiver.script("/q", [.answer("500 X")])
        let push = #"{"url":"\#(receiver.url("/q"))","concurrency":1,"circuit":{"failures":2,"pause":3600.5}}"#
        try server.configure("q", "{\"push\": \(push)}")
        #expect(try server.get("/config/q").body == "{\"push\":\(push)}")
        #expect(try server.get("/stats/q").body.contains(#""circuit":{"state":"closed","failures":0},"totals""#))
        for _ in 0..<3 { try server.enqueue("q", #""content": 1, "backoff": 3600"#) }
        let open = try waitForState("open")
        let pause = try #require(open["until"] as? Double) - Date().timeIntervalSince1970
        #expect(open["failures"] as? Int == 2 && pause < 3601 && pause > 3500)
        let all = try #require(try server.get("/stats/").object["queues"] as? [String: [String: Any]])
        #expect((all["q"]?["circuit"] as? [String: Any])?["state"] as? String == "open")
        #expect(try server.count("q", "ready") == 1 && receiver.received("/q").count == 2)
        // A shorter pause holds at once, and then the third task tries.
        receiver.script("/q", [.answer("500 X")], [.hold, .ok])
        let patch = #"{"push": {"circuit": {"failures": 1, "pause": 0.01}}}"#
        #expect(try server.send("PATCH", "/config/q", patch).status == 200)
        try server.enqueue("q")
        try receiver.wait("/q", 4)
        let halfOpen = try waitForState("half-open")
        #expect(halfOpen["failures"] as? Int == 1 && halfOpen["until"] == nil)
        receiver.open("/q")
        #expect(try waitForState("closed")["failures"] as? Int == 0)
    }

    @Test func aPatchChangesOneMember() throws {
        try server.configure(
            "q", #"{"push": {"url": "\#(receiver.url("/q"))", "circuit": {"failures": 10, "pause": 60}}}"#)
        let changed = try server.send("PATCH", "/config/q", #"{"push": {"circuit": {"pause": 1}}}"#)
        #expect(changed.body.contains(#""circuit":{"failures":10,"pause":1}"#))
        let typo = try server.send("PATCH", "/config/q", #"{"push": {"circuit": {"pauses": 1}}}"#)
        #expect(typo.status == 400 && typo.field == "push.circuit.pauses")
        #expect(try server.send("PATCH", "/config/q", #"{"push": {"circuit": null}}"#).status == 200)
        #expect(try circuit() == nil)
        let half = try server.send("PATCH", "/config/q", #"{"push": {"circuit": {"pause": 1}}}"#)
        #expect(half.status == 400 && half.field == "push.circuit")
        #expect(try circuit(of: "unknown") == nil)
    }
}
