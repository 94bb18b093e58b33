// The schemas of the bodies of requests. Those of tasks and configurations come from their tables of fields; a test
// proves that the others have the fields that the server reads.

import AMQP
import Delivery
import Queues

extension Schema {
    /// A number of seconds.
    static let duration = seconds(maximumMilliseconds: emq.maximumMilliseconds)
    /// A number of seconds above 0.
    static let length = seconds(isZeroAllowed: false, maximumMilliseconds: emq.maximumMilliseconds)
    static let retryLimit = integer(0...Int64(UInt32.max))
    /// A time that the server reads. Its maximum depends on the present.
    static let requestedTime = number(minimum: 0)
    fileprivate static let headerValue = text(maximumBytes: PushOptions.maximumHeaderBytes)
    /// A constant pause, or a growing one.
    static let backoff = anyOf(duration, reference("Backoff"))
    /// How long a task lives, in a configuration.
    static let expiry = anyOf(length, constant("\"never\""))

    /// Every field of a merge patch may be `null`, which removes it.
    fileprivate static func patch(_ properties: [(name: String, schema: Schema)]) -> Schema { request(properties) }
}

extension OpenAPI {
    typealias Properties = [(name: String, schema: Schema)]

    /// The schemas of requests, by their names.
    static let requestSchemas: Properties = [
        ("Task", .request(taskProperties)),
        ("Tasks", .array(of: Schema.reference("Task").orNull, 1...API.maximumIDs)),
        ("Wait", .request(wait)),
        ("Acknowledgement", acknowledgement),
        ("Refusal", refusal),
        ("Touch", .request(touch)),
        ("TaskReferences", .request([ids])),
        ("Configuration", .request(configuration)),
        ("ConfigurationPatch", .patch(configurationPatch)),
        ("Defaults", .request(replacing("push", by: noPush, in: configuration))),
        ("DefaultsPatch", .patch(replacing("push", by: noPush, in: configurationPatch))),
        ("Source", .request(source, required: ["amqp", "queue"])),
        ("Backoff", .request(backoff, required: ["min"])),
        ("BackoffPatch", .patch(backoff)),
        ("Request", .request(request)),
        ("Push", .request(push)),
        ("PushPatch", .patch(pushPatch)),
        ("Circuit", .request(circuit, required: circuit.map(\.name))),
        ("CircuitPatch", .patch(circuit)),
        ("ShownRequest", .answer([], optional: request)),
        ("ShownPush", .answer([], optional: replacing("circuit", by: .answer(circuit), in: push))),
    ]

    static func replacing(_ name: String, by schema: Schema, in properties: Properties) -> Properties {
        properties.map { $0.name == name ? (name, schema) : $0 }
    }

    // MARK: Tasks

    /// The fields of an enqueue, as its table has them.
    static let taskProperties: Properties = TaskField.all.map { field in
        let schema = field.acceptsNull ? field.schema.orNull : field.schema
        return ("\(field.name)", schema.described(taskMeanings["\(field.name)"] ?? ""))
    }

    static let taskMeanings = [
        "content": "Any JSON value; default null.",
        "retry": "The lease: how many seconds a worker may hold the task; default 300.",
        "expiry": "How many seconds after it is due emq deletes the task; default 86400; null means never.",
        "delay": "How many seconds from now the task is dispatched at the earliest.",
        "eta": "The earliest time to dispatch the task, instead of delay.",
        "priority": "Higher first; default 0.",
        "max_retries": "How many retries may follow the first attempt; null allows any number.",
        "max_crashes": "How many leases may run out before the task is dead; null allows any number.",
        "backoff": "The pause before a retry.",
        "key": "A queue has at most one unfinished task with a given key; up to 255 bytes.",
        "on_conflict": "What to do when an unfinished task already has the key; default keep.",
        "unique_for": "How many seconds from now the key stays taken, even after the task has ended.",
        "keep": "How many seconds emq keeps the record of the finished task; default 0.",
        "metadata": "Strings to show with the task, up to 64 KiB.",
        "request": "Makes emq send the task itself.",
    ]

    private static let ids: (name: String, schema: Schema) = (
        "ids",
        .array(of: .taskReference, 0...API.maximumIDs).described("The ids or receipts of the tasks; default none.")
    )

