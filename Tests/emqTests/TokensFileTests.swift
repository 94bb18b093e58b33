// The file of tokens, the texts of tokens, patterns of queues, and the command that makes tokens.

import Foundation
import Testing
import UID

@testable import emq

@Suite(.blocking) struct TokensFileTests {
    private static let now: Int64 = 1_700_000_000_000
    private static let hash = String(repeating: "0", count: 64)

    private func read(_ text: String) throws(TokensFileError) -> [Token] {
        try TokensFile(Array(text.utf8).span, now: Self.now).tokens
    }

    @Test func aTokenHasAllItsMembers() throws {
        let text = """
            {"tokens": [
                {"name": "ci", "sha256": "\(hexadecimalHash(of: "x").uppercased())", "allow": ["enqueue", "push"],
                 "queues": ["orders/*", "mail"], "expires": 1700000001.5},
                {"name": "all", "sha256": "\(Self.hash)", "allow": ["read"], "queues": null, "expires": null}
            ]}
            """
        let tokens = try read(text)
        #expect(tokens.map(\.name) == ["ci", "all"])
        #expect(tokens[0].permissions == [Permissions(.enqueue), Permissions(.push)])
        #expect(tokens[0].expires == Self.now + 1500)
        #expect(!tokens[0].hasExpired(now: Self.now + 1499) && tokens[0].hasExpired(now: Self.now + 1500))
        #expect(hexadecimal(tokens[0].hash) == hexadecimalHash(of: "x"))
        #expect(covers(tokens[0], "orders/new") && !covers(tokens[0], "mails"))
        #expect(tokens[1].coversAllQueues && tokens[1].expires == nil && tokens[1].permissions == Permissions(.read))
        #expect(try read(#"{"tokens": []}"#).isEmpty)
    }

    private func covers(_ token: Token, _ queueName: String) -> Bool { token.covers(Array(queueName.utf8).span) }

    private func isDamaged(_ token: [UInt8]) -> Bool { TokenText.isDamaged(token.span) }

    private func hexadecimal(_ digest: borrowing InlineArray<32, UInt8>) -> String {
        var text = ""
        for index in 0..<32 { text += String(format: "%02x", digest[index]) }
        return text
    }

