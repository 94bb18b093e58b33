// Metrics for Prometheus.

import Net
import Queues

extension API {
    /// `GET /metrics`. It also responds during recovery, then without what is being recovered.
    static func showMetrics(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let isOpenMetrics = wantsOpenMetrics(request)
        let (gate, metrics, certificate) = (context.gate, context.metrics, context.certificate)
        let (hasTokens, isReady) = (context.access != nil, !context.isStopping)
        guard gate.durability?.isReady ?? true else {
            var exposition = Exposition(isOpenMetrics: isOpenMetrics)
            exposition.addServer(metrics, gate, certificate, hasTokens: hasTokens, isReady: false)
            write(&exposition, context.server, to: &responses)
            return .answered
        }
        return try survey(request, &responses, context, on: broker) { oldestReady in
            var exposition = Exposition(isOpenMetrics: isOpenMetrics)
            exposition.addServer(metrics, gate, certificate, hasTokens: hasTokens, isReady: isReady)
            exposition.addTasks(gate, oldestReady: oldestReady, on: broker, now: gate.server.loop.now)
            return exposition
        }
    }

    /// `GET /metrics/queues`
    static func showQueueMetrics(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let count = try api.query.integer("n", 1...Int64(QueueRows.maximumCount)).map { Int($0) }
        let filter = QueueFilter(caller: context.caller, pattern: try api.query.pattern("match"))
        let isOpenMetrics = wantsOpenMetrics(request)
        let rows = QueueRows(filter, maximumCount: count ?? QueueRows.usualCount)
        let loop = context.server.loop
        return try survey(request, &responses, context, on: broker, visit: rows.add) { _ in
            var exposition = Exposition(isOpenMetrics: isOpenMetrics)
            exposition.addQueues(rows, now: loop.now)
            return exposition
        }
    }

    /// Answers with what `make` returns after all queues were visited: now, or later if there are many.
    private static func survey(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ context: borrowing Context,
        on broker: isolated Broker, visit: ((Span<UInt8>, QueueStatistics) -> Void)? = nil,
        _ make: @escaping (_ oldestReady: Int64?) -> Exposition
    ) throws(Problem) -> Outcome {
        guard !context.metrics.survey.isCrowded(forVisits: visit != nil) else {
            throw Problem(.tooManyScrapes, "too many clients are asking for metrics; try again")
        }
        let (server, ticket) = (context.server, request.ticket)
        var made: Exposition?
        var isLater = false
        let look = QueueSurvey.Look(visit: visit) { oldestReady in
            var exposition = make(oldestReady)
            if isLater {
                server.answer(ticket) { write(&exposition, server, to: &$0) }
            } else {
                made = exposition
            }
        }
        isLater = !context.metrics.survey.begin(look, on: broker)
        guard var made else { return .owed(nil) }
        write(&made, server, to: &responses)
        return .answered
    }

    private static func write(
        _ exposition: inout Exposition, _ server: HTTPServer, to responses: inout ResponseStream
    ) {
        exposition.end()
        guard server.mayAnswer(responses, adding: exposition.text.count) else {
            return Problem.answerTooLarge.write(to: &responses)
        }
        responses.begin(
            status: 200, contentType: Exposition.contentType(isOpenMetrics: exposition.isOpenMetrics))
        responses.beginBody(estimatedCount: exposition.text.count)
        let text = exposition.text
        responses.append(text.span)
        responses.end()
    }

    /// Whether a client prefers OpenMetrics to Prometheus' own format (RFC 9110 section 12.5.1).
    private static func wantsOpenMetrics(_ request: borrowing Request) -> Bool {
        var (openMetrics, plain): (Double, Double) = (0, 0)
        request.forEachField { name, value in
            guard name.equalsIgnoringCase("Accept") else { return }
            for range in text(value).split(separator: ",") {
                let parts = range.split(separator: ";").map { trimmed($0.lowercased()) }
                let quality = parts.dropFirst().first { $0.hasPrefix("q=") }.flatMap { Double($0.dropFirst(2)) } ?? 1
                // A later version may be something else.
                let version = parts.dropFirst().first { $0.hasPrefix("version=") }
                switch parts.first {
                case "application/openmetrics-text" where version == nil || version == "version=1.0.0":
                    openMetrics = max(openMetrics, quality)
                case "text/plain": plain = max(plain, quality)
                default: break
                }
            }
        }
        return openMetrics > 0 && openMetrics >= plain
    }

    private static func trimmed(_ text: String) -> String {
        String(text.drop { $0 == " " || $0 == "\t" }.reversed().drop { $0 == " " || $0 == "\t" }.reversed())
    }
}
