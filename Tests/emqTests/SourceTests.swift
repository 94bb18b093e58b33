// Sources as clients define them. No RabbitMQ is there: what a source does is tested elsewhere.

import Foundation
import Support
import Testing

@testable import AMQP
@testable import Delivery
@testable import emq

/// A connection to a RabbitMQ that says nothing.
private final class SilentConsumer: MessageConsumer {
    private var hasEnded = false

    func takeNews() -> AMQPConsumer.News { AMQPConsumer.News(hasEnded: hasEnded) }
    func release(byteCount: Int) {}
    func acknowledge(through deliveryTag: UInt64) {}
    func stop() { hasEnded = true }
    func interrupt() {}
}

extension Sources {
    /// Sources that have connections, but no messages.
    fileprivate static func silent(
        _ file: TaskqueueFile? = nil, prefetch: Int = 1000, libraryFlaw: @escaping () -> String? = { nil }
    ) -> Sources {
        Sources(file: file, prefetch: prefetch, libraryFlaw: libraryFlaw) { _, _ in SilentConsumer() }
    }
}

/// A server without sockets that may connect to this machine.
private struct SourceServer {
    let server: VirtualServer

    init(_ sources: Sources = Sources.silent(), pushes: String? = "loopback") throws {
        server = try VirtualServer(
            Adapters(frontEnds: [Htq(workers: 1)], couriers: [HtqCourier(workers: 1)]), sources: sources,
            destinations: try pushes.map { try DestinationPolicy([$0]) })
    }

    func send(_ method: String, _ target: String, _ body: String = "") throws -> Response {
        try server.send(method, target, body, service: 0)
    }

    func put(_ name: String, _ json: String) throws -> Response { try send("PUT", "/source/\(name)", json) }

    func detail(_ response: Response) throws -> String { try response.object["detail"] as? String ?? "" }
}

@Suite(.blocking) struct SourceTests {
    private static let status =
        #""state":"connecting","lag":null,"unacknowledged":0,"messages":0,"duplicates":0,"last_error":null,"#
        + #""last_error_at":null}"# + "\n"

