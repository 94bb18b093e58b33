// What shells offer while a command line is typed.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct CompletionTests {
    private func words(_ line: String...) -> [String] {
        let commands = Command.all.filter { $0.section != .hidden }
        guard case .words(let words) = Completion.candidates(line, among: commands) else { return ["(no words)"] }
        return words.filter { $0.hasPrefix(line.last ?? "") }
    }

    @Test func commandsOptionsAndTheirValuesAreOffered() {
        #expect(words("pu") == ["purge"])
        #expect(words("journal", "c") == ["copy", "check"])
        #expect(words("peek", "mail", "--st") == ["--state"])
        #expect(words("peek", "--state", "de") == ["delayed", "dead"])
        #expect(words("--log-f") == ["--log-format"])
        #expect(words("--log-format", "") == ["text", "json"])
        #expect(words("help", "jo") == ["journal"])
        #expect(words("help", "journal", "") == ["copy", "check", "repair"])
        #expect(words("nonsense", "") == [])
        #expect(words().starts(with: ["serve", "check"]) && !words().contains("complete"))
    }

    @Test func filesFoldersAndQueuesAreOffered() {
        func candidates(_ line: String...) -> Completion.Candidates {
            Completion.candidates(line, among: Command.all)
        }
        #expect(candidates("--tls-cert", "") == .files)
        #expect(candidates("--data", "/var") == .directories)
        #expect(candidates("journal", "check", "") == .directories)
        #expect(candidates("purge", "") == .queues)
        #expect(candidates("purge", "--yes", "ma") == .queues)
        #expect(candidates("work", "mail", "--", "c") == .files)
    }

    @Test func bashCompletesNamesOfQueues() throws {
        let server = try Server()
        for queue in ["mail", "mail%20slow", "a:b", "*"] { try server.enqueue(queue) }
        let script = #"""
            emq() { "$0" "$@"; }
            eval "$("$0" completion bash)"
            complete_line() {
                COMP_LINE="$0 $1" COMP_POINT=$((${#0} + 1 + ${#1}))
                _emq
                printf '<%s>' "${COMPREPLY[@]}"
            }
            cd / && complete_line 'peek ma'; complete_line 'peek mail\ s'; complete_line 'peek a:'
            complete_line '--fsync=al'; complete_line 'peek *'; complete_line 'version '
            """#
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.arguments = ["-c", script, Server.executable.path]
        let scheme = TestTLS.isOverTLS ? "https" : "http"
        process.environment = ["EMQ_URL": "\(scheme)://localhost:\(server.port)", "PATH": "/usr/bin:/bin"]
        if TestTLS.isOverTLS { process.environment?["EMQ_CA"] = try Certificates.shared.authorityFile }
        let output = Pipe()
        process.standardOutput = output
        try process.start()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(text == #"<mail><mail\ slow><mail\ slow><b><always><\*><>"#)
    }
}
