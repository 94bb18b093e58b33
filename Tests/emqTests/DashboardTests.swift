// The dashboard's files, and who may have them.

import Foundation
import Testing

@testable import emq

@Suite(.blocking) struct DashboardTests {
    /// The files of the folder, by their names.
    private static let folder: [String: String] = {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appending(path: "../../Sources/emq/Dashboard").standardizedFileURL
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        let files = names.compactMap { name in
            (try? String(contentsOf: folder.appending(path: name), encoding: .utf8)).map { (name, $0) }
        }
        return Dictionary(uniqueKeysWithValues: files)
    }()

    @Test func theProgramHasAllFilesOfTheFolder() {
        #expect(Self.folder["index.html"] != nil)
        #expect(
            Set(DashboardFile.all.map(\.name)) == Set(Self.folder.keys), "the list in CFiles.c is not complete")
        for file in DashboardFile.all {
            #expect(String(decoding: file.bytes, as: UTF8.self) == Self.folder[file.name], "\(file.name)")
            #expect(DashboardFile.contentTypes.contains { file.name.hasSuffix($0.suffix) }, "\(file.name)")
        }
        #expect(DashboardFile.all.reduce(0) { $0 + $1.bytes.count } < 150_000)
    }

    @Test func noFileNeedsWhatThePolicyForbids() throws {
        for (name, text) in Self.folder {
            // The names of XML's vocabularies are no addresses.
            for match in text.matches(of: /https?:\/\/[^"'` )]*/) {
                #expect(match.0.hasPrefix("http://www.w3.org/"), "\(name) has the outside URL \(match.0)")
            }
            #expect(text.firstMatch(of: /(src|href|url)\s*[=(]\s*["']?\//) == nil, "\(name): URLs must be relative")
            #expect(text.firstMatch(of: /javascript:|setAttribute\(["'](style|on)/) == nil, "\(name)")
            guard name.hasSuffix(".html") || name.hasSuffix(".svg") else { continue }
            #expect(text.firstMatch(of: /<style|\sstyle\s*=|\son\w+\s*=/.ignoresCase()) == nil, "\(name)")
            for match in text.matches(of: /<script[^>]*>/.ignoresCase()) {
                #expect(match.0.contains("src="), "\(name) has a script in the page")
            }
        }
    }

    @Test func everybodyMayHaveThePage() throws {
        let tokens = try TokenFile([TestToken("a", ["read"])])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", tokens.path])
        for file in DashboardFile.all {
            let client = try Client(port: server.port)
            let answer = try client.get("/dashboard/\(file.name)")
            #expect(answer.status == 200 && answer.body.utf8.elementsEqual(file.bytes), "\(file.name)")
            #expect(answer.fields["content-type"] == "\(file.contentType)")
            if file.name == "index.html" { #expect(try client.get("/").body == answer.body) }
        }
        let routes = Route.all.filter { ["", "dashboard", "access"].contains("\($0.name)") }
        #expect(routes.count == 3 && routes.allSatisfy { $0.operations[0].isOpenDuringRecovery })
    }

    @Test func thePageIsSafe() throws {
        let server = try Server()
        let fields = try Client(port: server.port).get("/").fields
        let policy = fields["content-security-policy"]?.components(separatedBy: "; ") ?? []
        #expect(
            Set(policy) == [
                "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:",
                "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
            ])
        #expect(fields["x-content-type-options"] == "nosniff" && fields["referrer-policy"] == "no-referrer")
        #expect(fields["cross-origin-opener-policy"] == "same-origin")
        // A page of another site may not have it through a name that its owner has pointed here.
        let foreign = try server.connect().ask(
            "GET", "/", host: "evil.example.com", fields: ["User-Agent: Mozilla/5.0", "Sec-Fetch-Site: same-origin"])
        #expect(foreign.status == 403)
        #expect(try server.get("/dashboard/nothing.js").detail == "the dashboard has no such file; its page is /")
        #expect(try server.get("/dashboard/../index.html").status == 404)
        #expect(try server.get("/dashboard/").detail == "the dashboard's page is /")
        #expect(try server.post("/", "{}").fields["allow"] == "GET, HEAD, OPTIONS")
    }

    @Test func aBrowserAsksWhetherItsVersionIsCurrent() throws {
        let server = try Server()
        let client = try Client(port: server.port)
        let fields = try client.get("/").fields
        #expect(fields["cache-control"] == "no-cache")
        let tag = try #require(fields["etag"])
        for (known, status) in [(tag, 304), ("W/\(tag)", 304), ("\"x\", \(tag)", 304), ("*", 304), ("\"x\"", 200)] {
            client.send("HEAD / HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: \(known)\r\n\r\n")
            let answer = try client.response(toHead: true)
            #expect(answer.status == status && answer.fields["etag"] == tag, "\(known)")
        }
    }

    // MARK: What the sender may do

    @Test func withoutTokensEverybodyMayDoEverything() throws {
        let access = try Server().get("/access").object
        #expect(access["tokens"] as? Bool == false && access["name"] == nil && access["expires"] == nil)
        #expect(access["permissions"] as? [String] == Permission.allCases.map(\.name))
        #expect(access["queues"] as? [String] == ["*"])
    }

    @Test func aTokenShowsWhatItAllows() throws {
        let end = 4_000_000_000
        let some = TestToken("some", ["manage", "read"], queues: ["mail*", "sms"], expires: Double(end))
        let all = TestToken("all", ["metrics"])
        let file = try TokenFile([some, all])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try server.connect()
        let shown = try client.ask("GET", "/access", nil, some.bearer).object
        #expect(shown["tokens"] as? Bool == true && shown["name"] as? String == "some")
        #expect(shown["permissions"] as? [String] == ["read", "manage"])
        #expect(shown["queues"] as? [String] == ["mail*", "sms"] && shown["expires"] as? Int == end)
        let others = try client.ask("GET", "/access/", nil, all.basic).object
        #expect(others["queues"] as? [String] == ["*"] && others["expires"] == nil)
        #expect(try client.ask("GET", "/access").status == 401)
        #expect(try client.ask("GET", "/access", nil, "Bearer nonsense").status == 401)
    }
}
