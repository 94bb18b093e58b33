// `emq tail`: follows what happens in a queue.

import Bytes
import Glibc
import JSON
import Net

/// A run of the command: streams of `/events`, usually one, that show the queue's tasks and figures again and again.
final class TailCommand {
    private static let interval = CommandOption(
        "--interval", "TIME", "how often to look, in whole seconds from 1s (default) to 60s")
    private static let last = CommandOption(
        "--last", "N", letter: "n", "begin with up to N events that can still be seen of the last hour")
    private static let json = CommandOption("--json", "print a JSON object for each event")

    static let command = ClientSession.command(
        "tail", .queues, "QUEUE", count: 1...1, completion: .queue, "follow what happens in a queue",
        text: [
            "Prints a line for each event: its time, its kind, the task's id, attempt and worker, and its error or content; "
                + "in a pipe with tabs between, with --json as an object. It takes nothing, and ends with Ctrl-C.",
            "The server reports no single events; emq tail looks at the queue every second, and compares. So it sees tasks one by one "
                + "as long as they stay in a state for some time: at most 500 that run, and 200 events in a look. For what "
                + "happens in between, a line `more` has the numbers, which are exact. A task that is gone without a record "
                + "is acked, expired, cancelled or just gone, as far as the queue's numbers tell. A purge counts as cancelled, and one of dead tasks is not seen.",
        ],
        options: [last, interval, json],
        examples: [
            CommandExample("emq tail mail -n 20", "see what has happened, and what happens now"),
            CommandExample("emq tail mail --json | jq 'select(.event == \"died\")'", "follow the tasks that die"),
        ]
    ) { try TailCommand($0).run() }

    /// The server sends something every 15 s at least.
    private static let silenceMilliseconds: Int64 = 45_000
    /// The pauses while the server is away: the first, and the longest. Each is twice the one before.
    private static let retryMilliseconds: ClosedRange<Int64> = 250...10_000
    /// The bytes of a content that are shown.
    private static let contentLimit = 200

    private let session: ClientSession
    private let client: ServerClient
    private let signals: SignalSource
    private let output: OutputWatch
    private let seconds: Int64
    private let lastCount: Int
    private var watch: QueueWatch
    /// The streams: none while the server is away.
    private var streamKeys: [UInt64] = []
    private var questionCount = 0
    /// How far the server's clock is ahead of this machine's, in milliseconds, and the server's time of the last look.
    private var clockOffset: Int64 = 0
    private var lookedAt: Int64?
    private var hasBegun = false
    private var isAway = false
    private var retriesAt = Int64.min
    private var retryPause = TailCommand.retryMilliseconds.lowerBound
    private var failure: CommandFailure?
    private var hasEnded = false

    private var now: Int64 { client.loop.now }
    private var serverNow: Int64 { now + clockOffset }
    /// When the rest of the figures is told, by this machine's clock.
    private var restAt: Int64? { watch.restAt.map { $0 - clockOffset } }

    private init(_ session: ClientSession) throws {
        self.session = session
        let interval = try session.invocation.milliseconds(of: Self.interval) ?? 1000
        guard (1000...60_000).contains(interval), interval % 1000 == 0 else {
            throw UsageError("--interval must be whole seconds from 1s to 60s")
        }
        seconds = interval / 1000
        lastCount = try session.invocation.number(of: Self.last, in: 0...1000) ?? 0
        client = session.client
        watch = QueueWatch(queue: session.name, intervalMilliseconds: interval)
        signals = try SignalSource([SIGINT, SIGTERM, SIGHUP], on: client.loop)
        output = OutputWatch(on: client.loop)
    }

    private func run() throws -> ExitCode {
        if session.invocation.has(ClientSession.curl) {
            for (_, request) in requests { Emq.print(request.curl(to: session.place)) }
            return .done
        }
        if lastCount > 0 { try printLast() }
        while !hasEnded {
            if streamKeys.isEmpty, now >= retriesAt { connect() }
            if hasEnded { break }
            client.turn(until: earliest([restAt, streamKeys.isEmpty ? retriesAt : nil]))
            if !signals.take().isEmpty || output.isClosed { break }
            for (id, state) in watch.takeQuestions() { ask(id, state) }
            if questionCount == 0, let time = restAt, now >= time { watch.tellRest(now: serverNow) }
            for event in watch.takeEvents() where !hasEnded { try show(event) }
        }
        if let failure { throw failure }
        return .done
    }

    // MARK: The streams

    private func peek(_ state: String, _ query: [(String, String?)]) -> String {
        ServerRequest.target(
            "/peek/", name: session.name,
            query: [
                ("state", state), ("n", "\(QueueWatch.pageCount)"), ("content_limit", "\(Self.contentLimit)"),
            ] + query)
    }

    /// What the streams show. The first one has the server's time.
    private var targets: [String] {
        let pages = QueueWatch.states.map { state in
            // Tasks that run are all watched, so that their end is seen.
            peek(state, state == "dispatched" ? [] : [("newer_than", "\(watch.windowSeconds)")])
        }
        return ["/stats/?n=1", ServerRequest.target("/stats/", name: session.name)] + pages
    }

    /// The requests of the streams, each with the place of its first target. There is one, unless the queue's name is
    /// so long that the targets do not fit in one URL.
    private var requests: [(firstPlace: Int, request: ServerRequest)] {
        func request(_ targets: [String]) -> ServerRequest {
            ServerRequest(
                ServerRequest.target("/events", query: targets.map { ("get", $0) } + [("interval", "\(seconds)")]))
        }
        let room = HTTPURL.maximumLength - session.place.base.utf8.count
        var requests: [(firstPlace: Int, request: ServerRequest)] = []
        var group: [String] = []
        var firstPlace = 0
        for target in targets {
            if !group.isEmpty, request(group + [target]).target.utf8.count > room {
                requests.append((firstPlace, request(group)))
                firstPlace += group.count
                group = []
            }
            group.append(target)
        }
        return requests + [(firstPlace, request(group))]
    }

