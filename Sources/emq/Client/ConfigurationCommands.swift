// The client's commands about configurations of queues, and about the defaults for all queues.

import Bytes
import Glibc
import JSON
import Net

enum ConfigurationCommands {
    static let all = [get, set, edit, diff, apply]

    static let defaults = CommandOption("--defaults", "the defaults for all queues, instead of a queue's fields")

    /// The configuration that a command line names, and the operands after it.
    static func place(
        _ session: ClientSession
    ) throws(UsageError) -> (place: ConfigurationPlace, rest: ArraySlice<String>) {
        if session.invocation.has(defaults) { return (.defaults, session.operands[...]) }
        guard let queue = session.operands.first else { throw UsageError("name a queue, or add --defaults") }
        return (.queue(queue), session.operands.dropFirst())
    }

    // MARK: get

    static let get = ClientSession.command(
        "config get", .queues, "QUEUE [FIELD]", count: 0...2, completion: .queue, "show the configuration of a queue",
        text: [
            "With a FIELD, such as retry or push.url, only its value. The exit status is 3 if the configuration does not "
                + "have it. What a queue's configuration does not say is as the defaults say (--defaults)."
        ], options: [defaults],
        examples: [CommandExample("emq config get mail max_retries", "see how often tasks are tried again")]
    ) { session in
        let (place, rest) = try place(session)
        if rest.count > 1 { throw UsageError("unexpected '\(rest[rest.startIndex + 1])'; --defaults takes no QUEUE") }
        let response = try session.success(of: place.get)
        let rows = fields(of: response.json, prefix: "")
        if let field = rest.first {
            var value = response.json
            for name in field.split(separator: ".", omittingEmptySubsequences: false) { value = value?[String(name)] }
            guard let value else {
                let known = rows.map(\.name)
                let hint = known.isEmpty ? "it sets none" : nearestName(to: field, among: known)
                throw CommandFailure(.nothing, "the configuration does not set '\(field)'; \(hint)")
            }
            let text = session.isJSON ? nil : value.text
            if let text, session.terminal.isOutput {
                session.print(lines: TerminalText.visibleLines(text))
            } else if let text {
                Emq.print(text)
            } else {
                session.print(json: value.source)
            }
            return .done
        }
        if session.isJSON {
            session.printBody(response)
            return .done
        }
        var table = TextTable([.init("FIELD"), .init("VALUE", isElastic: true)])
        table.rows = rows.map { [TextTable.Cell($0.name, .bold), TextTable.Cell($0.value)] }
        if !rows.isEmpty { session.print(table) }
        return .done
    }

    /// The fields of an object, also of the objects in it.
    private static func fields(of object: JSONPart?, prefix: String) -> [(name: String, value: String)] {
        (object?.members ?? []).flatMap { name, value in
            value.kind == .object
                ? fields(of: value, prefix: "\(prefix)\(name).") : [(prefix + name, value.text ?? value.source)]
        }
    }

    // MARK: set

    /// The fields whose values are durations, so that `5m` means 300.
    private static let durations: Set = [
        "retry", "expiry", "keep", "dead_expiry", "backoff", "backoff.min", "backoff.max", "push.timeout",
        "push.circuit.pause",
    ]

    static let set = ClientSession.command(
        "config set", .queues, "QUEUE FIELD=VALUE...", count: 1...100, completion: .queue,
        "change fields of a queue's configuration",
        text: [
            "VALUE is JSON, or else text; for durations also 5m. FIELD= removes the field, and so does FIELD=null. A field "
                + "of a field has a full stop before it: backoff.max. Fields that are not named stay as they are. Prints "
                + "what has changed."
        ], options: [defaults],
        examples: [
            CommandExample("emq config set mail max_retries=3 backoff.min=1s backoff.max=10m", "bound retries"),
            CommandExample("emq config set mail push.rate=", "remove a field"),
        ]
    ) { session in
        let (place, words) = try place(session)
        if words.isEmpty { throw UsageError("say what to change, such as max_retries=3") }
        let patch = Patch()
        for word in words { try read(word, into: patch) }
        let request = place.change("PATCH", patch.json)
        // With --curl, the change is the only request.
        let before =
            session.invocation.has(ClientSession.curl) ? nil : try session.success(of: place.get).json
        let response = try session.success(of: request)
        if session.isJSON {
            session.printBody(response)
            return .done
        }
        guard let before, let after = response.json else { return .done }
        let changes = ConfigurationChange.between(before, after)
        if changes.isEmpty {
            Emq.printError("emq config set: nothing that is shown has changed")
        } else {
            session.print(changes, of: place, isNamed: false)
        }
        return .done
    }

