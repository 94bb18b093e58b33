// `emq context`: names for servers, in a file of the user's.

import Bytes
import CLinux
import Glibc
import JSON
import Net

enum ContextCommands {
    static let all = [add, use, list, remove]

    private static let tokenFile = CommandOption(
        "--token-file", "FILE", completion: .file, "the file whose first line is the token for this server")

    static let add = Command(
        name: "context add", section: .help, operands: "NAME URL", operandCount: 2...2,
        summary: "give a server a name",
        text: [
            "The first context becomes the one in use. A name that exists gets what is given. With another URL, it loses "
                + "its token and everything else, since that was for another server."
        ],
        options: [ServerPlace.issuers, tokenFile],
        examples: [
            CommandExample(
                "emq context add live https://queue.example.com --token-file ~/.emq-token", "name a server")
        ]
    ) { invocation in
        let (name, url) = (invocation.operands[0], invocation.operands[1])
        if name.isEmpty || name.utf8.count > 100 { throw UsageError("a context's name has 1 to 100 bytes") }
        if name.unicodeScalars.contains(where: { $0.value < 0x20 || 0x7F...0x9F ~= $0.value }) {
            throw UsageError("a context's name has no control characters")
        }
        let tokenPath = try absolute(invocation.value(of: tokenFile), "--token-file")
        let issuersPath = try absolute(invocation.value(of: ServerPlace.issuers), "--ca")
        // What is wrong with the URL is said now, not when it is used.
        _ = try ServerPlace(url: url, from: "URL", issuersPath: issuersPath)
        var dropped: [String] = []
        let contexts = try Contexts.change(invocation.environment) { contexts in
            dropped = contexts.set(name, url: url, tokenPath: tokenPath, issuersPath: issuersPath)
        }
        if !dropped.isEmpty {
            let names = dropped.joined(separator: ", ")
            Emq.printError("emq context add: dropped what '\(name)' had for another server: \(names)")
        }
        Emq.print("added \(name)\(contexts.currentName == name ? ", which is in use" : "")")
        return .done
    }

    static let use = Command(
        name: "context use", section: .help, operands: "NAME", operandCount: 1...1,
        summary: "use this server unless you name another",
        examples: [CommandExample("emq context use live", "talk to another server from now on")]
    ) { invocation in
        try Contexts.change(invocation.environment) { contexts in
            contexts.currentName = try contexts.named(invocation.operands[0]).name
        }
        Emq.print("using \(invocation.operands[0])")
        return .done
    }

    static let list = Command(
        name: "context list", section: .help, summary: "list the servers that have names",
        examples: [CommandExample("emq context list", "see which server is in use")]
    ) { invocation in
        let contexts = try Contexts(invocation.environment)
        var table = TextTable([
            .init("IN USE"), .init("NAME"), .init("URL", isElastic: true), .init("TOKEN FILE", isOptional: true),
        ])
        for context in contexts.all {
            let mark = context.name == contexts.currentName ? "*" : ""
            let texts = [mark, context.name, context.url ?? "", context.value?["token_file"]?.text ?? ""]
            table.rows.append(texts.map { TextTable.Cell($0) })
        }
        Terminal(invocation.environment).print(table)
        return .done
    }

    static let remove = Command(
        name: "context remove", section: .help, operands: "NAME", operandCount: 1...1,
        summary: "forget a server's name",
        examples: [CommandExample("emq context remove test", "forget a server")]
    ) { invocation in
        let name = invocation.operands[0]
        try Contexts.change(invocation.environment) { contexts in
            // One that cannot be used can still be removed.
            if !contexts.all.contains(where: { $0.name == name }) { _ = try contexts.named(name) }
            contexts.remove(name)
        }
        Emq.print("removed \(invocation.operands[0])")
        return .done
    }

