// What the client's commands share: the server, the terminal, and how results and questions are shown.

import Bytes
import JSON

/// A run of a client's command.
struct ClientSession {
    let invocation: Invocation
    let terminal: Terminal
    let place: ServerPlace
    let client: ServerClient

    static let json = CommandOption("--json", "print the server's JSON")
    static let curl = CommandOption("--curl", "print the request as a curl command line instead of sending it")
    static let yes = CommandOption("--yes", letter: "y", "do not ask")

    /// The options of every client's command.
    static let options = ServerPlace.options + [json, curl]

    /// A command that runs with a session. Its own options come first in its help, and take the place of options of the
    /// same name.
    static func command(
        _ name: String, _ section: Command.Section, _ operands: String = "", count: ClosedRange<Int> = 0...0,
        completion: CommandOption.Completion = .none, _ summary: String, text: [String] = [],
        options: [CommandOption] = [], examples: [CommandExample] = [],
        run: @escaping @Sendable (ClientSession) throws -> ExitCode
    ) -> Command {
        let others = Self.options.filter { other in !options.contains { $0.flag == other.flag } }
        return Command(
            name: name, section: section, operands: operands, operandCount: count, operandCompletion: completion,
            summary: summary, text: text, options: options + others, examples: examples
        ) { invocation in
            let session = try ClientSession(invocation)
            defer { session.client.close() }
            return try run(session)
        }
    }

    private init(_ invocation: Invocation) throws {
        self.invocation = invocation
        // Paths without a name stand for something else, such as the whole server.
        if invocation.operands.first?.isEmpty == true {
            throw UsageError("the first word after the command is empty; is a variable not set?")
        }
        terminal = Terminal(invocation.environment)
        place = try ServerPlace(invocation)
        client = try ServerClient(place)
    }

    /// The operands.
    var operands: [String] { invocation.operands }

    /// The first operand, which the command requires.
    var name: String { operands.first ?? "" }

    /// Whether the server's JSON is asked for.
    var isJSON: Bool { invocation.has(Self.json) }

    // MARK: Requests

    /// Sends a request, and waits for its response; with `--curl`, prints it and ends the command.
    ///
    /// - Throws: `CommandFailure` if there is no response.
    func response(to request: ServerRequest) throws(CommandFailure) -> ServerResponse {
        try printCurl(of: request)
        return try client.response(to: request)
    }

    /// With `--curl`, prints the request and ends the command.
    ///
    /// - Throws: `CommandFailure` to end it.
    func printCurl(of request: ServerRequest) throws(CommandFailure) {
        guard invocation.has(Self.curl) else { return }
        Emq.print(request.curl(to: place))
        throw CommandFailure(.done)
    }

    /// Sends a request that must succeed.
    ///
    /// - Throws: `CommandFailure` if there is no response, or if it is no success.
    func success(of request: ServerRequest) throws(CommandFailure) -> ServerResponse {
        let response = try response(to: request)
        if let failure = response.isSuccess ? response.strangeness : response.failure { throw failure }
        return response
    }

    /// Sends requests that the server answers when it has something, until it has or the time is over.
    ///
    /// - Parameters:
    ///   - milliseconds: how long to wait; `.max` for ever.
    ///   - request: the request that waits for so many milliseconds.
    ///   - isEnough: whether an answer is what was awaited.
    /// - Returns: the last response.
    /// - Throws: `CommandFailure` if a request fails.
    func wait(
        _ milliseconds: Int64, _ request: (Int64) -> ServerRequest, until isEnough: (JSONPart) -> Bool
    ) throws(CommandFailure) -> ServerResponse {
        let deadline = milliseconds == .max ? .max : client.loop.updateNow() + milliseconds
        while true {
            let begun = client.loop.updateNow()
            let step = min(max(0, deadline - begun), Self.longestWaitMilliseconds)
            var waiting = request(step)
            waiting.timeoutMilliseconds += step
            let response = try success(of: waiting)
            if response.json.map(isEnough) == true { return response }
            let now = client.loop.updateNow()
            if now >= deadline || begun + step >= deadline { return response }
            // A server that stops answers early.
            let pause = min(begun + min(step, Self.earlyAnswerPauseMilliseconds), deadline)
            while client.loop.updateNow() < pause { client.turn(until: pause) }
        }
    }

    /// The longest wait that the server knows.
    private static let longestWaitMilliseconds: Int64 = 3_600_000
    private static let earlyAnswerPauseMilliseconds: Int64 = 1000

    /// Sends a request for each operand, and prints a line for each success. A failure is reported, and the others go on.
    ///
    /// - Returns: the exit status of the first failure.
    /// - Throws: `CommandFailure` if there is no response.
    func each(_ request: (String) -> ServerRequest, _ line: (String) -> String) throws(CommandFailure) -> ExitCode {
        if operands.contains("") { throw CommandFailure(.usage, "a word is empty; is a variable not set?") }
        if invocation.has(Self.curl) {
            for name in operands { Emq.print(request(name).curl(to: place)) }
            return .done
        }
        var code = ExitCode.done
        for name in operands {
            let response = try response(to: request(name))
            guard let failure = response.isSuccess ? response.strangeness : response.failure else {
                show(response, line(name))
                continue
            }
            Emq.printError("emq \(invocation.command.name): \(name): \(failure.description)")
            if code == .done { code = failure.code }
        }
        return code
    }

    // MARK: Output

    /// Prints the body of a response as it is; on a terminal, with escapes of what could control that.
    func printBody(_ response: ServerResponse) {
        if response.body.isEmpty { return }
        var body = response.body
        if body.last == UInt8(ascii: "\n") { body.removeLast() }
        print(json: String(decoding: body, as: UTF8.self))
    }

    /// Prints JSON; on a terminal, with escapes of what could control that.
    func print(json: String) { Emq.print(terminal.isOutput ? TerminalText.visibleJSON(json) : json) }

    /// Prints the response's JSON if that is asked for; otherwise a line.
    func show(_ response: ServerResponse, _ line: @autoclosure () -> String) {
        if isJSON { printBody(response) } else { Emq.print(terminal.isOutput ? TextTable.visible(line()) : line()) }
    }

    /// Prints a table: aligned on a terminal, with tabs otherwise.
    func print(_ table: TextTable) { terminal.print(table) }

    /// Prints lines for people.
    func print(lines: [String]) { if !lines.isEmpty { Emq.print(lines.joined(separator: "\n")) } }

    /// Asks whether to do what cannot be undone. Without a terminal, `--yes` is necessary.
    ///
    /// - Throws: `CommandFailure` if the user does not agree.
    func confirm(_ question: String) throws(CommandFailure) {
        if invocation.has(Self.yes) || invocation.has(Self.curl) { return }
        if !terminal.canAsk {
            throw CommandFailure(.usage, "\(question) There is no terminal to ask; add --yes to do it")
        }
        if !terminal.agrees(to: question) { throw CommandFailure(.failed, "nothing was done") }
    }

    /// A number of tasks in words.
    static func tasks(_ count: Int) -> String { count == 1 ? "1 task" : "\(count) tasks" }
}
