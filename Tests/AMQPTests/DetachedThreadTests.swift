// The threads of connections.

import Foundation
import Net
import Testing

@testable import AMQP

@Suite struct DetachedThreadTests {
    /// Takes stack until a frame lies as far below `top`.
    ///
    /// - Returns: how many frames that took.
    @inline(never)
    private static func descend(_ byteCount: Int, below top: UInt?) -> Int {
        withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 16) { frame in
            frame[0] = 1
            let address = UInt(bitPattern: frame.baseAddress)
            let top = top ?? address
            return top - min(top, address) >= UInt(byteCount)
                ? 1 : Int(frame[0]) + descend(byteCount, below: top)
        }
    }

    /// The system's own size, by `ulimit -s`, is usually 8 MiB, and may be less.
    @Test func theStackIsDeepEnoughForAnyTable() throws {
        let done = DispatchSemaphore(value: 0)
        try DetachedThread.start(stackByteCount: AMQPConsumer.stackByteCount) {
            _ = Self.descend(12 << 20, below: nil)
            done.signal()
        }
        #expect(done.wait(timeout: .now() + 50) == .success)
    }
}
