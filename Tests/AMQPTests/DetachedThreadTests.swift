// The threads of connections.

import Foundation
import Net
import Support
import Testing

@testable import AMQP

@Suite(.blocking) struct DetachedThreadTests {
    private typealias GetAttributes = @convention(c) (pthread_t, UnsafeMutablePointer<pthread_attr_t>) -> Int32

    /// The size of the stack of the thread that calls, in bytes; 0 if the system does not say.
    private static func stackByteCount() -> Int {
        var attributes = pthread_attr_t()
        // Swift's Glibc module leaves this function out.
        guard let symbol = dlsym(nil, "pthread_getattr_np"),
            unsafeBitCast(symbol, to: GetAttributes.self)(pthread_self(), &attributes) == 0
        else { return 0 }
        defer { pthread_attr_destroy(&attributes) }
        var (address, byteCount): (UnsafeMutableRawPointer?, Int) = (nil, 0)
        return pthread_attr_getstack(&attributes, &address, &byteCount) == 0 ? byteCount : 0
    }

    /// The system's own size, by `ulimit -s`, is usually 8 MiB, and may be less.
    @Test func theStackIsDeepEnoughForAnyTable() throws {
        let done = DispatchSemaphore(value: 0)
        // The semaphore orders the accesses.
        nonisolated(unsafe) var byteCount = 0
        try DetachedThread.start(stackByteCount: AMQPConsumer.stackByteCount) {
            byteCount = Self.stackByteCount()
            done.signal()
        }
        #expect(done.wait(timeout: .now() + 50) == .success)
        #expect(byteCount >= AMQPConsumer.stackByteCount)
    }
}
