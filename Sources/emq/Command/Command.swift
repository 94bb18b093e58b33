// What a command of the program is: the one description from which its command line is read, and from which help, the
// manual page and the completions of shells are made.

/// A command of the program, such as `emq serve`.
struct Command: Sendable {
    /// The commands that the overview shows together.
    enum Section: String, CaseIterable, Sendable {
        case server = "Server"
        case tasks = "Tasks"
        case queues = "Queues"
        case help = "Help"
        /// Commands for programs, which the overview leaves out.
        case hidden = ""
    }

    /// Its name: one word, or two, such as `token new`.
    let name: String
    let section: Section
    /// What follows its name, as help shows it, such as `QUEUE [CONTENT]`; empty for options only.
    var operands = ""
    /// How many operands it takes.
    var operandCount: ClosedRange<Int> = 0...0
    /// What an operand is, so that a shell can complete it.
    var operandCompletion = CommandOption.Completion.none
    /// Whether a command line of another program follows `--`.
    var runsProgram = false
    /// The option that makes the other program unnecessary.
    var optionInsteadOfProgram: CommandOption?
    /// What it does: a phrase without a full stop, at most 60 characters.
    let summary: String
    /// More about it, in paragraphs; lines that begin with a blank stay as they are.
    var text: [String] = []
    /// Its options, in the order of help.
    var options: [CommandOption] = []
    var examples: [CommandExample] = []
    /// Runs it, and returns the program's exit status. Throws `CommandFailure`, `UsageError` or any other error, whose
    /// description is then shown.
    let run: @Sendable (Invocation) throws -> ExitCode

    /// The options, and `--help`, which every command has.
    var allOptions: [CommandOption] { options + [.help] }

    /// The command as users write it.
    var invocation: String { "emq \(name)" }
}

/// An option of a command.
struct CommandOption: Sendable, Equatable {
    /// What a shell may offer for a value.
    enum Completion: Sendable, Equatable {
        case none, file, directory, queue
        case words([String])
    }

    /// Its name, such as `--max-memory`.
    let flag: String
    /// Its short form, such as `-j`.
    var letter: Character?
    /// What its value is, such as `SIZE`; nil for a switch, which is on if it is there.
    var value: String?
    /// What it does: phrases without a full stop at the end.
    let text: String
    /// Whether a switch may be written with `=true` or `=false`.
    var takesTruthValue = false
    /// Whether it may be given several times.
    var isRepeatable = false
    /// The variable of the environment that makes its value unnecessary.
    var variableInsteadOfValue: String?
    /// Whether it may also be written with one dash, as Go's programs take it.
    var takesOneDash = false
    /// The names that other programs have for it.
    var otherNames: [String] = []
    var completion = Completion.none

    /// An option with a value.
    init(
        _ flag: String, _ value: String, letter: Character? = nil, isRepeatable: Bool = false,
        variableInsteadOfValue: String? = nil, takesOneDash: Bool = false, otherNames: [String] = [],
        completion: Completion = .none, _ text: String
    ) {
        (self.flag, self.value, self.letter, self.text) = (flag, value, letter, text)
        (self.isRepeatable, self.takesOneDash) = (isRepeatable, takesOneDash)
        (self.variableInsteadOfValue, self.otherNames, self.completion) = (
            variableInsteadOfValue, otherNames, completion
        )
    }

    /// A switch.
    init(
        _ flag: String, letter: Character? = nil, takesTruthValue: Bool = false, otherNames: [String] = [],
        _ text: String
    ) {
        (self.flag, self.letter, self.takesTruthValue) = (flag, letter, takesTruthValue)
        (self.otherNames, self.text) = (otherNames, text)
    }

    static let help = CommandOption("--help", letter: "h", "show this help")

    /// The forms in which it may begin an argument.
    var spellings: [String] {
        [flag] + (letter.map { ["-\($0)"] } ?? []) + (takesOneDash ? [String(flag.dropFirst())] : [])
    }
}

/// A command line that shows what a command is good for.
struct CommandExample: Sendable {
    let line: String
    /// What it does: a phrase without a full stop.
    let text: String

    init(_ line: String, _ text: String) { (self.line, self.text) = (line, text) }
}

/// The exit status of a command. Those of `check` are Nagios's instead.
struct ExitCode: Equatable, Sendable {
    let rawValue: Int32

    /// It is done.
    static let done = ExitCode(rawValue: 0)
    /// It failed; or the task whose result was awaited died, expired or was cancelled.
    static let failed = ExitCode(rawValue: 1)
    /// The command line is wrong.
    static let usage = ExitCode(rawValue: 2)
    /// There is no such task or queue, or nothing came in time.
    static let nothing = ExitCode(rawValue: 3)
    /// The server does not allow it.
    static let notAllowed = ExitCode(rawValue: 4)
    /// The server cannot be reached.
    static let notReachable = ExitCode(rawValue: 5)
    /// The server refuses it for now, and a later try may succeed.
    static let refusedForNow = ExitCode(rawValue: 6)
}

/// Why a command ends without success.
struct CommandFailure: Error {
    let code: ExitCode
    /// One line that says what is wrong and what to do; empty if everything has been said.
    let description: String

    init(_ code: ExitCode, _ description: String = "") { (self.code, self.description) = (code, description) }
}
