// The thread that waits for the disk, and its clock.

import Foundation
import Support
import Synchronization
import Testing

@testable import Journal

@Suite(.blocking) struct LogHelperTests {
    /// A clock that advances at each reading, so that no two readings are in the same millisecond.
    private final class Clock: Sendable {
        private let ticks = Atomic<Int64>(1)

        var milliseconds: Int64 { ticks.add(1, ordering: .relaxed).newValue }
    }

    @Test func whatFallsDueBetweenTwoLooksAtTheClockIsDone() throws {
        let disk = SimulatedDisk(seed: 1)
        let recovery = try LogRecovery(disk: disk)
        while try !recovery.advance(byteCount: .max, visit: { _, _, _ in }) {}
        let writer = try DirectoryLogStore(recovery, segmentByteCount: 64 << 10)
        for operation in 1...1000 { disk.failures[disk.operations + operation] = .input }
        var configuration = LogConfiguration()
        configuration.retryMilliseconds = 2
        let clock = Clock()
        let helper = try LogHelper(writer, configuration) { clock.milliseconds }
        defer { helper.end() }
        // The helper gives up after ten failures, with a pause after each.
        _ = helper.want(frameByteCount: 100)
        let deadline = Date(timeIntervalSinceNow: 120)
        while helper.update(wakingHelper: false, { $0.failure }) == nil {
            try #require(Date() < deadline, "it does not try again")
            usleep(1000)
        }
    }
}
