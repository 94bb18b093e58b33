// `emq work --dry-run`: shows what would be done.

import Delivery

extension Worker {
    /// How many tasks of each queue are shown.
    private static let shownCount = 10

    /// Shows what would be done for the first tasks of each queue: the command line, the line for the process, or the
    /// request. Nothing that tasks have controls a terminal.
    static func dryRun(_ options: WorkOptions, _ place: ServerPlace) throws -> ExitCode {
        let client = try ServerClient(place)
        let isTerminal = Terminal { ProcessStart.environment[$0] }.isOutput
        for queue in options.queues {
            let target = ServerRequest.target("/peek/", name: queue.name, query: [("n", "\(shownCount)")])
            let response = try client.response(to: ServerRequest(target))
            if !response.isSuccess { throw response.failure }
            for (_, json) in response.json?.members ?? [] {
                guard let task = WorkTask(peeked: json) else { continue }
                let plan = plan(for: task, options, now: client.loop.now)
                Emq.print(
                    isTerminal
                        ? "\(TerminalText.visible(task.id))\t\(TerminalText.visibleJSON(plan))" : "\(task.id)\t\(plan)")
            }
        }
        return .done
    }

    private static func plan(for task: WorkTask, _ options: WorkOptions, now: Int64) -> String {
        switch options.mode {
        case .command(let program):
            do throws(TemplateFailure) {
                return try program.template.words(for: task).map(shellWord).joined(separator: " ")
            } catch {
                return "(dead: \(error.description))"
            }
        case .persistent:
            let line = task.line(leaseEnd: now + task.leaseMilliseconds).dropLast()
            return String(decoding: line, as: UTF8.self)
        case .application(let url): return "POST \(TaskDelivery.place(of: url))"
        }
    }

    /// A word for a shell. Control characters are escaped (POSIX.1-2024, Shell Command Language, section 2.2.4).
    static func shellWord(_ word: String) -> String {
        if !word.unicodeScalars.contains(where: TerminalText.isControl) { return ServerRequest.quoted(word) }
        var quoted = "$'"
        for scalar in word.unicodeScalars {
            switch scalar {
            case "\n": quoted += "\\n"
            case "\t": quoted += "\\t"
            case "\r": quoted += "\\r"
            case "'", "\\": quoted += "\\\(scalar)"
            case _ where TerminalText.isControl(scalar):
                for byte in String(scalar).utf8 {
                    let digits = String(byte, radix: 8)
                    quoted += "\\" + String(repeating: "0", count: 3 - digits.utf8.count) + digits
                }
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "'"
    }
}
