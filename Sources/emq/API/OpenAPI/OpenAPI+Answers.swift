// The schemas of the bodies of answers. The tests check every answer that they see against them.

import Queues

extension OpenAPI {
    /// The schemas of answers, by their names.
    static let answerSchemas: Properties = [
        ("Problem", problem),
        ("QueueName", queueName),
        ("TaskID", taskID),
        ("TaskReference", taskReference),
        ("Time", Schema.number.described("Unix seconds, down to the millisecond.")),
        ("State", .words(TaskState.allCases.map { "\($0.name)" })),
        ("Enqueued", .answer([("id", .taskID)], optional: [("existing", .constant("true"))])),
        ("EnqueuedTasks", .answer([("ids", .array(of: .taskID))], optional: [("existing", .array(of: .count))])),
        (
            "DispatchedTask",
            .answer(
                beginning + [("content", .any), ("retry", .duration), ("receipt", .text())],
                optional: [("key", .text()), ("metadata", metadata)] + added)
        ),
        (
            "ListedTask",
            .answer(beginning + state, optional: content + added + times + listed)
        ),
        (
            "TaskRecord",
            .answer(
                beginning + state + [("retries", .count)],
                optional: content + added + times + listed + shown)
        ),
        (
            "Attempt",
            .answer(
                [("attempt", .count), ("dispatched", .time)],
                optional: [
                    ("ended", .time), ("worker", .queueName),
                    ("outcome", .words(AttemptOutcome.allCases.map { "\($0.name)" })), ("error", .text()),
                ])
        ),
        (
            "Found",
            .answer(
                [
                    (
                        "tasks",
                        .array(
                            of: .answer(
                                [("id", .taskID), ("queue", .queueName)] + state, optional: [("key", .text())]))
                    ), ("queues", .array(of: .queueName)),
                ], optional: [("more", .constant("true"))])
        ),
        ("Acknowledged", .answer([("acked", .count), missing])),
        ("Refused", .answer([("requeued", .count), ("dead", .count), missing])),
        ("Touched", .answer([("touched", .count), missing])),
        ("KickedTasks", .answer([("kicked", .count), missing])),
        ("MovedTasks", .answer([("moved", .count), missing])),
        ("Purged", .answer([("purged", .count)], optional: stopped)),
        ("Kicked", .answer([("kicked", .count)], optional: stopped)),
        ("Moved", .answer([("moved", .count)], optional: stopped)),
        ("Paused", .answer([("paused", .boolean)], optional: [("new", .constant("true"))])),
        ("Result", .answer([("state", .reference("State"))], optional: [("result", .any)])),
        (
            "KeptKey",
            .answer([
                ("key", .text()), ("queue", .queueName), ("id", .taskID), ("since", .time), ("until", .time),
            ])
        ),
        ("Rates", .answer(["enqueued", "done", "failed"].map { ($0, .duration) })),
        ("Totals", .answer(totals.map { ($0, .count) })),
        ("History", history),
        ("CircuitState", circuitState),
        ("QueueStatistics", queueStatistics),
        ("QueueGroup", queueGroup),
        ("Statistics", statistics),
        ("Operations", operations),
        ("ErrorGroups", errorGroups),
        ("Workers", workers),
        ("Alerts", alerts),
        ("ShownConfiguration", shownConfiguration),
        (
            "SourceStatus",
            .answer([("queue", .text()), ("into", .queueName)] + sourceStatus)
        ),
        ("ShownSource", shownSource),
        ("Sources", .answer([("sources", .map(of: .reference("ShownSource")))])),
        ("Health", health),
        (
            "Access",
            .answer(
                [
                    ("tokens", .boolean), ("permissions", .array(of: .words(Permission.allCases.map(\.name)))),
                    ("queues", .array(of: Schema.text().described("A pattern of queues' names."))),
                ], optional: [("name", .text()), ("expires", .time)])
        ),
    ]

    private static let problem = Schema.answer(
        [
            (
                "type",
                .text(pattern: "^\(ProblemType.urnPrefix)[a-z-]+$").described(
                    "\(ProblemType.urnPrefix) and a type that the response with this status lists, or a later one.")
            ),
            ("title", Schema.text().described("What the type means, for people.")),
            ("status", .integer(400...599)),
            ("detail", Schema.text().described("What is wrong and what would be right, for people.")),
        ],
        optional: [("field", Schema.text(mayBeEmpty: true).described("The field or query parameter at fault."))]
    ).described("A problem detail (RFC 9457). The request has changed nothing.")

    private static let queueName = Schema.text(
        maximumBytes: QueueName.maximumByteCount, pattern: #"^[^\u0000-\u001F\u007F-\u009F]+$"#
    ).described("1 to \(QueueName.maximumByteCount) bytes of UTF-8 without control characters.")

