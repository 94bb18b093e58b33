// The addresses that --push allows, those that are never allowed, and the error messages.

import Net
import Support
import Testing

@testable import Delivery

@Suite("Destination policy", .blocking)
struct DestinationPolicyTests {
    /// The reason why an address is not allowed, at a port without a listener.
    private func refusal(
        _ list: [String], _ address: String, port: UInt16 = 443, host: String? = nil, listeners: [Address] = []
    ) throws -> String? {
        var policy = try DestinationPolicy(list)
        policy.ownListeners = listeners
        return policy.refusal(of: try #require(IPAddress(address)), port: port, host: host ?? address)
    }

    private static let publicAddresses = [
        "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
        "172.15.255.255", "172.32.0.0", "192.0.0.9", "192.0.0.10", "192.31.196.1", "192.52.193.1", "192.175.48.1",
        "192.167.255.255", "198.17.255.255", "198.20.0.0", "223.255.255.255",
        "2000::", "2001:200::1", "2001:4860:4860::8888", "2606:4700::1111", "3ffe::1", "2620:4f:8000::1",
        "2001:1::1", "2001:1::2", "2001:1::3", "2001:3::1", "2001:4:112::1", "2001:20::1", "2001:2f:ffff::",
        "2001:30::1",
        "::ffff:1.1.1.1", "64:ff9b::1.1.1.1",
    ]
    private static let privateAddresses = [
        "10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.1", "192.168.255.255", "100.64.0.0",
        "100.127.255.255", "fc00::1", "fdff:ffff::1", "::ffff:10.0.0.1",
    ]
    private static let loopbackAddresses = ["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"]
    private static let otherAddresses = [
        "192.0.0.1", "192.0.0.8", "192.0.0.11", "192.0.0.170", "192.0.2.1", "192.88.99.1", "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1", "203.0.113.1",
        "100::1", "100:0:0:1::1", "2001:0:102:304::fefd:fcfb", "2001:1::4", "2001:2::1", "2001:4:113::1", "2001:10::1",
        "2001:1ff::1",
        "2001:db8::1", "2002:101:101::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1", "fbff::1", "fe00::1",
        "::1.2.3.4", "64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::192.0.2.1",
        "64:ff9b:1::1.1.1.1", "64:ff9a::1",
    ]

    @Test("Each word allows its addresses and no others")
    func words() throws {
        let kinds = [
            ("public", Self.publicAddresses), ("private", Self.privateAddresses), ("loopback", Self.loopbackAddresses),
            ("its network", Self.otherAddresses),
        ]
        for (word, _) in kinds.dropLast() {
            for (missing, addresses) in kinds {
                for address in addresses {
                    let refusal = try refusal([word], address, host: "a.test")
                    if missing == word {
                        #expect(refusal == nil)
                    } else {
                        #expect(
                            refusal?.hasSuffix("is not allowed: --push does not include \(missing)") == true,
                            "\(address)")
                    }
                }
            }
        }
    }

