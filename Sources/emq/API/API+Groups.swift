// Groups of tasks in all queues: the dead ones by their errors, and the dispatched ones by their workers.

import Net
import Queues

extension API {
    /// The number of groups or workers in an answer, unless the request says it, and the most.
    static let usualGroupCount = 100
    static let maximumGroupCount = 1000

    /// `GET /errors/`
    static func showErrors(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        var filter = QueueFilter(caller: context.caller)
        if let prefix = api.query["prefix"] { filter.prefix = Array(prefix.utf8) }
        filter.pattern = try api.query.pattern("match")
        let report = ErrorReport(of: request, filter, queue: nil, count: try api.groupCount())
        return try context.begin(report, for: &responses, on: broker)
    }

    /// `GET /errors/NAME`
    static func showQueueErrors(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let filter = QueueFilter(caller: context.caller)
        let report = ErrorReport(of: request, filter, queue: api.name, count: try api.groupCount())
        return try context.begin(report, for: &responses, on: broker)
    }

    /// `GET /workers/`
    static func showWorkers(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let report = WorkerReport(
            of: request, by: context.caller, matching: try api.query.pattern("match"),
            order: try api.query.word("sort", WorkerOrder.named) ?? .oldest, count: try api.groupCount())
        return try context.begin(report, for: &responses, on: broker)
    }

    private func groupCount() throws(Problem) -> Int {
        try query.integer("n", 1...Int64(API.maximumGroupCount)).map { Int($0) } ?? API.usualGroupCount
    }
}

extension Context {
    fileprivate func begin(
        _ report: SurveyReport, for responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try gate.survey.begin(report, for: &responses, of: server, now: now, on: broker)
    }
}
