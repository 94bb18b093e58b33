// The client's commands about tasks: add, take and finish them, and look at them.

import Bytes
import JSON

enum TaskCommands {
    static let all = [add, take, ack, nack, touch, task, result, cancel]

    // MARK: Adding

    private static let delay = CommandOption("--delay", "TIME", "dispatch it after this time, such as 5m")
    private static let lease = CommandOption(
        "--lease", "TIME", "how long a worker may hold it before the attempt fails (default 5m)")
    private static let expiry = CommandOption("--expiry", "TIME", "delete it after this time, or never (default 1d)")
    private static let key = CommandOption(
        "--key", "KEY", "add it only if no unfinished task of the queue has this key")
    private static let uniqueFor = CommandOption(
        "--unique-for", "TIME", "the key stays taken so long, also after the end")
    private static let onConflict = CommandOption(
        "--on-conflict", "WHAT", completion: .words(["keep", "replace", "reject"]),
        "if the key is taken: keep (default), replace or reject")
    private static let priority = CommandOption("--priority", "N", "-128 to 127, the highest first (default 0)")
    private static let retries = CommandOption("--max-retries", "N", "how many retries may follow the first attempt")
    private static let crashes = CommandOption(
        "--max-crashes", "N", "how many leases may run out before the task is dead")
    private static let backoff = CommandOption(
        "--backoff", "TIME", #"the pause before a retry, or an object such as '{"min": 1, "max": 60}'"#)
    private static let request = CommandOption(
        "--request", "JSON", #"have the server send the task: '{"url": "https://…"}'"#)
    private static let keep = CommandOption("--keep", "TIME", "keep its record and result so long after its end")
    private static let metadata = CommandOption(
        "--meta", "NAME=VALUE", isRepeatable: true, "a text to show with it; may be repeated")
    private static let text = CommandOption("--text", "the content is text, also if it looks like JSON")

    private static let lines = CommandOption(
        "--lines", "FILE", completion: .file, "add a task for each line of the file, with the line as its text")
    private static let objects = CommandOption(
        "--ndjson", "FILE", completion: .file, "add a task for each line of the file, with the line's JSON as content")

    static let add = ClientSession.command(
        "add", .tasks, "QUEUE [CONTENT | -]", count: 1...2, completion: .queue, "add a task, or a file of tasks",
        text: [
            "CONTENT is JSON, or else text. With -, it is read from standard input. Without it, it is null. Prints the id "
                + "of the task.",
            "With --lines or --ndjson, each line of FILE is a task; - stands for standard input. The other options are "
                + "for all of them.",
        ] + AddFiles.text,
        options: [
            delay, lease, expiry, key, uniqueFor, onConflict, priority, retries, crashes, backoff, keep, metadata,
            request,
            text, lines, objects,
        ] + AddFiles.options,
        examples: [
            CommandExample(#"emq add mail '{"to": "ann@example.org"}' --delay 5m"#, "add a task for later"),
            CommandExample("date | emq add log -", "add what a command prints"),
            CommandExample("find /photos -name '*.jpg' | emq add thumbnails --lines -", "add a task for each file"),
        ]
    ) { session in
        let invocation = session.invocation
        let fields = try fields(invocation)
        if let path = invocation.value(of: lines) ?? invocation.value(of: objects) {
            let isLines = invocation.has(lines)
            if isLines, invocation.has(objects) { throw UsageError("give --lines or --ndjson, not both") }
            for option in [key, uniqueFor, onConflict, text] where invocation.has(option) {
                throw UsageError("\(option.flag) is for a single task, not for a file")
            }
            if session.operands.count > 1 { throw UsageError("give CONTENT or a file, not both") }
            return try AddFiles.run(session, path, isLines ? .text : .content, fields: fields)
        }
        for option in AddFiles.options where invocation.has(option) {
            throw UsageError("\(option.flag) is for a file; add --lines FILE or --ndjson FILE")
        }
        let body = Array("{\"content\":".utf8) + (try content(session) ?? Array("null".utf8)) + fields
        let response = try session.success(
            of: ServerRequest(
                ServerRequest.target("/enqueue/", name: session.name), json: body + [UInt8(ascii: "}")]))
        if response.json?["existing"]?.isTrue == true, !session.isJSON {
            Emq.printError("emq: an unfinished task has the key already")
        }
        guard let id = response.json?["id"]?.text else {
            throw CommandFailure(.failed, "the answer has no id, so it does not come from an emq server; check the URL")
        }
        session.show(response, id)
        return .done
    }

    /// The fields of a task besides its content, as members of an object, each after a comma.
    private static func fields(_ invocation: Invocation) throws(UsageError) -> [UInt8] {
        var fields: [UInt8] = []
        func append(_ name: String, _ value: [UInt8]?) {
            if let value { fields += Array(",\"\(name)\":".utf8) + value }
        }
        func append(_ name: String, duration option: CommandOption) throws(UsageError) {
            append(name, try invocation.milliseconds(of: option).map { JSONWriter.bytes(ofSeconds: $0) })
        }
        try append("delay", duration: delay)
        try append("retry", duration: lease)
        if invocation.value(of: expiry) == "never" {
            append("expiry", Array("null".utf8))
        } else {
            try append("expiry", duration: expiry)
        }
        try append("keep", duration: keep)
        try append("unique_for", duration: uniqueFor)
        append("on_conflict", invocation.value(of: onConflict).map { JSONWriter.bytes(of: $0) })
        append("key", invocation.value(of: key).map { JSONWriter.bytes(of: $0) })
        append("priority", try invocation.number(of: priority, in: -128...127).map { Array("\($0)".utf8) })
        append("max_retries", try invocation.number(of: retries, in: 0...4_294_967_295).map { Array("\($0)".utf8) })
        append("max_crashes", try invocation.number(of: crashes, in: 0...4_294_967_295).map { Array("\($0)".utf8) })
        if let pause = invocation.value(of: backoff) {
            let length = Duration.milliseconds(pause)
            append(
                "backoff", length == nil ? try json(pause, of: backoff) : length.map { JSONWriter.bytes(ofSeconds: $0) }
            )
        }
        if let request = invocation.value(of: request) { append("request", try json(request, of: Self.request)) }
        append("metadata", try metadataObject(invocation.allValues(of: metadata)))
        return fields
    }

    /// The content of a new task, as JSON; nil if there is none.
    private static func content(_ session: ClientSession) throws -> [UInt8]? {
        guard session.operands.count > 1 else { return nil }
        let word = session.operands[1]
        let bytes = word == "-" ? try StandardInput.readAll() : Array(word.utf8)
        if !session.invocation.has(text), JSONPart(bytes[...]) != nil { return bytes }
        guard let characters = String(validating: bytes, as: UTF8.self) else {
            throw CommandFailure(.usage, "the content is not UTF-8; encode it first, such as with base64")
        }
        return JSONWriter.bytes(of: characters)
    }

    private static func metadataObject(_ pairs: [String]) throws(UsageError) -> [UInt8]? {
        if pairs.isEmpty { return nil }
        var object: [UInt8] = []
        for pair in pairs {
            guard let equals = pair.firstIndex(of: "="), equals > pair.startIndex else {
                throw UsageError("--meta takes NAME=VALUE, not '\(pair)'")
            }
            object.append(UInt8(ascii: object.isEmpty ? "{" : ","))
            object += JSONWriter.bytes(of: String(pair[..<equals]))
            object.append(UInt8(ascii: ":"))
            object += JSONWriter.bytes(of: String(pair[pair.index(after: equals)...]))
        }
        return object + [UInt8(ascii: "}")]
    }

    // MARK: Working

    private static let timeout = CommandOption("--timeout", "TIME", "how long to wait (default: not at all)")
    private static let waitLimit = CommandOption("--timeout", "TIME", "wait at most so long; --wait alone has no limit")
    private static let newLease = CommandOption(
        "--lease", "TIME", "how long you may hold the tasks (default: as when they were added)")
    private static let pause = CommandOption("--delay", "TIME", "try it again after this time (default: its backoff)")
    private static let maximum = CommandOption("--max", "N", letter: "n", "take up to N tasks (default 1)")
    private static let worker = CommandOption("--worker", "NAME", "a name to show with the tasks")

    static let take = ClientSession.command(
        "take", .tasks, "QUEUE...", count: 1...1000, completion: .queue, "take tasks, and print them",
        text: [
            "In a pipe, prints a line for each task: its receipt, its queue and its content, with tabs between; with "
                + "--json, the server's array. You hold the tasks until their leases run out: use ack or nack with the "
                + "receipts."
        ],
        options: [timeout, maximum, newLease, worker],
        examples: [CommandExample("emq take mail --timeout 30s", "wait for a task for half a minute")]
    ) { session in
        let invocation = session.invocation
        var body = Array("{\"queues\":[".utf8)
        for (index, queue) in session.operands.enumerated() {
            if index > 0 { body.append(UInt8(ascii: ",")) }
            body += JSONWriter.bytes(of: queue)
        }
        let maximum = try invocation.number(of: maximum, in: 1...1000) ?? 1
        body += Array("],\"max\":\(maximum)".utf8)
        if let lease = try invocation.milliseconds(of: newLease) {
            body += Array(",\"retry\":".utf8) + JSONWriter.bytes(ofSeconds: lease)
        }
        if let name = invocation.value(of: worker) { body += Array(",\"worker\":".utf8) + JSONWriter.bytes(of: name) }
        let response = try session.wait(try invocation.milliseconds(of: timeout) ?? 0) { wait in
            ServerRequest("/wait/", json: body + Array(",\"timeout\":\(wait)}".utf8))
        } until: {
            $0.members.isEmpty == false
        }
        let tasks = response.json?.members.map(\.value) ?? []
        if session.isJSON {
            session.printBody(response)
            return tasks.isEmpty ? .nothing : .done
        }
        if session.terminal.isOutput, tasks.count == 1 {
            session.print(lines: TaskViews(session.terminal, response).lines(ofTaken: tasks[0]))
            return .done
        }
        var table = TextTable([.init("RECEIPT"), .init("QUEUE"), .init("CONTENT", isElastic: true)])
        for task in tasks {
            table.rows.append(
                ["receipt", "queue"].map { TextTable.Cell(task[$0]?.text ?? "") } + [
                    TextTable.Cell(task["content"]?.source ?? "null")
                ])
        }
        if tasks.isEmpty { throw CommandFailure(.nothing, session.terminal.isOutput ? "there is no task to take" : "") }
        session.print(table)
        return .done
    }

    private static let resultValue = CommandOption("--result", "JSON", "a result to keep with the task")
    private static let error = CommandOption("--error", "TEXT", "the reason, to show with the task")
    private static let isDead = CommandOption("--dead", "no more retries")
    private static let isReleased = CommandOption("--release", "give it back: this counts as no attempt")
    private static let progress = CommandOption("--progress", "JSON", "a value to show with the task")

    static let ack = ClientSession.command(
        "ack", .tasks, "RECEIPT...", count: 1...10_000, "acknowledge tasks: the work is done",
        options: [resultValue],
        examples: [CommandExample("emq ack AaH8ekX5cACuES467dOuXw@9611871ae783c074", "end a task")]
    ) { session in
        var body = ids(session)
        if let value = session.invocation.value(of: resultValue) {
            body += Array(",\"result\":".utf8) + (try json(value, of: resultValue))
        }
        return try finish(session, "/ack/", body, "acked")
    }

    static let nack = ClientSession.command(
        "nack", .tasks, "RECEIPT...", count: 1...10_000, "refuse tasks: the work failed",
        options: [error, pause, isDead, isReleased],
        examples: [
            CommandExample(
                "emq nack AaH8ekX5cACuES467dOuXw@9611871ae783c074 --error 'no route' --delay 5m",
                "try a task again later")
        ]
    ) { session in
        var body = ids(session)
        if let text = session.invocation.value(of: error) {
            body += Array(",\"error\":".utf8) + JSONWriter.bytes(of: text)
        }
        if let length = try session.invocation.milliseconds(of: pause) {
            body += Array(",\"delay\":".utf8) + JSONWriter.bytes(ofSeconds: length)
        }
        if session.invocation.has(isDead) { body += Array(",\"dead\":true".utf8) }
        if session.invocation.has(isReleased) { body += Array(",\"release\":true".utf8) }
        return try finish(session, "/nak/", body, "requeued", "dead")
    }

    static let touch = ClientSession.command(
        "touch", .tasks, "RECEIPT...", count: 1...10_000, "restart the leases of tasks", options: [newLease, progress],
        examples: [CommandExample("emq touch AaH8ekX5cACuES467dOuXw@9611871ae783c074", "hold a task for longer")]
    ) { session in
        var body = ids(session)
        if let length = try session.invocation.milliseconds(of: newLease) {
            body += Array(",\"retry\":".utf8) + JSONWriter.bytes(ofSeconds: length)
        }
        if let value = session.invocation.value(of: progress) {
            body += Array(",\"progress\":".utf8) + (try json(value, of: progress))
        }
        return try finish(session, "/touch/", body, "touched")
    }

    /// The beginning of a body that names the tasks of the operands.
    private static func ids(_ session: ClientSession) -> [UInt8] {
        var body = Array("{\"ids\":[".utf8)
        for (index, id) in session.operands.enumerated() {
            if index > 0 { body.append(UInt8(ascii: ",")) }
            body += JSONWriter.bytes(of: id)
        }
        return body + [UInt8(ascii: "]")]
    }

    private static func json(_ text: String, of option: CommandOption) throws(UsageError) -> [UInt8] {
        let bytes = Array(text.utf8)
        guard JSONPart(bytes[...]) != nil else {
            throw UsageError("\(option.flag) must be JSON, such as '\"text\"' or 5, not '\(text)'")
        }
        return bytes
    }

    /// Sends the body, and says which tasks were no longer held.
    private static func finish(
        _ session: ClientSession, _ path: String, _ body: [UInt8], _ counts: String...
    ) throws(CommandFailure) -> ExitCode {
        let response = try session.success(of: ServerRequest(path, json: body + [UInt8(ascii: "}")]))
        let missing = response.json?["missing"]?.members.compactMap { $0.value.text } ?? []
        let numbers = counts.map { ($0, response.json?[$0]?.count ?? 0) }
        // The first one says that there are none, too.
        let said = numbers.enumerated().filter {
            $0.element.1 > 0 || $0.offset == 0 && numbers.allSatisfy { $0.1 == 0 }
        }
        session.show(
            response, said.map { "\($0.element.0) \(ClientSession.tasks($0.element.1))" }.joined(separator: ", "))
        for id in missing { Emq.printError("emq \(session.invocation.command.name): nobody holds \(id) now") }
        return missing.isEmpty ? .done : .nothing
    }

    // MARK: Looking

    private static let wait = CommandOption("--wait", "wait until the task has ended")

    static let task = ClientSession.command(
        "task", .tasks, "ID", count: 1...1, "show a task",
        text: [
            "In a pipe, prints a line for each field of the server's answer: its name and its value, with a tab between. "
                + "On a terminal, long contents are shortened; --json shows all."
        ],
        examples: [CommandExample("emq task AaH8ekX5cACuES467dOuXw", "show everything about a task")]
    ) { session in
        let isView = session.terminal.isOutput && !session.isJSON
        let limit = isView ? "\(TaskViews.contentLimit)" : nil
        let response = try session.success(
            of: ServerRequest(
                ServerRequest.target("/task/", name: session.name, query: [("content_limit", limit)])))
        if session.isJSON {
            session.printBody(response)
            return .done
        }
        if isView, let task = response.json {
            session.print(lines: TaskViews(session.terminal, response).lines(of: task))
            return .done
        }
        var table = TextTable([.init("FIELD"), .init("VALUE")])
        for (name, value) in response.json?.members ?? [] {
            table.rows.append([TextTable.Cell(name), TextTable.Cell(value.text ?? value.source)])
        }
        session.print(table)
        return .done
    }

    private static let plain = CommandOption("--text", "print a result that is a text as it is, without quotes")

    static let result = ClientSession.command(
        "result", .tasks, "ID", count: 1...1, "show a task's result",
        text: [
            "Prints the result as JSON; on a terminal, with a line for each member if it is long. The exit status is 1 if "
                + "the task died, expired or was cancelled, and 3 if it has not ended. A task that has ended is kept only if "
                + "it was added with --keep, or while somebody waits."
        ],
        options: [wait, waitLimit, plain],
        examples: [CommandExample("emq result AaH8ekX5cACuES467dOuXw --wait", "wait for the result")]
    ) { session in
        let limit = try session.invocation.milliseconds(of: waitLimit)
        let ends = ["done", "dead", "cancelled", "expired"]
        let response = try session.wait(limit ?? (session.invocation.has(wait) ? .max : 0)) { wait in
            ServerRequest(ServerRequest.target("/result/", name: session.name, query: [("timeout", "\(wait)")]))
        } until: {
            ends.contains($0["state"]?.text ?? "")
        }
        let state = response.json?["state"]?.text ?? "unknown"
        if state == "done" || session.isJSON || response.json?["result"] != nil { show(response, session) }
        if state == "done" { return .done }
        throw CommandFailure(ends.contains(state) ? .failed : .nothing, "the task is \(TextTable.visible(state))")
    }

    /// Prints the result of a response: as JSON for programs, so that they can tell a text from a number.
    private static func show(_ response: ServerResponse, _ session: ClientSession) {
        if session.isJSON { return session.printBody(response) }
        let result = response.json?["result"]
        guard session.terminal.isOutput else {
            let text = session.invocation.has(plain) ? result?.text : nil
            return Emq.print(text ?? result?.source ?? "null")
        }
        guard let result else { return Emq.print("null") }
        if session.invocation.has(plain), let text = result.text {
            return session.print(lines: TerminalText.visibleLines(text))
        }
        session.print(lines: ContentLines.lines(result, columns: Terminal.size?.columns ?? 80))
    }

    static let cancel = ClientSession.command(
        "cancel", .tasks, "ID...", count: 1...1000, "cancel tasks",
        options: [ClientSession.yes],
        examples: [CommandExample("emq cancel AaH8ekX5cACuES467dOuXw", "cancel a task; a worker that holds it stops")]
    ) { session in
        // Who names tasks knows what they are, and scripts need not say so again.
        if session.terminal.canAsk { try session.confirm("Cancel \(ClientSession.tasks(session.operands.count))?") }
        return try session.each(
            { ServerRequest(ServerRequest.target("/task/", name: $0), method: "DELETE") }, { "cancelled \($0)" })
    }
}