    @Test func aSourceIsDefinedShownReplacedAndDeleted() throws {
        let server = try SourceServer()
        #expect(try server.send("GET", "/source").body == "{\"sources\":{}}\n")
        #expect(try !server.send("GET", "/stats").body.contains("sources"))
        let made = try server.put("orders", #"{"amqp": "amqp://ann:secret@rabbit.test/shop", "queue": "jobs"}"#)
        let shown =
            #"{"amqp":"amqp://ann:***@rabbit.test/shop","queue":"jobs","into":"jobs","prefetch":1000,"#
            + #""unique_for":600,"# + Self.status
        #expect(made.status == 201 && made.body == shown)
        #expect(try server.send("GET", "/source/orders").body == shown)
        let changed = try server.put(
            "orders",
            #"{"amqp": "AMQPS://ann:new@RABBIT.test:99", "queue": "a b", "into": "emails", "prefetch": 65535, "unique_for": 0}"#
        )
        let shownAfter =
            #"{"amqp":"amqps://ann:***@rabbit.test:99","queue":"a b","into":"emails","prefetch":65535,"#
            + #""unique_for":0,"# + Self.status
        #expect(changed.status == 200 && changed.body == shownAfter)
        _ = try server.put("a/b", #"{"amqp": "amqp://h", "queue": "q", "unique_for": 0.5, "into": null}"#)
        let all = try server.send("GET", "/source/").body
        let other = #""a/b":{"amqp":"amqp://guest:***@h","queue":"q","into":"q","prefetch":1000,"unique_for":0.5,"#
        let expected = "{\"sources\":{\(other)\(Self.status),\"orders\":\(shownAfter)}}\n"
        #expect(all == expected.replacing("}\n", with: "}") + "\n")
        let statistics = try #require(try server.send("GET", "/stats/").object["sources"] as? [String: [String: Any]])
        #expect(Set(statistics.keys) == ["a/b", "orders"])
        #expect(statistics["orders"]?["into"] as? String == "emails" && statistics["orders"]?["amqp"] == nil)
        #expect(
            Set(statistics["orders"].map { Array($0.keys) } ?? []) == [
                "queue", "into", "state", "lag", "unacknowledged", "messages", "duplicates", "last_error",
                "last_error_at",
            ])
        let gone = try server.send("DELETE", "/source/orders")
        #expect(gone.status == 204 && gone.body.isEmpty)
        for method in ["GET", "DELETE"] {
            let missing = try server.send(method, "/source/orders")
            #expect(missing.status == 404)
            #expect(try server.detail(missing) == "there is no source with this name; GET /source/ lists all")
        }
    }

    @Test func aSourceIsPausedAndResumed() throws {
        let server = try SourceServer()
        func state(_ method: String, _ path: String) throws -> String? {
            try server.send(method, path).object["state"] as? String
        }
        _ = try server.put("a", #"{"amqp": "amqp://h", "queue": "q"}"#)
        for _ in 0..<2 { #expect(try state("POST", "/source/a/pause") == "paused") }
        #expect(try state("GET", "/source/a") == "paused")
        // A new definition does not resume it.
        let changed = try server.put("a", #"{"amqp": "amqp://h", "queue": "r"}"#)
        #expect(try changed.object["state"] as? String == "paused" && changed.object["queue"] as? String == "r")
        for _ in 0..<2 { #expect(try state("POST", "/source/a/resume") == "connecting") }
        for verb in ["pause", "resume"] { #expect(try server.send("POST", "/source/b/\(verb)").status == 404) }
    }

    /// A name may end with the words of the paths, if its slash is encoded.
    @Test func theSuffixIsReadBeforeTheNameIsDecoded() throws {
        let server = try SourceServer()
        let json = #"{"amqp": "amqp://h", "queue": "q"}"#
        for path in ["a%2Fpause", "pause", "a", "b/c", "%C3%A4%20"] {
            #expect(try server.put(path, json).status == 201)
        }
        let sources = try #require(try server.send("GET", "/source/").object["sources"] as? [String: [String: Any]])
        #expect(Set(sources.keys) == ["a/pause", "pause", "a", "b/c", "ä "])
        #expect(try server.send("POST", "/source/a%2Fpause/pause").object["state"] as? String == "paused")
        #expect(try server.send("GET", "/source/a").object["state"] as? String == "connecting")
        #expect(try server.send("POST", "/source/b/c/pause").object["state"] as? String == "paused")
        let wrong = try server.put("a/pause", json)
        #expect(wrong.status == 405 && wrong.fields["allow"] == "POST, OPTIONS")
        for path in ["/source//pause", "/source/a%00", "/source/%FF", "/source/" + String(repeating: "n", count: 256)] {
            let refused = try server.send("POST", path)
            #expect(refused.status == 400, "\(path)")
            #expect(try server.detail(refused).hasPrefix("a source's name must "), "\(refused.body)")
        }
    }

    @Test func methodsAndHintsFollowFromTheTable() throws {
        let server = try SourceServer()
        func answer(_ method: String, _ path: String) throws -> Response { try server.send(method, path) }
        #expect(try answer("OPTIONS", "/source/").fields["allow"] == "GET, HEAD, OPTIONS")
        #expect(try answer("OPTIONS", "/source/a").fields["allow"] == "GET, HEAD, PUT, DELETE, OPTIONS")
        #expect(try answer("OPTIONS", "/source/a/resume").fields["allow"] == "POST, OPTIONS")
        let mistyped = try answer("POST", "/source/a/puase")
        #expect(mistyped.status == 405)
        #expect(
            try server.detail(mistyped)
                == "POST is not allowed here; use GET, PUT or DELETE, or POST /source/NAME/pause, or POST "
                + "/source/NAME/resume")
        #expect(try server.detail(answer("GET", "/source/a/pause")) == "GET is not allowed here; use POST")
        #expect(try server.detail(answer("GET", "/sources/a")).hasSuffix("did you mean '/source'?"))
        #expect(try server.detail(answer("GET", "/source/a?n=1")).hasSuffix("this path takes none"))
        #expect(try answer("POST", "/source/a/pause").status == 404)
    }

    @Test(arguments: [
        ("{}", "amqp", "amqp is missing: the URL of the RabbitMQ, such as amqp://user:password@rabbit.example.com/"),
        (#"{"queue": "q", "amqp": null}"#, "amqp", "amqp is missing"),
        (#"{"amqp": "amqp://h"}"#, "queue", "queue is missing: the queue in RabbitMQ"),
        (#"{"amqp": 1, "queue": "q"}"#, "amqp", "amqp must be a string, not 1"),
        (#"{"amqp": "", "queue": "q"}"#, "amqp", "amqp must have 1 to 2000 bytes"),
        (#"{"amqp": "http://h", "queue": "q"}"#, "amqp", "amqp: the URL of a RabbitMQ server begins with amqp://"),
        (#"{"amqp": "amqp://u:secret pass@h", "queue": "q"}"#, "amqp", "in the URL's password must be percent-encoded"),
        (
            "{\"amqp\": \"amqp://" + String(repeating: "ä", count: 120) + ":" + String(repeating: "ä", count: 120)
                + "@h/" + String(repeating: "ä", count: 120) + "\", \"queue\": \"q\"}",
            "amqp", "amqp is longer than 2000 bytes when it is percent-encoded"
        ),
        (#"{"amqp": "amqp://h", "queue": ""}"#, "queue", "queue must have 1 to 255 bytes"),
        (#"{"amqp": "amqp://h", "queue": ["q"]}"#, "queue", "queue must be a string, not an array"),
        (#"{"amqp": "amqp://h", "queue": "a\u0007"}"#, "into", "into is missing, and cannot be the same as queue"),
        (#"{"amqp": "amqp://h", "queue": "q", "into": ""}"#, "into", "into must have 1 to 255 bytes"),
        (#"{"amqp": "amqp://h", "queue": "q", "into": "\u0007"}"#, "into", "control characters"),
        (#"{"amqp": "amqp://h", "queue": "q", "prefetch": 0}"#, "prefetch", "a whole number from 1 to 65535, not 0"),
        (#"{"amqp": "amqp://h", "queue": "q", "prefetch": 65536}"#, "prefetch", "from 1 to 65535"),
        (#"{"amqp": "amqp://h", "queue": "q", "prefetch": "5"}"#, "prefetch", "from 1 to 65535"),
        (#"{"amqp": "amqp://h", "queue": "q", "unique_for": -1}"#, "unique_for", "a number of seconds from 0 to"),
        (#"{"amqp": "amqp://h", "queue": "q", "unique_for": "1h"}"#, "unique_for", "a number of seconds from 0 to"),
        (#"{"amqp": "amqp://h", "queue": "q", "paused": true}"#, "paused", "unknown field 'paused'"),
        (#"{"amqp": "amqp://h", "queue": "q", "prefech": 5}"#, "prefech", "did you mean 'prefetch'?"),
        (#"{"amqp": "amqp://h", "queue": "q", "queue": "r"}"#, "queue", "is given twice"),
        ("[]", nil, "the body must be a JSON object"), ("{", nil, "the body is not valid JSON"),
    ])
    func aWrongFieldIsNamed(json: String, field: String?, words: String) throws {
        let server = try SourceServer()
        let refused = try server.put("a", json)
        #expect(refused.status == 400 && refused.field == field, "\(refused.body)")
        #expect(try server.detail(refused).contains(words), "\(refused.body)")
        #expect(!refused.body.contains("secret"))
        #expect(try server.send("GET", "/source/").body == "{\"sources\":{}}\n")
    }

    @Test func aMaskKeepsThePasswordForTheSamePlaceOnly() throws {
        let sources = Sources.silent()
        let server = try SourceServer(sources)
        func put(_ url: String) throws -> Response {
            try server.put("a", #"{"amqp": "\#(url)", "queue": "q"}"#)
        }
        let early = try put("amqp://ann:***@h/")
        #expect(early.status == 400 && early.field == "amqp" && early.body.contains("no such source"))
        #expect(try put("amqp://ann:secret@h/x").status == 201)
        for other in [
            "amqp://bob:***@h/x", "amqp://ann:***@i/x", "amqp://ann:***@h:5673/x", "amqps://ann:***@h:5672/x",
        ] {
            let refused = try put(other)
            #expect(refused.status == 400 && refused.field == "amqp", "\(other)")
            #expect(try server.detail(refused).hasPrefix("*** does not keep the password"))
        }
        func password() -> String? { sources.source(named: Array("a".utf8))?.definition.url.password }
        #expect(password() == "secret")
        #expect(try put("amqp://ann:***@H:5672/y").body.contains(#""amqp":"amqp://ann:***@h/y""#))
        #expect(password() == "secret")
        #expect(try put("amqp://ann:%2A@h/y").status == 200)
        #expect(password() == "*")
    }

    @Test func whatMustNotBeIsRefused() throws {
        let url = #""amqp": "amqp://u:p@h", "queue": "q""#
        // Without --push, clients cannot make the server connect to anything.
        let closed = try SourceServer(pushes: nil)
        let refused = try closed.put("a", "{\(url)}")
        #expect(refused.status == 403 && refused.field == "amqp")
        #expect(try closed.detail(refused).contains("start it with --push"))
        let server = try SourceServer()
        for host in ["10.0.0.1", "169.254.169.254", "[fe80::1]"] {
            let refused = try server.put("a", #"{"amqp": "amqp://\#(host)", "queue": "q"}"#)
            #expect(refused.status == 403 && refused.field == "amqp", "\(refused.body)")
            #expect(try server.detail(refused).contains("allowed"))
        }
        #expect(try server.put("a", #"{"amqp": "amqp://127.0.0.1", "queue": "q"}"#).status == 201)
        // htq's own clients add its tasks.
        let owned = try server.put("b", #"{\#(url), "into": "htq"}"#)
        #expect(owned.status == 403 && owned.field == "into" && owned.body.contains("legacy system"), "\(owned.body)")
    }

    @Test func aMissingLibraryIsNamed() throws {
        var flaw: String? = "install librabbitmq4"
        let server = try SourceServer(Sources.silent { flaw })
        let json = #"{"amqp": "amqp://h", "queue": "q"}"#
        let refused = try server.put("a", json)
        #expect(refused.status == 503)
        #expect(try server.detail(refused) == "install librabbitmq4")
        #expect(try server.send("GET", "/source/a").status == 404)
        flaw = nil
        #expect(try server.put("a", json).status == 201)
    }

    @Test func thereAreAtMostAHundred() throws {
        let server = try SourceServer()
        let json = #"{"amqp": "amqp://h", "queue": "q"}"#
        for number in 0..<100 { #expect(try server.put("\(number)", json).status == 201) }
        let refused = try server.put("more", json)
        #expect(refused.status == 503 && refused.body.contains("there are 100 sources"))
        #expect(try server.put("7", json).status == 200)
        #expect(try server.send("DELETE", "/source/7").status == 204)
        #expect(try server.put("more", json).status == 201)
    }

    // MARK: Taskqueue's file

    @Test func theSectionsOfTaskqueuesFileAreSources() throws {
        let file = try TaskqueueFile(
            "server = amqp://ann:secret@h:99/x\n[mail]\n[mail.low]\n[pause]\n", path: "t.ini")
        let server = try SourceServer(Sources.silent(file, prefetch: 7))
        let shown =
            #"{"amqp":"amqp://ann:***@h:99/x","queue":"mail","into":"mail","prefetch":7,"unique_for":600,"#
            + Self.status
        #expect(try server.send("GET", "/source/mail").body == shown)
        let sources = try #require(try server.send("GET", "/source/").object["sources"] as? [String: [String: Any]])
        #expect(Set(sources.keys) == ["mail", "mail.low", "pause"])
        for refused in try [
            server.put("mail", #"{"amqp": "amqp://h", "queue": "q"}"#), server.send("DELETE", "/source/mail"),
        ] {
            #expect(refused.status == 409)
            #expect(
                try server.detail(refused)
                    == "this source comes from t.ini; change it there, or pause and resume it here")
        }
        #expect(try server.send("POST", "/source/mail/pause").object["state"] as? String == "paused")
        #expect(try server.send("POST", "/source/mail/resume").body == shown)
        // The others are defined as elsewhere, with the same prefetch.
        let mine = try server.put("mine", #"{"amqp": "amqp://h", "queue": "q"}"#)
        #expect(try mine.status == 201 && mine.object["prefetch"] as? Int == 7)
    }

    @Test func aFileWithoutAServerHasNoSources() throws {
        let file = try TaskqueueFile("[mail]\n", path: "t.ini")
        #expect(try SourceServer(Sources.silent(file)).send("GET", "/source/").body == "{\"sources\":{}}\n")
    }

    // MARK: Options

    private func options(_ arguments: String...) throws(UsageError) -> Options { try Options(arguments) { _ in nil } }

    @Test func anOptionSetsThePrefetchOfSourcesThatDoNotSayIt() throws {
        #expect(try options().prefetch == 1000)
        #expect(try options("--push", "public", "--amqp-prefetch", "65535").prefetch == 65_535)
        #expect(try Options(["--push", "public"]) { $0 == "EMQ_AMQP_PREFETCH" ? "5" : nil }.prefetch == 5)
        for value in ["0", "65536", "-1", "many", "", "1.5"] {
            let error = #expect(throws: UsageError.self) { try options("--push", "public", "--amqp-prefetch=" + value) }
            #expect(error?.description == "--amqp-prefetch must be a whole number from 1 to 65535, not '\(value)'")
        }
        let error = #expect(throws: UsageError.self) { try options("--amqp-prefetch", "5") }
        #expect(error?.description.hasPrefix("--amqp-prefetch requires --push, or --taskqueue") == true)
    }
}

/// Sources of the real program, across restarts. Their RabbitMQ is absent.
@Suite(.blocking, .enabled(if: Sources.flawOfSystem() == nil, "skipped: there is no librabbitmq here"))
struct SourceRestartTests {
    private let directory = DataDirectory()

    private func sources(of server: Server) throws -> [String: [String: Any]] {
        try #require(try server.get("/source/").object["sources"] as? [String: [String: Any]])
    }

    @Test func sourcesSurviveARestart() throws {
        do {
            let server = try directory.start("--push", "loopback")
            for name in ["a", "b", "c"] {
                let url = "amqp://u:s3cr%2F%22@127.0.0.1:1/v%20h"
                let json =
                    #"{"amqp": "\#(url)", "queue": "q \"\#(name)\"", "into": "\#(name)", "prefetch": 9, "unique_for": 0.25}"#
                #expect(try server.send("PUT", "/source/\(name)", json).status == 201)
            }
            #expect(try server.send("POST", "/source/b/pause").status == 200)
            #expect(try server.send("DELETE", "/source/c").status == 204)
            server.signal(SIGKILL)
            #expect(try server.exitStatus() == SIGKILL)
        }
        let server = try directory.start("--push", "loopback", "--amqp-prefetch", "5")
        let found = try sources(of: server)
        #expect(Set(found.keys) == ["a", "b"])
        let shown = try #require(found["b"])
        #expect(shown["amqp"] as? String == "amqp://u:***@127.0.0.1:1/v%20h" && shown["queue"] as? String == "q \"b\"")
        #expect(shown["into"] as? String == "b" && shown["prefetch"] as? Int == 9)
        #expect(shown["unique_for"] as? Double == 0.25 && shown["state"] as? String == "paused")
        #expect(found["a"]?["state"] as? String != "paused")
        // The password is there too.
        let json = #"{"amqp": "amqp://u:***@127.0.0.1:1/", "queue": "q"}"#
        #expect(try server.send("PUT", "/source/b", json).status == 200)
        #expect(!server.output.contains("s3cr"))
    }

    @Test func pausedSectionsOfTaskqueuesFileSurviveARestart() throws {
        let file = FileManager.default.temporaryDirectory.appending(path: "emq-\(UUID().uuidString).ini").path
        defer { try? FileManager.default.removeItem(atPath: file) }
        func start(_ sections: String, _ options: String...) throws -> Server {
            try Data("server = amqp://u:p@127.0.0.1:1\n\(sections)".utf8).write(to: URL(filePath: file))
            let server = try directory.begin(["--push", "loopback"] + options)
            _ = try eventually("the end of the recovery") { try server.get("/healthz").status == 200 ? true : nil }
            return server
        }
        func stop(_ server: Server) throws {
            server.signal(SIGTERM)
            #expect(try server.exitStatus() == 0)
        }
        var server = try start("[a]\n[b]\n", "--taskqueue", file)
        for name in ["a", "b"] { #expect(try server.send("POST", "/source/\(name)/pause").status == 200) }
        #expect(try server.send("POST", "/source/b/resume").status == 200)
        try stop(server)
        // Without the file, its sources are gone, and clients may use their names.
        server = try start("")
        #expect(try sources(of: server).isEmpty)
        #expect(try server.send("PUT", "/source/a", #"{"amqp": "amqp://127.0.0.1:1", "queue": "mine"}"#).status == 201)
        try stop(server)
        server = try start("[a]\n[b]\n", "--taskqueue", file)
        let line = #"\#(file) has this source, so the one that a client defined rests source="a""#
        _ = try eventually("the line") { server.messages.contains { $0 == line } ? true : nil }
        var found = try sources(of: server)
        #expect(found["a"]?["queue"] as? String == "a" && found["a"]?["state"] as? String == "paused")
        #expect(found["b"]?["state"] as? String != "paused")
        try stop(server)
        // A section that is gone is forgotten.
        for sections in ["[b]\n", "[a]\n[b]\n"] {
            server = try start(sections, "--taskqueue", file)
            found = try sources(of: server)
            #expect(found["a"]?["state"] as? String != "paused")
            #expect(found["a"]?["queue"] as? String == (sections == "[b]\n" ? "mine" : "a"))
            try stop(server)
        }
    }
}