    @Test(
        "An element allows its addresses in each of their spellings",
        arguments: [
            ("10.1.0.0/16", "10.1.255.255", "a.test", true), ("10.1.0.0/16", "10.2.0.0", "a.test", false),
            ("10.1.0.0/16", "10.0.255.255", "a.test", false), ("10.1.2.0/23", "10.1.3.255", "a.test", true),
            ("10.1.2.0/23", "10.1.4.0", "a.test", false), ("10.1.2.3", "10.1.2.3", "a.test", true),
            ("10.1.2.3", "10.1.2.4", "a.test", false), ("10.1.2.3/32", "10.1.2.3", "a.test", true),
            ("0.0.0.0/0", "8.8.8.8", "a.test", true), ("0.0.0.0/0", "2606::1", "a.test", false),
            ("::/0", "2606::1", "a.test", true), ("::/0", "8.8.8.8", "a.test", false),
            ("2001:db8::/32", "2001:db8:ffff::1", "a.test", true), ("2001:DB8::/32", "2001:db9::", "a.test", false),
            ("2001:db8::1", "2001:db8::1", "a.test", true), ("2001:db8::1", "2001:db8::2", "a.test", false),
            ("2001:db8::/33", "2001:db8:8000::", "a.test", false), ("::ffff:10.1.2.3", "10.1.2.3", "a.test", true),
            ("hooks.example.com", "10.0.0.1", "hooks.example.com", true),
            ("Hooks.Example.COM.", "10.0.0.1", "hooks.example.com", true),
            ("hooks.example.com", "10.0.0.1", "hooks.example.com.", true),
            ("hooks.example.com", "10.0.0.1", "a.hooks.example.com", false),
            ("hooks.example.com", "10.0.0.1", "xhooks.example.com", false),
            ("*.example.com", "10.0.0.1", "a.example.com", true),
            ("*.example.com", "10.0.0.1", "a.b.example.com.", true),
            ("*.example.com", "10.0.0.1", "example.com", false), ("*.example.com", "10.0.0.1", "badexample.com", false),
            ("*.example.com", "10.0.0.1", ".example.com", false),
            ("*.example.com", "10.0.0.1", "example.com.evil.test", false),
            ("localhost", "127.0.0.1", "localhost", true), ("localhost", "::1", "localhost", true),
            ("localhost", "127.0.0.1", "127.0.0.1", false), ("localhost", "127.0.0.1", "a.test", false),
            ("worker1", "10.0.0.1", "worker1", true), ("my_service", "172.18.0.2", "my_service", true),
            ("private1", "10.0.0.1", "private1", true), ("localhost6", "::1", "localhost6", true),
            ("private1.", "10.0.0.1", "private1", true), ("everywere.", "10.0.0.1", "everywere", true),
            ("localhst.", "10.0.0.1", "localhst", true), ("privat.", "10.0.0.1", "privat", true),
            ("Private", "10.0.0.1", "a.test", true), ("LoopBack", "127.0.0.1", "a.test", true),
            ("private.", "10.0.0.1", "a.test", false),
            ("PUBLIC", "8.8.8.8", "a.test", true), ("private, loopback ", "127.0.0.1", "a.test", true),
            ("private,10.0.0.1,a.test", "8.8.8.8", "a.test", true),
            ("xn--bcher-kva.example", "8.8.8.8", "a.test", false),
        ])
    func elements(list: String, address: String, host: String, isAdmitted: Bool) throws {
        #expect((try refusal([list], address, host: host) == nil) == isAdmitted)
    }

    @Test("Several lists add up, and without a list nothing is allowed")
    func lists() throws {
        #expect(try refusal(["private", "loopback"], "127.0.0.1") == nil)
        #expect(try refusal(["private", "loopback"], "10.0.0.1") == nil)
        for address in Self.publicAddresses + Self.privateAddresses + Self.loopbackAddresses {
            #expect(try refusal([], address) != nil)
        }
    }