    private static let idPattern =
        "([A-Za-z0-9_-]{21}[AQgw]|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})"
    private static let taskID = Schema.text(pattern: "^\(idPattern)$")
        .described("The id of a task. Answers have 22 characters of base64url; requests may also have a UUID.")
    private static let taskReference = Schema.text(pattern: "^\(idPattern)(@[0-9a-f]{16})?$")
        .described("The id of a task, or the receipt of one dispatch, ID@TOKEN.")

    // MARK: Tasks

    private static let beginning: Properties = [
        ("id", .taskID), ("queue", .queueName), ("attempt", .count),
    ]
    /// JSON of the task, of which `content_limit` may leave only a part.
    private static func json(_ name: String, _ schema: Schema = .any) -> Properties {
        [
            (name, schema),
            ("\(name)_bytes", Schema.count.described("The size, if it exceeds content_limit.")),
            ("\(name)_start", Schema.text(mayBeEmpty: true).described("The beginning, instead of the whole.")),
        ]
    }
    private static let content = json("content") + json("metadata", metadata) + [("content_hidden", .constant("true"))]
    private static let metadata = Schema.map(of: .text(mayBeEmpty: true))
    /// What came with the task.
    private static let added: Properties = [
        ("request_id", Schema.text(maximumBytes: 128).described("X-Request-Id of the request that added the task.")),
        ("traceparent", Schema.text(maximumBytes: 128).described("traceparent of the request that added the task.")),
    ]
    private static let state: Properties = [("state", .reference("State")), ("enqueued", .time)]
    private static let times: Properties = ["due", "dispatched", "lease_end", "expires", "finished", "died"].map {
        ($0, .time)
    }
    private static let listed: Properties = [("worker", .queueName), ("error", .text()), ("origin", .queueName)]
    /// What only the whole task has: the fields of the table, and more.
    private static let shown: Properties =
        TaskField.all.compactMap { field in
            guard let name = field.shown.map({ "\($0.name)" }), name != "request" else { return nil }
            return (name, name != "\(field.name)" ? .time : field.acceptsNull ? field.schema.orNull : field.schema)
        } + json("request", .reference("ShownRequest")) + json("progress") + json("result") + endOfLog
        + [("crashes", .count)]
        + [("attempts", .array(of: .reference("Attempt")))]
    private static let endOfLog: Properties = [
        ("log", .text()),
        ("log_bytes", Schema.count.described("The size, if it exceeds content_limit.")),
        ("log_end", Schema.text(mayBeEmpty: true).described("The end, instead of the whole.")),
    ]
    private static let missing: (name: String, schema: Schema) = (
        "missing",
        .array(of: .taskReference).described("The tasks that were not in the state that the request needs.")
    )

    // MARK: Groups of tasks

    private static let stopped: Properties = [
        ("stopped", Schema.constant("true").described("Somebody has stopped it before its end."))
    ]

    private static let operations = Schema.answer([
        (
            "operations",
            .array(
                of: .answer(
                    [
                        ("id", .count), ("action", .words(["purge", "kick", "move"])), ("queue", .queueName),
                        ("state", .array(of: .reference("State"))), ("started", .time), ("examined", .count),
                        ("changed", .count), ("total", .count),
                    ],
                    optional: [
                        ("to", .queueName), ("error", .text(mayBeEmpty: true)),
                        ("error_match", .text(mayBeEmpty: true)), ("older_than", .duration), ("newer_than", .duration),
                    ]))
        )
    ])

    private static let errorGroups = Schema.answer(
        [
            (
                "errors",
                .array(
                    of: .answer(
                        [
                            ("queue", .queueName), ("count", .count), ("first", .time), ("last", .time),
                            ("example", .taskID),
                        ], optional: [("error", .text(maximumBytes: TaskError.maximumSummaryBytes))]))
            ),
            ("groups", .count), ("tasks", .count), ("as_of", .time),
        ], optional: [("left_out", .count)])

    private static let workers = Schema.answer(
        [
            (
                "workers",
                .array(
                    of: .answer(
                        [
                            ("name", .text(maximumBytes: QueueName.maximumByteCount)), ("waiting", .count),
                            ("queues", .array(of: .queueName)), ("held", .count), ("tasks", .array(of: heldTask)),
                            ("first_seen", .time), ("last_seen", .time),
                        ], optional: [("oldest_dispatched", .time)]))
            ),
            ("count", .count), ("unnamed", .answer([("held", .count)], optional: [("waiting", .count)])),
            ("as_of", .time),
        ], optional: [("left_out", .count)])
    private static let heldTask = Schema.answer([
        ("id", .taskID), ("queue", .queueName), ("dispatched", .time), ("lease_end", .time),
    ])

