// Short calls for a server that pushes.

import Foundation
import Support
import Testing

extension Server {
    /// Starts a server that may push to this machine.
    static func pushing(_ options: String...) throws -> Server {
        try Server(["--addr", "127.0.0.1:0", "--push", "loopback"] + options)
    }

    /// Sets a queue's configuration.
    func configure(_ queue: String, _ json: String) throws {
        let answer = try send("PUT", "/config/\(queue)", json)
        #expect(answer.status == 200, "\(answer.body)")
    }

    /// Waits until a task is in a state, and returns how it is shown then.
    @discardableResult
    func wait(_ id: String, for state: String) throws -> [String: Any] {
        try eventually("\(id) to be \(state)") {
            let task = try task(id)
            return task["state"] as? String == state ? task : nil
        }
    }

    /// A number in a queue's statistics.
    func count(_ queue: String, _ name: String) throws -> Int {
        let stats = try get("/stats/\(queue)").object
        let totals = try #require(stats["totals"] as? [String: Any])
        return try #require((stats[name] ?? totals[name]) as? Int)
    }
}

/// The options of a task that is retried once, at once.
let briefly = #""backoff": 0.01, "max_retries": 1"#
