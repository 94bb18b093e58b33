// `emq config edit`: a configuration in the user's editor.

import Bytes
import Glibc
import JSON
import Net

extension ConfigurationCommands {
    static let edit = ClientSession.command(
        "config edit", .queues, "[QUEUE]", count: 0...1, completion: .queue, "change a configuration in your editor",
        text: [
            "The editor is that of VISUAL or EDITOR, or else vi. When it has ended, the text replaces the whole "
                + "configuration; if it is the same, or empty, nothing is sent. Secrets are *** in it, which keeps them. If "
                + "the editor fails, if the server refuses the text, or if the configuration has changed meanwhile, the "
                + "command says where the text is kept."
        ], options: [defaults],
        examples: [CommandExample("emq config edit mail", "change several fields at once")]
    ) { session in
        if session.invocation.has(ClientSession.curl) {
            throw UsageError("--curl cannot show what you will write; use it with `emq config set`")
        }
        let (place, rest) = try place(session)
        if let word = rest.first { throw UsageError("unexpected '\(word)'; --defaults takes no QUEUE") }
        let before = try session.success(of: place.get)
        guard let shown = before.json else { throw CommandFailure(.failed, "the server's response is not JSON") }
        let text = indented(shown, "") + "\n"
        let file = try temporaryFile(text, session.invocation)
        // Nobody can say so later if a signal ends this process: the file stays then.
        Emq.printError("emq config edit: editing \(file)")
        let editorFailure = runEditor(session.invocation, file)
        let edited: [UInt8]
        do throws(FileError) { edited = try File.read(file, maximumByteCount: maximumTextBytes + 1) } catch {
            throw CommandFailure(.failed, "cannot read '\(file)': \(error)")
        }
        if edited == Array(text.utf8) || edited.allSatisfy({ $0 <= 0x20 }) {
            unsafe unlink(file)
            if let editorFailure { throw editorFailure }
            Emq.printError("emq config edit: nothing was changed")
            return .done
        }
        do {
            if let editorFailure { throw editorFailure }
            if edited.count > maximumTextBytes {
                throw CommandFailure(.usage, "the text has more than \(maximumTextBytes >> 20) MiB")
            }
            let body = try ClientSession.object(edited, file)
            // There is no precondition for a PUT, so this leaves a moment in which another change is lost.
            if try session.success(of: place.get).body != before.body {
                throw CommandFailure(.failed, "the configuration has changed meanwhile; edit it again")
            }
            let response = try session.success(of: place.change("PUT", Array(body.source.utf8)))
            unsafe unlink(file)
            if session.isJSON {
                session.printBody(response)
            } else if let after = response.json {
                let changes = ConfigurationChange.between(shown, after).filter { $0.field != "removed" }
                session.print(changes, of: place, isNamed: false)
            }
        } catch let failure as CommandFailure {
            throw CommandFailure(failure.code, "\(failure.description); your text is in \(file)")
        }
        return .done
    }

    /// The longest text that is taken from the editor, in bytes.
    private static let maximumTextBytes = 1 << 20

    /// JSON with a line for each member.
    private static func indented(_ value: JSONPart, _ margin: String) -> String {
        let members = value.members
        guard value.kind == .object, !members.isEmpty else {
            // A document may end with line feeds.
            return String(value.source.reversed().drop { $0.isWhitespace }.reversed())
        }
        let lines = members.map { name, value in
            "\(margin)  \(JSONWriter.text(of: name)): \(indented(value, margin + "  "))"
        }
        return "{\n\(lines.joined(separator: ",\n"))\n\(margin)}"
    }

    private static func temporaryFile(_ text: String, _ invocation: Invocation) throws -> String {
        let folder = invocation.variable("TMPDIR").flatMap { $0.hasPrefix("/") ? $0 : nil } ?? "/tmp"
        let suffix = ".json"
        var template = Array("\(folder)/emq-XXXXXX\(suffix)\0".utf8CString)
        let descriptor = unsafe mkstemps(&template, Int32(suffix.utf8.count))
        if descriptor < 0 { throw SystemError("make a file in \(folder)") }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        let count = unsafe bytes.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) }
        if count != bytes.count { throw SystemError("write a file in \(folder)", code: count < 0 ? errno : ENOSPC) }
        return String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Runs the editor, whose variable may have options, and waits for its end.
    ///
    /// - Returns: what went wrong; nil if nothing did.
    private static func runEditor(_ invocation: Invocation, _ file: String) -> CommandFailure? {
        let editor = invocation.variable("VISUAL") ?? invocation.variable("EDITOR") ?? "vi"
        let status = unsafe system("\(editor) \(ServerRequest.quoted(file))")
        if status == 0 { return nil }
        let reason = status > 0 && status & 0x7F == 0 ? "ended with status \(status >> 8)" : "did not end well"
        return CommandFailure(.failed, "the editor (\(editor)) \(reason); nothing was changed")
    }
}