    /// A file's path that holds in every folder.
    private static func absolute(_ path: String?, _ flag: String) throws(UsageError) -> String? {
        guard let path else { return nil }
        func failure() -> UsageError { UsageError("\(flag): cannot read '\(path)': \(FileError(code: errno))") }
        if unsafe access(path, R_OK) != 0 { throw failure() }
        if path.hasPrefix("/") { return path }
        // Links stay: what they lead to may change.
        guard let folder = unsafe getcwd(nil, 0) else { throw failure() }
        defer { unsafe free(folder) }
        return unsafe "\(String(cString: folder))/\(path)"
    }
}

extension Contexts {
    /// Changes the file, while nobody else does.
    ///
    /// - Returns: the contexts, as they are in the file then.
    /// - Throws: `UsageError`, `CommandFailure` or `SystemError` if that is impossible.
    @discardableResult
    static func change(
        _ environment: (String) -> String?, _ body: (inout Contexts) throws -> Void
    ) throws -> Contexts {
        guard let path = path(environment) else {
            throw CommandFailure(.failed, "there is no home folder for contexts; set HOME")
        }
        UserFiles.makeFolders(of: path)
        // A file of its own, since each change replaces the other one.
        let lock = unsafe open("\(path).lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard lock >= 0 else { throw SystemError("write \(path).lock") }
        defer { Glibc.close(lock) }
        while flock(lock, LOCK_EX) != 0 { if errno != EINTR { throw SystemError("lock \(path).lock") } }
        var contexts = try Contexts(environment)
        try body(&contexts)
        try contexts.write(to: path)
        return contexts
    }

    /// Adds a context, or changes the one of its name. What that has besides stays if its URL does.
    ///
    /// - Returns: the names of members that were dropped, since they were for another URL.
    mutating func set(_ name: String, url: String, tokenPath: String?, issuersPath: String?) -> [String] {
        var members: [(name: String, source: String)] = []
        for (name, text) in [("url", url), ("token_file", tokenPath), ("ca", issuersPath)] {
            if let text { members.append((name, JSONWriter.text(of: text))) }
        }
        // A token in the file itself would win over that of token_file.
        var given = Set(members.map(\.name))
        if tokenPath != nil { given.insert("token") }
        let index = all.firstIndex { $0.name == name }
        let old = index.flatMap { all[$0].value }
        var dropped: [String] = []
        for member in old?.members ?? [] where !given.contains(member.name) {
            if old?["url"]?.text == url {
                members.append((member.name, member.value.source))
            } else {
                dropped.append(member.name)
            }
        }
        let entry = Entry(name: name, source: "{\(Self.json(members))}")
        if let index { all[index] = entry } else { all.append(entry) }
        if currentName == nil { currentName = name }
        return dropped
    }

    /// The members of an object, without its braces.
    private static func json(_ members: [(name: String, source: String)], separator: String = ", ") -> String {
        members.map { name, source in
            "\(JSONWriter.text(of: name)): \(source)"
        }.joined(separator: separator)
    }

    mutating func remove(_ name: String) {
        all.removeAll { $0.name == name }
        if currentName == name { currentName = nil }
    }

    /// Writes the file anew, in one step. Only the user may read it.
    ///
    /// - Throws: `SystemError` if that is impossible.
    private func write(to path: String) throws(SystemError) {
        let contexts = Self.json(all.map { ($0.name, $0.source) }, separator: ",\n  ")
        let members = [
            ("current", currentName.map { JSONWriter.text(of: $0) } ?? "null"), ("contexts", "{\n  \(contexts)}"),
        ]
        let json = Array("{\(Self.json(members + others))}\n".utf8)
        let draft = "\(path).new"
        let file = unsafe open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw SystemError("write \(draft)") }
        defer { Glibc.close(file) }
        let count = unsafe json.withUnsafeBytes { unsafe Glibc.write(file, $0.baseAddress, $0.count) }
        if count != json.count { throw SystemError("write \(draft)", code: count < 0 ? errno : ENOSPC) }
        // Otherwise a power failure could leave an empty file.
        if fsync(file) != 0 { throw SystemError("write \(draft)") }
        if unsafe rename(draft, path) != 0 { throw SystemError("write \(path)") }
    }
}
