// What shells offer while a command line of emq is typed: commands, options, their values, and names of queues.

/// The completion of a command line.
enum Completion {
    /// What may stand in place of the last word.
    enum Candidates: Equatable {
        case words([String])
        case files
        case directories
        /// Names of queues on the server.
        case queues
    }

    /// The candidates for the last word of a command line. O(commands · options).
    ///
    /// - Parameters:
    ///   - words: the words after the program's name; the last one is being typed, and may be empty.
    ///   - commands: all commands.
    /// - Returns: the candidates, which need not begin like the word.
    static func candidates(_ words: [String], among commands: [Command]) -> Candidates {
        let typed = words.last ?? ""
        let before = words.dropLast()
        if before.contains("--") { return .files }
        guard let first = before.first, !first.hasPrefix("-") else {
            if typed.hasPrefix("-") || before.first != nil {
                return options(of: commands.first { $0.name == "serve" }, before, typed)
            }
            return .words(unique(commands.map { String($0.name.prefix { $0 != " " }) }))
        }
        if first == "help" {
            let rest = before.dropFirst().joined(separator: " ")
            return .words(nextWords(after: rest, commands))
        }
        if let command = commands.first(where: { $0.name == first }) {
            return options(of: command, before.dropFirst(), typed)
        }
        guard let second = before.dropFirst().first else { return .words(nextWords(after: first, commands)) }
        return options(of: commands.first { $0.name == "\(first) \(second)" }, before.dropFirst(2), typed)
    }

    /// The words that continue a name of commands.
    private static func nextWords(after beginning: String, _ commands: [Command]) -> [String] {
        if beginning.isEmpty { return unique(commands.map { String($0.name.prefix { $0 != " " }) }) }
        return commands.filter { $0.name.hasPrefix("\(beginning) ") }
            .map { String($0.name.dropFirst(beginning.count + 1)) }
    }

    private static func options(
        of command: Command?, _ before: ArraySlice<String>, _ typed: String
    ) -> Candidates {
        guard let command else { return .words([]) }
        func option(_ word: String) -> CommandOption? { command.allOptions.first { $0.spellings.contains(word) } }
        if let last = before.last, let option = option(last), option.value != nil { return values(option.completion) }
        if let equals = typed.firstIndex(of: "="), let option = option(String(typed[..<equals])) {
            guard case .words(let words) = values(option.completion) else { return .words([]) }
            return .words(words.map { "\(typed[...equals])\($0)" })
        }
        if typed.hasPrefix("-") { return .words(command.allOptions.map(\.flag)) }
        return values(command.operandCompletion)
    }

    private static func values(_ completion: CommandOption.Completion) -> Candidates {
        switch completion {
        case .none: .words([])
        case .file: .files
        case .directory: .directories
        case .queue: .queues
        case .words(let words): .words(words)
        }
    }

    private static func unique(_ words: [String]) -> [String] {
        words.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }
}
