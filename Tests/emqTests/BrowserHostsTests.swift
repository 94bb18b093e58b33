// The host names that browsers may use for the server.

import Foundation
import Testing

@testable import emq

@Suite(.blocking) struct BrowserHostsTests {
    private func admits(_ host: String, _ hosts: BrowserHosts) -> Bool {
        let bytes = Array(host.utf8)
        return hosts.admits(bytes.span)
    }

    private let hosts = BrowserHosts(["queue.example.com"], machineNames: ["host7", "host7.example.org"])

    @Test(arguments: [
        "127.0.0.1", "127.0.0.1:8080", "192.168.0.7:1", "[::1]", "[::1]:8080", "[2001:DB8::1]:80", "[::ffff:1.2.3.4]",
        "localhost", "localhost:8080", "LocalHost", "localhost.", "localhost.:80", "a.localhost", "b.a.LOCALHOST:1",
        "emq", "emq:8080", "my_emq-2", "host7", "HOST7.example.org", "host7.example.org.:8080", "queue.example.com",
        "Queue.Example.COM.:443",
    ])
    func namesThatOthersCannotPointHereAreAdmitted(host: String) {
        #expect(admits(host, hosts))
    }

    @Test(arguments: [
        "", ":80", "evil.example", "evil.example:8080", "evil.example.", "a.queue.example.com", "xqueue.example.com",
        "queue.example.com.evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "notlocalhost.", "emq.",
        "host7.example.com", "1.2.3", "1.2.3.4.5", "127.0.0.256", "0x7f.0.0.1", "[::1", "[]", "[::1].evil.example",
        "[v1.evil.example]", "evil%2Eexample", "evil%2eexample:80", ".localhost", "..", "a,b", "a.example..",
    ])
    func namesThatOthersCanPointHereAreNotAdmitted(host: String) {
        #expect(!admits(host, hosts))
    }

    @Test func theMachinesNamesComeFromItsFiles() {
        func names(_ hostName: String, hosts: String = "", resolver: String = "") -> Set<String> {
            Set(
                BrowserHosts.machineNames(hostName) {
                    ["/etc/hosts": hosts, "/etc/resolv.conf": resolver][$0] ?? ""
                })
        }
        #expect(names("Host7") == ["host7"])
        #expect(names("host7.example.org") == ["host7.example.org"])
        #expect(names("localhost") == [])
        #expect(names("") == [])
        let lines =
            "127.0.0.1 localhost\n127.0.1.1\tHOST7.example.org  host7 # here\n10.0.0.1 other.example.org host70\n"
        #expect(names("host7", hosts: lines) == ["host7", "host7.example.org"])
        #expect(names("host7", hosts: "#127.0.1.1 a.example host7\n") == ["host7"])
        #expect(
            names("host7", resolver: "nameserver 10.0.0.1\nsearch a.example\nsearch b.example c.example.\n")
                == ["host7", "host7.b.example", "host7.c.example"])
        #expect(names("host7.example.org", resolver: "search b.example\n") == ["host7.example.org"])
    }

    @Test func theHostThatTheServerListensAtIsItsName() throws {
        let hosts = BrowserHosts(try Options(["--addr", "Emq.example.com:0", "--host", "a.example"]) { _ in nil })
        #expect(admits("emq.example.com:8080", hosts))
        #expect(admits("a.example", hosts))
        #expect(!admits("b.example", hosts))
    }

    @Test(arguments: [
        "http://a.example", "a.example:80", "*.example", "a.example,b.example", "a b", "", ".", "a.example/", "[::1]",
        "ä.example",
    ])
    func aHostIsAName(value: String) {
        let error = #expect(throws: UsageError.self) { try Options(["--host", value]) { _ in nil } }
        #expect(error?.description.contains("--host takes a name such as queue.example.com") == true)
    }

    @Test func theEnvironmentHoldsAListOfNames() throws {
        let options = try Options([]) { $0 == "EMQ_HOST" ? "A.example,b.example." : nil }
        #expect(options.hostNames == ["a.example", "b.example"])
    }

    @Test func anOperatorCanAllowNames() throws {
        let path = "/tmp/emq-\(UUID().uuidString).sock"
        let server = try Server(
            ["--addr", "127.0.0.1:0", "--addr", "unix:\(path)", "--host", "Queue.Example.com", "--host=b.example."])
        for client in [try server.connect(), try Client(path: path)] {
            for (host, status) in [
                ("queue.example.com", 200), ("QUEUE.example.com.:80", 200), ("b.example", 200),
                ("a.queue.example.com", 403),
                ("example.com", 403), ("emq", 200),
            ] {
                client.send("GET /queues HTTP/1.1\r\nHost: \(host)\r\nUser-Agent: Mozilla/5.0\r\n\r\n")
                #expect(try client.response().status == status, "\(host)")
            }
        }
        let twin = try Server(environment: ["EMQ_HOST": "a.example,b.example"])
        let client = try twin.connect()
        client.send("GET /queues HTTP/1.1\r\nHost: b.example\r\nOrigin: http://b.example\r\n\r\n")
        #expect(try client.response().status == 200)
    }
}
