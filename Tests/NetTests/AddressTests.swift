// The addresses that users write in options.

import Support
import Testing

@testable import Net

@Suite(.blocking) struct AddressTests {
    @Test(arguments: [
        (":8080", Address.tcp(host: "", port: 8080)), ("localhost:0", .tcp(host: "localhost", port: 0)),
        ("127.0.0.1:65535", .tcp(host: "127.0.0.1", port: 65535)), ("[::1]:80", .tcp(host: "::1", port: 80)),
        ("[::]:080", .tcp(host: "::", port: 80)), ("unix:/run/emq.sock", .unix(path: "/run/emq.sock")),
        ("unix:relative:1", .unix(path: "relative:1")),
        ("unix:" + String(repeating: "p", count: 107), .unix(path: String(repeating: "p", count: 107))),
    ])
    func whatIsAnAddress(text: String, address: Address) throws {
        #expect(try Address(text) == address)
        #expect(try Address(address.description) == address)
    }

    @Test(arguments: [
        ("localhost", Address.tcp(host: "localhost", port: 5001)), ("127.0.0.1", .tcp(host: "127.0.0.1", port: 5001)),
        ("[::1]", .tcp(host: "::1", port: 5001)), ("localhost:80", .tcp(host: "localhost", port: 80)),
        ("[::1]:80", .tcp(host: "::1", port: 80)), (":80", .tcp(host: "", port: 80)),
        ("unix:/run/emq.sock", .unix(path: "/run/emq.sock")), ("unix:relative", .unix(path: "relative")),
    ])
    func aHostAloneHasTheDefaultPort(text: String, address: Address) throws {
        #expect(try Address(text, defaultPort: 5001) == address)
    }

    @Test(arguments: [
        ("", "HOST:PORT"), ("8080", "did you mean ':8080'"), ("::1", "[::1]:8080"), ("localhost:", "0 to 65535"),
        ("*", "':5001'"), ("a/b", "HOST:PORT"), ("a,b", "HOST:PORT"), ("x]", "in brackets"), ("unix:", "1 to 107"),
    ])
    func aDefaultPortMakesNoAddressOfWhatIsNone(text: String, explanation: String) {
        let error = #expect(throws: AddressError.self) { try Address(text, defaultPort: 5001) }
        #expect(error?.description.contains(explanation) == true, "\(error?.description ?? "")")
        #expect(error?.description.contains("'\(text):5001'") == false, "it was not written so")
    }

    @Test(arguments: [
        ("", "HOST:PORT"), ("localhost", "HOST:PORT"), ("localhost:", "0 to 65535"),
        (":65536", "'65536'"), (":-1", "'-1'"), (":+1", "'+1'"), (":http", "'http'"), (": 80", "' 80'"),
        (":٨", "'٨'"), (":99999999999999999999", "0 to 65535"), ("::1:80", "[::1]:8080"), ("::1", "[::1]:8080"),
        ("*:80", "':80'"),
        ("http://localhost:80", "HOST:PORT"), (":80,:81", "HOST:PORT"), ("8080", "did you mean ':8080'"),
        ("[::1:80", "in brackets"),
        ("unix:", "1 to 107"),
        ("unix:" + String(repeating: "p", count: 108), "1 to 107"), ("unix:a\0b", "1 to 107"),
    ])
    func whatIsNoneIsExplained(text: String, explanation: String) {
        let error = #expect(throws: AddressError.self) { try Address(text) }
        #expect(error?.description.contains(explanation) == true, "\(error?.description ?? "")")
    }

    @Test(arguments: [
        (":80", true), ("0.0.0.0:80", true), ("[::]:80", true), ("192.0.2.7:80", true), ("emq.example:80", true),
        ("[::ffff:192.0.2.7]:80", true), ("localhost:80", false), ("LocalHost:80", false), ("127.0.0.1:80", false),
        ("127.1.2.3:80", false), ("[::1]:80", false), ("[::ffff:127.0.0.1]:80", false), ("unix:/run/emq.sock", false),
    ])
    func otherMachinesReachAllAddressesButLocalOnes(text: String, isReachable: Bool) throws {
        #expect(try Address(text).isReachableFromOutside == isReachable)
    }
}
