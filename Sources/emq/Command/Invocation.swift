// A command line, read by the description of its command.

import Bytes

/// What a command is given: the values of its options, its operands, and the environment.
struct Invocation {
    let command: Command
    /// The value of a variable of the environment; nil if it is not set.
    let environment: (String) -> String?
    /// The operands.
    private(set) var operands: [String] = []
    /// The command line of another program, after `--`; nil if there is no `--`.
    private(set) var program: [String]?
    /// The options in the order of the command line. A switch has the value `true`.
    private(set) var values: [(flag: String, value: String)] = []

    /// Reads the arguments after the command's name.
    ///
    /// Options and operands may be mixed. A value follows its option, or an equals sign. After `--`, all arguments are
    /// operands, or the command line of another program. `-` and negative numbers are operands.
    ///
    /// - Throws: `UsageError`: one line that says what is wrong and what would be right.
    init(
        _ command: Command, _ arguments: some Sequence<String>, environment: @escaping (String) -> String?
    ) throws(UsageError) {
        (self.command, self.environment) = (command, environment)
        var rest = Array(arguments)[...]
        while let argument = rest.popFirst() {
            if argument == "--" {
                if command.runsProgram { program = Array(rest) } else { operands += rest }
                break
            }
            guard argument.hasPrefix("-"), argument != "-", Double(argument) == nil else {
                operands.append(argument)
                continue
            }
            try readOption(argument, &rest)
        }
        try checkOperands()
    }

    private mutating func readOption(_ argument: String, _ rest: inout ArraySlice<String>) throws(UsageError) {
        guard let (option, attached) = parts(of: argument) else { throw unknownOption(argument, next: rest.first) }
        let value: String
        if let attached {
            if option.value == nil, !option.takesTruthValue { throw UsageError("\(option.flag) takes no value") }
            // Without a value, the variable counts: an empty one is a mistake.
            if attached.isEmpty, option.variableInsteadOfValue != nil {
                throw UsageError("\(option.flag) needs a value")
            }
            value = attached
        } else if option.value == nil {
            value = "true"
        } else if let next = rest.first, !isOption(next) {
            value = next
            rest.removeFirst()
        } else if let name = option.variableInsteadOfValue, variable(name) != nil {
            value = ""
        } else if let next = rest.first {
            throw UsageError(
                "\(option.flag) needs a value, but an option follows; if '\(next)' is the value, write "
                    + "\(option.flag)=\(next)")
        } else {
            throw UsageError("\(option.flag) needs a value")
        }
        if !option.isRepeatable, has(option) { throw UsageError("\(option.flag) is given twice; give it once") }
        values.append((option.flag, value))
    }

    /// The option that an argument begins, and the value that is attached to it; nil if there is no such option.
    private func parts(of argument: String) -> (option: CommandOption, value: String?)? {
        let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let value = parts.count > 1 ? String(parts[1]) : nil
        let options = command.allOptions
        if let option = options.first(where: { $0.spellings.contains(String(parts[0])) }) { return (option, value) }
        // `-j4` is `-j 4`.
        guard !argument.hasPrefix("--"), let letter = argument.dropFirst().first,
            let option = options.first(where: { $0.letter == letter && $0.value != nil })
        else { return nil }
        return (option, String(argument.dropFirst(2)))
    }

    /// Whether an argument is an option rather than a value: a negative number may be a value.
    private func isOption(_ argument: String) -> Bool {
        argument.hasPrefix("--") || argument.hasPrefix("-") && parts(of: argument) != nil
    }

    private func checkOperands() throws(UsageError) {
        let range = command.operandCount
        if operands.count > range.upperBound {
            let extra = operands[range.upperBound]
            if command.name == "serve" {
                if Command.names.contains(extra) { throw UsageError("put the command '\(extra)' before its options") }
                throw Command.unknown(extra)
            }
            let usage = command.operands.isEmpty ? "it takes options only" : "it takes \(command.operands)"
            throw UsageError("unexpected '\(extra)'; \(usage)")
        }
        if operands.count < range.lowerBound {
            throw UsageError("something is missing: \(command.invocation) \(command.operands)")
        }
        let isProgramNeeded =
            command.runsProgram && command.section != .hidden && command.optionInsteadOfProgram.map(has) != true
        if isProgramNeeded, program?.isEmpty != false {
            throw UsageError("the program to run is missing: \(command.invocation) \(command.operands)")
        }
    }

    // MARK: Values

    /// Whether an option is given.
    func has(_ option: CommandOption) -> Bool { values.contains { $0.flag == option.flag } }

    /// The value of an option; nil if it is not given.
    func value(of option: CommandOption) -> String? { values.first { $0.flag == option.flag }?.value }

    /// All values of an option that may be repeated.
    func allValues(of option: CommandOption) -> [String] {
        values.compactMap { $0.flag == option.flag ? $0.value : nil }
    }

    /// The value of a variable; nil if it is not set, or empty.
    func variable(_ name: String) -> String? { environment(name).flatMap { $0.isEmpty ? nil : $0 } }

    /// The whole number that is an option's value; nil if it is not given.
    func number(of option: CommandOption, in range: ClosedRange<Int>) throws(UsageError) -> Int? {
        guard let text = value(of: option) else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw UsageError(
                "\(option.flag) must be a whole number from \(range.lowerBound) to \(range.upperBound), not '\(text)'")
        }
        return number
    }

    /// The duration that is an option's value, in milliseconds; nil if it is not given.
    func milliseconds(of option: CommandOption) throws(UsageError) -> Int64? {
        guard let text = value(of: option) else { return nil }
        guard let milliseconds = Duration.milliseconds(text) else {
            throw UsageError("\(option.flag) must be a duration such as 30s, 5m, 1h30m or 2.5 (seconds), not '\(text)'")
        }
        return milliseconds
    }

    // MARK: Mistakes

    private func unknownOption(_ argument: String, next: String?) -> UsageError {
        let flag = String(argument.prefix { $0 != "=" })
        let known = command.allOptions
        if let option = known.first(where: { $0.otherNames.contains(flag) }) {
            let value = argument == flag ? next : String(argument.dropFirst(flag.count + 1))
            // A port alone is not an address.
            let port = option.flag == "--addr" ? value.flatMap { UInt16($0) } : nil
            return UsageError(
                "unknown option '\(argument)'; did you mean '\(option.flag)\(port.map { " :\($0)" } ?? "")'?")
        }
        return UsageError("unknown option '\(argument)'; \(nearestName(to: flag, among: known.map(\.flag)))")
    }
}
