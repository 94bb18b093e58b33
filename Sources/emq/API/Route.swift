// A route: one value with all that the server knows about a path before it reads a body. Look-up, `Allow`, `405`, hints
// for mistyped paths and parameters, admission, and what a sender needs derive from it. The table of all routes is
// `Route.all`.

import Bytes
import Net
import Queues

/// One path of the interface.
///
/// Like `Operation`, it is a class, so that finding a route copies nothing.
final class Route: Sendable {
    /// What follows the first segment of a path.
    enum Subject {
        /// Nothing.
        case none
        /// The name of a queue.
        case queue
        /// The name of a source, which has the form of a queue's name.
        case source
        /// The id of a task.
        case task
        /// The id of a purge, kick or move.
        case operation
        /// The name of a file of the dashboard.
        case file

        /// The subject, for a sentence.
        var phrase: StaticString {
            switch self {
            case .none: "no name"
            case .queue: "the name of a queue"
            case .source: "the name of a source"
            case .task: "the id of a task"
            case .operation: "the id of an operation"
            case .file: "the name of a file"
            }
        }
    }

    /// The first segment of the path; empty for the path `/`.
    let name: StaticString
    /// Another spelling of the first segment.
    let alias: StaticString?
    let subject: Subject
    /// What follows the subject, such as `/pause`; empty for nothing. It is compared before the path is decoded, so the
    /// name can end with it too: `%2Fpause`. Routes with a subject and a suffix come before the one without a suffix.
    let suffix: StaticString
    /// Whether something follows the first segment.
    private let hasRest: Bool
    /// What to do instead of adding a name to a path that takes none, as a clause; empty for no advice.
    let advice: StaticString
    /// The parameters of the query.
    let query: [QueryParameter]
    /// What each method does.
    let operations: [Operation]

    init(
        _ name: StaticString, alias: StaticString? = nil, _ subject: Subject, suffix: StaticString = "",
        advice: StaticString = "", query: [QueryParameter] = [], _ operations: Operation...
    ) {
        self.name = name
        self.alias = alias
        self.subject = subject
        self.suffix = suffix
        hasRest = subject != .none || suffix.utf8CodeUnitCount > 0
        self.advice = advice
        self.query = query
        self.operations = operations
    }

    /// The path, with a word in place of a name or an id.
    var path: String {
        switch subject {
        case .none where name.utf8CodeUnitCount == 0: "/"
        case .none: suffix.utf8CodeUnitCount == 0 ? "/\(name)/" : "/\(name)\(suffix)"
        case .queue, .source: "/\(name)/NAME\(suffix)"
        case .task, .operation: "/\(name)/ID"
        case .file: "/\(name)/FILE"
        }
    }

    /// The route with the same first segment that takes a parameter in its query.
    func neighbour(withParameter parameter: String) -> Route? {
        Route.all.first { "\($0.name)" == "\(name)" && $0.query.contains { $0.name == parameter } }
    }

    /// The methods that the path answers, as the Allow field lists them.
    var allowedMethods: String { Route.list(operations.map(\.method)) }

    /// The methods to use instead of another one, as a phrase for people.
    fileprivate var usualMethods: String {
        let names = operations.map { "\($0.method.name)" }
        guard let last = names.last, names.count > 1 else { return names.first ?? "another path" }
        return names.dropLast().joined(separator: ", ") + " or \(last)"
    }

    /// The methods that some path answers, as the Allow field lists them.
    static var allMethods: String {
        var methods: [Method] = []
        for route in all {
            for operation in route.operations where !methods.contains(operation.method) {
                methods.append(operation.method)
            }
        }
        return list(methods.sorted { $0.rawValue < $1.rawValue })
    }

    private static func list(_ methods: [Method]) -> String {
        methods.map { $0 == .get ? "GET, HEAD" : "\($0.name)" }.joined(separator: ", ") + ", OPTIONS"
    }
}

/// What a route does for one method.
final class Operation: Sendable {
    typealias Handler =
        @Sendable (
            inout API, borrowing Request, inout ResponseStream, inout Context, isolated Broker
        ) throws(Problem) -> Outcome

