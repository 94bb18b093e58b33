// What a change of a configuration changes, for people and for programs.

import Bytes
import JSON

/// Where a configuration is on the server.
enum ConfigurationPlace: Equatable {
    case queue(String)
    case defaults

    /// Its name for people.
    var name: String {
        switch self {
        case .queue(let name): name
        case .defaults: "defaults"
        }
    }

    /// The path of requests about it.
    func target(isDryRun: Bool = false) -> String {
        let query: [(String, String?)] = [("dry_run", isDryRun ? "true" : nil)]
        return switch self {
        case .queue(let name): ServerRequest.target("/config/", name: name, query: query)
        case .defaults: ServerRequest.target("/defaults/", query: query)
        }
    }

    /// A request that shows it.
    var get: ServerRequest { ServerRequest(target()) }

    /// A request that changes it.
    func change(_ method: String, _ json: [UInt8], isDryRun: Bool = false) -> ServerRequest {
        var request = ServerRequest(target(isDryRun: isDryRun), json: json)
        request.method = method
        return request
    }
}

/// A field that two configurations have with different values.
struct ConfigurationChange {
    /// Its name; for a field of a field, both with a full stop between, such as `push.url`.
    let field: String
    /// The values as JSON; nil for none.
    let old: String?
    let new: String?

    /// The fields in which two configurations differ, in the order of the first, and then those that only the second one
    /// has.
    static func between(_ old: JSONPart, _ new: JSONPart, prefix: String = "") -> [ConfigurationChange] {
        var changes: [ConfigurationChange] = []
        let (olds, news) = (old.members, new.members)
        for (name, value) in olds {
            let other = news.first { $0.name == name }?.value
            if let other, value.kind == .object, other.kind == .object {
                changes += between(value, other, prefix: "\(prefix)\(name).")
            } else if value.source != other?.source {
                changes.append(ConfigurationChange(field: prefix + name, old: value.source, new: other?.source))
            }
        }
        for (name, value) in news where !olds.contains(where: { $0.name == name }) {
            changes.append(ConfigurationChange(field: prefix + name, old: nil, new: value.source))
        }
        return changes
    }

    /// Appends the change as an object.
    func write(of place: ConfigurationPlace, to json: inout [UInt8]) {
        json += Array("{\"queue\":".utf8)
        if case .queue(let name) = place { JSONWriter.write(name, to: &json) } else { json += Array("null".utf8) }
        json += Array(",\"field\":".utf8)
        JSONWriter.write(field, to: &json)
        json += Array(",\"old\":\(old ?? "null"),\"new\":\(new ?? "null")}".utf8)
    }
}

/// The configuration that something shall have, compared with what it has.
struct ConfigurationPlan {
    let place: ConfigurationPlace
    /// The body of the PUT.
    let body: [UInt8]
    let changes: [ConfigurationChange]
    /// Secrets that the body sets. The server does not show them, so nobody can tell whether they change.
    let secrets: [String]

    var isEmpty: Bool { changes.isEmpty && secrets.isEmpty }

    /// Asks the server what a PUT of the body would change. It makes all checks, and changes nothing.
    ///
    /// - Throws: `CommandFailure` if the server refuses it.
    init(_ place: ConfigurationPlace, _ body: JSONPart, _ session: ClientSession) throws(CommandFailure) {
        self.place = place
        self.body = Array(body.source.utf8)
        let planned = try session.success(of: place.change("PUT", self.body, isDryRun: true))
        let present = try session.success(of: place.get)
        guard let old = present.json, let new = planned.json else {
            throw CommandFailure(.failed, "the server's response is not JSON; is \(session.place.base) an emq server?")
        }
        let secrets = Self.secrets(in: body)
        // What a PUT drops is in the difference already.
        changes = ConfigurationChange.between(old, new).filter { $0.field != "removed" }
        self.secrets = secrets
    }

