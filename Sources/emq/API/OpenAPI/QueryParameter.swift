// The parameters of queries: what the table of routes and the OpenAPI document say of them. Their handlers read them.

import Bytes
import Queues

/// A parameter of a route's query.
struct QueryParameter: Sendable {
    let name: String
    let schema: Schema
    /// Whether every operation of the route needs it.
    let isRequired: Bool
    /// Whether it may come several times. Its schema is that of an array then.
    let isRepeatable: Bool
    /// What it means, for people.
    let meaning: String

    init(
        _ name: String, _ schema: Schema, isRequired: Bool = false, isRepeatable: Bool = false, _ meaning: String
    ) {
        self.name = name
        self.schema = schema
        self.isRequired = isRequired
        self.isRepeatable = isRepeatable
        self.meaning = meaning
    }

    private static func words<Value>(_ words: [String: Value]) -> Schema { .words(words.keys.sorted()) }

    // MARK: Of one task

    static let timeout = QueryParameter(
        "timeout", .integer(0 ... .max), "How many milliseconds to wait, at most an hour; default 0.")
    static let key = QueryParameter(
        "key", .text(maximumBytes: TaskKey.maximumByteCount), isRequired: true,
        "The key, of up to \(TaskKey.maximumByteCount) bytes.")

    static let contentLimit = QueryParameter(
        "content_limit", .integer(0 ... .max),
        "Of a content, metadata, request, progress or result with more bytes, shows the size and so many bytes of its "
            + "beginning; of a log, of its end.")

    // MARK: Of one queue

    static let dryRun = QueryParameter(
        "dry_run", words(API.dryRuns), "With true, checks a change and answers as usual, but changes nothing.")
    static let peek =
        [
            QueryParameter(
                "n", .integer(.min ... .max),
                "The maximum number of tasks; default 1. Below 1, there are none; over \(API.maximumTasksPerAnswer), there "
                    + "are up to \(API.maximumTasksPerAnswer)."),
            QueryParameter("state", words(TaskState.named), "The state of the tasks; default ready."),
            QueryParameter("after", .taskID, "The id of the last task of the page before."),
            contentLimit,
        ] + filter
    /// Which tasks of a queue.
    private static let filter = [
        QueryParameter(
            "error", .text(mayBeEmpty: true),
            "Only tasks with exactly this line of their error, as /errors shows it; its first "
                + "\(TaskError.maximumSummaryBytes) bytes count. If it is empty, only tasks without an error."),
        QueryParameter(
            "error_match", .text(mayBeEmpty: true, maximumBytes: GlobPattern.maximumByteCount),
            "Only tasks whose line of the error, as /errors shows it, matches this pattern, in which * stands for any "
                + "characters or none."),
        QueryParameter(
            "older_than", .duration, "Only tasks that have been in their state for at least so many seconds."),
        QueryParameter(
            "newer_than", .duration, "Only tasks that have been in their state for less than so many seconds."),
    ]
    static let history = QueryParameter(
        "history", words(HistoryInterval.named), "Adds the history of an hour (1m) or a day (5m), in such steps.")
    static let statistics =
        queues + [
            history,
            QueryParameter(
                "offset", .integer(QueuePageQuery.offsets),
                "Instead of after: how many queues precede the page; the response counts them all."),
            QueryParameter(
                "delimiter", .text(maximumBytes: QueueName.maximumByteCount),
                "Shows as one row the queues whose names are the same up to the first delimiter behind the prefix."),
            QueryParameter(
                "trend", words(QueuePageQuery.switches),
                "1 adds how many tasks of each queue were ready in each of the last \(ReadyTrend.count) minutes."),
        ]
    static let purge =
        [
            QueryParameter(
                "state", words(API.purgedStates), "The state of the tasks, or all; default ready and delayed tasks.")
        ] + filter
    static let kickToOrigin = QueryParameter(
        "to", words(API.kickTargets), "Returns dead letters to the queues where they died.")
    static let kick =
        [
            sweepCount, QueryParameter("state", words(API.kickedStates), "The state of the tasks; default dead."),
            kickToOrigin,
        ] + filter
    static let move =
        [
            sweepCount, QueryParameter("state", words(API.movedStates), "The state of the tasks; default ready."),
            moveTarget,
        ] + filter
    static let moveTarget = QueryParameter(
        "to", .queueName, isRequired: true, "The queue that the tasks move to.")
    private static let sweepCount = QueryParameter(
        "n", .integer(API.sweepCounts), "The maximum number of tasks; default all.")

    // MARK: Of streams

    static let events = [
        QueryParameter(
            "get", .array(of: .text(), 1...EventStreams.maximumRequestCount), isRequired: true, isRepeatable: true,
            "The path and query of a GET to watch, percent-encoded."),
        QueryParameter(
            "interval", .integer(API.eventIntervals), "How many seconds at least between two rounds; default 1."),
    ]

    // MARK: Of many queues

    static let search = [
        QueryParameter(
            "q", .text(maximumBytes: TaskKey.maximumByteCount), isRequired: true,
            "The id, a receipt or the key of a task, or a part of the name of a queue."),
        QueryParameter(
            "n", .integer(API.searchCounts),
            "The maximum number of tasks, and the maximum number of queues; default 10."),
    ]
    static let queues = [
        QueryParameter("prefix", .text(mayBeEmpty: true), "Only queues whose names begin with this."),
        match,
        QueryParameter("sort", words(QueueOrder.named), "The order of the queues; default name."),
        QueryParameter(
            "n", .integer(1...Int64(QueuePageQuery.maximumCount)), "The maximum number of queues."),
        QueryParameter("after", .text(mayBeEmpty: true), "The next of the page before, for the same sort."),
    ]
    static let match = QueryParameter(
        "match", .text(mayBeEmpty: true, maximumBytes: GlobPattern.maximumByteCount),
        "Only queues whose whole names match this pattern, in which * stands for any characters or none.")
    static let groupCount = QueryParameter(
        "n", .integer(1...Int64(API.maximumGroupCount)),
        "The maximum number of groups; default \(API.usualGroupCount).")
    static let errors = [
        QueryParameter("prefix", .text(mayBeEmpty: true), "Only queues whose names begin with this."), match,
        groupCount,
    ]
    static let workers = [
        QueryParameter(
            "match", .text(mayBeEmpty: true, maximumBytes: GlobPattern.maximumByteCount),
            "Only workers whose whole names match this pattern, in which * stands for any characters or none."),
        QueryParameter("sort", words(WorkerOrder.named), "The order of the workers; default oldest."),
        QueryParameter(
            "n", .integer(1...Int64(API.maximumGroupCount)),
            "The maximum number of workers; default \(API.usualGroupCount)."),
    ]
    static let metrics = [
        match,
        QueryParameter(
            "n", .integer(1...Int64(QueueRows.maximumCount)),
            "The maximum number of queues; default \(QueueRows.usualCount)."),
    ]
}