    enum Body {
        /// The request has none.
        case none
        /// The server reads it and does not keep it, so it reads bodies up to a limit even when memory is short.
        case read
        /// The server keeps what it says.
        case kept
    }

    enum Admission {
        /// The request concerns one task or queue, or none. It is admitted before its handler is called.
        case once
        /// The handler admits the request once it knows how many tasks the request names.
        case byHandler
    }

    /// What an answer waits for.
    enum Hold {
        /// All changes so far are safe on disk.
        case untilSafe
        /// The same, unless the disk is full or fails. Then showing unsafe changes is better than showing nothing.
        case untilSafeUnlessDiskFails
        /// Nothing: clients do not rely on the answer, or its handler holds it.
        case never
    }

    /// The method; `get` includes HEAD.
    let method: Method
    /// What a request costs for each task or queue that it names, not including the texts to be kept.
    let cost: Cost
    let body: Body
    let admission: Admission
    let hold: Hold
    /// Whether the server answers it while it recovers the journal.
    let isOpenDuringRecovery: Bool
    /// Whether a stream of events may have its answers (`EventStreams`): it shows a state, and waits for nothing.
    let isWatchable: Bool
    /// What it needs of its sender. For a path with a queue's name, the sender needs it for that queue.
    let need: Need
    /// Whether the log has a line for it: it changes something that needs the permissions `manage` or `admin`.
    let isAudited: Bool
    let handler: Handler

    private init(
        _ method: Method, _ cost: Cost, needs need: Need, body: Body, admission: Admission, hold: Hold,
        isOpenDuringRecovery: Bool, isWatchable: Bool = false, _ handler: @escaping Handler
    ) {
        self.method = method
        self.need = need
        isAudited = method != .get && [.manage, .admin].contains(need.permission)
        self.cost = cost
        self.body = body
        self.admission = admission
        self.hold = hold
        self.isOpenDuringRecovery = isOpenDuringRecovery
        self.isWatchable = isWatchable
        self.handler = handler
    }

    static func get(
        needs need: Need, hold: Hold = .untilSafeUnlessDiskFails, isOpenDuringRecovery: Bool = false,
        isWatchable: Bool = true, _ handler: @escaping Handler
    ) -> Operation {
        Operation(
            .get, .reads, needs: need, body: .none, admission: .once, hold: hold,
            isOpenDuringRecovery: isOpenDuringRecovery, isWatchable: isWatchable, handler)
    }

    static func post(
        _ cost: Cost, needs need: Need, body: Body = .none, admission: Admission = .once, hold: Hold = .untilSafe,
        _ handler: @escaping Handler
    ) -> Operation {
        change(.post, cost, needs: need, body: body, admission: admission, hold: hold, handler)
    }

    static func put(
        _ cost: Cost, needs need: Need, admission: Admission = .once, _ handler: @escaping Handler
    ) -> Operation {
        change(.put, cost, needs: need, body: .kept, admission: admission, handler)
    }

    static func patch(
        _ cost: Cost, needs need: Need, admission: Admission = .once, _ handler: @escaping Handler
    ) -> Operation {
        change(.patch, cost, needs: need, body: .kept, admission: admission, handler)
    }

    static func delete(_ cost: Cost, needs need: Need, _ handler: @escaping Handler) -> Operation {
        change(.delete, cost, needs: need, handler)
    }

    private static func change(
        _ method: Method, _ cost: Cost, needs need: Need, body: Body = .none, admission: Admission = .once,
        hold: Hold = .untilSafe, _ handler: @escaping Handler
    ) -> Operation {
        Operation(
            method, cost, needs: need, body: body, admission: admission, hold: hold, isOpenDuringRecovery: false,
            handler)
    }
}

// MARK: Finding a route

