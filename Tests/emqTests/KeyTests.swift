// Looking up and freeing keys, through real sockets.

import Foundation
import Testing

@Suite(.blocking) struct KeyTests {
    let server: Server

    init() throws { server = try Server() }

    @Test func aTaskIsFoundByItsKey() throws {
        let id = try server.enqueue("q", #""content": 1, "key": "r\u00e9port 1/2", "unique_for": 3600"#)
        let answer = try server.get("/key/q?key=r%C3%A9port%201%2F2")
        #expect(answer.status == 200)
        #expect(try answer.object["id"] as? String == id)
        #expect(try answer.object["state"] as? String == "ready")
        #expect(try answer.object["key"] as? String == "réport 1/2")
        let until = try #require(try answer.object["unique_until"] as? Double)
        let enqueued = try #require(try answer.object["enqueued"] as? Double)
        #expect(abs(until - enqueued - 3600) < 0.01)
        #expect(try server.get("/key/other?key=r%C3%A9port%201%2F2").status == 404)
        #expect(try server.get("/key/q?key=report").status == 404)
    }

    @Test func aKeyThatOutlivesItsTaskIsShownAndFreed() throws {
        let id = try server.enqueue("q", #""content": 1, "key": "k", "unique_for": 3600"#)
        #expect(try server.send("DELETE", "/key/q?key=k").status == 409)
        #expect(try server.send("DELETE", "/key/q?key=k").body.contains("/task/\(id)"))
        _ = try server.take("q")
        #expect(try server.send("DELETE", "/key/q?key=k").status == 409)
        #expect(try server.get("/stats/q").object["keys"] as? Int == 0)
        #expect(try server.post("/ack", "{\"ids\": [\"\(id)\"]}").body.contains("\"acked\":1"))

        #expect(try server.get("/task/\(id)").status == 404)
        #expect(try server.get("/stats/q").object["keys"] as? Int == 1)
        let kept = try server.get("/key/q?key=k").object
        #expect(kept.keys.sorted() == ["id", "key", "queue", "since", "until"])
        #expect(kept["id"] as? String == id && kept["key"] as? String == "k" && kept["queue"] as? String == "q")
        let (since, until) = (try #require(kept["since"] as? Double), try #require(kept["until"] as? Double))
        #expect(abs(until - since - 3600) < 0.01)

        #expect(try server.send("DELETE", "/key/q?key=k").status == 204)
        #expect(try server.send("DELETE", "/key/q?key=k").status == 404)
        #expect(try server.get("/key/q?key=k").status == 404)
        #expect(try server.get("/stats/q").object["keys"] as? Int == 0)
        #expect(try server.enqueue("q", #""content": 2, "key": "k""#) != id)
    }

    @Test func theRecordOfADeadTaskIsShownAndStaysWhenItsKeyIsFreed() throws {
        let id = try server.enqueue("q", #""content": 1, "key": "k", "unique_for": 3600"#)
        _ = try server.take("q")
        _ = try server.post("/nak", "{\"ids\": [\"\(id)\"], \"dead\": true}")
        #expect(try server.get("/key/q?key=k").object["state"] as? String == "dead")
        #expect(try server.send("DELETE", "/key/q?key=k").status == 204)
        #expect(try server.get("/key/q?key=k").status == 404)
        #expect(try server.state(id) == "dead")
    }

    @Test(arguments: ["/key/q", "/key/q?key=", "/key/q?key=\(String(repeating: "k", count: 256))", "/key/q?k=1"])
    func aWrongLookUpIsRefused(target: String) throws {
        for method in ["GET", "DELETE"] {
            let answer = try server.send(method, target)
            #expect(answer.status == 400)
            #expect(answer.field == (target.contains("?k=") ? "k" : "key"))
        }
        #expect(try server.get("/key?key=k").status == 404)
        #expect(try server.send("POST", "/key/q?key=k").status == 405)
    }
}
