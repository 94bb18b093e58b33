// `emq token new`: makes a token.

import Bytes
import Delivery
import Glibc
import JSON
import UID

enum TokenCommand {
    private static let help = """
        usage: emq token new --name NAME --allow WHAT [options]    make a token for a file of --tokens

          --name NAME          whose token it is, as errors and the log show it
          --allow WHAT         what it allows: enqueue, work, read, manage, admin, metrics, push, or
                               several with commas
          --queues PATTERNS    for which queues, such as 'orders/*', or several with commas; a * stands
                               for any characters (default: all queues)
          --expires TIME       how long it works: 45s, 30m, 12h, 90d or 52w (default: forever)

        Prints the token, which is shown only now, and on the second line the object to add to the file:
        {"tokens": [OBJECT, OBJECT]}. A running server reads the file within a minute, or on SIGHUP.
        docs/operations.md, "Access", says what each word allows.
        """

    private static let flags = ["--name", "--allow", "--queues", "--expires"]
    /// The units of `--expires`, in seconds.
    private static let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800]

    /// Runs the command.
    ///
    /// - Returns: the exit status: 0 for success, 2 for an invalid command line.
    static func run(_ arguments: [String]) -> Int32 {
        if arguments.contains("--help") || arguments.contains("-h") {
            Emq.print(help)
            return 0
        }
        do throws(UsageError) {
            guard arguments.first == "new" else {
                throw UsageError(arguments.first.map { "unknown command '\($0)'; write new" } ?? "write emq token new")
            }
            var random = KernelRandom()
            let token = TokenText.make(using: &random)
            let object = try object(for: token, Array(arguments.dropFirst()), now: Int64(time(nil)))
            Emq.print("\(text(token.span))\n\(object)")
            Emq.printError(
                "emq: the first line is the token, which is shown only now; add the second line to \"tokens\" in the "
                    + "file of --tokens")
            return 0
        } catch {
            Emq.printError("emq token: \(error.description) (emq token --help lists the options)")
            return 2
        }
    }

    /// The object that stands for a token in the file.
    ///
    /// - Parameters:
    ///   - token: the token.
    ///   - arguments: the command line after `new`.
    ///   - now: the time in Unix seconds.
    /// - Returns: the object as JSON.
    /// - Throws: `UsageError` with one line that says what is wrong.
    static func object(for token: [UInt8], _ arguments: [String], now: Int64) throws(UsageError) -> String {
        let values = try values(arguments)
        guard let names = values["--name"], let name = names.first.map({ Array($0.utf8) }), names.count == 1 else {
            throw UsageError("give --name once: whose token it is")
        }
        if name.count > TokensFile.maximumNameByteCount {
            throw UsageError("--name must have at most \(TokensFile.maximumNameByteCount) bytes, not \(name.count)")
        }
        if let flaw = Token.flaw(inName: name.span) { throw UsageError("--name: \(flaw)") }
        let allowed = (values["--allow"] ?? []).flatMap { $0.split(separator: ",", omittingEmptySubsequences: false) }
        if allowed.isEmpty { throw UsageError("--allow is missing: what the token allows, such as --allow enqueue") }
        for word in allowed {
            do throws(Problem) { _ = try Permissions(named: String(word)) } catch {
                throw UsageError("--allow: \(error.detail)")
            }
        }
        let patterns = (values["--queues"] ?? []).flatMap { $0.split(separator: ",", omittingEmptySubsequences: false) }
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
        if let lifetimes = values["--expires"] {
            guard lifetimes.count == 1, let seconds = lifetimes.first.flatMap({ Self.seconds($0) }) else {
                throw UsageError("--expires must be how long the token works, such as 90d, 12h or 52w")
            }
            append(", \"expires\": \(now + seconds)")
        }
        append("}")
        // What the command prints must be what the server reads.
        let file = Array("{\"tokens\": [".utf8) + json + Array("]}".utf8)
        do throws(TokensFileError) { _ = try TokensFile(file.span, now: now * 1000) } catch {
            throw UsageError(error.description)
        }
        return String(decoding: json, as: UTF8.self)
    }

    /// The values of each option.
    private static func values(_ arguments: [String]) throws(UsageError) -> [String: [String]] {
        var values: [String: [String]] = [:]
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard flags.contains(parts[0]) else {
                throw UsageError("unknown option '\(argument)'; \(nearestName(to: parts[0], among: flags))")
            }
            guard let value = parts.count > 1 ? parts[1] : rest.popFirst() else {
                throw UsageError("\(parts[0]) needs a value")
            }
            values[parts[0], default: []].append(value)
        }
        return values
    }

    /// The seconds of a duration such as `90d`, of at most 136 years; nil for anything else.
    private static func seconds(_ text: String) -> Int64? {
        guard let unit = text.last.flatMap({ units[$0] }), let count = Int64(decimal: text.dropLast().utf8), count > 0,
            case let (seconds, overflow) = count.multipliedReportingOverflow(by: unit), !overflow,
            seconds <= maximumMilliseconds / 1000
        else { return nil }
        return seconds
    }
}
