// `emq work --dry-run`: shows what would be done.

extension Worker {
    /// How many tasks of each queue are shown.
    private static let shownCount = 10

    /// Shows what would be done for the first tasks of each queue: the command line, the line for the process, or the
    /// request.
    static func dryRun(_ options: WorkOptions, _ place: ServerPlace) throws -> ExitCode {
        let client = try ServerClient(place)
        for queue in options.queues {
            let target = ServerRequest.target("/peek/", name: queue.name, query: [("n", "\(shownCount)")])
            let response = try client.response(to: ServerRequest(target))
            if !response.isSuccess { throw response.failure }
            for (_, json) in response.json?.members ?? [] {
                guard let task = WorkTask(peeked: json) else { continue }
                Emq.print("\(task.id)\t\(plan(for: task, options, now: client.loop.now))")
            }
        }
        return .done
    }

    private static func plan(for task: WorkTask, _ options: WorkOptions, now: Int64) -> String {
        switch options.mode {
        case .command(let program):
            do throws(TemplateFailure) {
                return try program.template.words(for: task).map(ServerRequest.quoted).joined(separator: " ")
            } catch {
                return "(dead: \(error.description))"
            }
        case .persistent:
            let line = task.line(leaseEnd: now + task.leaseMilliseconds).dropLast()
            return String(decoding: line, as: UTF8.self)
        case .application(let url): return "POST \(url)"
        }
    }
}