extension Route {
    /// Finds the route of a path. O(routes).
    ///
    /// - Parameters:
    ///   - path: the path, percent-encoded.
    ///   - name: receives the rest of the path, percent-decoded: a queue's name, an id, or nothing.
    /// - Returns: the route's place in `all`.
    /// - Throws: 404 for a path that does not exist, 400 for an invalid name.
    static func find(_ path: Span<UInt8>, name: inout [UInt8]) throws(Problem) -> Int {
        name.removeAll(keepingCapacity: true)
        var end = 1
        while end < path.count, path[end] != UInt8(ascii: "/") { end += 1 }
        let segment = path.extracting(min(1, path.count)..<min(end, path.count))
        let rest = path.extracting(min(end + 1, path.count)..<path.count)
        for (place, route) in all.enumerated()
        where route.begins(with: segment) && route.hasRest != rest.isEmpty {
            if rest.isEmpty {
                if segment.isEmpty, !path.equals("/") { break }
                return place
            }
            if route.subject == .none {
                let isSlashed = rest[rest.count - 1] == UInt8(ascii: "/")
                guard path.extracting(end..<path.count - (isSlashed ? 1 : 0)).equals(route.suffix) else { continue }
                return place
            }
            let suffixLength = route.suffix.utf8CodeUnitCount
            guard suffixLength == 0 || rest.extracting(last: suffixLength).equals(route.suffix) else { continue }
            // A queue's name may end in a slash, an id cannot.
            let isSlashed = [.task, .operation].contains(route.subject) && rest[rest.count - 1] == UInt8(ascii: "/")
            PercentEncoding.decode(rest.extracting(droppingLast: suffixLength + (isSlashed ? 1 : 0)), into: &name)
            let owner = route.subject == .source ? "a source" : "a queue"
            if ![.task, .operation, .file].contains(route.subject), let flaw = QueueName.flaw(in: name.span, of: owner)
            {
                throw Problem(.invalidName, flaw)
            }
            return place
        }
        throw missing(segment)
    }

    @inline(__always)
    private func begins(with segment: Span<UInt8>) -> Bool {
        segment.equals(name) || alias.map { segment.equals($0) } ?? false
    }

    /// Explains why there is no route for a path that begins with `segment`.
    private static func missing(_ segment: Span<UInt8>) -> Problem {
        if let route = all.first(where: { $0.begins(with: segment) }) {
            if route.subject == .file { return Problem(.noSuchPath, "the dashboard's page is /") }
            guard case .none = route.subject else {
                return Problem(.noSuchPath, "add \(route.subject.phrase) to the path: \(route.path)")
            }
            let advice = route.advice.utf8CodeUnitCount > 0 ? "; \(route.advice)" : ""
            return Problem(.noSuchPath, "there is nothing below \(route.path)\(advice)")
        }
        var names: [String] = []
        for route in all where route.name.utf8CodeUnitCount > 0 && !names.contains("\(route.name)") {
            names.append("\(route.name)")
        }
        let hint = nearestName(to: text(segment), among: names) { "/\($0)" }
        return Problem(.noSuchPath, "there is nothing at this path; \(hint)")
    }

    /// Finds the operation for a request's method. O(operations).
    ///
    /// - Parameter request: the request.
    /// - Returns: the operation.
    /// - Throws: 405 with the methods that the path answers.
    func operation(for request: borrowing Request) throws(Problem) -> Operation {
        let method = request.method == .head ? .get : request.method
        for operation in operations where operation.method == method { return operation }
        // The method may be meant for a path with a suffix that is missing or mistyped.
        let others = Route.all.filter { other in
            "\(other.name)" == "\(name)" && other.suffix.utf8CodeUnitCount > suffix.utf8CodeUnitCount
                && other.operations.contains { $0.method == method }
        }
        let paths = others.map { ", or \(text(request.methodName)) \($0.path)" }.joined()
        throw Problem(
            .methodNotAllowed, "\(text(request.methodName)) is not allowed here; use \(usualMethods)\(paths)",
            allow: allowedMethods)
    }
}

extension Method {
    /// The method as requests write it.
    var name: StaticString {
        switch self {
        case .get: "GET"
        case .head: "HEAD"
        case .post: "POST"
        case .put: "PUT"
        case .delete: "DELETE"
        case .options: "OPTIONS"
        case .patch: "PATCH"
        case .connect: "CONNECT"
        case .trace: "TRACE"
        case .other: "?"
        }
    }
}
