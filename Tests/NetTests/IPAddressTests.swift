// Which texts are IP addresses, and how they are written.

import Support
import Testing

@testable import Net

@Suite("IP addresses", .blocking)
struct IPAddressTests {
    @Test(
        "An address is read and written in its canonical form",
        arguments: [
            ("127.0.0.1", "127.0.0.1", 4), ("::1", "::1", 16), ("2001:DB8:0:0::1", "2001:db8::1", 16),
            ("::ffff:10.1.2.3", "10.1.2.3", 4),
        ])
    func reading(text: String, canonical: String, byteCount: Int) throws {
        let address = try #require(IPAddress(text))
        #expect(address.description == canonical)
        #expect(address.bytes.count == byteCount)
        #expect(address.isIPv4 == (byteCount == 4))
    }

    @Test(
        "An incomplete or invalid address is refused",
        arguments: ["", "localhost", "127.1", "0x7f.0.0.1", "1.2.3.4.5", "[::1]", "fe80::1%eth0", "1.2.3.256", "::1\0"])
    func noAddress(text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test("Only 4 or 16 bytes make an address")
    func byteCounts() {
        #expect(IPAddress(bytes: [1, 2, 3]) == nil)
        #expect(IPAddress(bytes: [1, 2, 3, 4])?.description == "1.2.3.4")
    }
}
