// Streams of events, which keep clients up to date.

import Bytes
import JSON
import Net
import Queues

extension API {
    /// `GET /events`. It also responds during recovery; then the events are problems.
    static func streamEvents(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let interval = try api.query.integer("interval", eventIntervals, unit: " of seconds") ?? 1
        let targets = api.query.all("get").map { Array($0.utf8) }
        guard !targets.isEmpty else {
            throw Problem(.missingParameter, "name what to watch, as in /events?get=%2Fstats%2F", field: "get")
        }
        guard targets.count <= EventStreams.maximumRequestCount else {
            throw Problem(
                .invalidParameter, "get may come up to \(EventStreams.maximumRequestCount) times", field: "get")
        }
        for target in targets { try api.checkWatchable(target) }
        if context.isStopping { throw Problem(.stopping, "the server is stopping") }
        if request.method == .head {
            responses.begin(status: 200, contentType: eventsType)
            writeEventFields(to: &responses)
            responses.endWithoutBody()
            return .answered
        }
        try context.gate.streams.admit(context.gate)
        responses.beginStream(contentType: eventsType)
        writeEventFields(to: &responses)
        responses.endHead()
        return .owed(
            context.gate.streams.add(targets, intervalMilliseconds: interval * 1000, of: request, context))
    }

    static let eventIntervals: ClosedRange<Int64> = 1...60
    private static let eventsType: StaticString = "text/event-stream"

    private static func writeEventFields(to responses: inout ResponseStream) {
        responses.field("Cache-Control", "no-store")
        // nginx passes each event on at once then.
        responses.field("X-Accel-Buffering", "no")
    }

    /// Checks that a stream may watch a path. Whatever else is wrong with it becomes an event.
    ///
    /// - Throws: 400.
    private mutating func checkWatchable(_ target: [UInt8]) throws(Problem) {
        guard target.first == UInt8(ascii: "/") else {
            let shown = String(decoding: target.prefix(shownBytes), as: UTF8.self)
            throw Problem(
                .invalidParameter,
                "get must be a path with its query, percent-encoded, as in get=%2Fstats%2F%3Fn%3D10, not '\(shown)'",
                field: "get")
        }
        // What a client sends as the target of a request has been checked when its handler sees it.
        if let flaw = target.span.indexOfTargetFlaw(0..<target.count) {
            let shown = String(decoding: target.prefix(shownBytes), as: UTF8.self)
            throw Problem(
                .invalidParameter,
                """
                get must be percent-encoded twice where it has special characters: byte \(flaw) of '\(shown)' cannot \
                be in a path or a query
                """, field: "get")
        }
        let path = target.prefix { $0 != UInt8(ascii: "?") }
        guard let place = try? Route.find(Array(path).span, name: &name) else { return }
        let route = Route.all[place]
        if let operation = route.operations.first(where: { $0.method == .get }), !operation.isWatchable {
            throw Problem(.invalidParameter, "a stream of events cannot watch \(route.path)", field: "get")
        }
    }
}
