// The client against the real server.

import EMQClient
import Testing

@Suite struct ClientSmokeTests {
    @Test func aWrongURLIsRefusedAtOnce() {
        #expect(throws: EMQError.self) { try EMQClient("ftp://example.com") }
    }
}
