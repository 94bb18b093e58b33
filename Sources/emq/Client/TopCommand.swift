// `emq top`: a live table of queues.

import Bytes
import Glibc
import JSON
import Net

/// A run of the command. Two requests for each frame: a page of `/stats/`, and `/alerts/`.
final class TopCommand {
    private static let interval = CommandOption(
        "--interval", "TIME", "how often the figures are read (default 2s, at least 100ms)")
    private static let batch = CommandOption(
        "--batch", letter: "b", "print the table again and again, without a screen")
    private static let sort = CommandOption(
        "--sort", "BY", completion: .words(TopOrder.all.map(\.name)),
        "ready (default), \(TopOrder.all.map(\.name).filter { $0 != "ready" }.joined(separator: ", "))")
    private static let limit = CommandOption(
        "--limit", "N", letter: "n", "print at most N queues (default 1000) without a screen")

    static let command = ClientSession.command(
        "top", .queues, "[PATTERN]", count: 0...1, completion: .queue, "watch queues in a live table",
        text: [
            "On a terminal, the table takes the whole screen. Rates are per second, of the last minute; WAITING is how "
                + "many waits for tasks there are. Keys:",
            "  q, Ctrl-C  quit", "  /          show only queues with a part of a name, or by a pattern such as mail*",
            "  < >        sort by the column to the left or right, which ← and → do too",
            "  ↑ ↓        scroll; Page Up, Page Down, Home and End too",
            "  "
                + TopOrder.all.prefix(6).map { "\($0.key) \($0.label)" }.joined(separator: ", ") + ",",
            "  " + TopOrder.all.dropFirst(6).map { "\($0.key) \($0.label)" }.joined(separator: ", ") + ": sort by it",
            "In a pipe, or with --batch, prints a line for each queue, with tabs between: the time, its name, the rates in, "
                + "out and failed, its ready, delayed, running and dead tasks, the seconds for which the oldest has been "
                + "ready, the waits, and its state. Without --batch, once.",
        ],
        options: [interval, sort, limit, batch],
        examples: [
            CommandExample("emq top", "watch all queues"),
            CommandExample("emq top 'mail*' --sort oldest_ready --interval 10s", "watch where tasks wait longest"),
        ]
    ) { try TopCommand($0).run() }

    private let session: ClientSession
    private let client: ServerClient
    private let signals: SignalSource
    private let intervalMilliseconds: Int64
    private let isBatch: Bool
    private let batchLimit: Int
    private let screen: FullScreen
    private var keys: KeyReader?
    private var view: TopView
    private var pageKey: UInt64?
    private var alertsKey: UInt64?
    /// When the figures are read next.
    private var refreshesAt = Int64.min
    private var hasPage = false
    private var hasEnded = false
    private var failure: CommandFailure?

    private var now: Int64 { client.loop.now }

    private init(_ session: ClientSession) throws {
        self.session = session
        let invocation = session.invocation
        let order = invocation.value(of: Self.sort) ?? "ready"
        guard let order = TopOrder.all.first(where: { $0.name == order }) else {
            throw UsageError(
                "--sort does not take '\(order)'; \(nearestName(to: order, among: TopOrder.all.map(\.name)))")
        }
        intervalMilliseconds = try invocation.milliseconds(of: Self.interval) ?? 2000
        if intervalMilliseconds < 100 { throw UsageError("--interval must be at least 100ms") }
        batchLimit = try invocation.number(of: Self.limit, in: 1...1000) ?? 1000
        isBatch = invocation.has(Self.batch)
        if let pattern = session.operands.first, pattern.utf8.count > GlobPattern.maximumByteCount {
            throw UsageError("PATTERN must have at most \(GlobPattern.maximumByteCount) bytes")
        }
        view = TopView(base: session.place.name, order: order, pattern: session.operands.first)
        client = session.client
        screen = FullScreen(on: client.loop)
        signals = try SignalSource([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH], on: client.loop)
    }

