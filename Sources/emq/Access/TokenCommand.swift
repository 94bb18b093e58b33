// `emq token new`: makes a token.

import Bytes
import Delivery
import Glibc
import JSON
import UID

enum TokenCommand {
    private static let name = CommandOption(
        "--name", "NAME", "whose token it is, as errors and the log show it")
    private static let allow = CommandOption(
        "--allow", "WHAT", isRepeatable: true, completion: .words(Permission.allCases.map(\.name)),
        "what it allows: enqueue, work, read, manage, admin, metrics, push, or several with commas")
    private static let queues = CommandOption(
        "--queues", "PATTERNS", isRepeatable: true, completion: .queue,
        "for which queues, such as 'orders/*', or several with commas; a * stands for any characters (default: all "
            + "queues)")
    private static let expires = CommandOption(
        "--expires", "TIME", "how long it works: 45s, 30m, 12h, 90d or 52w (default: forever)")

    static let new = Command(
        name: "token new", section: .server, operands: "--name NAME --allow WORDS",
        summary: "make a token for a file of --tokens",
        text: [
            "Prints the token, which is shown only now, and on the second line the object to add to the file: "
                + "{\"tokens\": [OBJECT, OBJECT]}. A running server reads the file within a minute, or on SIGHUP. "
                + "docs/operations.md, \"Access\", says what each word allows."
        ], options: [name, allow, queues, expires],
        examples: [
            CommandExample("emq token new --name mailer --allow enqueue,work --queues 'mail*'", "make a worker's token")
        ]
    ) { invocation in
        var random = KernelRandom()
        let token = TokenText.make(using: &random)
        let object = try object(for: token, invocation, now: Int64(time(nil)))
        Emq.print("\(text(token.span))\n\(object)")
        Emq.printError(
            "emq: the first line is the token, which is shown only now; add the second line to \"tokens\" in the "
                + "file of --tokens")
        return .done
    }

    /// The object that stands for a token in the file.
    ///
    /// - Parameters:
    ///   - token: the token.
    ///   - invocation: the command line.
    ///   - now: the time in Unix seconds.
    /// - Returns: the object as JSON.
    /// - Throws: `UsageError` with one line that says what is wrong.
    static func object(for token: [UInt8], _ invocation: Invocation, now: Int64) throws(UsageError) -> String {
        guard let name = invocation.value(of: name).map({ Array($0.utf8) }) else {
            throw UsageError("give --name once: whose token it is")
        }
        if name.count > TokensFile.maximumNameByteCount {
            throw UsageError("--name must have at most \(TokensFile.maximumNameByteCount) bytes, not \(name.count)")
        }
        if let flaw = Token.flaw(inName: name.span) { throw UsageError("--name: \(flaw)") }
        let allowed = invocation.allValues(of: allow).flatMap {
            $0.split(separator: ",", omittingEmptySubsequences: false)
        }
        if allowed.isEmpty { throw UsageError("--allow is missing: what the token allows, such as --allow enqueue") }
        for word in allowed {
            do throws(Problem) { _ = try Permissions(named: String(word)) } catch {
                throw UsageError("--allow: \(error.detail)")
            }
        }
        let patterns = invocation.allValues(of: queues).flatMap {
            $0.split(separator: ",", omittingEmptySubsequences: false)
        }
        if patterns.contains("") { throw UsageError("--queues has an empty pattern; for all queues, leave it out") }
        if patterns.count > TokensFile.maximumPatternCount {
            throw UsageError("--queues has more than \(TokensFile.maximumPatternCount) patterns")
        }
        var json: [UInt8] = []
        func append(_ text: String) { json += Array(text.utf8) }
        func list(_ texts: [Substring]) {
            for (index, text) in texts.enumerated() {
                append(index == 0 ? "[" : ", ")
                JSONWriter.write(String(text), to: &json)
            }
            append("]")
        }
        append("{\"name\": ")
        JSONWriter.writeString(name.span, to: &json)
        append(", \"sha256\": \"")
        let hash = SHA256.hash(token.span)
        json.append(hexadecimal: hash.span)
        append("\", \"allow\": ")
        list(allowed)
        if !patterns.isEmpty {
            append(", \"queues\": ")
            list(patterns)
        }
        if let lifetime = invocation.value(of: expires) {
            // Whoever writes a number alone may think of days.
            guard lifetime.last?.isLetter == true, let milliseconds = Duration.milliseconds(lifetime),
                milliseconds >= 1000
            else {
                throw UsageError("--expires must be how long the token works, such as 90d, 12h or 52w")
            }
            append(", \"expires\": \(now + milliseconds / 1000)")
        }
        append("}")
        // What the command prints must be what the server reads.
        let file = Array("{\"tokens\": [".utf8) + json + Array("]}".utf8)
        do throws(TokensFileError) { _ = try TokensFile(file.span, now: now * 1000) } catch {
            throw UsageError(error.description)
        }
        return String(decoding: json, as: UTF8.self)
    }
}