    private static let wait: Properties = [
        (
            "queues",
            .array(of: .queueName, 0...API.maximumTasksPerAnswer).described("The queues from which to take tasks.")
        ),
        (
            "timeout",
            .integer(0 ... .max).described("How many milliseconds to wait, at most an hour; default 0.")
        ),
        (
            "max",
            .integer(1...Int64(API.maximumTasksPerAnswer))
                .described("Take up to that many tasks from any of the queues; default: one for each name.")
        ),
        (
            "ack",
            .array(of: .taskReference, 0...API.maximumIDsInWait).described("Ids or receipts to acknowledge first.")
        ),
        ("retry", Schema.length.described("The lease of the tasks taken, instead of their own.")),
        ("worker", Schema.queueName.described("A name to show with the tasks taken.")),
    ]

    private static let acknowledgement = Schema.anyOf(
        .request([
            ids,
            ("result", Schema.any.described("Kept with the task for its keep, and sent to clients that wait for it.")),
            log, ("tasks", .null),
        ]),
        .request([
            ("ids", .null), ("result", .null), ("log", .null),
            (
                "tasks",
                .array(
                    of: .request([("id", .taskReference), ("result", .any), log], required: ["id"]), 0...API.maximumIDs
                ).described("Tasks, each with its own result and log.")
            ),
        ]))

    private static let log: (name: String, schema: Schema) = (
        "log",
        .text(mayBeEmpty: true, maximumBytes: API.logByteCounts.upperBound)
            .described("The end of what the task's command printed, shown with the task.")
    )

    /// A dead task is neither delayed nor released.
    private static let refusal = Schema.anyOf(
        .request(replacing("dead", by: .constant("false"), in: refusalFields)),
        .request(
            replacing("delay", by: .null, in: replacing("release", by: .constant("false"), in: refusalFields))))

    private static let refusalFields: Properties = [
        ids,
        (
            "error",
            .text(maximumBytes: API.maximumErrorBytes)
                .described("The reason, shown with the task; up to \(API.maximumErrorBytes) bytes.")
        ),
        ("delay", Schema.duration.described("The pause in seconds, instead of the backoff.")),
        ("dead", Schema.boolean.described("Whether no more retries follow; not with delay or release.")),
        ("release", Schema.boolean.described("Whether to give the task back instead of failing it.")),
        log,
    ]

    private static let touch: Properties = [
        ids, ("retry", Schema.length.described("The new lease; default: as long as it was.")),
        ("progress", Schema.any.described("Shown with the task.")),
    ]

    // MARK: Configurations

    /// The fields of a configuration, as its table has them.
    static let configuration: Properties = ConfigurationField.all.map { field in
        let schema = field.acceptsNull ? field.schema.orNull : field.schema
        return ("\(field.name)", schema.described(configurationMeanings["\(field.name)"] ?? ""))
    }

    private static let configurationPatch = replacing(
        "backoff", by: .anyOf(.duration, .reference("BackoffPatch")),
        in: replacing("push", by: .reference("PushPatch"), in: configuration))

    static let configurationMeanings = [
        "retry": "The lease of the queue's tasks.",
        "expiry": "How long tasks live; null, in a PUT, or never: without limit.",
        "max_retries": "How many retries may follow the first attempt; null, in a PUT: any number.",
        "max_crashes": "How many leases of a task may run out before it is dead; null, in a PUT: any number.",
        "backoff": "The pause before a retry.",
        "keep": "How many seconds emq keeps the records of finished tasks.",
        "priority": "The priority of tasks without one.",
        "max_length": "The maximum number of ready, delayed and dispatched tasks; null, in a PUT: any number.",
        "dead_letter": "The queue that dead tasks move to; null, in a PUT: none. Needs max_retries, max_crashes or "
            + "on_expiry dead.",
        "dead_expiry": "How many seconds dead tasks stay.",
        "on_expiry": "Whether expired tasks become dead or are deleted.",
        "show_content": "False hides content, metadata, request, progress, result and log from those without admin.",
        "push": "Makes emq send the queue's tasks.",
    ]

    private static let noPush = Schema.null.described("Only a single queue has a push.")

    private static let backoff: Properties = [
        ("min", Schema.duration.described("The first pause.")),
        ("max", Schema.duration.described("The longest pause; default a day.")),
        ("doublings", Schema.retryLimit.described("How many times the pause doubles at most.")),
        ("jitter", Schema.fraction.described("Makes each pause longer or shorter by up to that fraction.")),
    ]

