// URLs of RabbitMQ.

import AMQP
import Support
import Testing

@Suite(.blocking) struct AMQPURLTests {
    private func read(_ text: String) throws(AMQPURLError) -> AMQPURL { try AMQPURL(Array(text.utf8).span) }

    @Test(arguments: [
        ("amqp://localhost", "localhost", 5672, "guest", "guest", "/"),
        ("amqp://guest:guest@localhost:5672/", "localhost", 5672, "guest", "guest", "/"),
        ("AMQPS://user:p%40ss@Rabbit.Example.com/%2Fjobs", "rabbit.example.com", 5671, "user", "p@ss", "/jobs"),
        ("amqp://u:a@b@10.0.0.1:5673/a/b", "10.0.0.1", 5673, "u", "a@b", "a/b"),
        ("amqp://u@[::1]:80/v", "::1", 80, "u", "", "v"), ("amqps://[::1]/v", "::1", 5671, "guest", "guest", "v"),
        ("amqp://:@h:", "h", 5672, "", "", "/"),
    ])
    func readsAllParts(
        _ text: String, host: String, port: Int, user: String, password: String, virtualHost: String
    ) throws {
        let url = try read(text)
        #expect(url.host == host && url.port == port && url.user == user)
        #expect(url.password == password && url.virtualHost == virtualHost)
        #expect(try read(url.stored) == url)
    }

    @Test(arguments: [
        "http://localhost", "localhost", "amqp://", "amqp://h:0", "amqp://h:70000", "amqp://h/v?heartbeat=1",
        "amqp://h/v#x", "amqp://u:%zz@h", "amqp://u:%@h", "amqp://u:%ff@h", "amqp://u:secret word@h",
        "amqp://u:secret@exa mple", "amqp://h/\(String(repeating: "v", count: 256))",
    ])
    func refusesOthersWithoutShowingThePassword(_ text: String) {
        let error = #expect(throws: AMQPURLError.self) { try read(text) }
        #expect(error?.description.contains("secret") == false)
    }

    /// It would begin the virtual host, which people see, and what precedes it would be the port.
    @Test(arguments: [
        "amqp://user:12/secret@host/", "amqp://user:/secret@host", "amqps://user:p@ss/secret@host/v",
        "amqp://user:secret/1@host",
    ])
    func refusesASlashInThePassword(_ text: String) {
        let error = #expect(throws: AMQPURLError.self) { try read(text) }
        #expect(error?.description.contains("write / in a password as %2F") == true)
        #expect(error?.description.contains("secret") == false)
    }

    @Test func readsAnEncodedSlashInThePassword() throws {
        let url = try read("amqp://user:12%2Fse@host/a%40b")
        #expect(url.host == "host" && url.password == "12/se" && url.virtualHost == "a@b")
    }

    @Test func hidesThePasswordFromPeople() throws {
        #expect(try read("amqp://u:secret@h:1/a%20b").masked == "amqp://u:***@h:1/a%20b")
        #expect(try read("amqp://u:***@h").password == AMQPURL.mask)
    }
}
