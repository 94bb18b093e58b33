// What the OpenAPI document says of each operation beside what the table of routes says. A test proves that both have
// the same operations.

import JSON
import Net
import Queues

extension OpenAPI {
    /// What an operation does, reads and answers.
    struct Description: Sendable {
        enum Answer: Sendable {
            case json(Schema)
            case metrics
            /// The page of the dashboard, or one of its other files. A client that has it already gets 304.
            case file(isPage: Bool)
            /// A stream of events.
            case events
            case nothing
        }

        /// A name for clients' methods.
        let name: String
        let summary: String
        /// The body of a request; nil if it has none.
        var body: Schema?
        /// The statuses of success.
        var statuses = [200]
        let answer: Answer
        /// The failures that not every operation has.
        var failures: [Int] = []
        /// Fields of the successful answer's header, with their meanings.
        var fields: [(name: String, meaning: String)] = []
    }

    private static func shows(_ name: String) -> Description.Answer { .json(.reference(name)) }

    /// All operations, by method and path.
    static let descriptions: [String: Description] = [
        "POST /enqueue/NAME": Description(
            name: "enqueue", summary: "Adds one task, or an array of tasks.",
            body: .anyOf(.reference("Task"), .reference("Tasks"), .null),
            answer: .json(.anyOf(.reference("Enqueued"), .reference("EnqueuedTasks"))), failures: [409, 429]),
        "POST /wait/": Description(
            name: "wait", summary: "Takes tasks, and waits for them if there are none.",
            body: Schema.reference("Wait").orNull,
            answer: .json(.array(of: Schema.reference("DispatchedTask").orNull)),
            fields: [("Emq-Missing", "The ids and receipts in ack that were no longer dispatched.")]),
        "POST /ack/": Description(
            name: "ack", summary: "Acknowledges tasks: the work is done.",
            body: Schema.reference("Acknowledgement").orNull, answer: shows("Acknowledged")),
        "POST /nak/": Description(
            name: "nak", summary: "Refuses tasks: the work failed, or the worker gives the tasks back.",
            body: Schema.reference("Refusal").orNull, answer: shows("Refused")),
        "POST /touch/": Description(
            name: "touch", summary: "Restarts the lease of tasks.",
            body: Schema.reference("Touch").orNull, answer: shows("Touched")),

        "GET /task/ID": Description(
            name: "showTask", summary: "Shows everything about a task.", answer: shows("TaskRecord")),
        "DELETE /task/ID": Description(
            name: "cancelTask", summary: "Cancels an unfinished task, or deletes the record of a finished one.",
            statuses: [204], answer: .nothing),
        "GET /result/ID": Description(
            name: "awaitResult", summary: "Waits until a task has ended, and returns its state and result.",
            answer: shows("Result")),
        "DELETE /result/ID": Description(
            name: "deleteResult", summary: "Deletes the result of a task, and keeps its record.", statuses: [204],
            answer: .nothing),
        "GET /key/NAME": Description(
            name: "showKey", summary: "Shows the task that has a key, or for how long the key stays taken.",
            answer: .json(.anyOf(.reference("TaskRecord"), .reference("KeptKey"))), failures: [404]),
        "DELETE /key/NAME": Description(
            name: "freeKey", summary: "Frees a key that is still taken after its task has ended.", statuses: [204],
            answer: .nothing, failures: [404, 409]),

        "GET /peek/NAME": Description(
            name: "peek", summary: "Shows tasks of one state without taking them.",
            answer: .json(.array(of: .reference("ListedTask"))), failures: [404],
            fields: [("Link", "With a filter, the URL where to go on, with the relation next (RFC 8288).")]),
        "GET /queues/": Description(
            name: "listQueues", summary: "Lists the queues that hold tasks, have a configuration or are paused.",
            answer: .json(.array(of: .queueName)),
            fields: [("Link", "The URL of the next page, with the relation next (RFC 8288).")]),
        "GET /stats/": Description(
            name: "showStatistics",
            summary: "Counts tasks and events in many queues, and shows the state of the server.",
            answer: shows("Statistics")),
        "GET /stats/NAME": Description(
            name: "showQueueStatistics", summary: "Counts tasks and events in a queue.",
            answer: shows("QueueStatistics")),

        "GET /errors/": Description(
            name: "listErrors", summary: "Groups the dead tasks of all queues by their errors.",
            answer: shows("ErrorGroups")),
        "GET /errors/NAME": Description(
            name: "listQueueErrors", summary: "Groups the dead tasks of a queue by their errors.",
            answer: shows("ErrorGroups")),
        "GET /workers/": Description(
            name: "listWorkers", summary: "Lists the workers that wait for tasks or hold them.",
            answer: shows("Workers")),
        "GET /alerts/": Description(
            name: "showAlerts", summary: "Shows what is wrong with the server and its queues.",
            answer: shows("Alerts")),

        "GET /search/": Description(
            name: "search", summary: "Finds tasks by id, receipt or key, and queues by a part of their names.",
            answer: shows("Found")),
        "GET /operations/": Description(
            name: "listOperations", summary: "Lists the purges, kicks and moves under way.",
            answer: shows("Operations")),
        "DELETE /operations/ID": Description(
            name: "stopOperation", summary: "Stops a purge, kick or move. What it has done stays done.",
            statuses: [204], answer: .nothing),

        "POST /pause/NAME": Description(
            name: "pause", summary: "Stops dispatching the queue's tasks.", answer: shows("Paused")),
        "POST /resume/NAME": Description(
            name: "resume", summary: "Dispatches the queue's tasks again.", answer: shows("Paused")),
        "POST /purge/NAME": Description(
            name: "purge", summary: "Deletes tasks, and leaves no record.", answer: shows("Purged")),
        "POST /kick/": Description(
            name: "kickTasks", summary: "Makes the named dead tasks ready again.",
            body: Schema.reference("TaskReferences").orNull, answer: shows("KickedTasks")),
        "POST /kick/NAME": Description(
            name: "kick", summary: "Makes the queue's dead tasks ready again.", answer: shows("Kicked")),
        "POST /move/": Description(
            name: "moveTasks", summary: "Moves the named tasks to a queue.",
            body: Schema.reference("TaskReferences").orNull, answer: shows("MovedTasks")),
        "POST /move/NAME": Description(
            name: "move", summary: "Moves tasks to another queue.", answer: shows("Moved")),

        "GET /config/NAME": Description(
            name: "showConfiguration", summary: "Shows the configuration of a queue.",
            answer: shows("ShownConfiguration")),
        "PUT /config/NAME": Description(
            name: "putConfiguration", summary: "Replaces the configuration of a queue.",
            body: .reference("Configuration"), answer: shows("ShownConfiguration")),
        "PATCH /config/NAME": Description(
            name: "patchConfiguration", summary: "Changes fields of the configuration of a queue (RFC 7396).",
            body: .reference("ConfigurationPatch"), answer: shows("ShownConfiguration")),
        "DELETE /config/NAME": Description(
            name: "deleteConfiguration", summary: "Removes the configuration of a queue.", statuses: [204],
            answer: .nothing),
        "GET /defaults/": Description(
            name: "showDefaults", summary: "Shows the defaults for all queues.", answer: shows("ShownConfiguration")),
        "PUT /defaults/": Description(
            name: "putDefaults", summary: "Replaces the defaults for all queues.", body: .reference("Defaults"),
            answer: shows("ShownConfiguration")),
        "PATCH /defaults/": Description(
            name: "patchDefaults", summary: "Changes some defaults for all queues (RFC 7396).",
            body: .reference("DefaultsPatch"), answer: shows("ShownConfiguration")),
        "DELETE /defaults/": Description(
            name: "deleteDefaults", summary: "Removes the defaults for all queues.", statuses: [204],
            answer: .nothing),

        "POST /source/NAME/pause": Description(
            name: "pauseSource", summary: "Makes a source take no messages.", answer: shows("ShownSource"),
            failures: [404]),
        "POST /source/NAME/resume": Description(
            name: "resumeSource", summary: "Makes a source take messages again.", answer: shows("ShownSource"),
            failures: [404]),
        "GET /source/NAME": Description(
            name: "showSource", summary: "Shows a source.", answer: shows("ShownSource"), failures: [404]),
        "PUT /source/NAME": Description(
            name: "putSource", summary: "Makes a source of messages from RabbitMQ, or replaces its definition.",
            body: .reference("Source"), statuses: [200, 201], answer: shows("ShownSource"), failures: [409]),
        "DELETE /source/NAME": Description(
            name: "deleteSource", summary: "Removes a source.", statuses: [204], answer: .nothing,
            failures: [404, 409]),
        "GET /source/": Description(name: "listSources", summary: "Shows all sources.", answer: shows("Sources")),

        "GET /metrics/": Description(
            name: "showMetrics", summary: "The server's metrics, for Prometheus.", answer: .metrics),
        "GET /metrics/queues": Description(
            name: "showQueueMetrics", summary: "The metrics of each queue, for Prometheus.", answer: .metrics),
        "GET /healthz/": Description(
            name: "showHealth", summary: "Checks whether the server is up.", answer: shows("Health")),
        "GET /openapi.json/": Description(
            name: "showContract", summary: "This document.", answer: .json(.map(of: .any))),
        "GET /access/": Description(
            name: "showAccess", summary: "Shows what the sender may do.", answer: shows("Access")),
        "GET /events/": Description(
            name: "streamEvents", summary: "Answers some GETs, each again whenever its answer has changed.",
            answer: .events),
        "GET /": Description(
            name: "showDashboard", summary: "The page of the dashboard.", answer: .file(isPage: true)),
        "GET /dashboard/FILE": Description(
            name: "showDashboardFile", summary: "A file of the dashboard.", answer: .file(isPage: false)),
    ]
}

extension StaticString {
    /// A media type without its parameters.
    var mediaType: String { String("\(self)".prefix { $0 != ";" }) }
}

extension API {
    /// `GET /openapi.json`. It also responds during recovery.
    static func showContract(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let document = OpenAPI.document
        guard context.gate.mayAnswer(responses, adding: document.count) else { throw .tooManyUnreadAnswers }
        responses.beginJSON(estimatedCount: document.count + 1)
        responses.append(document.span)
        responses.endLine()
        return .answered
    }
}