    /// A merge patch (RFC 7396) that grows.
    private final class Patch {
        var names: [String] = []
        var members: [String: Patch] = [:]
        /// The value as JSON, unless it has members.
        var value: [UInt8]?

        var json: [UInt8] {
            if let value { return value }
            var json = Array("{".utf8)
            for name in names {
                if json.count > 1 { json.append(UInt8(ascii: ",")) }
                JSONWriter.write(name, to: &json)
                json.append(UInt8(ascii: ":"))
                json += members[name]?.json ?? []
            }
            return json + [UInt8(ascii: "}")]
        }
    }

    /// The most names between full stops: more than any field has.
    private static let maximumParts = 16

    private static func read(_ word: String, into patch: Patch) throws(UsageError) {
        guard let equals = word.firstIndex(of: "="), equals > word.startIndex else {
            throw UsageError("'\(word)' is not FIELD=VALUE, such as max_retries=3")
        }
        let field = String(word[..<equals])
        let text = String(word[word.index(after: equals)...])
        let names = field.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        if names.count > maximumParts {
            throw UsageError("the name of a field has at most \(maximumParts) parts, not \(names.count)")
        }
        var member = patch
        for name in names {
            if name.isEmpty { throw UsageError("'\(field)' is no name of a field") }
            if member.value != nil { throw UsageError("'\(word)' is a part of a field that is given whole") }
            if member.members[name] == nil {
                member.names.append(name)
                member.members[name] = Patch()
            }
            member = member.members[name] ?? member
        }
        if member.value != nil || !member.names.isEmpty { throw UsageError("'\(field)' is given twice; give it once") }
        if text.isEmpty {
            member.value = Array("null".utf8)
        } else if JSONPart(Array(text.utf8)[...]) != nil {
            member.value = Array(text.utf8)
        } else {
            let milliseconds = durations.contains(field) ? Duration.milliseconds(text) : nil
            member.value = milliseconds.map { JSONWriter.bytes(ofSeconds: $0) } ?? JSONWriter.bytes(of: text)
        }
    }

    // MARK: diff and apply

    static let diff = ClientSession.command(
        "config diff", .queues, "QUEUE FILE", count: 1...2, completion: .file,
        "show what a configuration in a file would change",
        text: [
            "FILE is a JSON object, which would replace the whole configuration; - stands for standard input. The server "
                + "checks it, and nothing changes. The exit status is 0 without a difference, and 1 with one. The server "
                + "shows no secrets: a secret in FILE counts as a difference.",
            "On a terminal, a line for each field: the old value and the new one. Otherwise they are between tabs; with "
                + "--json, it is an array of objects.",
        ], options: [defaults],
        examples: [CommandExample("emq config diff mail mail.json", "see what has changed since mail.json was written")]
    ) { session in
        let (place, rest) = try place(session)
        guard let path = rest.first, rest.count == 1 else { throw UsageError("name one FILE") }
        let plan = try ConfigurationPlan(place, session.object(in: path), session)
        if session.isJSON {
            session.printJSON([plan])
        } else {
            session.print(plan.changes, secrets: plan.secrets, of: place, isNamed: false)
        }
        return plan.isEmpty ? .done : .failed
    }

    private static let dryRun = CommandOption("--dry-run", "show what would change, and change nothing")

