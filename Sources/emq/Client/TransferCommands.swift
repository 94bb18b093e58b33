// `emq export`, which prints the tasks of a queue as JSON lines, and `emq import`, which adds them to a queue.

import Bytes
import Glibc
import JSON
import UID

enum TransferCommands {
    static let all = [export, importTasks]

    private static let state = CommandOption(
        "--state", "STATE", completion: .words(["ready", "delayed", "dispatched", "dead", "all"]),
        "ready, delayed, dispatched, dead or all four (default: ready and delayed)")

    static let export = ClientSession.command(
        "export", .queues, "QUEUE", count: 1...1, completion: .queue, "print the tasks of a queue as JSON lines",
        text: [
            "Each line is a task with the fields with which it can be added again: content, key, priority, retry, eta, "
                + "expiry, metadata and so on; request_id and traceparent are there, too. `emq import` adds such lines. "
                + "It takes nothing: the tasks stay where they are.",
            "The tasks come in their order. While tasks are added, dispatched and acknowledged, a task that changes its "
                + "state may be left out; pause the queue, and stop its producers, for an exact copy. A dead task is "
                + "a new one after an import, without its errors. Expiries count from the export.",
        ], options: [state],
        examples: [
            CommandExample("emq export mail > mail.jsonl", "keep what waits"),
            CommandExample(
                "emq export mail --context old | emq import mail --context new", "copy a queue to another server"),
        ]
    ) { try TaskExport($0, state: $0.invocation.value(of: state)).run() }

    static let importTasks = ClientSession.command(
        "import", .queues, "QUEUE [FILE | -]", count: 1...2, completion: .queue,
        "add the tasks of `emq export` to a queue",
        text: [
            "Each line of FILE, or of standard input, is a JSON object with the fields of a task (POST /enqueue), of "
                + "which content is usually one. An unknown field is an error. A task is left out if another unfinished "
                + "task of the queue has its key."
        ] + AddFiles.text + [
            "If all tasks of a request have keys of their own, none gets another one. When such a request is sent again, "
                + "tasks that have ended meanwhile are added again."
        ],
        options: AddFiles.options,
        examples: [CommandExample("emq import mail mail.jsonl", "add the tasks of a file")]
    ) { try AddFiles.run($0, $0.operands.count > 1 ? $0.operands[1] : "-", .task) }
}

/// Prints the tasks of a queue.
final class TaskExport {
    /// How many tasks are listed at once, and how often the list may begin anew.
    private static let pageCount = 1000
    private static let maximumRestarts = 1000
    /// How many requests are under way, and about how much content their answers have together, in bytes.
    private static let requestCount = 8
    private static let maximumBytes = 32 << 20

    private let session: ClientSession
    private let states: [String]
    /// The tasks that were seen; 16 bytes each.
    private var seen: Set<UID> = []
    private var count = 0
    private var maskedCount = 0
    /// The server's clock minus this system's, in seconds.
    private var clockOffset = 0.0

    init(_ session: ClientSession, state: String?) throws(UsageError) {
        self.session = session
        // In the order in which tasks usually go through them, so that few are missed.
        let all = ["dispatched", "delayed", "ready", "dead"]
        switch state {
        case nil: states = ["delayed", "ready"]
        case "all": states = all
        case let state?:
            guard all.contains(state) else {
                throw UsageError("--state: unknown state '\(state)'; \(nearestName(to: state, among: all + ["all"]))")
            }
            states = [state]
        }
    }

    func run() throws -> ExitCode {
        if session.invocation.has(ClientSession.curl) {
            throw UsageError("--curl shows one request, but an export takes many; leave it out")
        }
        for state in states { try export(state) }
        Emq.printError("emq export: \(ClientSession.tasks(count)) of '\(session.name)'")
        if maskedCount > 0 {
            Emq.printError(
                "emq export: \(ClientSession.tasks(maskedCount)) with secret headers, which are *** here; put them in before "
                    + "the import")
        }
        return .done
    }

    private func export(_ state: String) throws {
        var after: String?
        var restarts = 0
        while true {
            let query: [(String, String?)] = [
                ("state", state), ("n", "\(Self.pageCount)"), ("content_limit", "0"), ("after", after),
            ]
            let response = try session.response(
                to: ServerRequest(ServerRequest.target("/peek/", name: session.name, query: query)))
            if response.status == 404, after != nil, restarts < Self.maximumRestarts {
                // The last task is no longer in this state. Those that were seen are left out.
                restarts += 1
                after = nil
                continue
            }
            if let failure = response.isSuccess ? response.strangeness : response.failure { throw failure }
            if count == 0, after == nil { try setClock() }
            let page = response.json?.members.map(\.value) ?? []
            guard let last = page.last?["id"]?.text else { return }
            try print(page, state)
            if page.count < Self.pageCount { return }
            after = last
        }
    }

