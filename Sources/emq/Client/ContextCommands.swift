// `emq context`: names for servers, in a file of the user's.

import Bytes
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
        text: ["The first context becomes the one in use. A name that exists gets the new URL."],
        options: [ServerPlace.issuers, tokenFile],
        examples: [
            CommandExample(
                "emq context add live https://queue.example.com --token-file ~/.emq-token", "name a server")
        ]
    ) { invocation in
        let (name, url) = (invocation.operands[0], invocation.operands[1])
        if name.isEmpty || name.utf8.count > 100 { throw UsageError("a context's name has 1 to 100 bytes") }
        let context = Contexts.Context(
            name: name, url: url, token: nil, tokenPath: try absolute(invocation.value(of: tokenFile), "--token-file"),
            issuersPath: try absolute(invocation.value(of: ServerPlace.issuers), "--ca"))
        // What is wrong with the URL is said now, not when it is used.
        _ = try ServerPlace(url: url, issuersPath: context.issuersPath)
        var contexts = try Contexts(invocation.environment)
        contexts.set(context)
        try contexts.write()
        Emq.print("added \(name)\(contexts.currentName == name ? ", which is in use" : "")")
        return .done
    }

    static let use = Command(
        name: "context use", section: .help, operands: "NAME", operandCount: 1...1,
        summary: "use this server if nothing else is said"
    ) { invocation in
        var contexts = try Contexts(invocation.environment)
        contexts.currentName = try contexts.named(invocation.operands[0]).name
        try contexts.write()
        Emq.print("using \(invocation.operands[0])")
        return .done
    }

    static let list = Command(
        name: "context list", section: .help, summary: "list the servers that have names"
    ) { invocation in
        let contexts = try Contexts(invocation.environment)
        var table = TextTable([.init("IN USE"), .init("NAME"), .init("URL", isElastic: true)])
        for context in contexts.all {
            let mark = context.name == contexts.currentName ? "*" : ""
            table.rows.append([TextTable.Cell(mark), TextTable.Cell(context.name), TextTable.Cell(context.url)])
        }
        Terminal(invocation.environment).print(table)
        return .done
    }

    static let remove = Command(
        name: "context remove", section: .help, operands: "NAME", operandCount: 1...1, summary: "forget a server's name"
    ) { invocation in
        var contexts = try Contexts(invocation.environment)
        contexts.remove(try contexts.named(invocation.operands[0]).name)
        try contexts.write()
        Emq.print("removed \(invocation.operands[0])")
        return .done
    }

    /// A file's path that holds in every folder.
    private static func absolute(_ path: String?, _ flag: String) throws(UsageError) -> String? {
        guard let path else { return nil }
        guard let resolved = unsafe realpath(path, nil) else {
            throw UsageError("\(flag): cannot read '\(path)': \(FileError(code: errno))")
        }
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved)
    }
}

extension Contexts {
    /// Adds a context, or replaces the one of its name.
    mutating func set(_ context: Context) {
        all.removeAll { $0.name == context.name }
        all.append(context)
        if currentName == nil { currentName = context.name }
    }

    mutating func remove(_ name: String) {
        all.removeAll { $0.name == name }
        if currentName == name { currentName = nil }
    }

    /// Writes the file anew, in one step. Only the user may read it.
    ///
    /// - Throws: `SystemError` if that is impossible.
    func write() throws {
        guard let path else { throw CommandFailure(.failed, "there is no home folder for contexts; set HOME") }
        var json = Array("{\"current\": ".utf8)
        if let currentName { JSONWriter.write(currentName, to: &json) } else { json += Array("null".utf8) }
        json += Array(", \"contexts\": {".utf8)
        for (index, context) in all.enumerated() {
            json += Array(index == 0 ? "\n  ".utf8 : ",\n  ".utf8)
            JSONWriter.write(context.name, to: &json)
            json += Array(": {\"url\": ".utf8)
            JSONWriter.write(context.url, to: &json)
            for (name, value) in [
                ("token", context.token), ("token_file", context.tokenPath), ("ca", context.issuersPath),
            ] {
                guard let value else { continue }
                json += Array(", \"\(name)\": ".utf8)
                JSONWriter.write(value, to: &json)
            }
            json.append(UInt8(ascii: "}"))
        }
        json += Array("}}\n".utf8)
        // The folders of the path, as far as they are missing.
        for (index, byte) in path.utf8.enumerated() where byte == UInt8(ascii: "/") && index > 0 {
            unsafe mkdir(String(decoding: path.utf8.prefix(index), as: UTF8.self), 0o700)
        }
        let draft = "\(path).new"
        let file = unsafe open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw SystemError("write \(draft)") }
        let count = unsafe json.withUnsafeBytes { unsafe Glibc.write(file, $0.baseAddress, $0.count) }
        let failure = errno
        Glibc.close(file)
        if count != json.count { throw SystemError("write \(draft)", code: count < 0 ? failure : ENOSPC) }
        if unsafe rename(draft, path) != 0 { throw SystemError("write \(path)") }
    }
}