    @Test("Some addresses are never allowed, whatever --push includes")
    func never() throws {
        let never = [
            "0.0.0.0", "0.1.2.3", "169.254.0.1", "169.254.169.254", "169.254.170.23", "224.0.0.1", "239.255.255.255",
            "240.0.0.1", "255.255.255.255", "100.100.100.200", "168.63.129.16", "192.0.0.192", "100.96.0.96",
            "100.80.80.80",
            "::", "fe80::1", "fe80::a9fe:a9fe", "febf::1", "fec0::1", "feff::1", "ff02::1", "ff0e::1", "fd00:ec2::254",
            "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:a9fe:a9fe::1", "fd00:42::42",
            "fd00:100::100:200", "::ffff:169.254.169.254", "::ffff:0:169.254.169.254", "::169.254.169.254",
            "64:ff9b::169.254.169.254", "64:ff9b::168.63.129.16",
            "64:ff9b::0.0.0.1", "::0.1.2.3",
            "64:ff9b:1::169.254.169.254", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00:0", "2002:a9fe:a9fe::1", "2002:e000:1::",
            // Teredo: by the server, and by the client, which is 169.254.169.254 with all bits inverted.
            "2001:0:a9fe:a9fe::", "2001:0:102:304:0:0:5601:5601",
        ]
        let everywhere = DestinationPolicy.everywhere
        let everything = ["0.0.0.0/0,::/0,public,private,loopback,*.test,a.test", "169.254.0.0/16,fe80::/10"] + never
        for address in never {
            for host in [address, "a.test", "b.test"] {
                #expect(
                    try refusal(everything, address, host: host)?.contains("is never allowed: it ") == true,
                    "\(address)")
                #expect(
                    everywhere.refusal(of: try #require(IPAddress(address)), port: 80, host: host) != nil, "\(address)")
            }
        }
        for address in Self.publicAddresses + Self.privateAddresses + Self.loopbackAddresses + Self.otherAddresses {
            #expect(
                everywhere.refusal(of: try #require(IPAddress(address)), port: 80, host: "a.test") == nil, "\(address)")
        }
    }

    @Test(
        "The server's own listeners are never allowed, at their ports",
        arguments: [
            (":8080", "127.0.0.1", 8080, false), (":8080", "127.9.9.9", 8080, false), (":8080", "::1", 8080, false),
            (":8080", "127.0.0.1", 8081, true), (":8080", "198.51.100.7", 8080, true),
            ("0.0.0.0:8080", "127.0.0.1", 8080, false), ("[::]:8080", "127.0.0.1", 8080, false),
            ("0:8080", "127.0.0.1", 8080, false),
            ("127.0.0.1:8080", "127.0.0.1", 8080, false), ("127.0.0.1:8080", "127.0.0.2", 8080, true),
            ("127.0.0.1:8080", "::ffff:127.0.0.1", 8080, false), ("127.0.0.1:8080", "64:ff9b::7f00:1", 8080, false),
            ("[::1]:8080", "::1", 8080, false), ("[::1]:8080", "127.0.0.1", 8080, true),
            ("10.1.2.3:8080", "10.1.2.3", 8080, false), ("10.1.2.3:8080", "10.1.2.4", 8080, true),
            ("localhost:8080", "127.0.0.1", 8080, false), ("localhost:8080", "127.0.0.1", 8081, true),
            ("localhost:8080", "10.1.2.3", 8080, true), ("unix:/run/emq.sock", "127.0.0.1", 8080, true),
        ])
    func ownListeners(listener: String, address: String, port: UInt16, isAdmitted: Bool) throws {
        let refusal = try refusal(
            ["0.0.0.0/0,::/0,a.test"], address, port: port, host: "a.test", listeners: [Address(listener)])
        if isAdmitted {
            #expect(refusal == nil)
        } else {
            #expect(refusal?.hasSuffix("never allowed at port 8080: this server listens there itself") == true)
        }
    }

    @Test("A listener on the wildcard address covers each of this machine's interfaces")
    func ownInterfaces() throws {
        let addresses = try #require(MachineAddresses.all())
        #expect(addresses.contains { $0.description == "127.0.0.1" })
        var policy = DestinationPolicy.everywhere
        policy.ownListeners = [.tcp(host: "", port: 8080), .tcp(host: "localhost", port: 8081)]
        for address in addresses {
            #expect(policy.refusal(of: address, port: 8080, host: "a.test") != nil)
        }
    }

    @Test(
        "A refusal names the address and the reason",
        arguments: [
            ("127.0.0.1", "127.0.0.1", "127.0.0.1 is not allowed: --push does not include loopback"),
            ("10.0.0.5", "worker1", "worker1 (10.0.0.5) is not allowed: --push does not include private"),
            ("8.8.8.8", "dns.google.", "dns.google (8.8.8.8) is not allowed: --push does not include public"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.1 is not allowed: --push does not include its network"),
            ("169.254.169.254", "169.254.169.254", "169.254.169.254 is never allowed: it is link-local"),
            ("168.63.129.16", "a.test", "a.test (168.63.129.16) is never allowed: it is a cloud's metadata service"),
            (
                "64:ff9b::a9fe:a9fe", "64:ff9b::a9fe:a9fe",
                "64:ff9b::a9fe:a9fe is never allowed: it leads to 169.254.169.254, which is link-local"
            ),
        ])
    func sentences(address: String, host: String, sentence: String) throws {
        #expect(try refusal(["203.0.113.0/24"], address, host: host) == sentence)
    }

    @Test(
        "An invalid element is explained",
        arguments: [
            ("privat", "does not take 'privat'; did you mean 'private'? Write a host of that name as 'privat.'"),
            ("publc", "did you mean 'public'"), ("pubilc", "did you mean 'public'"),
            ("everywhere", "0.0.0.0/0,::/0"), ("Anywhere", "0.0.0.0/0,::/0"), ("internet", "did you mean 'public'"),
            ("lan", "did you mean 'private'"), ("local", "did you mean 'loopback'"),
            ("true", "does not take 'true'; it takes"),
            ("off", "leave --push out"),
            ("everywere", "did you mean '0.0.0.0/0,::/0'? Write a host of that name as 'everywere.'"),
            ("anythin", "did you mean '0.0.0.0/0,::/0'"), ("Localhst", "did you mean 'localhost'"),
            ("lokalhost", "did you mean 'localhost'"),
            ("loopbak", "did you mean 'loopback'"), ("all", "0.0.0.0/0,::/0"), ("none", "leave --push out"),
            ("private,publik", "did you mean 'public'"), ("", "empty"), ("public,", "empty"),
            ("public,,private", "empty"),
            ("*", "0.0.0.0/0,::/0"), ("*.", "'*.'"), ("a.*.com", "hooks.example.com or *.example.com"),
            ("*a.com", "hooks.example.com or *.example.com"), ("**.com", "'**.com'"), ("a..com", "'a..com'"),
            (".com", "'.com'"), ("-a.com", "'-a.com'"), ("a-.com", "'a-.com'"), ("bücher.example", "'bücher.example'"),
            (String(repeating: "a", count: 64) + ".com", "does not take"),
            (String(repeating: "abcdefg.", count: 32) + "com", "does not take"),
            ("https://hooks.example.com", "hosts without ports"), ("hooks.example.com:443", "hosts without ports"),
            ("hooks.example.com/16", "hosts without ports"), ("[::1]", "'[::1]'"), ("fe80::1%eth0", "'fe80::1%eth0'"),
            ("10.1.2", "'10.1.2'"), ("a test", "'a test'"), (" , ", "empty"), ("10.1.2.300", "'10.1.2.300'"),
            ("10", "'10'"), ("*.10", "'*.10'"),
            ("10.1.2.3/16", "did you mean '10.1.0.0/16'?"), ("2001:db8::1/32", "did you mean '2001:db8::/32'?"),
            ("10.1.2.3/0", "did you mean '0.0.0.0/0'?"), ("10.0.0.0/33", "a number from 0 to 32, not '33'"),
            ("::/129", "a number from 0 to 128, not '129'"), ("10.0.0.0/", "not ''"), ("10.0.0.0/-1", "not '-1'"),
            ("10.0.0.0/8/8", "not '8/8'"), ("10.0.0.0/255.0.0.0", "not '255.0.0.0'"),
        ])
    func errors(list: String, explanation: String) {
        let error = #expect(throws: DestinationPolicyError.self) { try DestinationPolicy([list]) }
        #expect(error?.description.contains(explanation) == true, "\(error?.description ?? "")")
    }
}
