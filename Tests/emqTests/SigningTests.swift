// Signatures as receivers see them while an operator changes a queue's secrets, and what a queue's push shows of them.

import Foundation
import Support
import Testing

@Suite(.blocking) struct SigningTests {
    private static let old = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    private static let new = "whsec_" + String(repeating: "A", count: 43) + "="

    private let receiver: Receiver
    private let server: Server

    init() throws {
        receiver = try Receiver()
        server = try Server.pushing()
    }

    /// The signatures of a task that is sent now, without their version.
    private func signatures() throws -> [String] {
        let count = receiver.received("/q").count
        try server.enqueue("q")
        let request = try receiver.wait("/q", count + 1)[count]
        #expect(request["webhook-id"] == request.id && request["Emq-Signature"] == nil)
        let time = try #require(request["webhook-timestamp"].flatMap(Double.init))
        #expect(abs(time - Date().timeIntervalSince1970) < 60)
        return try #require(request["webhook-signature"]).split(separator: " ").map {
            #expect($0.hasPrefix("v1,"))
            return String($0.dropFirst(3))
        }
    }

    /// Changes a part of the queue's push, and returns what is shown of it.
    @discardableResult
    private func patch(_ push: String, status: Int = 200) throws -> [String: Any] {
        let answer = try server.send("PATCH", "/config/q", "{\"push\": {\(push)}}")
        #expect(answer.status == status, "\(answer.body)")
        return try answer.object["push"] as? [String: Any] ?? answer.object
    }

    @Test func aSecretIsChangedWithoutKnowingTheOldOne() throws {
        try server.configure(
            "q", #"{"push": {"url": "\#(receiver.url("/q"))", "signature": "standard", "secret": "\#(Self.old)"}}"#)
        #expect(try signatures().count == 1)
        // The new secret comes in front of the old one.
        let both = try patch(#""secrets": ["\#(Self.new)", "***"]"#)
        #expect(both["secrets"] as? [String] == ["***", "***"] && both["secret"] == nil)
        #expect(both["signature"] as? String == "standard")
        #expect(try signatures().count == 2)
        // A change of something else keeps both, and so does putting back what is shown.
        try patch(#""timeout": 5"#)
        let shown = try server.get("/config/q").body
        #expect(try server.send("PUT", "/config/q", shown).body == shown)
        #expect(try signatures().count == 2)
        // The old one is left out.
        #expect(try patch(#""secrets": ["***"]"#)["secret"] as? String == "***")
        let last = try signatures()
        // It is the new one that is left: to give it again changes nothing.
        try patch(#""secrets": ["\#(Self.new)"]"#)
        #expect(last.count == 1)
        #expect(try !server.get("/config/q").body.contains("whsec_"))
    }

    @Test func secretAndSecretsAreOneSetting() throws {
        let url = receiver.url("/q")
        try server.configure("q", #"{"push": {"url": "\#(url)", "secrets": ["a", "b"]}}"#)
        // A PUT that says one of them removes no member, although it drops a secret.
        let put = try server.send("PUT", "/config/q", #"{"push": {"url": "\#(url)", "secret": "***"}}"#)
        #expect(put.body == "{\"push\":{\"url\":\"\(url)\",\"secret\":\"***\"}}")
        #expect(try patch(#""secrets": ["c", "***"]"#)["secrets"] as? [String] == ["***", "***"])
        #expect(try patch(#""secret": "d""#)["secret"] as? String == "***")
        let dropped = try server.send("PUT", "/config/q", #"{"push": {"url": "\#(url)"}}"#)
        #expect(try dropped.object["removed"] as? [String] == ["push.secret"])
        try patch(#""secret": null, "secrets": ["e", "f"]"#)
        #expect(try patch(#""secret": null"#)["secrets"] == nil)
        #expect(try patch(#""secret": "a", "secrets": ["b"]"#, status: 400)["field"] as? String == "push.secrets")
    }

    @Test func aStandardSignatureNeedsStandardSecretsAndItsHeaders() throws {
        let url = receiver.url("/q")
        try server.configure("q", #"{"push": {"url": "\#(url)", "secrets": ["a", "\#(Self.old)"]}}"#)
        // The stored secrets are checked too, and are not shown.
        let refused = try patch(#""signature": "standard""#, status: 400)
        #expect(refused["field"] as? String == "push.secrets[0]")
        #expect((refused["detail"] as? String)?.hasSuffix("echo whsec_$(openssl rand -base64 32)") == true)
        try patch(#""signature": "standard", "secret": "\#(Self.old)""#)
        #expect(try patch(#""secret": null"#, status: 400)["field"] as? String == "push.signature")
        #expect(
            try patch(#""headers": {"webhook-a": "b"}"#, status: 400)["field"] as? String == "push.headers.webhook-a")
        let task = try server.post("/enqueue/q", #"{"request": {"headers": {"X": "y", "WebHook-ID": "1"}}}"#)
        #expect(task.status == 400 && task.field == "request.headers.WebHook-ID", "\(task.body)")
        try patch(#""signature": "emq""#)
        #expect(try server.post("/enqueue/q", #"{"request": {"headers": {"webhook-id": "1"}}}"#).status == 200)
        #expect(try receiver.wait("/q")[0]["webhook-id"] == "1")
    }

    @Test(.enabled(if: Certificates.isAvailable, "skipped: the openssl tool is missing"))
    func theIssuersAreCheckedAndShownInFull() throws {
        let url = receiver.url("/q")
        let text = "comment\n" + contents(of: try Certificates.shared.authorityFile)
        func escaped(_ text: String) -> String { text.replacing("\n", with: "\\n") }
        let push = "{\"push\":{\"url\":\"\(url)\",\"ca\":\"\(escaped(text))\"}}"
        #expect(try server.send("PUT", "/config/q", push).body == push)
        #expect(try patch(#""timeout": 5"#)["ca"] as? String == text)
        #expect(try patch(#""ca": null"#)["ca"] == nil)
        let long = text + String(repeating: "x", count: 65_536 - text.utf8.count)
        #expect(try patch("\"ca\": \"\(escaped(long))\"")["ca"] as? String == long)
        let damaged = escaped("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
        let answer = try patch("\"ca\": \"\(damaged)\"", status: 400)
        #expect(answer["field"] as? String == "push.ca")
        #expect((answer["detail"] as? String)?.hasPrefix("ca: certificate 1 of the text is damaged") == true)
        let second = try patch("\"ca\": \"\(escaped(text))\(damaged)\"", status: 400)
        #expect((second["detail"] as? String)?.hasPrefix("ca: certificate 2 of the text is damaged") == true)
        // Nobody is asked for a password: the server would wait for it.
        let encryption = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,\(String(repeating: "0", count: 32))\n\n"
        let encrypted = damaged.replacing("MIIB", with: escaped(encryption) + "MIIB")
        let third = try patch("\"ca\": \"\(encrypted)\"", status: 400)
        #expect((third["detail"] as? String)?.hasSuffix("bad password read") == true, "\(third)")
    }
}
