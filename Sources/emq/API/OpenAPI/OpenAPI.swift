// The description of the interface in OpenAPI 3.1. Paths, methods, parameters and permissions come from the table of
// routes; the fields of requests from the tables of fields. It has nothing of the server but its version, so it is made
// once.

import Net

/// The OpenAPI document.
enum OpenAPI {
    /// The document as JSON. It is made when it is first read; that takes some milliseconds.
    static let document = Array(text.utf8)

    private static var text: String {
        Schema.object([
            ("openapi", Schema.quoted("3.1.0")),
            (
                "info",
                Schema.object([
                    ("title", Schema.quoted("emq")), ("version", Schema.quoted(Options.version)),
                    ("description", Schema.quoted(introduction)),
                ])
            ),
            ("servers", Schema.array([Schema.object([("url", Schema.quoted("/"))])])),
            ("security", Schema.array(["{}", #"{"bearer":[]}"#, #"{"basic":[]}"#])),
            ("paths", Schema.object(paths)),
            (
                "components",
                Schema.object([
                    ("schemas", Schema.object((requestSchemas + answerSchemas).map { ($0.name, $0.schema.json) })),
                    ("parameters", Schema.object(pathParameters + tracing.map(headerParameter))),
                    ("headers", Schema.object(tracing.map { ($0.name, header($0.meaning)) })),
                    ("responses", Schema.object(failures.map { (name(ofFailure: $0.status), failure($0)) } + others)),
                    ("securitySchemes", Schema.object(securitySchemes)),
                ])
            ),
        ])
    }

    private static let introduction =
        "A work queue over HTTP. HEAD works wherever GET does, and OPTIONS everywhere; other methods get 405 "
        + "(method-not-allowed). Where a path ends in a slash, the slash is optional. Requests have no fields and "
        + "query parameters but those that are here, each at most once, unless it is an array; answers may have more members in later "
        + "versions. Lengths of strings are limited in bytes of UTF-8. Numbers in content, result, progress and body "
        + "may be of any size. A server without tokens needs no security scheme."

    private static let securitySchemes: [(name: String, json: String)] = [
        ("bearer", #"{"type":"http","scheme":"bearer"}"#),
        ("basic", #"{"type":"http","scheme":"basic","description":"The token is the password; any user will do."}"#),
    ]

    // MARK: Paths

    /// The paths, each with its operations.
    static var paths: [(name: String, json: String)] {
        Route.all.flatMap { route in
            let aliases = route.alias.map { ["\($0)"] } ?? []
            return (["\(route.name)"] + aliases).map { (path(of: route, named: $0), item(route, named: $0)) }
        }
    }

    /// The routes whose paths are written without the slash at their end.
    private static let pages = ["metrics", "healthz", "openapi.json", "access", "events"]

    /// The path of a route as the document writes it.
    static func path(of route: Route, named name: String) -> String {
        switch route.subject {
        case .none where name.isEmpty: route.path
        case .none where route.suffix.utf8CodeUnitCount > 0: "/\(name)\(route.suffix)"
        case .none: pages.contains(name) ? "/\(name)" : "/\(name)/"
        case .queue: "/\(name)/{queue}\(route.suffix)"
        case .source: "/\(name)/{source}\(route.suffix)"
        case .task: "/\(name)/{id}\(route.suffix)"
        case .operation: "/\(name)/{operation}\(route.suffix)"
        case .file: "/\(name)/{file}\(route.suffix)"
        }
    }

    private static func item(_ route: Route, named name: String) -> String {
        var members: [(name: String, json: String)] = []
        let reference: String? =
            switch route.subject {
            case .none: nil
            case .queue: "queue"
            case .source: "source"
            case .task: "id"
            case .operation: "operation"
            case .file: "file"
            }
        let ofPath = reference.map { [component("parameters", $0)] } ?? []
        let ofHeader = tracing.map { component("parameters", $0.name) }
        members.append(("parameters", Schema.array(ofPath + route.query.map(parameter) + ofHeader)))
        for operation in route.operations {
            let method = "\(operation.method.name)"
            guard let description = descriptions["\(method) \(route.path)"] else { continue }
            let alias = name == "\(route.name)" ? nil : name
            members.append((method.lowercased(), json(of: operation, description, route, alias: alias)))
        }
        return Schema.object(members)
    }

    private static func component(_ kind: String, _ name: String) -> String {
        Schema.object([("$ref", Schema.quoted("#/components/\(kind)/\(name)"))])
    }

    private static func parameter(_ parameter: QueryParameter) -> String {
        var members = [
            ("name", Schema.quoted(parameter.name)), ("in", Schema.quoted("query")),
            ("description", Schema.quoted(parameter.meaning)), ("schema", parameter.schema.json),
        ]
        if parameter.isRequired { members.append(("required", "true")) }
        return Schema.object(members)
    }

    private static let pathParameters: [(name: String, json: String)] = [
        pathParameter(
            "queue", .queueName,
            "The name of a queue, percent-encoded. It is everything after the slash before it: a slash in it may be "
                + "written as it is or as %2F, and + is a plus."),
        pathParameter(
            "source", .queueName,
            "The name of a source, percent-encoded. A slash in it may be written as it is or as %2F; before a last "
                + "word pause or resume, it must be %2F."),
        pathParameter("id", .taskID, "The id of a task."),
        pathParameter("operation", .count, "The id of a purge, kick or move that is under way."),
        pathParameter("file", .words(DashboardFile.all.map(\.name)), "The name of a file of the dashboard."),
    ]

    private static func pathParameter(
        _ name: String, _ schema: Schema, _ meaning: String
    ) -> (name: String, json: String) {
        let members = [
            ("name", Schema.quoted(name)), ("in", Schema.quoted("path")), ("required", "true"),
            ("description", Schema.quoted(meaning)), ("schema", schema.json),
        ]
        return (name, Schema.object(members))
    }

    /// The fields of a header that any request may have, and that its answer returns.
    private static let tracing: [(name: String, meaning: String)] = [
        (
            "X-Request-Id",
            "A name of the request: 1 to 128 visible ASCII characters, but no space, quote or backslash. The answer "
                + "returns it, and the tasks that the request adds keep it. emq ignores any other value."
        ),
        (
            "traceparent",
            "The place of the request in a trace (W3C Trace Context). The answer returns it, and the tasks that the "
                + "request adds keep it. emq ignores any other value."
        ),
    ]

    private static func headerParameter(_ field: (name: String, meaning: String)) -> (name: String, json: String) {
        let members = [
            ("name", Schema.quoted(field.name)), ("in", Schema.quoted("header")),
            ("description", Schema.quoted(field.meaning)), ("schema", Schema.text(mayBeEmpty: true).json),
        ]
        return (field.name, Schema.object(members))
    }

    // MARK: Operations

    private static func json(
        of operation: Operation, _ description: Description, _ route: Route, alias: String?
    ) -> String {
        let permission = operation.need.permission
        let need =
            permission.map {
                "Needs a token with the permission \($0.name)\(operation.need.isForAllQueues ? " for all queues" : "")"
                    + ", if the server has tokens."
            } ?? (operation.need.isOpen ? "Needs no token." : "Needs any valid token, if the server has tokens.")
        var members = [
            ("operationId", Schema.quoted(alias ?? description.name)),
            ("summary", Schema.quoted(description.summary)), ("description", Schema.quoted(need)),
        ]
        if operation.need.isOpen { members.append(("security", "[]")) }
        if let body = description.body {
            let types = ["application/json"] + (operation.method == .patch ? ["application/merge-patch+json"] : [])
            let content = types.map { ($0, media(body)) }
            members.append(
                ("requestBody", Schema.object([("required", "true"), ("content", Schema.object(content))])))
        }
        members.append(("responses", Schema.object(responses(of: operation, description, route))))
        return Schema.object(members)
    }

    private static func media(_ schema: Schema) -> String { Schema.object([("schema", schema.json)]) }

    private static func responses(
        of operation: Operation, _ description: Description, _ route: Route
    ) -> [(name: String, json: String)] {
        var members = [("description", Schema.quoted("Success."))]
        switch description.answer {
        case .json(let schema): members.append(("content", Schema.object([("application/json", media(schema))])))
        case .metrics:
            let types = ["text/plain", "application/openmetrics-text"]
            members.append(("content", Schema.object(types.map { ($0, media(.text())) })))
        case .file(let isPage):
            let types = isPage ? ["text/html"] : DashboardFile.contentTypes.map { $0.type.mediaType }
            members.append(("content", Schema.object(types.map { ($0, media(.text())) })))
        case .events: members.append(("content", Schema.object([("text/event-stream", media(.text()))])))
        case .nothing: break
        }
        members.append(headers(description.fields))
        let success = Schema.object(members)
        var responses = description.statuses.map { ("\($0)", success) }
        if case .file = description.answer {
            let meaning = ("description", Schema.quoted("The client has this version."))
            let unchanged = [meaning, headers(description.fields)]
            responses.append(("304", Schema.object(unchanged)))
        }
        for (status, _) in failures where canFail(status, operation, description, route) {
            let isHealth = status == 503 && description.name == "showHealth"
            let name = isHealth ? "Unhealthy" : name(ofFailure: status)
            responses.append(("\(status)", component("responses", name)))
        }
        return responses + [("default", component("responses", "OtherFailure"))]
    }

    /// The fields of an answer's header: some, and those of every answer.
    private static func headers(_ fields: [(name: String, meaning: String)] = []) -> (name: String, json: String) {
        let ofEvery = tracing.map { ($0.name, component("headers", $0.name)) }
        return ("headers", Schema.object(fields.map { ($0.name, header($0.meaning)) } + ofEvery))
    }

    private static func header(_ meaning: String) -> String {
        Schema.object([("description", Schema.quoted(meaning)), ("schema", Schema.text().json)])
    }
}

// MARK: Failures

extension OpenAPI {
    /// The statuses of failures of HTTP itself, which any request can have. They have one description together. 405 is
    /// not here: no operation has it.
    static let otherFailures = [408, 413, 414, 417, 431, 501, 505]

    /// The statuses of all other failures, and what they mean.
    private static let failures: [(status: Int, meaning: String)] = [
        (400, "The request is malformed, or a field or query parameter is wrong."),
        (401, "The server has tokens, and the request has none that is valid."),
        (403, "The sender may not do that."),
        (404, "There is no such thing, or the sender may not see it."),
        (409, "Somebody else has what the request needs."),
        (415, "The type of the body is not JSON, or the body is compressed."),
        (429, "The queue is full."),
        (503, "The server is starting or stopping, or has reached a limit; try again."),
    ]

    private static func canFail(
        _ status: Int, _ operation: Operation, _ description: Description, _ route: Route
    ) -> Bool {
        switch status {
        case 401: !operation.need.isOpen
        case 404: [.task, .operation, .file].contains(route.subject) || description.failures.contains(404)
        case 409, 429: description.failures.contains(status)
        case 415: description.body != nil
        default: true
        }
    }

    private static func name(ofFailure status: Int) -> String {
        "\(reason(of: status))".split(separator: " ").joined()
    }

    private static let problem = ("application/problem+json", media(.reference("Problem")))

    /// What the check of the server's health answers while the server is not up, and the failures of HTTP itself.
    private static let others: [(name: String, json: String)] = [
        (
            "Unhealthy",
            Schema.object([
                ("description", Schema.quoted("The server is starting or stopping.")), headers([retryAfter]),
                ("content", Schema.object([("application/json", media(.reference("Health"))), problem])),
            ])
        ),
        (
            "OtherFailure",
            Schema.object([
                (
                    "description",
                    Schema.quoted(
                        "The request is late (408), or its body (413), request line (414) or header (431) is too "
                            + "large, or it needs what the server does not support (417, 501, 505). "
                            + types(of: otherFailures)
                    )
                ), headers(), ("content", Schema.object([problem])),
            ])
        ),
    ]

    private static let retryAfter = (name: "Retry-After", meaning: "In how many seconds to try again.")

    /// The types of problems with some statuses, as a sentence.
    private static func types(of statuses: [Int]) -> String {
        let types = ProblemType.allCases.filter { statuses.contains($0.status) }.map(\.rawValue)
        return "Types: \(types.joined(separator: ", "))."
    }

    private static func failure(_ failure: (status: Int, meaning: String)) -> String {
        let fields: [(name: String, meaning: String)] =
            switch failure.status {
            case 401: [("WWW-Authenticate", "The ways to send a token.")]
            case 429, 503: [retryAfter]
            default: []
            }
        return Schema.object([
            ("description", Schema.quoted("\(failure.meaning) \(types(of: [failure.status]))")), headers(fields),
            ("content", Schema.object([problem])),
        ])
    }
}