    /// The fields of a body with a value that the server never shows.
    private static func secrets(in body: JSONPart) -> [String] {
        let mask = "\"***\""
        var found: [String] = []
        let push = body["push"]
        for name in ["secret", "secrets"] {
            guard let value = push?[name] else { continue }
            let values = value.kind == .array ? value.members.map(\.value) : [value]
            let isMasked = values.allSatisfy { $0.source == mask }
            if !isMasked { found.append("push.\(name)") }
        }
        for (name, value) in push?["headers"]?.members ?? [] where value.source != mask {
            found.append("push.headers.\(name)")
        }
        return found
    }

    /// Sends the PUT.
    func apply(_ session: ClientSession) throws(CommandFailure) {
        _ = try session.success(of: place.change("PUT", body))
    }
}

extension ClientSession {
    /// Prints changes: a line for each, with the name of what they are of if `isNamed`.
    func print(_ changes: [ConfigurationChange], secrets: [String] = [], of place: ConfigurationPlace, isNamed: Bool) {
        var table: [[String]] = []
        if terminal.isOutput {
            if isNamed { Emq.print(terminal.styled(TextTable.visible(place.name), .bold)) }
            for change in changes {
                let old = terminal.styled(TextTable.visible(change.old ?? "(none)"), .red)
                let new = terminal.styled(TextTable.visible(change.new ?? "(none)"), .green)
                Emq.print("  \(TextTable.visible(change.field)): \(old) → \(new)")
            }
            for secret in secrets { Emq.print("  \(TextTable.visible(secret)): set again, whether it is new or not") }
            return
        }
        for change in changes {
            table.append((isNamed ? [place.name] : []) + [change.field, change.old ?? "", change.new ?? ""])
        }
        for secret in secrets { table.append((isNamed ? [place.name] : []) + [secret, "***", "***"]) }
        var lines = TextTable(Array(repeating: .init(""), count: isNamed ? 4 : 3))
        lines.rows = table.map { $0.map { TextTable.Cell($0) } }
        print(lines)
    }

    /// Prints the changes of plans as one JSON document.
    func printJSON(_ plans: [ConfigurationPlan]) {
        var json = Array("[".utf8)
        for plan in plans {
            let secrets = plan.secrets.map { ConfigurationChange(field: $0, old: "\"***\"", new: "\"***\"") }
            for change in plan.changes + secrets {
                if json.count > 1 { json.append(UInt8(ascii: ",")) }
                change.write(of: plan.place, to: &json)
            }
        }
        print(json: String(decoding: json + [UInt8(ascii: "]")], as: UTF8.self))
    }

    /// The object in a file, or on standard input (`-`).
    ///
    /// - Throws: `CommandFailure` if it cannot be read, or is no object.
    func object(in path: String) throws -> JSONPart {
        let maximumBytes = 64 << 20
        let bytes: [UInt8]
        if path == "-" {
            bytes = try StandardInput.readAll()
        } else {
            do throws(FileError) { bytes = try File.read(path, maximumByteCount: maximumBytes) } catch {
                throw CommandFailure(.usage, "cannot read '\(path)': \(error)")
            }
        }
        return try Self.object(bytes, path)
    }

    /// The object that a file has.
    static func object(_ bytes: [UInt8], _ path: String) throws(CommandFailure) -> JSONPart {
        let shown = path == "-" ? "standard input" : "'\(path)'"
        var scanner = JSONScanner(maximumEntries: 1_000_000)
        do throws(JSONError) {
            try scanner.consume(bytes.span)
            try scanner.finish()
        } catch {
            let line = bytes.prefix(error.offset).count { $0 == UInt8(ascii: "\n") } + 1
            throw CommandFailure(.usage, "\(shown) is not JSON: line \(line), \(error)")
        }
        guard scanner.kind == .object, let part = JSONPart(bytes[scanner.value]) else {
            throw CommandFailure(.usage, "\(shown) is not a JSON object")
        }
        return part
    }
}
