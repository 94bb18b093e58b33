// The types of problems: docs/errors.md lists those of the source, and each answer with an error has one.

import Foundation
import Support
import Testing

@testable import Net
@testable import emq

extension Response {
    /// The last part of the type in a problem detail.
    var problemType: String? {
        guard let type = ((try? json) as? [String: Any])?["type"] as? String, type.hasPrefix("urn:emq:error:") else {
            return nil
        }
        return String(type.dropFirst("urn:emq:error:".count))
    }

    /// Checks that an error is a problem detail whose type, title and status belong together. Only `/healthz` has
    /// errors in another form.
    func checkProblem() {
        let object = (try? json) as? [String: Any] ?? [:]
        if status == 503, ["recovering", "stopping"].contains(object["status"] as? String) { return }
        guard let type = problemType.flatMap({ ProblemType(rawValue: $0) }) else {
            Issue.record("an error without a known type: \(status) \(body)")
            return
        }
        #expect(fields["content-type"] == "application/problem+json", "\(body)")
        #expect(type.status == status && object["status"] as? Int == status, "\(status) \(body)")
        #expect(object["title"] as? String == "\(type.title)", "\(body)")
        #expect((object["detail"] as? String)?.isEmpty == false, "\(body)")
    }
}

@Suite(.blocking) struct ProblemTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appending(path: "../..").standardizedFileURL

    // MARK: The list

    @Test func thePageListsTheTypesOfTheSource() {
        let page = contents(of: Self.root.appending(path: "docs/errors.md").path)
        let rows = page.matches(of: /\n\| (\d+) \| `([^`]*)` \| ([^|]+) \| ([^|]+) \|/)
        #expect(rows.map { "\($0.1) \($0.2)" } == ProblemType.allCases.map { "\($0.status) \($0.rawValue)" })
        #expect(rows.allSatisfy { $0.3.hasSuffix(".") && $0.4.hasSuffix(".") })
        let statuses = ProblemType.allCases.map(\.status)
        #expect(statuses == statuses.sorted())
    }

    @Test func everyTypeOccurs() throws {
        let folder = Self.root.appending(path: "Sources/emq")
        let files = try #require(FileManager.default.enumerator(atPath: folder.path))
        var source = ""
        for case let file as String in files where file.hasSuffix(".swift") && !file.hasSuffix("/ProblemType.swift") {
            source += try String(contentsOf: folder.appending(path: file), encoding: .utf8)
        }
        // Other enumerations have cases of the same names, so only the places count where a problem gets its type.
        let switches = source.matches(of: /let type: ProblemType =\s+switch [^{}]*\{([^{}]*)\}/).map(\.1).joined()
        let made = Set(
            source.matches(of: /\b(?:Problem|self\.init)\(\s*\.(\w+)/).map(\.1)
                + switches.matches(of: /: \.(\w+)/).map(\.1))
        for type in ProblemType.allCases { #expect(made.contains("\(type)"), "no problem has the type \(type)") }
        // Types come from the list only.
        #expect(!source.contains("urn:emq:error"))
    }

    @Test func namesAreWordsWithHyphens() {
        for type in ProblemType.allCases { #expect(type.rawValue.wholeMatch(of: /[a-z]+(-[a-z]+)*/) != nil) }
        #expect(Set(ProblemType.allCases.map { "\($0.title)" }).count == ProblemType.allCases.count)
    }

    // MARK: Requests

    private func expect(_ type: ProblemType, _ answer: Response, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(answer.problemType == type.rawValue, "\(answer.body)", sourceLocation: sourceLocation)
    }

    @Test func bodiesAndFields() throws {
        let server = try Server()
        func post(_ type: ProblemType, _ path: String, _ json: String) throws {
            expect(type, try server.post(path, json))
        }
        let deep = String(repeating: "[", count: 600) + String(repeating: "]", count: 600)
        let many = "[" + Array(repeating: "{}", count: 10_001).joined(separator: ",") + "]"
        let id = try server.enqueue("q")
        try post(.missingBody, "/enqueue/q", "")
        try post(.unexpectedBody, "/pause/q", "{}")
        try post(.malformedJSON, "/enqueue/q", "{")
        try post(.jsonTooDeep, "/enqueue/q", #"{"content": \#(deep)}"#)
        try post(.invalidBody, "/enqueue/q", "1")
        try post(.invalidBody, "/enqueue/q", "[]")
        try post(.tooManyItems, "/enqueue/q", many)
        try post(
            .tooManyItems, "/wait", #"{"queues": [\#(Array(repeating: "\"q\"", count: 1001).joined(separator: ","))]}"#)
        try post(.unknownField, "/enqueue/q", #"{"contents": 1}"#)
        try post(.unknownField, "/enqueue/q", #"{"request": {"uri": "http://a.test/"}}"#)
        try post(.duplicateField, "/enqueue/q", #"{"content": 1, "content": 2}"#)
        try post(.duplicateField, "/enqueue/q", #"{"request": {"url": "http://a.test/", "url": "http://a.test/"}}"#)
        try post(.missingField, "/enqueue/q", #"{"unique_for": 1}"#)
        try post(.missingField, "/enqueue/q", #"[{}, {"backoff": {"max": 1}}]"#)
        try post(.invalidField, "/enqueue/q", #"{"retry": "1"}"#)
        try post(.invalidField, "/enqueue/q", "[1]")
        try post(.invalidField, "/ack", #"{"ids": ["?"]}"#)
        try post(.invalidField, "/enqueue/q", #"{"backoff": {"min": 2, "max": 1}}"#)
        try post(.conflictingFields, "/enqueue/q", #"{"delay": 1, "eta": 1}"#)
        try post(.conflictingFields, "/ack", #"{"ids": [], "tasks": []}"#)
        try post(.conflictingFields, "/nak", #"{"ids": ["\#(id)"], "dead": true, "release": true}"#)
        expect(
            .unknownField, try server.send("PUT", "/defaults/", #"{"push": {"url": "http://a.test/"}}"#))
        expect(.missingField, try server.send("PUT", "/config/q", #"{"dead_letter": "dead"}"#))
        expect(.unknownField, try server.send("PATCH", "/config/q", #"{"max_retry": 1}"#))
        let headers = (0...1000).map { "\"h\($0)\": \"\"" }.joined(separator: ",")
        expect(.invalidField, try server.send("PATCH", "/config/q", #"{"push": {"headers": {\#(headers)}}}"#))
        expect(
            .maskedSecret,
            try server.send("PUT", "/config/q", #"{"push": {"url": "http://a.test/", "secret": "***"}}"#))
        expect(
            .missingField,
            try server.send("PUT", "/config/q", #"{"push": {"url": "http://a.test/", "signature": "standard"}}"#))
        expect(
            .pushDisabled, try server.send("PUT", "/config/q", #"{"push": {"url": "http://a.test/"}}"#))
        #expect(try server.get("/stats/q").object["ready"] as? Int == 1)
    }

    @Test func pathsAndQueries() throws {
        let server = try Server()
        func get(_ type: ProblemType, _ path: String) throws { expect(type, try server.get(path)) }
        let unknown = "01890a5d-ac96-774b-bcce-b302099a8057"
        try get(.unknownParameter, "/peek/q?count=1")
        try get(.unknownParameter, "/stats/?state=ready")
        try get(.duplicateParameter, "/peek/q?n=1&n=2")
        try get(.missingParameter, "/key/q")
        try get(.invalidParameter, "/key/q?key=")
        try get(.invalidParameter, "/peek/q?n=x")
        try get(.invalidParameter, "/peek/q?state=lost")
        try get(.invalidParameter, "/peek/q?state=%FF")
        try get(.invalidName, "/stats/%00")
        try get(.invalidID, "/task/1")
        try get(.noSuchPath, "/nowhere")
        try get(.noSuchPath, "/enqueue/")
        try get(.noSuchPath, "/wait/q")
        try get(.noSuchTask, "/task/\(unknown)")
        try get(.noSuchTask, "/task/\(unknown)/")
        try get(.noSuchKey, "/key/q?key=k")
        try get(.noSuchSource, "/source/s")
        try get(.pageGone, "/peek/q?after=\(unknown)")
        try get(.methodNotAllowed, "/enqueue/q")
        expect(.missingParameter, try server.send("POST", "/move/q"))
        expect(.invalidParameter, try server.send("POST", "/move/q?to=q"))
    }

    @Test func queuesAndKeys() throws {
        let server = try Server()
        _ = try server.send("PUT", "/config/q", #"{"max_length": 1}"#)
        expect(.batchTooLong, try server.post("/enqueue/q", "[{}, {}]"))
        try server.enqueue("q", #""key": "k""#)
        expect(.queueFull, try server.post("/enqueue/q", "{}"))
        expect(.keyTaken, try server.post("/enqueue/q", #"{"key": "k", "on_conflict": "reject"}"#))
        expect(.taskUnfinished, try server.send("DELETE", "/key/q?key=k"))
    }

    @Test func heads() throws {
        let server = try Server()
        let long = String(repeating: "a", count: 40_000)
        for (type, lines) in [
            (.malformedHTTP, ["GET /queues HTTP/1.1"]), (.malformedHTTP, ["hello"]),
            (.requestLineTooLong, ["GET /\(long) HTTP/1.1"]),
            (.headerTooLarge, ["GET /queues HTTP/1.1", "Host: h", "X: \(long)"]),
            (.bodyTooLarge, ["POST /ack HTTP/1.1", "Host: h", "Content-Length: 99999999"]),
            (.unsupportedMediaType, ["POST /ack HTTP/1.1", "Host: h", "Content-Length: 2", "", "{}"]),
            (
                .unsupportedContentEncoding,
                [
                    "POST /ack HTTP/1.1", "Host: h", "Content-Type: application/json", "Content-Encoding: gzip",
                    "Content-Length: 2", "", "{}",
                ]
            ),
            (.unsupportedExpectation, ["POST /ack HTTP/1.1", "Host: h", "Expect: more"]),
            (.unsupportedTransferCoding, ["POST /ack HTTP/1.1", "Host: h", "Transfer-Encoding: gzip, chunked"]),
            (.notAProxy, ["CONNECT h:1 HTTP/1.1", "Host: h:1"]),
            (.unsupportedHTTPVersion, ["GET /queues HTTP/2.0", "Host: h"]),
            (.hostNotAllowed, ["GET /queues HTTP/1.1", "Host: example.org", "Origin: http://example.org"]),
            (.crossSiteRequest, ["POST /pause/q HTTP/1.1", "Host: localhost", "Origin: http://example.org"]),
        ] as [(ProblemType, [String])] {
            let client = try server.connect()
            client.send(lines.joined(separator: "\r\n") + (lines.contains("") ? "" : "\r\n\r\n"))
            expect(type, try client.response())
        }
    }

    @Test func whatTheSystemLacksIsNoFaultOfTheRequest() {
        let missing = Problem(ofAuthorities: TLSError("there is no OpenSSL", isLibraryMissing: true))
        #expect(missing.type == .libraryMissing && missing.status == 503 && missing.field == "ca")
        #expect(Problem(ofAuthorities: TLSError("no certificate")).type == .invalidField)
        let types = Refusal.Reason.allCases.filter { $0.status == 503 }.map { Problem(Refusal($0, "")).type }
        #expect(types == [.buffersFull, .addressSpaceFull, .memoryFull])
    }

    @Test func tokens() throws {
        let damaged = "emq_0123456789abcdefghijABCDEFGHIJ01000000"
        let tokens = [
            TestToken("reader", ["read"], queues: ["q"]), TestToken("late", ["read"], expires: 1),
            TestToken("root", ["admin", "manage", "read", "enqueue", "push"]),
        ]
        let file = try TokenFile(tokens)
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path, "--push", "public"])
        let client = try server.connect()
        expect(.authenticationRequired, try client.ask("GET", "/stats/q"))
        expect(.malformedAuthorization, try client.ask("GET", "/stats/q", nil, "Digest x"))
        expect(.unknownToken, try client.ask("GET", "/stats/q", nil, "Bearer nobody"))
        expect(.damagedToken, try client.ask("GET", "/stats/q", nil, "Bearer \(damaged)"))
        expect(.expiredToken, try client.ask("GET", "/stats/q", nil, tokens[1].bearer))
        expect(.permissionMissing, try client.ask("POST", "/purge/q", nil, tokens[0].bearer))
        expect(.queueNotAllowed, try client.ask("GET", "/stats/r", nil, tokens[0].bearer))
        expect(
            .destinationNotAllowed,
            try client.ask("PUT", "/config/q", #"{"push": {"url": "http://127.0.0.1/"}}"#, tokens[2].bearer))
    }
}