    private func connect() {
        for (firstPlace, request) in requests {
            var reader = EventReader()
            let key = client.stream(request, silenceMilliseconds: Self.silenceMilliseconds) { [self] part in
                for event in reader.read(part) { read(event, firstPlace) }
            } ended: { [self] result in
                // One without the others would tell half of it.
                for key in streamKeys { client.cancel(key) }
                streamKeys = []
                switch result {
                case .success(let response) where response.isSuccess:
                    lose(CommandFailure(.notReachable, "the server has ended the stream"))
                case .success(let response): lose(response.failure)
                case .failure(let failure): lose(failure)
                }
            }
            streamKeys.append(key)
        }
    }

    private func read(_ event: EventReader.Event, _ firstPlace: Int) {
        let parts = event.name.split(separator: "/")
        guard let number = parts.first.flatMap({ Int($0) }), (0...QueueWatch.states.count + 1).contains(number) else {
            return
        }
        let place = firstPlace + number
        if place > QueueWatch.states.count + 1 { return }
        let body = JSONPart(event.data[...], isAnswer: true)
        if parts.count > 1, let status = Int(parts[1]) {
            let failure = ServerResponse(status: status, body: event.data, fields: [:]).failure
            // While the server reads its journal, the stream goes on.
            if failure.code != .refusedForNow { (self.failure, hasEnded) = (failure, true) }
            return
        }
        guard let body else { return }
        if isAway { Emq.printError("emq tail: the server is back") }
        (hasBegun, isAway, retryPause) = (true, false, Self.retryMilliseconds.lowerBound)
        switch place {
        case 0:
            guard let seconds = body["server"]?["now"]?.number, abs(seconds) < 1e12 else { return }
            lookedAt = Int64(seconds * 1000)
            clockOffset = Int64(seconds * 1000) - now
        case 1:
            // Questions that are not answered yet could explain what the figures count.
            watch.count(body, isExplained: questionCount == 0, now: lookedAt ?? now)
        default: watch.see(body, inState: QueueWatch.states[place - 2], now: serverNow)
        }
    }

    /// A stream has ended. What was wrong from the beginning ends the command; later, the server may come back.
    private func lose(_ failure: CommandFailure) {
        let isLasting = failure.code == .notAllowed || failure.code == .usage
        if !hasBegun || isLasting {
            (self.failure, hasEnded) = (failure, true)
            return
        }
        if !isAway { Emq.printError("emq tail: \(failure.description); waiting for the server") }
        isAway = true
        watch.forgetTasks()
        retriesAt = now + retryPause
        retryPause = min(2 * retryPause, Self.retryMilliseconds.upperBound)
    }

    /// Asks what has become of a task.
    private func ask(_ id: String, _ state: String) {
        questionCount += 1
        let query: [(String, String?)] = [("content_limit", "\(Self.contentLimit)")]
        client.send(ServerRequest(ServerRequest.target("/task/", name: id, query: query))) { [self] result in
            questionCount -= 1
            guard case .success(let response) = result, response.isSuccess || response.status == 404 else {
                return watch.withdraw(id)
            }
            watch.answer(response.isSuccess ? response.json : nil, of: id, in: state, now: serverNow)
        }
    }

    // MARK: Output

    private func show(_ event: TailEvent) throws(CommandFailure) {
        let text: String
        if session.isJSON {
            text = session.terminal.isOutput ? TerminalText.visibleJSON(event.json) : event.json
        } else if session.terminal.isOutput {
            text = event.line(session.terminal, columns: Terminal.size?.columns ?? 80)
        } else {
            text = event.tabSeparated
        }
        switch StandardOutput.write(text, until: signals) {
        case nil: break
        // Nobody reads on, or a signal has come.
        case EPIPE, EIO, EINTR: hasEnded = true
        case let code?: throw CommandFailure(.failed, "\(SystemError("write to standard output", code: code))")
        }
    }

    /// Prints the last events that the tasks of the last hour still show.
    private func printLast() throws(CommandFailure) {
        var events: [TailEvent] = []
        var waiting = QueueWatch.states.count
        var failed: CommandFailure?
        for state in QueueWatch.states {
            client.send(ServerRequest(peek(state, [("newer_than", "3600")]))) { result in
                waiting -= 1
                switch result {
                case .success(let response) where response.isSuccess:
                    for (_, task) in response.json?.members ?? [] { events += Self.events(of: task, in: state) }
                case .success(let response): failed = response.failure
                case .failure(let failure): failed = failure
                }
            }
        }
        while waiting > 0, !hasEnded {
            client.turn(until: nil)
            hasEnded = !signals.take().isEmpty || output.isClosed
        }
        if let failed { throw failed }
        for event in events.sorted(by: { $0.time < $1.time }).suffix(lastCount) where !hasEnded { try show(event) }
    }

    /// What the times of a task tell.
    private static func events(of task: JSONPart, in state: String) -> [TailEvent] {
        var events: [TailEvent] = []
        func append(_ kind: TailEvent.Kind, _ name: String) {
            if let time = task[name]?.number { events.append(TailEvent(kind, time, task)) }
        }
        append(.enqueued, "enqueued")
        append(.dispatched, "dispatched")
        switch state {
        case "dead": append(.died, "finished")
        case "done": append(.acked, "finished")
        case "cancelled": append(.cancelled, "finished")
        case "expired": append(.expired, "finished")
        default: break
        }
        return events
    }
}
