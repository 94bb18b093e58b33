// The client's commands about queues: what is in them, and what an operator does to them.

import Bytes
import JSON

enum QueueCommands {
    static let all = [queues, stats, TopCommand.command, TailCommand.command, peek, pause, resume, purge, kick, move]

    private static let sort = CommandOption(
        "--sort", "BY", completion: .words(sorts),
        "\(sorts.dropLast().joined(separator: ", ")) or \(sorts.last ?? ""); the largest first, except for names, which are "
            + "the default")
    private static let sorts = [
        "name", "ready", "delayed", "dispatched", "dead", "oldest_ready", "enqueued", "done", "failed", "rate",
        "waiters", "paused",
    ]
    private static let limit = CommandOption("--limit", "N", letter: "n", "show at most N queues (default: all)")
    private static let taskLimit = CommandOption("--limit", "N", letter: "n", "show at most N tasks (default 20)")
    private static let states = ["ready", "delayed", "dispatched", "dead", "done", "cancelled", "expired"]
    private static let peekState = state("show tasks in this state (default ready)", states)
    private static let purgeState = state("tasks in this state, or all (default: ready and delayed)", states + ["all"])
    private static let moveState = state("tasks in this state, or all (default ready)", states + ["all"])

    private static func state(_ text: String, _ words: [String]) -> CommandOption {
        CommandOption("--state", "STATE", completion: .words(words), text)
    }

    // MARK: Looking

    static let queues = ClientSession.command(
        "queues", .queues, "[PATTERN]", count: 0...1, completion: .queue, "list queues with their numbers of tasks",
        text: [
            "In a pattern such as 'mail*', a * stands for any characters. With --json, all queues are in one document, as "
                + "on the first page of GET /stats/."
        ], options: [sort, limit],
        examples: [CommandExample("emq queues --sort oldest_ready -n 10", "see where tasks have waited longest")]
    ) { session in
        let limit = try session.invocation.number(of: limit, in: 1...100_000) ?? .max
        var table = TextTable([
            .init("QUEUE", isElastic: true, keepsEnd: true), .init("READY", isRight: true),
            .init("DELAYED", isRight: true, rank: 3),
            .init("RUNNING", isRight: true, rank: 2), .init("DEAD", isRight: true),
            .init("OLDEST", isRight: true, rank: 1), .init("STATE", isOptional: true),
        ])
        let sorting = session.invocation.value(of: sort)
        if let sorting, !sorts.contains(sorting) {
            throw UsageError("--sort: unknown order '\(sorting)'; \(nearestName(to: sorting, among: sorts))")
        }
        var after: String?
        var document = QueuesDocument()
        repeat {
            let query: [(String, String?)] = [
                ("match", session.operands.first), ("n", "\(min(limit - table.rows.count, 1000))"), ("after", after),
                ("sort", sorting),
            ]
            let response = try session.success(of: ServerRequest(ServerRequest.target("/stats/", query: query)))
            guard let page = response.json else { break }
            if session.isJSON { document.append(page) }
            let queues = page["queues"]?.members ?? []
            for (name, queue) in queues { table.rows.append(row(name, queue, session)) }
            // A page without queues would be the same again.
            after = queues.isEmpty ? nil : page["next"]?.text
        } while after != nil && table.rows.count < limit
        if session.isJSON {
            session.print(json: document.json)
        } else if !table.rows.isEmpty {
            session.print(table)
        } else {
            let pattern = session.operands.first.map { " that match '\($0)'" } ?? ""
            Emq.printError("emq queues: there are no queues\(pattern)")
        }
        return table.rows.isEmpty && session.operands.first != nil ? .nothing : .done
    }

    private static func row(_ name: String, _ queue: JSONPart, _ session: ClientSession) -> [TextTable.Cell] {
        func count(_ member: String, _ style: Terminal.Style = .plain) -> TextTable.Cell {
            let number = queue[member]?.count ?? 0
            return TextTable.Cell(Humane.count(Double(number)), value: "\(number)", number == 0 ? .faint : style)
        }
        let oldest = queue["oldest_ready"]?.number
        let isPaused = queue["paused"]?.isTrue == true
        return [
            TextTable.Cell(name, .bold), count("ready"), count("delayed"), count("dispatched"), count("dead", .red),
            TextTable.Cell(
                oldest.map { Humane.duration(seconds: $0) } ?? "", value: oldest.map { "\($0)" } ?? ""),
            TextTable.Cell(isPaused ? "paused" : "", .yellow),
        ]
    }

    static let stats = ClientSession.command(
        "stats", .queues, "[QUEUE]", count: 0...1, completion: .queue, "show the figures of a queue, or of the server",
        text: ["Without a queue, the figures of the server, and of all tasks."],
        examples: [CommandExample("emq stats mail", "show a queue's figures")]
    ) { session in
        let target =
            session.operands.isEmpty ? "/stats/?n=1" : ServerRequest.target("/stats/", name: session.name)
        let response = try session.success(of: ServerRequest(target))
        if session.isJSON {
            session.printBody(response)
            return .done
        }
        if session.terminal.isOutput, let figures = response.json {
            session.print(lines: FigureViews.lines(of: figures, session.terminal, now: response.time))
        } else {
            session.print(FigureViews.table(of: response.json))
        }
        return .done
    }

