// The real program in place of htq, with short calls for a client of htq.

import Foundation
import Support
import Testing

@testable import emq

/// A running emq that replaces htq.
struct HtqServer {
    let server: Server
    let port: UInt16

    init(_ options: String...) throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--htq", "127.0.0.1:0"] + options)
        self.server = server
        port = try eventually("the port of htq") {
            let match = server.output.firstMatch(of: /replacing htq at https?:\/\/127\.0\.0\.1:(\d+)/)
            return match.flatMap { UInt16($0.1) }
        }
        _ = try eventually("the end of the recovery") { try get("/").status == 200 ? true : nil }
    }

    var host: String { "127.0.0.1:\(port)" }
    var url: String { "\(TestTLS.scheme)://\(host)" }

    /// Sends a request on a connection of its own, and returns the connection, from which the answer can be read.
    func begin(_ method: String, _ path: String, _ json: String? = nil) throws -> Client {
        let client = try Client(port: port)
        // htq's clients need not send a Content-Type.
        let body = json.map { "Content-Length: \($0.utf8.count)\r\n\r\n\($0)" } ?? "\r\n"
        client.send("\(method) \(path) HTTP/1.1\r\nHost: \(host)\r\n\(body)")
        return client
    }

    func send(_ method: String, _ path: String, _ json: String? = nil) throws -> Response {
        try begin(method, path, json).response(toHead: method == "HEAD")
    }

    func get(_ path: String) throws -> Response { try send("GET", path) }

    /// Queues a request, and returns its path.
    func queue(_ json: String) throws -> String {
        let answer = try send("POST", "/", json)
        try #require(answer.status == 303, "\(answer.body)")
        let location = try #require(answer.fields["location"])
        let path = try #require(location.wholeMatch(of: /https?:\/\/127\.0\.0\.1:\d+(\/[-0-9a-f]{36}\/)/)?.1)
        return String(path)
    }

    func status(_ path: String) throws -> String? { try get(path + "status/").object["status"] as? String }

    /// Waits for a response.
    func response(_ path: String) throws -> [String: Any] {
        let answer = try get(path + "response/")
        #expect(answer.status == 200, "\(answer.body)")
        return try answer.object
    }

    /// The paths in the list of requests.
    func listed() throws -> [String] {
        try get("/").tasks.compactMap { ($0?["uuid"] as? String).map { "/\($0)/" } }
    }

    /// Stops sending until `resume`.
    func pause() throws { #expect(try server.send("POST", "/pause/htq").status == 200) }

    func resume() throws { #expect(try server.send("POST", "/resume/htq").status == 200) }
}

/// htq in virtual time.
struct VirtualHtq {
    let server: VirtualServer

    init(workers: Int = 2) throws {
        server = try VirtualServer(
            Adapters(frontEnds: [Htq(workers: workers)], couriers: [HtqCourier(workers: workers)]))
    }

    /// Queues a request with a URL and more members, and returns its path.
    func queue(_ more: String = "", url: String = "\"http://127.0.0.1:8888/x\"") throws -> String {
        let answer = try server.send("POST", "/", #"{"url": \#(url)\#(more.isEmpty ? "" : ", ")\#(more)}"#)
        try #require(answer.status == 303, "\(more): \(answer.body)")
        return String(try #require(answer.fields["location"]).dropFirst("http://emq.test:7".count))
    }

    func show(_ path: String) throws -> [String: Any] { try server.send("GET", path).object }

    func status(_ path: String) throws -> String? {
        try server.send("GET", path + "status/").object["status"] as? String
    }

    func response(_ path: String) throws -> [String: Any] { try server.send("GET", path + "response/").object }

    /// The paths in the list of requests.
    func listed() throws -> [String] {
        try server.send("GET", "/").tasks.compactMap { ($0?["uuid"] as? String).map { "/\($0)/" } }
    }

    /// Stops sending until `resume`.
    func pause() throws { #expect(try server.send("POST", "/pause/htq", service: 0).status == 200) }

    func resume() throws { #expect(try server.send("POST", "/resume/htq", service: 0).status == 200) }
}