    /// Finds out how far the server's clock is from this system's. A token may not be allowed to ask.
    private func setClock() throws(CommandFailure) {
        let response = try session.response(to: ServerRequest("/stats/?n=1"))
        guard let now = response.json?["server"]?["now"]?.number else { return }
        clockOffset = now - Self.systemTime
    }

    private static var systemTime: Double {
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Prints the tasks of a page that were not seen before.
    private func print(_ page: [JSONPart], _ state: String) throws {
        var ids: [String] = []
        var bytes = 0
        for task in page {
            let (members, _) = Self.table(task)
            guard let id = members["id"]?.text else { continue }
            if let uid = UID(id), !seen.insert(uid).inserted { continue }
            if members["content_hidden"] != nil {
                throw CommandFailure(
                    .notAllowed,
                    "the queue hides the content of its tasks; use a token with the permission admin for it")
            }
            let size = (members["content_bytes"]?.count ?? 0) + 2048
            if bytes + size > Self.maximumBytes, !ids.isEmpty {
                try print(ids, state)
                (ids, bytes) = ([], 0)
            }
            ids.append(id)
            bytes += size
        }
        try print(ids, state)
    }

    /// Asks for tasks, and prints them in order.
    private func print(_ ids: [String], _ state: String) throws {
        let client = session.client
        var lines: [[UInt8]?] = Array(repeating: nil, count: ids.count)
        var next = 0
        var endedCount = 0
        var failure: CommandFailure?
        while endedCount < ids.count {
            while next < ids.count, client.requestCount < Self.requestCount, failure == nil {
                let index = next
                next += 1
                client.send(ServerRequest(ServerRequest.target("/task/", name: ids[index]))) { [unowned self] result in
                    endedCount += 1
                    do throws(CommandFailure) {
                        let response = try result.get()
                        // It has ended meanwhile.
                        if response.status == 404 { return }
                        guard response.isSuccess, let task = response.json else { throw response.failure }
                        lines[index] = line(of: task, state)
                    } catch {
                        failure = error
                    }
                }
            }
            if let failure { throw failure }
            if endedCount < ids.count { client.turn(until: nil) }
        }
        let text = lines.compactMap(\.self)
        count += text.count
        if !text.isEmpty {
            session.print(json: text.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "\n"))
        }
    }

    private static func table(_ object: JSONPart) -> (members: [String: JSONPart], names: [String]) {
        let members = object.members
        return (Dictionary(members.map { ($0.name, $0.value) }) { first, _ in first }, members.map(\.name))
    }

    /// The fields with which a task can be added again; nil if it has another state now.
    private func line(of task: JSONPart, _ state: String) -> [UInt8]? {
        let (members, _) = Self.table(task)
        guard let now = members["state"]?.text, states.contains(now) else { return nil }
        var line = Array("{\"content\":".utf8)
        // Line feeds in JSON are between values.
        line += (members["content"]?.source ?? "null").utf8.map { $0 == 0x0A || $0 == 0x0D ? 0x20 : $0 }
        func append(_ name: String, _ value: String?) {
            if let value { line += Array(",\"\(name)\":\(value)".utf8.map { $0 == 0x0A || $0 == 0x0D ? 0x20 : $0 }) }
        }
        // The key of a batch means nothing for the task.
        let hasOwnKey = members["key"]?.text.map { !$0.hasPrefix(TaskBatch.keyPrefix) } ?? false
        if hasOwnKey { append("key", members["key"]?.source) }
        let time = Self.systemTime + clockOffset
        if hasOwnKey, let until = members["unique_until"]?.number, until > time {
            append("unique_for", Self.seconds(until - time))
        }
        let names = [
            "priority", "retry", "max_retries", "max_crashes", "backoff", "keep", "metadata", "request", "request_id",
            "traceparent",
        ]
        for name in names { append(name, members[name]?.source) }
        let headers = members["request"]?["headers"]?.members ?? []
        if headers.contains(where: { $0.value.text == "***" }) { maskedCount += 1 }
        let due = members["due"]?.number
        append("eta", members["due"]?.source)
        // A dead task has no expiry any more; its queue gives the new one.
        if now != "dead" {
            let expiry = members["expires"]?.number.map { Self.seconds(max(0.001, $0 - (due ?? time))) }
            append("expiry", expiry ?? "null")
        }
        line.append(UInt8(ascii: "}"))
        return line
    }

    /// Seconds with a resolution of a millisecond.
    private static func seconds(_ seconds: Double) -> String {
        let milliseconds = max(1, Int64((min(seconds, 4e9) * 1000).rounded()))
        return String(decoding: JSONWriter.bytes(ofSeconds: milliseconds), as: UTF8.self)
    }
}