    static let apply = ClientSession.command(
        "apply", .queues, "FILE", count: 1...1, completion: .file, "give queues the configurations in a file",
        text: [
            "FILE has configurations of queues, and perhaps the defaults for all queues; - stands for standard input:",
            #"  {"defaults": {"retry": 60}, "queues": {"mail": {"max_retries": 3}, "sms": {}}}"#,
            "Each configuration replaces the present one as a whole. Queues that FILE does not name stay as they are. The "
                + "server first checks all of them; if one is wrong, nothing is changed. Then those that differ are "
                + "changed: the defaults, then the queues in the order of FILE. If that fails, the command says which ones "
                + "are changed; it can be repeated. What it prints is explained in `emq help config diff`. Secrets are "
                + "set again each time, since the server does not show whether they differ.",
        ], options: [dryRun],
        examples: [CommandExample("emq apply queues.json --dry-run", "see what would change")]
    ) { session in
        let configurations = try configurations(session)
        if session.invocation.has(ClientSession.curl) {
            for (place, body) in configurations {
                Emq.print(place.change("PUT", Array(body.source.utf8)).curl(to: session.place))
            }
            return .done
        }
        let plans = try plans(configurations, session)
        if session.isJSON { session.printJSON(plans) }
        var changed: [String] = []
        for plan in plans {
            if !session.isJSON { session.print(plan.changes, secrets: plan.secrets, of: plan.place, isNamed: true) }
            if session.invocation.has(dryRun) { continue }
            do throws(CommandFailure) { try plan.apply(session) } catch {
                let others =
                    changed.isEmpty ? "nothing was changed" : "changed before: \(changed.joined(separator: ", "))"
                throw CommandFailure(error.code, "\(plan.place.name): \(error.description); \(others)")
            }
            changed.append(plan.place.name)
        }
        let count = plans.count == 1 ? "1 configuration" : "\(plans.count) configurations"
        let same = configurations.count - plans.count
        let verb = session.invocation.has(dryRun) ? "would change" : "changed"
        Emq.printError("emq apply: \(count) \(verb), \(same) as they should be")
        return .done
    }

    /// The configurations in the file, the defaults first.
    private static func configurations(
        _ session: ClientSession
    ) throws -> [(place: ConfigurationPlace, body: JSONPart)] {
        let file = try session.object(in: session.name)
        var configurations: [(place: ConfigurationPlace, body: JSONPart)] = []
        var names: Set<String> = []
        func append(_ place: ConfigurationPlace, _ body: JSONPart) throws(CommandFailure) {
            if body.kind != .object {
                throw CommandFailure(.usage, "\(place.name): a configuration is an object, such as {\"retry\": 60}")
            }
            configurations.append((place, body))
        }
        for (name, value) in file.members {
            if !names.insert(name).inserted { throw CommandFailure(.usage, "the file has '\(name)' twice") }
            switch name {
            case "defaults": try append(.defaults, value)
            case "queues":
                if value.kind != .object {
                    throw CommandFailure(.usage, "'queues' must be an object with names of queues")
                }
                var queues: Set<String> = []
                for (queue, body) in value.members {
                    if queue.isEmpty {
                        throw CommandFailure(
                            .usage, "the file has a queue whose name is empty or not Unicode text; give it a name")
                    }
                    if !queues.insert(queue).inserted {
                        throw CommandFailure(.usage, "the file has the queue '\(queue)' twice")
                    }
                    try append(.queue(queue), body)
                }
            default:
                let hint = nearestName(to: name, among: ["queues", "defaults"])
                throw CommandFailure(.usage, "unknown member '\(name)' of the file; \(hint)")
            }
        }
        return configurations.filter { $0.place == .defaults } + configurations.filter { $0.place != .defaults }
    }

    /// What has to change. The server checks everything before anything is changed.
    private static func plans(
        _ configurations: [(place: ConfigurationPlace, body: JSONPart)], _ session: ClientSession
    ) throws(CommandFailure) -> [ConfigurationPlan] {
        var plans: [ConfigurationPlan] = []
        var failures: [(name: String, failure: CommandFailure)] = []
        for (place, body) in configurations {
            do throws(CommandFailure) {
                let plan = try ConfigurationPlan(place, body, session)
                if !plan.isEmpty { plans.append(plan) }
            } catch {
                if error.code == .notReachable { throw error }
                failures.append((place.name, error))
            }
        }
        guard let last = failures.popLast() else { return plans }
        for (name, failure) in failures { Emq.printError("emq apply: \(name): \(failure.description)") }
        throw CommandFailure(last.failure.code, "\(last.name): \(last.failure.description); nothing was changed")
    }
}