    static let peek = ClientSession.command(
        "peek", .queues, "QUEUE", count: 1...1, completion: .queue, "show tasks of a queue without taking them",
        text: [
            "In a pipe, prints a line for each task: its id, state, time, attempt, content, error and worker, with tabs "
                + "between. The time, in Unix seconds, is when the task was enqueued, was dispatched or ended, or when it "
                + "is due."
        ],
        options: [peekState, taskLimit],
        examples: [CommandExample("emq peek mail --state dead", "see which tasks have died, and why")]
    ) { session in
        let count = try session.invocation.number(of: taskLimit, in: 1...1000) ?? 20
        let query: [(String, String?)] = [
            ("state", session.invocation.value(of: peekState)), ("n", "\(count)"),
            // A row has no room for more.
            ("content_limit", session.terminal.isOutput && !session.isJSON ? "200" : nil),
        ]
        let response = try session.success(
            of: ServerRequest(ServerRequest.target("/peek/", name: session.name, query: query)))
        if session.isJSON {
            session.printBody(response)
            return .done
        }
        let table = TaskViews(session.terminal, response).table(ofPeek: response.json)
        if table.rows.isEmpty {
            let state = session.invocation.value(of: peekState) ?? "ready"
            throw CommandFailure(.nothing, "'\(session.name)' has no \(state) tasks")
        }
        session.print(table)
        return .done
    }

    // MARK: Acting

    static let pause = ClientSession.command(
        "pause", .queues, "QUEUE...", count: 1...1000, completion: .queue, "stop dispatching tasks of queues",
        examples: [CommandExample("emq pause mail", "let workers have no more tasks of a queue")]
    ) { session in
        try session.each(
            { ServerRequest(ServerRequest.target("/pause/", name: $0), method: "POST") }, { "paused \($0)" })
    }

    static let resume = ClientSession.command(
        "resume", .queues, "QUEUE...", count: 1...1000, completion: .queue, "dispatch tasks of paused queues again",
        examples: [CommandExample("emq resume mail", "let workers go on")]
    ) { session in
        try session.each(
            { ServerRequest(ServerRequest.target("/resume/", name: $0), method: "POST") }, { "resumed \($0)" })
    }

    static let purge = ClientSession.command(
        "purge", .queues, "QUEUE", count: 1...1, completion: .queue, "delete tasks of a queue",
        options: [purgeState, ClientSession.yes],
        examples: [CommandExample("emq purge mail --state dead", "delete the dead tasks")]
    ) { session in
        let query: [(String, String?)] = [("state", session.invocation.value(of: purgeState))]
        try confirm(session, "Delete", session.invocation.value(of: purgeState))
        return try sweep(session, ServerRequest.target("/purge/", name: session.name, query: query), "purged")
    }

    static let kick = ClientSession.command(
        "kick", .queues, "QUEUE", count: 1...1, completion: .queue, "make dead tasks ready again",
        options: [ClientSession.yes],
        examples: [CommandExample("emq kick mail", "try the dead tasks again")]
    ) { session in
        try confirm(session, "Kick", "dead")
        return try sweep(session, ServerRequest.target("/kick/", name: session.name), "kicked")
    }

    static let move = ClientSession.command(
        "move", .queues, "QUEUE TO", count: 2...2, completion: .queue, "move tasks to another queue",
        options: [moveState, ClientSession.yes],
        examples: [CommandExample("emq move mail mail-slow --state ready", "move what waits")]
    ) { session in
        let query: [(String, String?)] = [
            ("to", session.operands[1]), ("state", session.invocation.value(of: moveState)),
        ]
        try confirm(session, "Move", session.invocation.value(of: moveState) ?? "ready", to: session.operands[1])
        return try sweep(session, ServerRequest.target("/move/", name: session.name, query: query), "moved")
    }

    /// Sends a request about many tasks, which is answered when all of them are done, and prints their number.
    private static func sweep(_ session: ClientSession, _ target: String, _ done: String) throws -> ExitCode {
        var request = ServerRequest(target, method: "POST")
        request.timeoutMilliseconds = sweepTimeoutMilliseconds
        let response = try session.success(of: request)
        session.show(response, "\(done) \(ClientSession.tasks(response.count(done)))")
        if response.json?["stopped"]?.isTrue == true {
            throw CommandFailure(.failed, "it was stopped by DELETE /operations/; the rest is as it was")
        }
        return .done
    }

    /// How long a purge, kick or move may take: others are done first, and a million tasks take seconds.
    private static let sweepTimeoutMilliseconds: Int64 = 86_400_000

    /// Says how many tasks an action concerns, and asks if there are any.
    private static func confirm(
        _ session: ClientSession, _ verb: String, _ state: String?, to target: String? = nil
    ) throws {
        let known = Self.states + ["all"]
        if let state, !known.contains(state) {
            throw UsageError("--state: unknown state '\(state)'; \(nearestName(to: state, among: known))")
        }
        if session.invocation.has(ClientSession.yes) || session.invocation.has(ClientSession.curl) { return }
        let statistics = try session.success(
            of: ServerRequest(ServerRequest.target("/stats/", name: session.name))
        ).json
        let states = state == "all" ? known : state.map { [$0] } ?? ["ready", "delayed"]
        let count = states.reduce(0) { $0 + (statistics?[$1]?.count ?? 0) }
        let kind = state.map { "\($0) " } ?? ""
        if count == 0 {
            let dead = statistics?["dead"]?.count ?? 0
            let hint = dead > 0 && !states.contains("dead") ? "; \(dead) are dead (--state dead)" : ""
            throw CommandFailure(.nothing, "there is nothing to \(verb.lowercased()) in '\(session.name)'\(hint)")
        }
        let destination = target.map { " to '\($0)'" } ?? ""
        try session.confirm(
            "\(verb) \(count) \(kind)\(count == 1 ? "task" : "tasks") of '\(session.name)'\(destination)?")
    }
}

extension ServerResponse {
    /// A number of the response; 0 if it has none.
    fileprivate func count(_ name: String) -> Int { json?[name]?.count ?? 0 }
}