    private func run() throws -> ExitCode {
        try session.printCurl(of: pageRequest(count: batchLimit))
        if isBatch || session.isJSON || !session.terminal.hasCursor { return try runBatch() }
        if isatty(STDIN_FILENO) == 1 { keys = try KeyReader(STDIN_FILENO, on: client.loop) }
        while true {
            refresh()
            if hasEnded { break }
            client.turn(until: refreshesAt)
            for signal in signals.take() { take(signal) }
            for key in keys?.take() ?? [] { press(key) }
            if keys?.hasEnded == true || screen.isGone { hasEnded = true }
            if hasEnded { break }
            if hasPage, screen.isReady { draw() }
        }
        screen.leave()
        if let failure { throw failure }
        return .done
    }

    // MARK: Requests

    private func pageRequest(count: Int) -> ServerRequest {
        var request = ServerRequest(
            ServerRequest.target(
                "/stats/",
                query: [
                    ("n", "\(min(count, 1000))"), ("sort", view.order.name), ("offset", "\(view.offset)"),
                    ("match", view.pattern),
                ]))
        request.timeoutMilliseconds = 10_000
        return request
    }

    /// Asks for new figures if it is time.
    private func refresh() {
        if now < refreshesAt { return }
        refreshesAt = now + intervalMilliseconds
        if pageKey == nil { askForPage() }
        if alertsKey == nil {
            alertsKey = client.send(ServerRequest("/alerts/")) { [self] result in
                alertsKey = nil
                // Without them, the table is still of use: the page says what is wrong.
                view.alerts = (try? result.get()).flatMap { $0.isSuccess ? $0.json : nil }
            }
        }
    }

    /// Asks for other figures at once.
    private func askAgain() {
        if let pageKey { client.cancel(pageKey) }
        askForPage()
    }

    private func askForPage() {
        pageKey = client.send(pageRequest(count: hasPage ? view.queueRows(rows: screen.rows) : 100)) { [self] result in
            pageKey = nil
            switch result {
            case .success(let response) where response.isSuccess: receive(response)
            case .success(let response): miss(response.failure)
            case .failure(let failure): miss(failure)
            }
        }
    }

    private func receive(_ response: ServerResponse) {
        view.absence = nil
        view.page = response.json
        if !hasPage {
            hasPage = true
            screen.enter()
        }
        // There may be fewer queues than before.
        let last = max(0, view.count - view.queueRows(rows: screen.rows))
        if view.offset > last {
            view.offset = last
            askAgain()
        }
    }

    /// A request failed. What was wrong from the beginning ends the command; later, the server may come back.
    private func miss(_ failure: CommandFailure) {
        if !hasPage {
            (self.failure, hasEnded) = (failure, true)
        } else if view.absence == nil {
            view.absence = (Double(now) / 1000, failure.description)
        }
    }

    // MARK: Signals and keys

    private func take(_ signal: Int32) {
        switch signal {
        case SIGWINCH:
            guard hasPage else { return }
            screen.measure()
            askAgain()
        case SIGTSTP:
            screen.leave()
            SignalSource.stop(by: SIGTSTP)
            if hasPage { screen.enter() }
            refreshesAt = .min
        case SIGCONT: if hasPage { screen.enter() }
        default: hasEnded = true
        }
    }

    private func press(_ key: Key) {
        if let typed = view.typedPattern { return type(key, after: typed) }
        let page = view.queueRows(rows: screen.rows)
        let orders = TopOrder.all
        let place = orders.firstIndex(of: view.order) ?? 0
        switch key {
        case .character("q"), .character("Q"): hasEnded = true
        case .character("/"): view.typedPattern = ""
        case .character("<"), .left: sort(by: orders[(place + orders.count - 1) % orders.count])
        case .character(">"), .right: sort(by: orders[(place + 1) % orders.count])
        case .character(let letter):
            if let order = orders.first(where: { $0.key == letter }) { sort(by: order) }
        case .up: scroll(to: view.offset - 1)
        case .down: scroll(to: view.offset + 1)
        case .pageUp: scroll(to: view.offset - page)
        case .pageDown: scroll(to: view.offset + page)
        case .home: scroll(to: 0)
        case .end: scroll(to: .max)
        case .escape: if view.pattern != nil { filter(nil) }
        case .enter, .backspace: break
        }
    }

