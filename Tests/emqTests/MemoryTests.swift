// The program where memory is short: it refuses what does not fit, and goes on.

import Support
import Testing

@Suite(.blocking) struct MemoryTests {
    private static let megabyte = "{\"content\": \"\(String(repeating: "x", count: 1_000_000))\"}"

    /// Enqueues a megabyte at a time until the server refuses one, and returns how many it accepted.
    private func fill(_ server: Server) throws -> Int {
        let client = try server.connect()
        for count in 0..<1000 {
            let answer = try client.post("/enqueue/q", Self.megabyte)
            if answer.status == 503 { return count }
            #expect(answer.status == 200, "\(answer.body)")
        }
        return 1000
    }

    @Test(
        .enabled(if: !isSanitized, "skipped: a sanitizer uses all address space"),
        // Each case takes seconds.
        arguments: [[], ["--address-space", "150M"], ["--max-memory", "2G"]].prefix(testOperations >= 1_000_000 ? 3 : 1)
    )
    func aLimitOfAddressSpaceRefusesTasksThatDoNotFit(arguments: [String]) throws {
        let server = try Server(["--addr", "127.0.0.1:0"] + arguments, limit: "ulimit -v 400000")
        let count = try fill(server)
        #expect(count > 20 && count < 400)
        // A body larger than the remaining memory is refused too, while small ones are accepted.
        if arguments.isEmpty {
            let large = "{\"content\": \"\(String(repeating: "x", count: 60_000_000))\"}"
            #expect(try server.post("/enqueue/q", large).status == 503)
        }
        #expect(try server.get("/healthz").status == 200)
        #expect(try server.send("POST", "/purge/q").status == 200)
        #expect(try fill(server) >= count * 9 / 10)
        #expect(try server.take("q", 5).count == 5)
        server.signal(15)
        #expect(try server.exitStatus() == 0)
    }

    @Test(.enabled(if: !isSanitized, "skipped: a sanitizer uses all address space"))
    func anAnswerSaysWhatLimitsTheAddressSpace() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--max-memory", "2G"], limit: "ulimit -v 400000")
        _ = try fill(server)
        let detail = try server.post("/enqueue/q", Self.megabyte).object["detail"] as? String
        #expect(
            detail
                == "there is no room for this task's content in the server's address space; raise it with `ulimit -v` or "
                + "`--address-space` if one of them limits it")
    }

    @Test(.enabled(if: !isSanitized, "skipped: a sanitizer uses all address space"))
    func tooLittleAddressSpaceIsReported() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--address-space", "4G"], limit: "ulimit -v 400000")
        #expect(try server.exitStatus() == 1)
        #expect(server.output.contains("cannot reserve 4294967296 bytes of address space"))
    }
}