    @Test(arguments: [
        ("{\n\n\"tokens\": [,]}", "line 3: not valid JSON: at byte 14: expected a value"),
        ("[]", "the file is not a JSON object"), ("{}", #"the file has no "tokens""#),
        (#"{"token": []}"#, "token: unknown field 'token'; did you mean 'tokens'?"),
        (#"{"tokens": {}}"#, "tokens: tokens must be an array of objects"),
        ("{\"tokens\": [\nOK,\n\n3]}", "line 4: tokens[1]: this must be an object, not a number"),
        ("{\"tokens\": [\nOK,\nOK]}", "line 3: tokens[1].name: tokens[0] has this name too"),
        (
            #"{"tokens": [OK, {"name": "b", "sha256": "HASH", "allow": ["read"]}]}"#,
            "tokens[1].sha256: tokens[0] has this"
        ),
        (#"{"tokens": [{"sha256": "HASH", "allow": ["read"]}]}"#, "tokens[0].name: the token has no name"),
        (#"{"tokens": [{"name": "a", "allow": ["read"]}]}"#, "tokens[0].sha256: the token has no sha256"),
        (#"{"tokens": [{"name": "a", "sha256": "HASH"}]}"#, "tokens[0].allow: the token allows nothing"),
        (#"{"tokens": [{"name": "a", "sha256": "HASH", "allow": []}]}"#, "tokens[0].allow: this array is empty"),
        (
            #"{"tokens": [{"name": "a", "sha256": "HASH", "allow": ["read", "enqeue"]}]}"#,
            "line 1: tokens[0].allow[1]: there is no permission 'enqeue'; did you mean 'enqueue'?"
        ),
        (
            #"{"tokens": [{"name": "a", "sha256": "HASH", "allow": [1]}]}"#,
            "tokens[0].allow[0]: allow must be an array of"
        ),
        (
            #"{"tokens": [{"name": "a", "sha256": "HASH", "allow": ["read"], "queue": []}]}"#,
            "tokens[0].queue: unknown field 'queue'; did you mean 'queues'?"
        ),
        (
            #"{"tokens": [{"name": "a", "sha256": "HASH", "allow": ["read"], "queues": ["a", ""]}]}"#,
            "tokens[0].queues[1]: a pattern must have 1 to 255 bytes"
        ),
        (
            #"{"tokens": [{"name": "a", "sha256": "abc", "allow": ["read"]}]}"#,
            "64 hexadecimal digits, not 3 characters"
        ),
        (#"{"tokens": [{"name": "a", "sha256": "emq_abc", "allow": ["read"]}]}"#, "not the token itself"),
        (
            #"{"tokens": [{"name": "a\n", "sha256": "HASH", "allow": ["read"]}]}"#,
            "tokens[0].name: a token's name must not"
        ),
        (
            #"{"tokens": [{"name": "a", "sha256": "HASH", "allow": ["read"], "expires": "2027-01-01"}]}"#,
            "tokens[0].expires: expires must be a time in Unix seconds"
        ),
    ])
    func aMistakeIsExplainedWhereItIs(text: String, words: String) {
        let token = #"{"name": "a", "sha256": "HASH", "allow": ["read"]}"#
        let text = text.replacing("OK", with: token).replacing("HASH", with: Self.hash)
        let error = #expect(throws: TokensFileError.self) { _ = try read(text) }
        #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
    }

    @Test func aMissingFileIsNamed() {
        let error = #expect(throws: TokensFileError.self) { try TokensFile(path: "/nowhere/tokens", now: 0) }
        #expect(error?.description == "cannot read '/nowhere/tokens': No such file or directory")
    }

    // MARK: Texts of tokens

    @Test func aTokenHasAChecksum() throws {
        var random = KernelRandom()
        let token = TokenText.make(using: &random)
        let text = String(decoding: token, as: UTF8.self)
        #expect(text.wholeMatch(of: /emq_[0-9A-Za-z]{38}/) != nil, "\(text)")
        #expect(TokenText.make(using: &random) != token)
        #expect(!isDamaged(token))
        for place in 4..<42 {
            var other = token
            other[place] = other[place] == UInt8(ascii: "a") ? UInt8(ascii: "b") : UInt8(ascii: "a")
            #expect(isDamaged(other))
        }
        #expect(isDamaged(token.dropLast()))
        #expect(!isDamaged(Array("another secret".utf8)))
    }

    /// The checksum is the CRC-32 that everybody uses, so that others can check it: that of 32 zeros is 0xA0F292D0 by
    /// Python's zlib.
    @Test func theChecksumIsTheUsualOne() {
        struct Ones: RandomNumberGenerator {
            mutating func next() -> UInt64 { 1 }
        }
        var random = Ones()
        let text = String(decoding: TokenText.make(using: &random), as: UTF8.self)
        #expect(text == "emq_" + String(repeating: "0", count: 32) + "2wjyrI")
    }

    @Test(arguments: [
        ("Bearer abc", "abc"), ("bearer   abc", "abc"), ("BASIC dXNlcjpwYXNz", "pass"), ("Basic OnBhc3M=", "pass"),
        ("Basic dTphOmI=", "a:b"), ("Bearer", nil), ("Bearer ", nil), ("abc", nil), ("", nil), ("Digest abc", nil),
        ("Basic !", nil), ("Basic dXNlcg==", nil), ("Basic dXNlcjo=", nil), ("Basic dXNlcjpwYXNz Bearer x", nil),
    ])
    func aTokenComesAsBearerOrAsAPassword(field: String, token: String?) {
        let read = TokenText.read(Array(field.utf8).span)
        #expect(read.map { String(decoding: $0, as: UTF8.self) } == token)
    }

    // MARK: The command

    @Test func theCommandPrintsATokenAndItsObject() throws {
        let result = try Server.run([
            "token", "new", "--name", "ci \"1\"", "--allow", "enqueue,push", "--queues=orders/*", "--queues", "mail,a",
            "--expires", "90d",
        ])
        #expect(result.status == 0)
        let lines = result.output.split(separator: "\n")
        try #require(lines.count == 2)
        #expect(lines[0].wholeMatch(of: /emq_[0-9A-Za-z]{38}/) != nil)
        let tokens = try TokensFile(Array("{\"tokens\": [\(lines[1])]}".utf8).span, now: Self.now).tokens
        let token = try #require(tokens.first)
        #expect(token.name == "ci \"1\"" && token.permissions == [Permissions(.enqueue), Permissions(.push)])
        #expect(token.queues.map(\.text) == ["orders/*", "mail", "a"])
        let days = (Double(try #require(token.expires)) / 1000 - Date().timeIntervalSince1970) / 86_400
        #expect((89.9...90.1).contains(days))
        #expect(hexadecimal(token.hash) == hexadecimalHash(of: String(lines[0])))
        #expect(result.error.contains("shown only now") && !result.error.contains(lines[0]))
    }

    @Test(arguments: [
        ([], "'emq token' is followed by one of: new"), (["nwe"], "unknown command 'token nwe'; did you mean 'new'?"),
        (["new"], "give --name once"), (["new", "--name", "a"], "--allow is missing"),
        (["new", "--name"], "--name needs a value"),
        (["new", "--name", "", "--allow", "read"], "--name: a token's name must have"),
        (["new", "--name", "a", "--allow", "raed"], "there is no permission 'raed'; did you mean 'read'?"),
        (["new", "--name", "a", "--allow", "read,"], "there is no permission ''"),
        (["new", "--name", "a", "--allow", "read", "--queues", "a,,b"], "--queues has an empty pattern"),
        (["new", "--name", "a", "--allow", "read", "--expires", "90"], "--expires must be how long"),
        (["new", "--name", "a", "--allow", "read", "--expires", "0d"], "--expires must be how long"),
        (["new", "--nam", "a"], "unknown option '--nam'; did you mean '--name'?"),
    ])
    func theCommandExplainsMistakes(arguments: [String], words: String) throws {
        let result = try Server.run(["token"] + arguments)
        #expect(result.status == 2 && result.output.isEmpty)
        #expect(result.error.contains(words) && result.error.filter { $0 == "\n" }.count == 1, "\(result.error)")
    }
}