    // MARK: Queues

    private static let totals = [
        "enqueued", "received", "dispatched", "acked", "nacked", "timed_out", "released", "expired", "died",
        "cancelled", "over_length", "notices",
    ]

    private static let history = Schema.answer(
        [("interval", .count), ("end", .time)]
            + ["enqueued", "done", "failed", "ready", "dead", "oldest_ready"].map { ($0, .array(of: .count)) }
            + ["wait_mean", "wait_max", "run_mean", "run_max"].map { ($0, .array(of: .number(minimum: 0))) })

    private static let circuitState = Schema.answer(
        [("state", .words(["closed", "open", "half-open"])), ("failures", .count)], optional: [("until", .time)])

    private static let queueStatistics = Schema.answer(
        [("queue", .queueName)]
            + ["delayed", "ready", "dispatched", "dead", "done", "cancelled", "expired", "keys", "waiters"].map {
                ($0, .count)
            } + [
                ("oldest_ready", Schema.number.orNull), ("paused", .boolean), ("rates", .reference("Rates")),
                ("totals", .reference("Totals")),
            ],
        optional: [
            ("paused_since", .time), ("pushed", .boolean), ("sending", .count), ("circuit", .reference("CircuitState")),
            ("history", Schema.reference("History").orNull),
            trend,
        ])

    private static let trend: (name: String, schema: Schema) = (
        "trend", Schema.array(of: .count, ReadyTrend.count...ReadyTrend.count).orNull
    )

    private static let queueGroup = Schema.answer(
        [("group", .queueName)]
            + ["queues", "delayed", "ready", "dispatched", "dead", "waiters", "paused"].map { ($0, .count) }
            + [("oldest_ready", Schema.number.orNull), ("rates", .reference("Rates"))],
        optional: [trend])

    private static let statistics = Schema.answer(
        [],
        optional: [
            ("queues", .map(of: .reference("QueueStatistics"))),
            ("rows", .array(of: .anyOf(.reference("QueueGroup"), .reference("QueueStatistics")))),
            ("next", .text()), ("count", .count), ("queues_left_out", .count),
            (
                "server",
                .answer([
                    ("version", .text()), ("started", .time), ("uptime", .duration), ("now", .time),
                    ("waiters", .count), ("loop_lag", .duration),
                ])
            ),
            ("states", .answer(TaskState.allCases.map { ("\($0.name)", .count) })),
            ("oldest", .answer([("queue", .queueName), ("seconds", .duration)])),
            ("tasks", .count), ("rates", .reference("Rates")),
            ("totals", .reference("Totals")), ("history", Schema.reference("History").orNull),
            ("connections", .count), ("memory", .answer([("used", .count), ("limit", .count)])),
            ("certificate_end", .time), ("sources", .map(of: .reference("SourceStatus"))),
            ("sources_left_out", .count),
            (
                "journal",
                .answer([
                    ("bytes", .count), ("live_bytes", .count), ("segments", .count),
                    ("free_bytes", Schema.count.orNull), ("pending_bytes", .count), ("sync_time", .duration),
                    ("problem", Schema.text().orNull),
                    ("recovered", .answer([("tasks", .count), ("seconds", .number)])),
                ])
            ),
        ]
    ).described("A page of queues. Only the first page has what concerns the whole server.")

    private static let shownConfiguration = Schema.answer(
        [],
        optional: replacing("push", by: .reference("ShownPush"), in: configuration)
            + [("removed", .array(of: .text()).described("What a PUT has dropped of the push before."))])

    // MARK: The server

    private static let alertLevels = [Condition.Level.warning, .critical].map(\.name)

    private static let alerts = Schema.answer([
        ("status", .words(["ok"] + alertLevels)),
        (
            "alerts",
            .array(
                of: .answer(
                    [("level", .words(alertLevels)), ("kind", .text()), ("text", .text())],
                    optional: [("queue", .queueName)]), 0...Alerts.maximumCount)
        ),
        ("left_out", .count), ("as_of", .time),
    ])

    private static let sourceStatus: Properties = [
        ("state", .words(SourceState.allCases.map(\.rawValue))),
        ("lag", Schema.count.orNull), ("unacknowledged", .count), ("messages", .count), ("duplicates", .count),
        ("last_error", Schema.text().orNull), ("last_error_at", Schema.time.orNull),
    ]

    private static let shownSource = Schema.answer(
        [
            ("amqp", .text()), ("queue", .text()), ("into", .queueName), ("prefetch", .count),
            ("unique_for", .duration),
        ] + sourceStatus)

    private static let health = Schema.answer(
        [("status", .words(["ok", "stopping", "recovering"]))],
        optional: [("certificate_end", .time), ("detail", .text())])
}
