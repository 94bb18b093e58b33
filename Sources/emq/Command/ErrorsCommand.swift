// `emq errors`: what the types of errors mean, and what to do. It reads docs/errors.md, which is a part of the program.

import Bytes
import CFiles
import JSON

enum ErrorsCommand {
    static let errors = Command(
        name: "errors", section: .help, operands: "[TYPE | STATUS]", operandCount: 0...1,
        operandCompletion: .words(ProblemType.allCases.map(\.rawValue)),
        summary: "explain the errors of the server",
        text: ["Without a type, it lists all of them. A type may have the beginning that it has in responses."],
        options: [ClientSession.json],
        examples: [
            CommandExample("emq errors queue-full", "see the cause of an error, and what to do about it"),
            CommandExample("emq errors 503", "list the types with a status"),
        ]
    ) { invocation in
        let name = invocation.operands.first.map(withoutPrefix)
        let found = explanations.filter { name == nil || $0.type.rawValue == name || "\($0.type.status)" == name }
        guard let first = found.first else {
            let hint = likelyName(to: name ?? "", among: ProblemType.allCases.map(\.rawValue))
            throw CommandFailure(
                .nothing, "there is no error '\(name ?? "")'; \(hint ?? "`emq errors` lists them")")
        }
        if invocation.has(ClientSession.json) {
            Emq.print("[\(found.map(\.json).joined(separator: ",\n "))]")
        } else if name == first.type.rawValue {
            Emq.print(first.text)
        } else {
            var table = TextTable([.init("STATUS", isRight: true), .init("TYPE"), .init("TITLE", isElastic: true)])
            for explanation in found {
                let type = explanation.type
                let cells: [TextTable.Cell] = [
                    .init("\(type.status)", .faint), .init(type.rawValue, .bold), .init("\(type.title)"),
                ]
                table.rows.append(cells)
            }
            Terminal(invocation.environment).print(table)
        }
        return .done
    }

    private static func withoutPrefix(_ name: String) -> String {
        name.hasPrefix(ProblemType.urnPrefix) ? String(name.dropFirst(ProblemType.urnPrefix.count)) : name
    }

    /// A row of the page.
    struct Explanation {
        let type: ProblemType
        let cause: String
        let remedy: String

        /// The explanation for people.
        var text: String {
            (["\(type.rawValue): \(type.title) (status \(type.status))", ""]
                + Command.wrapped("Cause: \(cause)", "") + Command.wrapped("Remedy: \(remedy)", ""))
                .joined(separator: "\n")
        }

        var json: String {
            var json = Array("{\"type\":\"\(type.urn)\",\"status\":\(type.status)".utf8)
            for (name, value) in [("title", "\(type.title)"), ("cause", cause), ("remedy", remedy)] {
                json += Array(",\"\(name)\":".utf8)
                JSONWriter.write(value, to: &json)
            }
            return String(decoding: json, as: UTF8.self) + "}"
        }
    }

    /// The explanations of all types, in the order of the page. A test compares them with the types.
    static var explanations: [Explanation] {
        // A constant of the program, which ends with a null byte.
        let page = unsafe String(cString: emq_errors_page())
        return page.split(separator: "\n").compactMap { line in
            // Each cell is between blanks.
            let cells = line.split(separator: "|").map { $0.dropFirst().dropLast() }
            guard cells.count == 4, let type = ProblemType(rawValue: cells[1].filter { $0 != "`" }) else { return nil }
            return Explanation(type: type, cause: plain(cells[2]), remedy: plain(cells[3]))
        }
    }

    /// A text of the page without its links: `[text](address)` is `text`.
    private static func plain(_ markdown: Substring) -> String {
        var text = ""
        var rest = markdown
        while let open = rest.firstIndex(of: "[") {
            text += rest[..<open]
            rest = rest[rest.index(after: open)...]
            guard let close = rest.firstIndex(of: "]"), let end = rest[close...].firstIndex(of: ")") else { break }
            text += rest[..<close]
            rest = rest[rest.index(after: end)...]
        }
        return text + rest
    }
}
