// All commands of the program, and how the command line selects one.

extension Command {
    /// All commands, in the order of the overview.
    static let all: [Command] =
        [
            .serve, CheckOptions.command, BenchOptions.command, JournalCommand.copy, JournalCommand.check,
            JournalCommand.repair, TokenCommand.new,
        ] + [WorkOptions.command] + TaskCommands.all + QueueCommands.all + TransferCommands.all
        + ConfigurationCommands.all + ContextCommands.all + [
            ErrorsCommand.errors, CompletionCommands.completion, .help, .version, CompletionCommands.complete,
        ]

    /// Runs the command that a command line names.
    ///
    /// - Parameters:
    ///   - arguments: the command line after the program's name.
    ///   - environment: the value of a variable of the environment; nil if it is not set.
    /// - Returns: the program's exit status.
    static func run(_ arguments: [String], environment: @escaping (String) -> String?) -> Int32 {
        let selection: (command: Command, rest: ArraySlice<String>)
        do throws(UsageError) { selection = try select(arguments) } catch {
            return refuse(error)
        }
        let command = selection.command
        // Whoever asks for help need not get the rest right.
        if selection.rest.prefix(while: { $0 != "--" }).contains(where: CommandOption.help.spellings.contains) {
            Emq.print(command.help)
            return ExitCode.done.rawValue
        }
        do {
            let invocation = try Invocation(command, selection.rest, environment: environment)
            return try command.run(invocation).rawValue
        } catch let error as UsageError {
            return command.refuse(error)
        } catch let failure as CommandFailure {
            if !failure.description.isEmpty { Emq.printError("\(command.errorPrefix): \(failure.description)") }
            return failure.code.rawValue
        } catch {
            Emq.printError("\(command.errorPrefix): \(error)")
            return ExitCode.failed.rawValue
        }
    }

    /// How lines about its failures begin. The server is the program itself.
    private var errorPrefix: String { name == "serve" ? "emq" : "emq \(name)" }

    /// Says that the command line names no command.
    private static func refuse(_ error: UsageError) -> Int32 {
        Emq.printError("emq: \(error.description) (emq help lists the commands)")
        return ExitCode.usage.rawValue
    }

    /// Says what is wrong with the command's options or operands.
    private func refuse(_ error: UsageError) -> Int32 {
        if error.isUnknownCommand { return Command.refuse(error) }
        if name == "check" {
            // Monitoring systems show what a check prints.
            Emq.print("EMQ UNKNOWN - \(error.description) (emq check --help lists the options)")
            return CheckReport.Level.unknown.rawValue
        }
        Emq.printError("\(errorPrefix): \(error.description) (\(invocation) --help lists the options)")
        return ExitCode.usage.rawValue
    }

    /// The command that the first arguments name, and the arguments after its name. Without a command, it is `serve`.
    private static func select(
        _ arguments: [String]
    ) throws(UsageError) -> (command: Command, rest: ArraySlice<String>) {
        guard let first = arguments.first, !first.hasPrefix("-") else {
            if arguments.contains("--version") { return (.version, []) }
            let isHelp = ["--help", "-h"].contains { arguments.first == $0 }
            return isHelp ? (.help, []) : (.serve, arguments[...])
        }
        if let command = named(first) { return (command, arguments.dropFirst()) }
        let second = arguments.dropFirst().first
        if let second, let command = named("\(first) \(second)") { return (command, arguments.dropFirst(2)) }
        let group = all.filter { $0.name.hasPrefix("\(first) ") }.map { String($0.name.dropFirst(first.count + 1)) }
        if !group.isEmpty {
            guard let second, !second.hasPrefix("-") else {
                if second == "--help" || second == "-h" { return (.help, arguments.prefix(1)) }
                throw UsageError("'emq \(first)' is followed by one of: \(group.joined(separator: ", "))")
            }
            throw UsageError("unknown command '\(first) \(second)'; \(nearestName(to: second, among: group))")
        }
        throw unknown(first)
    }

    /// The mistake of a word that is no command. The list of all commands would be too long for a line.
    static func unknown(_ word: String) -> UsageError {
        let hint = likelyName(to: word, among: names).map { "; \($0)" } ?? ""
        return UsageError("unknown command '\(word)'\(hint)", isUnknownCommand: true)
    }

    /// A command by its name; nil if there is none.
    static func named(_ name: String) -> Command? { all.first { $0.name == name } }

    /// The first words of all commands that people use, in order.
    static var names: [String] {
        var names: [String] = []
        for command in all where command.section != .hidden {
            let word = String(command.name.prefix { $0 != " " })
            if names.last != word { names.append(word) }
        }
        return names
    }

    // MARK: Help

    static let help = Command(
        name: "help", section: .help, operands: "[COMMAND]", operandCount: 0...2, operandCompletion: .words([]),
        summary: "explain a command", options: [manual],
        examples: [CommandExample("emq help journal copy", "show the options of a command")]
    ) { invocation in
        if invocation.has(manual) {
            Emq.print(ManualPage.text(of: all))
            return .done
        }
        let name = invocation.operands.joined(separator: " ")
        if name.isEmpty {
            Emq.print(overview(of: all))
            return .done
        }
        let commands = all.filter { $0.name == name || $0.name.hasPrefix("\(name) ") }
        if commands.isEmpty {
            let known = invocation.operands.count == 1 ? names : all.map(\.name)
            throw UsageError("there is no command '\(name)'; \(nearestName(to: name, among: known))")
        }
        Emq.print(commands.map(\.help).joined(separator: "\n\n"))
        return .done
    }

    private static let manual = CommandOption("--man", "print the manual page, for man")

    static let version = Command(name: "version", section: .help, summary: "show the version") { _ in
        Emq.print("emq \(Options.versionWithCommit)")
        return .done
    }
}
