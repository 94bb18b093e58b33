// What a caller of the broker notices, a sentence a test.

import Testing

@testable import Queues

@Suite struct BrokerTests {
    @Test func tasksComeOutInTheOrderTheyWentIn() throws {
        try withBroker { broker in
            for number in 1...5 { try broker.add(UInt64(number), to: "a") }
            for number in 1...5 { #expect(try broker.take("a")?.map(\.number) == [UInt64(number)]) }
            #expect(try broker.take("a") == nil)
        }
    }
}