    private func sort(by order: TopOrder) {
        view.order = order
        view.offset = 0
        askAgain()
    }

    private func scroll(to offset: Int) {
        let last = max(0, view.count - view.queueRows(rows: screen.rows))
        let offset = max(0, min(offset, last))
        if offset == view.offset { return }
        view.offset = offset
        askAgain()
    }

    /// A key while the user types a pattern.
    private func type(_ key: Key, after typed: String) {
        switch key {
        case .character(let character):
            // More than any name, and less than the server refuses.
            if typed.utf8.count + "\(character)".utf8.count <= GlobPattern.maximumByteCount - 2 {
                view.typedPattern = typed + "\(character)"
            }
        case .backspace: view.typedPattern = String(typed.dropLast())
        case .escape: view.typedPattern = nil
        case .enter:
            view.typedPattern = nil
            filter(typed.isEmpty ? nil : typed.contains("*") ? typed : "*\(typed)*")
        default: break
        }
    }

    private func filter(_ pattern: String?) {
        view.pattern = pattern
        view.offset = 0
        askAgain()
    }

    private func draw() {
        screen.draw(view.lines(session.terminal, columns: screen.columns, rows: screen.rows, now: now))
    }

    // MARK: Without a screen

    /// Prints the table once, or every interval until a signal comes or nobody reads on.
    private func runBatch() throws -> ExitCode {
        let output = OutputWatch(on: client.loop)
        var isFirst = true
        var isAway = false
        while true {
            var answer: Result<ServerResponse, CommandFailure>?
            client.send(pageRequest(count: batchLimit)) { answer = $0 }
            while answer == nil {
                client.turn(until: nil)
                if isStopped(output) { return .done }
            }
            do throws(CommandFailure) {
                guard let response = try answer?.get() else { return .done }
                if !response.isSuccess { throw response.failure }
                view.page = response.json
                isAway = false
                guard try printBatch(response, isFirst: isFirst) else { return .done }
            } catch {
                if isFirst || !isBatch { throw error }
                if !isAway { Emq.printError("emq top: \(error.description)") }
                isAway = true
            }
            isFirst = false
            if !isBatch { return .done }
            let next = now + intervalMilliseconds
            while now < next {
                client.turn(until: next)
                if isStopped(output) { return .done }
            }
        }
    }

    private func isStopped(_ output: OutputWatch) -> Bool { signals.isEndAsked || output.isClosed }

    /// - Returns: whether to go on.
    private func printBatch(_ response: ServerResponse, isFirst: Bool) throws(CommandFailure) -> Bool {
        var text: String
        if session.isJSON {
            text = String(decoding: response.body, as: UTF8.self)
            if !text.hasSuffix("\n") { text += "\n" }
            if session.terminal.isOutput { text = TerminalText.visibleJSON(text) }
        } else if session.terminal.isOutput {
            let width = Terminal.size?.columns ?? 80
            let time = Humane.clock(Double(now) / 1000)
            text = isBatch ? (isFirst ? "" : "\n") + "\(time)\n" : ""
            text += view.table(columns: width).aligned(session.terminal, width: width)
        } else {
            text = view.table(columns: nil).tabSeparated
        }
        switch StandardOutput.write(text, until: signals) {
        case nil: return true
        case EPIPE, EINTR, EIO: return false
        case let code?: throw CommandFailure(.failed, "\(SystemError("write to standard output", code: code))")
        }
    }
}
