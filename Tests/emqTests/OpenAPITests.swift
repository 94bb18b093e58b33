// The server's description of its interface agrees with its tables, and with what it accepts.

import Foundation
import Testing

@testable import Delivery
@testable import emq

@Suite(.blocking) struct OpenAPITests {
    private let contract = Contract.shared

    /// A request, for the name of a queue or a source, or an id.
    private func target(_ path: String, _ subject: String = "q") -> String {
        path.replacing("{queue}", with: subject).replacing("{source}", with: subject)
            .replacing("{id}", with: "AaH8ekX5cACuES467dOuXw").replacing("{file}", with: "index.html")
    }

    @Test func hasTheOperationsOfTheTableOfRoutesAndNoOthers() {
        var expected: Set<String> = []
        for route in Route.all {
            for name in ["\(route.name)"] + (route.alias.map { ["\($0)"] } ?? []) {
                for operation in route.operations {
                    expected.insert("\(operation.method.name) \(OpenAPI.path(of: route, named: name))")
                }
            }
        }
        #expect(Set(contract.operations.map { "\($0.method) \($0.path)" }) == expected)
        let keys = Route.all.flatMap { route in route.operations.map { "\($0.method.name) \(route.path)" } }
        #expect(Set(OpenAPI.descriptions.keys) == Set(keys))
        let names = contract.operations.compactMap { $0.operation["operationId"] as? String }
        #expect(Set(names).count == contract.operations.count, "each has its own operationId")
    }

    @Test func hasNoReferenceToNothingAndNoSchemaWithoutUse() throws {
        let text = String(decoding: OpenAPI.document, as: UTF8.self)
        let references = Set(text.matches(of: /"\$ref":"#\/components\/([^"]+)"/).map { String($0.1) })
        let components = try #require(contract.document["components"] as? Contract.Object)
        let names = ["schemas", "parameters", "headers", "responses"].flatMap { kind in
            (components[kind] as? Contract.Object ?? [:]).keys.map { "\(kind)/\($0)" }
        }
        #expect(references == Set(names))
    }

