// The client's commands about configurations.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct ConfigurationCommandTests {
    private let server: Server
    private let client: ClientProgram

    init() throws {
        server = try Server.pushing()
        client = try ClientProgram(port: server.port)
    }

    private func configuration(_ queue: String) throws -> String { try server.get("/config/\(queue)").body }

    // MARK: get and set

    @Test func fieldsAreSetAndShown() throws {
        let set = try client.run(
            "config", "set", "q", "max_retries=3", "retry=2m", "backoff.min=0.5", "backoff.max=1h", "dead_letter=10 ä",
            "show_content=false")
        #expect(set.status == 0, "\(set.error)")
        #expect(
            set.output == "retry\t\t120\nmax_retries\t\t3\nbackoff\t\t{\"min\":0.5,\"max\":3600}\n"
                + "dead_letter\t\t\"10 ä\"\nshow_content\t\tfalse\n")
        #expect(
            try client.run("config", "get", "q").output
                == "retry\t120\nmax_retries\t3\nbackoff.min\t0.5\nbackoff.max\t3600\ndead_letter\t10 ä\n"
                + "show_content\tfalse\n")
        #expect(try client.run("config", "get", "q", "backoff.max").output == "3600\n")
        #expect(try client.run("config", "get", "q", "dead_letter", "--json").output == "\"10 ä\"\n")
        let missing = try client.run("config", "get", "q", "keep")
        #expect(missing.status == 3 && missing.output.isEmpty)
        let removed = try client.run("config", "set", "q", "backoff=", "show_content=null", "max_retries=4")
        #expect(
            removed.output
                == "max_retries\t3\t4\nbackoff\t{\"min\":0.5,\"max\":3600}\t\nshow_content\tfalse\t\n")
        let same = try client.run("config", "set", "q", "max_retries=4")
        #expect(same.status == 0 && same.output.isEmpty)
        #expect(try client.run("config", "get", "q", "--json").output == configuration("q") + "\n")
    }

    @Test func theDefaultsAreSetAndShown() throws {
        #expect(try client.run("config", "set", "--defaults", "max_retries=9").output == "max_retries\t\t9\n")
        #expect(try client.run("config", "get", "--defaults").output == "max_retries\t9\n")
        #expect(try client.run("config", "get", "--defaults", "max_retries").output == "9\n")
        #expect(try client.run("config", "get", "q").output.isEmpty)
    }

    @Test(arguments: [
        ["set", "q"], ["set", "q", "retry"], ["set", "q", "=5"], ["set", "q", "a..b=1"], ["set", "q", "retyr=5"],
        ["set", "q", "retry=soon"], ["set", "q", "retry=1", "retry=2"], ["set", "q", "backoff=1", "backoff.max=2"],
        ["set", "q", "backoff.max=2", "backoff=1"], ["get"], ["get", "--defaults", "retry", "keep"], ["diff", "q"],
        ["diff", "q", "/nowhere"], ["edit"], ["edit", "q", "--defaults"], ["edit", "q", "--curl"],
        ["set", "q", String(repeating: "a.", count: 60_000) + "b=1"],
    ])
    func wrongWordsAreOneLineAndStatus2(words: [String]) throws {
        let process = try client.command(["config"] + words, environment: ["EDITOR": "false"])
        try process.start()
        let result = try client.end(of: process)
        #expect(result.status == 2 && result.output.isEmpty, "\(result)")
        #expect(result.error.filter { $0 == "\n" }.count == 1)
        #expect(try configuration("q") == "{}")
    }

    // MARK: diff and apply

    @Test func aDifferenceIsShownAndNothingChanges() throws {
        try server.send("PUT", "/config/q", #"{"retry": 60, "keep": 5, "push": {"url": "http://localhost:1/"}}"#)
        let before = try configuration("q")
        // Other spellings of the same values.
        let same = try client.file(
            "same", "{\n\"keep\": 5.0,\n \"push\": {\"url\": \"http://localhost:1/\"}, \"retry\": 6e1}")
        let equal = try client.run("config", "diff", "q", same)
        #expect(equal.status == 0 && equal.output.isEmpty, "\(equal)")
        let other = try client.file("other", #"{"retry": 30, "push": {"url": "http://localhost:2/"}, "priority": 1}"#)
        let result = try client.run("config", "diff", "q", other)
        let urls = "push.url\t\"http://localhost:1/\"\t\"http://localhost:2/\"\n"
        #expect(result.status == 1, "\(result)")
        #expect(result.output == "retry\t60\t30\nkeep\t5\t\n\(urls)priority\t\t1\n")
        let json = try client.run("config", "diff", "q", "-", "--json", input: #"{"retry": 60}"#)
        #expect(json.status == 1 && json.output.hasPrefix(#"[{"queue":"q","field":"keep","old":5,"new":null},"#))
        #expect(try configuration("q") == before)
    }

    @Test func aFileGivesQueuesTheirConfigurations() throws {
        try server.send("PUT", "/config/mail", #"{"retry": 60, "keep": 5}"#)
        try server.send("PUT", "/config/other", #"{"retry": 1}"#)
        let file = try client.file(
            "f",
            #"{"queues": {"mail": {"retry": 30}, "sms/a b": {"keep": 5}, "same": {}}, "defaults": {"max_retries": 9}}"#
        )
        let changes = "defaults\tmax_retries\t\t9\nmail\tretry\t60\t30\nmail\tkeep\t5\t\nsms/a b\tkeep\t\t5\n"
        let dry = try client.run("apply", file, "--dry-run")
        #expect(dry.status == 0 && dry.output == changes, "\(dry)")
        #expect(dry.error == "emq apply: 3 configurations would change, 1 as they should be\n")
        #expect(try configuration("mail") == #"{"retry":60,"keep":5}"#)
        let result = try client.run("apply", file)
        #expect(result.status == 0 && result.output == changes)
        #expect(try configuration("mail") == #"{"retry":30}"# && configuration("sms/a%20b") == #"{"keep":5}"#)
        #expect(try configuration("other") == #"{"retry":1}"#)
        #expect(try server.get("/defaults/").body == #"{"max_retries":9}"#)
        let again = try client.run("apply", file)
        #expect(again.output.isEmpty && again.error == "emq apply: 0 configurations changed, 4 as they should be\n")
    }

    @Test(arguments: [
        (#"{"queues": {"a": {"retry": 1}, "b": {"rety": 1}}}"#, "b: unknown field 'rety'"),
        (#"{"queues": {"a": {"retry": 1}, "b": 5}}"#, "b: a configuration is an object"),
        (#"{"queues": {"a": {}, "a": {"retry": 1}}}"#, "the queue 'a' twice"),
        (#"{"queues": {"a": {"retry": 1}, "": {}}}"#, "a queue whose name is empty or not Unicode text"),
        (#"{"queues": {"a": {"retry": 1}, "a\ud800": {}}}"#, "a queue whose name is empty or not Unicode text"),
        (#"{"queus": {"a": {"retry": 1}}}"#, "did you mean 'queues'?"), ("[]", "is not a JSON object"),
        ("{\n\"queues\": {\n,", "line 3, at byte 14"),
        (#"{"defaults": {"push": {}}, "queues": {"a": {"retry": 1}}}"#, "defaults: push can be set only for"),
    ])
    func ifOneIsWrongNothingChanges(text: String, words: String) throws {
        let result = try client.run("apply", "-", input: text)
        #expect(result.status == 2 && result.output.isEmpty && result.error.contains(words), "\(result)")
        #expect(try configuration("a") == "{}")
    }

    @Test func secretsAreSetAgainEachTime() throws {
        func file(_ secret: String, _ header: String) throws -> String {
            let push = #"{"url": "http://localhost:1/", "secret": "\#(secret)", "headers": {"A": "\#(header)"}}"#
            return try client.file("f", "{\"queues\": {\"q\": {\"push\": \(push)}}}")
        }
        #expect(try client.run("apply", file("s", "b")).status == 0)
        let again = try client.run("apply", file("s", "b"))
        #expect(again.output == "q\tpush.secret\t***\t***\nq\tpush.headers.A\t***\t***\n", "\(again)")
        #expect(try client.run("apply", file("***", "***")).output.isEmpty)
    }

    // MARK: edit

    /// A program that edits its file with sed.
    private func editor(_ script: String, _ more: String = "") throws -> [String: String] {
        let path = try client.file("editor", "sed -i '\(script)' \"$1\"; \(more)")
        return ["VISUAL": "sh \(path)", "TMPDIR": client.folder.path]
    }

    /// The drafts that are left.
    private func drafts() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: client.folder.path).filter { $0.hasSuffix(".json") }
    }

    /// What a file has; empty without the file.
    private func text(_ name: String) throws -> String {
        let path = client.folder.appending(path: name).path
        return FileManager.default.fileExists(atPath: path) ? try String(contentsOfFile: path, encoding: .utf8) : ""
    }

    @Test func anEditReplacesTheConfiguration() throws {
        let push = #"{"url": "http://localhost:1/", "secret": "s"}"#
        try server.send("PUT", "/config/q", "{\"retry\": 60, \"keep\": 5, \"push\": \(push)}")
        let result = try client.run("config", "edit", "q", environment: try editor("s/60/61/; /keep/d"))
        #expect(result.status == 0 && result.output == "retry\t60\t61\nkeep\t5\t\n", "\(result)")
        // The secret is still there, though nobody has seen it.
        #expect(
            try configuration("q") == #"{"retry":61,"push":{"url":"http://localhost:1/","secret":"***"}}"#)
        #expect(try drafts().isEmpty)
    }

    @Test func withoutAChangeNothingIsSent() throws {
        try server.send("PUT", "/config/q", #"{"retry": 60}"#)
        for environment in [try editor("s/x/y/"), try editor("d"), try editor("s/x/y/", "exit 1")] {
            let result = try client.run("config", "edit", "q", environment: environment)
            #expect(result.output.isEmpty && result.error.contains("nothing was changed"), "\(result)")
            #expect(try configuration("q") == #"{"retry":60}"# && drafts().isEmpty)
        }
    }

    @Test(arguments: [
        ("s/60/sixty/", "is not JSON: line 2"), ("s/60/-1/", "retry must be"), ("s/retry/retyr/", "retyr"),
    ])
    func aTextThatIsRefusedIsKept(script: String, words: String) throws {
        try server.send("PUT", "/config/q", #"{"retry": 60}"#)
        let result = try client.run("config", "edit", "q", environment: try editor(script))
        #expect(result.status == 2 && result.error.contains(words), "\(result)")
        let draft = try #require(try drafts().first)
        #expect(result.error.hasSuffix("; your text is in \(client.folder.path)/\(draft)\n"))
        #expect(try configuration("q") == #"{"retry":60}"#)
    }

    @Test(arguments: [
        ("exit 1", "ended with status 1"), ("kill -9 $$", "the editor"),
        ("head -c 1100000 /dev/zero | tr '\\0' ' ' >>\"$1\"", "more than 1 MiB"),
    ])
    func aTextThatIsNotSentIsKept(end: String, words: String) throws {
        try server.send("PUT", "/config/q", #"{"retry": 60}"#)
        let result = try client.run("config", "edit", "q", environment: try editor("s/60/61/", end))
        #expect(result.status != 0 && result.error.contains(words), "\(result)")
        let draft = try #require(try drafts().first)
        #expect(result.error.hasSuffix("; your text is in \(client.folder.path)/\(draft)\n"))
        #expect(try text(draft).hasPrefix("{\n  \"retry\": 61\n}\n"))
        #expect(try configuration("q") == #"{"retry":60}"#)
    }

    @Test func aSignalKeepsTheTextToo() throws {
        let environment = try editor("s/}/5}/", "echo >ready; while [ -e editor ] && [ ! -e end ]; do sleep 0.01; done")
        let process = try client.command(["config", "edit", "q"], environment: environment)
        try process.start()
        _ = try eventually("the editor") { try text("ready").isEmpty ? nil : true }
        process.terminate()
        // The process object waits for the editor, too.
        _ = try eventually("the end of emq") {
            let state = contents(of: "/proc/\(process.processIdentifier)/stat")
            return state.isEmpty || state.contains(") Z ") ? true : nil
        }
        _ = try client.file("end", "")
        let result = try client.end(of: process)
        let draft = try #require(try drafts().first)
        #expect(result.error == "emq config edit: editing \(client.folder.path)/\(draft)\n")
        #expect(try text(draft) == "{5}\n")
    }

    @Test func aChangeMeanwhileIsNotOverwritten() throws {
        try server.send("PUT", "/config/q", #"{"retry": 60}"#)
        let environment = try editor("s/60/61/", "\"\(Server.executable.path)\" config set q retry=5")
        let result = try client.run("config", "edit", "q", environment: environment)
        #expect(result.status == 1 && result.error.contains("has changed meanwhile"), "\(result)")
        #expect(try configuration("q") == #"{"retry":5}"# && drafts().count == 1)
    }
}