    /// A character of a token (RFC 9110), as a pattern.
    private static let token = "[!#$%&'*+.^_`|~0-9A-Za-z-]"

    private static func headers(of value: Schema) -> Schema {
        .map(
            of: value, names: .text(maximumBytes: PushOptions.maximumNameBytes, pattern: "^\(token)+$"),
            maximumCount: PushOptions.maximumHeaders
        )
        .described("Header fields to add. Answers show *** in place of values, and *** keeps a value.")
    }

    private static let commonPush: Properties = [
        ("url", Schema.httpURL.described("The target.")),
        (
            "method",
            .text(maximumBytes: 32, pattern: "^(?!CONNECT$)\(token)+$").described("The method; default POST.")
        ),
        ("headers", headers(of: .headerValue)),
        (
            "timeout",
            .seconds(isZeroAllowed: false, maximumMilliseconds: PushOptions.maximumTimeoutMilliseconds)
                .described("How many seconds a request may take; default 30.")
        ),
        ("on_dead", Schema.httpURL.described("A URL that emq notifies when a task dies.")),
    ]

    private static let request = commonPush + [("body", Schema.any.described("Sent instead of the content."))]

    /// What a `Rate` can be: a number above zero up to the maximum of its unit, of up to twelve digits before the point.
    private static let ratePattern: String = {
        let decimals = #"(\.[0-9]{1,6})?"#
        let zeros = #"(\.0{1,6})?"#
        return "^(?=[0-9.]*[1-9])("
            + "(0{0,6}[0-9]{1,6}\(decimals)|0{0,5}1000000\(zeros))/s|"
            + "(0{0,4}[0-5]?[0-9]{1,7}\(decimals)|0{0,4}60000000\(zeros))/m|"
            + "(0{0,3}[0-9]{1,9}\(decimals)|0{0,2}1000000000\(zeros))/[hd])$"
    }()

    private static let push: Properties =
        commonPush + [
            (
                "concurrency",
                .integer(1...Int64(PushOptions.maximumConcurrency))
                    .described("How many tasks may be in flight at once; default 10.")
            ),
            (
                "rate",
                .text(maximumBytes: 64, pattern: ratePattern)
                    .described("The maximum rate of requests, at most 1000000/s: 10/s, 21.5/m, 5/h, 1/d.")
            ),
            ("circuit", .reference("Circuit")),
            ("signature", .words(["emq", "standard"]).described("How emq signs requests; default emq.")),
            (
                "secret",
                .text(maximumBytes: PushOptions.maximumSecretBytes)
                    .described("The key that signs requests. Answers show ***, and *** keeps it.")
            ),
            (
                "secrets",
                .array(of: .text(maximumBytes: PushOptions.maximumSecretBytes), 1...PushOptions.maximumSecrets)
                    .described("Instead of secret: the current one and those before it.")
            ),
            (
                "ca",
                .text(maximumBytes: PushOptions.maximumIssuerBytes)
                    .described("The issuers of certificates that alone are accepted, in PEM.")
            ),
        ]

    private static let pushPatch = replacing(
        "headers", by: headers(of: Schema.headerValue.orNull),
        in: replacing("circuit", by: .reference("CircuitPatch"), in: push))

    private static let circuit: Properties = [
        (
            "failures",
            .integer(1...Int64(PushOptions.maximumFailures)).described("After how many failures in a row emq pauses.")
        ),
        (
            "pause",
            .seconds(isZeroAllowed: false, maximumMilliseconds: PushOptions.maximumPauseMilliseconds)
                .described("For how many seconds.")
        ),
    ]

    // MARK: Sources

    private static let source: Properties = [
        (
            "amqp",
            .amqpURL(maximumBytes: AMQPURL.maximumLength)
                .described("The URL of the RabbitMQ. Answers show *** in place of the password, and *** keeps it.")
        ),
        ("queue", .text(maximumBytes: 255).described("The queue of RabbitMQ.")),
        ("into", Schema.queueName.described("The queue of emq; default: the name in queue.")),
        (
            "prefetch",
            .integer(SourceDefinition.prefetches).described("How many messages may be unacknowledged.")
        ),
        (
            "unique_for",
            Schema.duration.described("How many seconds the message_id of a message stays taken as a key; default 600.")
        ),
    ]
}