    @Test func everyFieldOfARequestAndEveryParameterHasAMeaning() {
        for (name, schema) in OpenAPI.taskProperties + OpenAPI.configuration {
            #expect(schema.json.contains(#""description":"#) && !schema.json.contains(#""description":"""#), "\(name)")
        }
        #expect(Set(OpenAPI.taskMeanings.keys) == Set(TaskField.names.map { "\($0)" }))
        #expect(Set(OpenAPI.configurationMeanings.keys) == Set(ConfigurationField.names.map { "\($0)" }))
        for route in Route.all {
            for parameter in route.query { #expect(parameter.meaning.hasSuffix("."), "\(parameter.name)") }
        }
    }

    @Test func everybodyMayReadItInOnePieceWithoutAToken() throws {
        let tokens = try TokenFile([TestToken("a", ["read"])])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", tokens.path])
        let answer = try server.get("/openapi.json")
        #expect(answer.status == 200)
        #expect(answer.fields["content-type"] == "application/json")
        #expect(answer.body == String(decoding: OpenAPI.document, as: UTF8.self))
        #expect(try answer.object["openapi"] as? String == "3.1.0")
        #expect((try answer.object["info"] as? Contract.Object)?["version"] as? String == Options.version)
        #expect(try server.get("/openapi.json/").body == answer.body)
        #expect(try server.post("/openapi.json", "{}").status == 401)
        let open = contract.operations.filter { $0.operation["security"] != nil }.map(\.path)
        #expect(Set(open) == ["/openapi.json", "/healthz", "/", "/dashboard/{file}"])
    }

    @Test func everyTypeOfProblemIsInTheResponseWithItsStatus() throws {
        var statuses: Set<Int> = [405]
        for (method, path, _, operation) in contract.operations {
            for (status, response) in operation["responses"] as? Contract.Object ?? [:] {
                let numbers = status == "default" ? OpenAPI.otherFailures : [Int(status) ?? 0].filter { $0 >= 400 }
                statuses.formUnion(numbers)
                let response = contract.resolve(response as? Contract.Object ?? [:])
                // That of the health check says what it checks.
                if numbers.isEmpty || path == "/healthz" && status == "503" { continue }
                let types = ProblemType.allCases.filter { numbers.contains($0.status) }.map(\.rawValue)
                let text = response["description"] as? String ?? ""
                #expect(text.hasSuffix("Types: \(types.joined(separator: ", "))."), "\(method) \(path) \(status)")
            }
        }
        #expect(statuses == Set(ProblemType.allCases.map(\.status)))
    }

    // MARK: What the server accepts

    /// The names of all members that a schema of an object allows, also in one of several forms.
    private func properties(_ schema: Contract.Object) -> [String: Contract.Object] {
        let schema = contract.resolve(schema)
        var all = (schema["properties"] as? [String: Contract.Object]) ?? [:]
        for option in schema["anyOf"] as? [Contract.Object] ?? [] {
            // A member that must be null in one form has its type in another.
            all.merge(properties(option)) { ($0["type"] as? String) == "null" ? $1 : $0 }
        }
        return all
    }

    /// The names that the server lists when it is sent a member with another one.
    private func accepted(_ answer: Response) -> Set<String> {
        let list = answer.detail.split(separator: "expected one of: ").last ?? ""
        return Set(list.split(separator: ", ").map(String.init))
    }

    @Test func everyBodyHasTheFieldsThatTheServerReadsAndNoOthers() throws {
        let server = try Server.pushing()
        let unknown = "\"zzzzzzzzzzzzzzzzzzzz\": 1"
        for (method, path, _, operation) in contract.operations {
            guard let schema = contract.schema(operation["requestBody"]) else { continue }
            let answer = try server.send(method, target(path), "{\(unknown)}")
            #expect(answer.status == 400, "\(method) \(path)")
            #expect(accepted(answer) == Set(properties(schema).keys), "\(method) \(path)")
        }
        for (path, schema, body) in [
            ("/config/q", "Backoff", "{\"backoff\": {\(unknown)}}"),
            ("/config/q", "Push", "{\"push\": {\(unknown)}}"),
            ("/config/q", "Circuit", "{\"push\": {\"circuit\": {\(unknown)}}}"),
        ] {
            for method in ["PUT", "PATCH"] {
                let answer = try server.send(method, path, body)
                let name = method == "PUT" ? schema : schema + "Patch"
                #expect(accepted(answer) == Set(properties(.init(reference: name)).keys), "\(method) \(schema)")
            }
        }
        let answer = try server.post("/enqueue/q", "{\"request\": {\(unknown)}}")
        #expect(accepted(answer) == Set(properties(.init(reference: "Request")).keys))
        let tasks = try server.post("/ack/", "{\"tasks\": [{\(unknown)}]}")
        #expect(accepted(tasks) == ["id", "result", "log"])
    }

    /// Values at the limits of a schema, and values just outside.
    private func samples(_ schema: Contract.Object) -> (right: [Any], wrong: [Any]) {
        let schema = contract.resolve(schema)
        let isFraction = (schema["type"] as? [String] ?? [schema["type"] as? String ?? ""]).contains("number")
        var (right, wrong): ([Any], [Any]) = ([], [])
        for option in schema["anyOf"] as? [Contract.Object] ?? [] {
            let more = samples(option)
            right += more.right
            wrong += more.wrong
        }
        if let minimum = schema["minimum"] as? Int {
            right.append(minimum)
            wrong.append(minimum - 1)
            if isFraction { wrong.append(-0.0001) }
        }
        if let minimum = schema["minimum"] as? Double, minimum > 0, minimum < 1 {
            right.append(minimum)
            wrong.append(minimum.nextDown)
        }
        if let maximum = schema["maximum"] as? Int {
            right.append(maximum)
            wrong.append(maximum + 1)
            if isFraction { wrong.append(Double(maximum).nextUp) }
        }
        if let words = schema["enum"] as? [Any] {
            right += words.filter { $0 is String }
            wrong.append("nonsense")
        }
        let isFree = schema["pattern"] == nil
        if let maximum = schema["maxLength"] as? Int, isFree || schema["minLength"] != nil {
            let text = { (count: Int) in String(repeating: "x", count: count) }
            if contract.flaws(text(maximum), schema, at: "").isEmpty { right.append(text(maximum)) }
            wrong.append(text(maximum + 1))
        }
        return (right, wrong)
    }

    @Test func everyFieldHasTheLimitsThatTheServerChecks() throws {
        let server = try Server.pushing()
        var count = 0
        /// Members that others need.
        let partners = [
            "on_conflict": ["key": "k"], "unique_for": ["key": "k"], "dead_letter": ["max_retries": 1],
            "timeout": [:], "max": ["min": 0], "doublings": ["min": 0], "jitter": ["min": 0],
            "failures": ["pause": 1], "pause": ["failures": 1],
        ]
        func check(
            _ method: String, _ path: String, _ schema: Contract.Object, within outer: [String] = []
        ) throws {
            for (name, property) in properties(schema) {
                // Certificates and signatures have rules of their own, and names of queues have a test of their own.
                if ["ca", "signature", "worker"].contains(name) { continue }
                let (right, wrong) = samples(property)
                for (value, isRight) in right.map({ ($0, true) }) + wrong.map({ ($0, false) }) {
                    var object: Any = [name: value]
                    if let partner = partners[name] { object = partner.merging([name: value]) { $1 } as [String: Any] }
                    if path == "/wait/" { object = [name: value] }
                    for member in outer.reversed() { object = [member: object] }
                    let body = String(decoding: try JSONSerialization.data(withJSONObject: object), as: UTF8.self)
                    let answer = try server.send(method, path, body)
                    let field = (outer + [name]).joined(separator: ".")
                    let isBlamed = answer.status == 400 && answer.field == field
                    #expect(isBlamed != isRight, "\(method) \(path) \(body.prefix(200)): \(answer.body)")
                    count += 1
                }
            }
        }
        for (method, path, _, operation) in contract.operations where !path.hasPrefix("/source/") {
            guard let schema = contract.schema(operation["requestBody"]) else { continue }
            try check(method, target(path), schema)
        }
        try check("PUT", "/config/q", .init(reference: "Backoff"), within: ["backoff"])
        try check("PUT", "/config/q", .init(reference: "Circuit"), within: ["push", "circuit"])
        #expect(count > 100)
    }

    @Test func everyParameterHasTheLimitsThatTheServerChecks() throws {
        let server = try Server()
        for (method, path, item, operation) in contract.operations {
            let body = operation["requestBody"] == nil ? nil : "{}"
            for parameter in item["parameters"] as? [Contract.Object] ?? [] {
                let parameter = contract.resolve(parameter)
                guard parameter["in"] as? String == "query", let name = parameter["name"] as? String else { continue }
                let isRequired = parameter["required"] as? Bool == true
                if isRequired {
                    #expect(try server.send(method, target(path), body).field == name, "\(method) \(path)")
                }
                guard let schema = parameter["schema"] as? Contract.Object else { continue }
                let (right, wrong) = samples(schema)
                for (value, isRight) in right.map({ ($0, true) }) + wrong.map({ ($0, false) }) {
                    let answer = try server.send(method, "\(target(path))?\(name)=\(value)", body)
                    let isBlamed = answer.status == 400 && answer.field == name
                    #expect(isBlamed != isRight, "\(method) \(path)?\(name)=\(value): \(answer.body)")
                }
            }
        }
    }

    @Test(arguments: [
        (#""headers": {"X": "1", "!#$%&'*+.^_`|~-": "1"}"#, [200, 200]), (#""headers": {"X": null}"#, [400, 200]),
        (#""headers": {"X": ""}"#, [400, 400]), (#""headers": {"": "1"}"#, [400, 400]),
        (#""headers": {"A B": "1"}"#, [400, 400]), (#""headers": {"Ü": "1"}"#, [400, 400]),
        (#""method": "PROPFIND""#, [200, 200]), (#""method": "CONNECTS""#, [200, 200]),
        (#""method": "CONNECT""#, [400, 400]), (#""method": "G ET""#, [400, 400]), (#""method": "Ü""#, [400, 400]),
        (#""method": null"#, [200, 200]),
        (#""rate": "0/s""#, [400, 400]), (#""rate": "000.000/d""#, [400, 400]), (#""rate": "0.000001/d""#, [200, 200]),
        (#""rate": "1000000/s""#, [200, 200]), (#""rate": "000001000000.0/s""#, [200, 200]),
        (#""rate": "999999.999999/s""#, [200, 200]), (#""rate": "1000000.000001/s""#, [400, 400]),
        (#""rate": "0000001000000/s""#, [400, 400]), (#""rate": "60000000/m""#, [200, 200]),
        (#""rate": "000059999999.9/m""#, [200, 200]), (#""rate": "60000001/m""#, [400, 400]),
        (#""rate": "1000000000/h""#, [200, 200]), (#""rate": "001000000000.000000/d""#, [200, 200]),
        (#""rate": "1000000000.1/h""#, [400, 400]), (#""rate": "1000000001/d""#, [400, 400]),
        (#""rate": "999999999999/s""#, [400, 400]), (#""rate": "1/w""#, [400, 400]), (#""rate": "1./s""#, [400, 400]),
    ])
    func aPushIsAcceptedIfItsSchemaAllowsIt(member: String, statuses: [Int]) throws {
        let server = try Server.pushing()
        let body = "{\"push\": {\(member)}}"
        for (method, status) in zip(["PUT", "PATCH"], statuses) {
            #expect(try server.send(method, "/config/q", body).status == status, "\(method)")
            let operation = contract.operation(method, "/config/q")
            let schema = try #require(contract.schema(operation?["requestBody"]))
            #expect(contract.flaws(body, schema).isEmpty == (status == 200), "\(method)")
        }
    }

    @Test func onlyWhatNeedsAPermissionCanLackAToken() {
        for (method, path, _, operation) in contract.operations {
            let isOpen = (operation["security"] as? [Any])?.isEmpty == true
            let responses = operation["responses"] as? Contract.Object ?? [:]
            #expect((responses["401"] == nil) == isOpen, "\(method) \(path)")
        }
    }

    @Test func checksRequestsStrictly() {
        func isRight(_ body: String, _ method: String, _ target: String) -> Bool {
            contract.flaws(ofRequest: body, to: method, target).isEmpty
        }
        #expect(isRight("{\"content\":1}", "POST", "/enqueue/q") && isRight("null", "POST", "/enqueue/q"))
        #expect(!isRight("{\"contents\":1}", "POST", "/enqueue/q") && !isRight("{\"retry\":-1}", "POST", "/enqueue/q"))
        #expect(!isRight("{\"content\":1", "POST", "/enqueue/q") && !isRight("", "POST", "/enqueue/q"))
        #expect(isRight("", "POST", "/pause/q") && !isRight("{}", "POST", "/pause/q"))
    }

    @Test func checksAnswersStrictly() {
        func flaws(_ status: Int, _ type: String, _ body: String, _ method: String, _ target: String) -> Int {
            contract.flaws(Response(status: status, fields: ["content-type": type], body: body), to: method, target)
                .count
        }
        let id = "AaH8ekX5cACuES467dOuXw"
        #expect(flaws(200, "application/json", "{\"id\":\"\(id)\"}", "POST", "/enqueue/a/b") == 0)
        #expect(flaws(200, "application/json", "{\"id\":1}", "POST", "/enqueue/a/b") == 1)
        #expect(flaws(200, "application/json", "{\"id\":\"\(id)\",\"more\":1}", "POST", "/enqueue/a/b") == 1)
        #expect(flaws(200, "text/plain", "{\"id\":\"\(id)\"}", "POST", "/enqueue/a") == 1)
        #expect(flaws(202, "application/json", "{\"id\":\"\(id)\"}", "POST", "/enqueue/a") == 1)
        #expect(flaws(200, "application/json", "{\"paused\":1}", "POST", "/pause/a") == 1)
        #expect(flaws(200, "application/json", "{\"paused\":true}", "POST", "/pause/a") == 0)
        #expect(flaws(404, "application/problem+json", "{}", "GET", "/nowhere") > 0)
        let retry = Response(status: 200, fields: ["content-type": "application/json", "retry-after": "1"], body: "[]")
        #expect(contract.flaws(retry, to: "GET", "/queues/") == ["the header Retry-After is not documented"])
        let text = { (content: String) in "{\"state\":\"done\",\"result\":\(content)}" }
        for content in [#""\ud800""#, #""\udc00\ud83d\ude00""#, "1e400"] {
            #expect(flaws(200, "application/json", text(content), "GET", "/result/\(id)") == 0, "\(content)")
        }
        for wrong in ["{\"paused\":true", "", "yes"] {
            #expect(flaws(200, "application/json", wrong, "POST", "/pause/a") == 1, "\(wrong)")
        }
    }
}
