// The log together with its helper thread: in a real directory, and on a disk that is full or fails.

import Foundation
import Support
import Testing

@testable import Journal

@Suite(.blocking) struct LogTests {
    private static func configuration(_ mode: LogConfiguration.SyncMode = .always) -> LogConfiguration {
        var configuration = LogConfiguration()
        configuration.segmentByteCount = 64 << 10
        configuration.smallSegmentByteCount = 16 << 10
        configuration.gatheringByteCount = 128 << 10
        configuration.syncMode = mode
        configuration.retryMilliseconds = 1
        return configuration
    }

    private func withDirectory(_ body: (String) throws -> Void) throws {
        let path = NSTemporaryDirectory() + "emq-journal-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    /// Opens a log. A program that another test has just started may have its lock for a moment.
    private func open(
        _ path: String, _ mode: LogConfiguration.SyncMode = .always, lockWaitMilliseconds: Int64 = 5000
    ) throws -> (Log, [[UInt8]]) {
        let recovery = try LogRecovery(directory: path, lockWaitMilliseconds: lockWaitMilliseconds)
        var payloads: [[UInt8]] = []
        while try !recovery.advance(
            byteCount: 10_000, visit: { payload, _, _ in payloads.append(payload.indices.map { payload[$0] }) })
        {}
        return (try Log(recovery, configuration: Self.configuration(mode)), payloads)
    }

    /// Waits for the helper, as an event loop does.
    private func collect(_ log: Log) throws {
        var poll = pollfd(fd: log.descriptor, events: Int16(POLLIN), revents: 0)
        var count: Int32
        repeat { count = Glibc.poll(&poll, 1, 120_000) } while count < 0 && errno == EINTR
        try #require(count == 1, "the helper does not answer")
        try log.collect()
    }

    @Test func spaceIsLookedForWhenAskedFor() throws {
        let disk = SimulatedDisk(seed: 1)
        disk.capacity = 1 << 20
        let recovery = try LogRecovery(disk: disk)
        while try !recovery.advance(byteCount: .max, visit: { _, _, _ in }) {}
        let log = try Log(recovery, configuration: Self.configuration())
        let before = try #require(log.freeByteCount)
        #expect(before > 0 && before < 1 << 20)
        disk.capacity += 1 << 20
        log.lookForSpace()
        repeat { try collect(log) } while log.freeByteCount == before
        // Meanwhile, the helper may prepare the next segment.
        #expect(log.freeByteCount ?? 0 > before)
        try log.close()
    }

    @Test(arguments: [LogConfiguration.SyncMode.always, .interval(milliseconds: 5), .never])
    func keepsWhatWasAppended(mode: LogConfiguration.SyncMode) throws {
        var random = SeededRandom()
        try withDirectory { path in
            var expected: [[UInt8]] = []
            for _ in 0..<3 {
                let (log, found) = try open(path, mode)
                try #require(found == expected, "\(SeededRandom())")
                var rounds = 0
                // Random sizes may need more rounds until there are several segments.
                while rounds < min(300, testOperations / 200) || log.segments.count <= 2 {
                    rounds += 1
                    try #require(rounds < 10_000, "\(SeededRandom())")
                    for _ in 0..<random.below(6) {
                        let bytes = payload(&random, limit: random.below(50) == 0 ? 100_000 : 500)
                        while true {
                            do {
                                let sequence = try log.append(bytes.span)
                                try #require(sequence == UInt64(expected.count + 1))
                                break
                            } catch Log.Refusal.busy {
                                log.commit()
                                try collect(log)
                            }
                        }
                        expected.append(bytes)
                    }
                    log.commit()
                    if random.below(3) == 0 { try log.collect() }
                }
                while log.durableSequence < log.lastSequence { try collect(log) }
                if case .interval = mode {
                    while log.syncedSequence < log.lastSequence { try collect(log) }
                }
                try append(log, [7])
                expected.append([7])
                try log.close()
                #expect(log.durableSequence == log.lastSequence && log.syncedSequence == log.lastSequence)
            }
        }
    }

    /// Appends a frame once the helper has made room for it, however long that takes.
    private func append(_ log: Log, _ bytes: [UInt8]) throws {
        while log.refusal(payloadByteCount: bytes.count) == .busy {
            log.commit()
            try collect(log)
        }
        _ = try log.append(bytes.span)
    }

    /// Waits for room for a frame, appends it, and waits until it is durable.
    private func put(_ log: Log, byteCount: Int) throws {
        while log.refusal(payloadByteCount: byteCount) != nil { try collect(log) }
        _ = try log.append([UInt8](repeating: 1, count: byteCount).span)
        log.commit()
        while log.durableSequence < log.lastSequence { try collect(log) }
    }

    /// Whether a frame is taken or refused, once the helper knows. Its answer is valid for one millisecond only.
    private func verdict(_ log: Log, byteCount: Int) throws -> Log.Refusal? {
        while true {
            let refusal = log.refusal(payloadByteCount: byteCount)
            guard refusal == .busy else { return refusal }
            log.commit()
            try collect(log)
        }
    }

    private func startOver(_ log: Log) throws {
        let number = log.segments.last?.number
        while !log.startOver() { try collect(log) }
        while log.segments.last?.number == number { try collect(log) }
    }

    @Test func segmentsGrowAndStartOverSmall() throws {
        try withDirectory { path in
            let sizes = [16, 32, 64, 64].map { $0 << 10 }
            do {
                let (log, _) = try open(path)
                #expect(log.byteCount == sizes[0])
                while log.segments.count < 4 { try put(log, byteCount: 5000) }
                #expect(log.segments.map(\.byteCount) == sizes)
                // Starting over also works when the next segment is already prepared.
                while log.refusal(payloadByteCount: 60_000) != nil { try collect(log) }
                let last = log.lastSequence
                try startOver(log)
                #expect(log.segments.last == LogSegment(number: 5, firstSequence: last + 1, byteCount: sizes[0]))
                #expect(!log.startOver(), "a small and empty segment cannot become smaller")
                log.deleteSegments(below: .max)
                while log.segments.count > 1 { try collect(log) }
                #expect(log.byteCount == sizes[0])
                // Starts over once more, and appends while that is in progress.
                #expect(try log.append([1, 2].span) == last + 1)
                #expect(!log.startOver())
                log.commit()
                while !log.startOver() { try collect(log) }
                #expect(try log.append([3].span) == last + 2)
                #expect(!log.startOver())
                log.commit()
                while log.durableSequence < log.lastSequence { try collect(log) }
                #expect(log.segments.last?.firstSequence == last + 2)
                while log.segments.count < 4 { try put(log, byteCount: 5000) }
                #expect(log.segments.suffix(2).map(\.byteCount) == Array(sizes[1...2]))
                try startOver(log)
                log.deleteSegments(below: .max)
                while log.segments.count > 1 { try collect(log) }
                try append(log, [4])
                try log.close()
            }
            let names = try FileManager.default.contentsOfDirectory(atPath: path).filter { $0.hasSuffix(".log") }
            #expect(names.count <= 2)
            #expect(try open(path).1 == [[4]])
        }
    }

    @Test func whatIsRefusedWhileStartingOverDoesNotMakeTheNextSegmentLarge() throws {
        let disk = SimulatedDisk(seed: 1)
        let log = try Log(recover(disk).recovery, configuration: Self.configuration())
        while log.segments.count < 4 { try put(log, byteCount: 5000) }
        while log.refusal(payloadByteCount: 60_000) != nil { try collect(log) }
        while !log.startOver() { try collect(log) }
        #expect(log.refusal(payloadByteCount: 17_000) == .busy)
        while log.segments.count < 6 { try put(log, byteCount: 1000) }
        #expect(log.segments.suffix(2).map(\.byteCount) == [16 << 10, 32 << 10])
        try log.close()
    }

    /// On a full disk, a prepared segment is cut to a small one. Without one, the log stays as it is.
    @Test(arguments: [true, false]) func startsOverOnAFullDisk(isPrepared: Bool) throws {
        let disk = SimulatedDisk(seed: 1)
        let log = try Log(recover(disk).recovery, configuration: Self.configuration())
        while log.segments.count < 4 { try put(log, byteCount: 5000) }
        let number = try #require(log.segments.last?.number)
        if isPrepared { while log.refusal(payloadByteCount: 60_000) != nil { try collect(log) } }
        try log.close()
        if !isPrepared { disk[Format.segmentName(number + 1)] = nil }
        disk.capacity = disk.used
        let again = try Log(recover(disk).recovery, configuration: Self.configuration())
        while !again.startOver() { try collect(again) }
        _ = try again.append([1].span, usingReserve: true)
        again.commit()
        while again.durableSequence < again.lastSequence { try collect(again) }
        #expect(again.segments.last?.number == (isPrepared ? number + 1 : number))
        #expect(again.segments.last?.byteCount == (isPrepared ? 16 << 10 : 64 << 10))
        let last = try #require(again.segments.last?.number)
        again.deleteSegments(below: .max)
        while again.segments.count > 1 { try collect(again) }
        if !isPrepared { try startOver(again) }
        again.deleteSegments(below: last + 1)
        try put(again, byteCount: 10_000)
        try again.close()
        #expect(try recover(disk).recovery.report.lastSequence == again.lastSequence)
    }

    /// The refusal of a frame that is too large for the disk does not cause smaller ones to be refused.
    @Test func aFrameThatIsTooLargeForTheDiskHarmsNoOther() throws {
        let disk = SimulatedDisk(seed: 1)
        disk.capacity = 300 << 10
        let log = try Log(recover(disk).recovery, configuration: Self.configuration())
        // Frames that were taken keep their room, even if an attempt to make more room fails.
        while log.refusal(payloadByteCount: 30_000) != nil { try collect(log) }
        for _ in 0..<4 { try append(log, [UInt8](repeating: 1, count: 8000)) }
        log.commit()
        #expect(try verdict(log, byteCount: 500_000) == .noSpace)
        while log.segments.count < 4 { try put(log, byteCount: 5000) }
        #expect(log.problem == nil)
        disk.capacity = 2 << 20
        try put(log, byteCount: 500_000)
        try log.close()
        #expect(try recover(disk).recovery.report.lastSequence == log.lastSequence)
    }

    @Test func whatWasTakenIsWrittenWhenTheNextSegmentCannotBecomeLarger() throws {
        let disk = SimulatedDisk(seed: 1)
        let log = try Log(recover(disk).recovery, configuration: Self.configuration())
        while log.refusal(payloadByteCount: 30_000) != nil { try collect(log) }
        disk.capacity = disk.used
        for _ in 0..<4 { _ = try log.append([UInt8](repeating: 1, count: 8000).span) }
        while log.refusal(payloadByteCount: 40_000) != .noSpace { try collect(log) }
        log.commit()
        while log.durableSequence < log.lastSequence { try collect(log) }
        try log.close()
        #expect(log.segments.count == 2)
    }

    /// The disk may never have space for the current segment and one of twice its size.
    @Test func aNextSegmentThatIsSmallerThanPlannedIsUsed() throws {
        let disk = SimulatedDisk(seed: 1)
        disk.capacity = 5 << 20
        var configuration = Self.configuration()
        configuration.segmentByteCount = 16 << 20
        configuration.smallSegmentByteCount = 1 << 20
        let log = try Log(recover(disk).recovery, configuration: configuration)
        for _ in 0..<300 {
            for _ in 0..<2000 where log.refusal(payloadByteCount: 50_000) != nil { try collect(log) }
            try #require(
                log.refusal(payloadByteCount: 50_000) == nil, "\(log.segments), \(String(describing: log.problem))")
            _ = try log.append([UInt8](repeating: 1, count: 50_000).span)
            log.commit()
            while log.durableSequence < log.lastSequence { try collect(log) }
            log.deleteSegments(below: .max)
        }
        try log.close()
        #expect(try recover(disk).recovery.report.lastSequence == 300)
    }

    /// Only a full disk is reported as `noSpace`, not a segment that cannot be deleted.
    @Test func aSegmentThatCannotBeDeletedIsNoLackOfSpace() throws {
        let disk = SimulatedDisk(seed: 1)
        let log = try Log(recover(disk).recovery, configuration: Self.configuration())
        while log.segments.count < 3 { try put(log, byteCount: 5000) }
        disk.failsRemoving = true
        let last = try #require(log.segments.last?.number)
        log.deleteSegments(below: .max)
        while log.problem == nil { try collect(log) }
        for _ in 0..<100 {
            if let refusal = log.refusal(payloadByteCount: 5000) {
                #expect(refusal == .busy)
                try collect(log)
            } else {
                try put(log, byteCount: 5000)
            }
        }
        // Repeated failures to delete do not prevent the log from making room.
        for _ in 0..<100 where log.refusal(payloadByteCount: 100_000) != nil { try collect(log) }
        #expect(log.refusal(payloadByteCount: 100_000) == nil)
        disk.failsRemoving = false
        while let first = log.segments.first, first.number < last { try collect(log) }
        while log.problem != nil { try collect(log) }
        try log.close()
    }

    @Test func aSecondProcessIsKeptOut() throws {
        try withDirectory { path in
            let (log, _) = try open(path)
            let error = #expect(throws: LogError.self) { try open(path, lockWaitMilliseconds: 0) }
            #expect(error?.cause == .inUse)
            #expect(throws: LogError.self) { try LogMaintenance.check(directory: path) { _ in } }
            try log.close()
        }
    }

    @Test func checksAndRepairsADirectory() throws {
        try withDirectory { path in
            defer { try? FileManager.default.removeItem(atPath: path + ".repaired") }
            do {
                let (log, _) = try open(path)
                for number in 0..<50 {
                    try append(log, [UInt8](repeating: UInt8(number), count: 2000))
                    log.commit()
                    while log.durableSequence < log.lastSequence { try collect(log) }
                }
                try log.close()
            }
            let file = path + "/0000000001.log"
            var bytes = try Data(contentsOf: URL(fileURLWithPath: file))
            bytes[5000] ^= 1
            try bytes.write(to: URL(fileURLWithPath: file))
            let error = #expect(throws: LogError.self) { try open(path) }
            #expect(error?.file == file && error?.offset == Format.segmentHeaderByteCount + 2 * 2024)
            let report = try LogMaintenance.check(directory: path) { _ in }
            #expect(report.failure == error)
            #expect(report.segments[0].damages.map(\.lostSequences) == [3...3])
            _ = try LogMaintenance.repair(
                directory: path, into: path + ".repaired", configuration: Self.configuration(), inspect: { _ in })
            #expect(try open(path + ".repaired").1.map(\.first) == (0..<50).filter { $0 != 2 }.map { UInt8($0) })
            #expect(throws: LogError.self) {
                try LogMaintenance.repair(directory: path, into: path + ".repaired") { _ in }
            }
            #expect(throws: LogError.self) { try LogMaintenance.check(directory: path + ".none") { _ in } }
        }
    }

    /// On disks of many sizes: frames that were taken become durable, frames without room are refused, and the log
    /// continues when there is room again.
    @Test func aFullDiskRefusesButLosesNothing() throws {
        let segment = 64 << 10
        for capacity in stride(from: segment + 100, through: 4 * segment, by: 16_001) {
            let disk = SimulatedDisk(seed: UInt64(capacity))
            disk.capacity = capacity
            let recovery = try recover(disk).recovery
            let log = try Log(recovery, configuration: Self.configuration())
            // If a large segment does not fit, a smaller one may fit a moment later.
            var refusal: Log.Refusal?
            while try refusal != .noSpace || verdict(log, byteCount: 1000) != .noSpace {
                do {
                    _ = try log.append([UInt8](repeating: 1, count: 1000).span)
                } catch {
                    refusal = error
                    if error == .busy { try collect(log) }
                }
                if log.lastSequence % 7 == 0 { log.commit() }
                if log.pendingByteCount > 20_000 { try collect(log) }
            }
            #expect(log.problem?.cause == .noSpace)
            // The reserve is for changes that make room. Sparing changes make none themselves and leave half of it.
            let last = log.lastSequence
            while log.refusal(payloadByteCount: 100, usingReserve: true, isSparing: true) == nil {
                _ = try log.append([UInt8](repeating: 2, count: 100).span, usingReserve: true)
            }
            let half = log.lastSequence
            refusal = nil
            while refusal != .noSpace {
                do {
                    _ = try log.append([UInt8](repeating: 2, count: 100).span, usingReserve: true)
                } catch {
                    refusal = error
                    guard error == .busy else { continue }
                    log.commit()
                    try collect(log)
                }
            }
            #expect(log.lastSequence >= last + 20)
            #expect(log.lastSequence >= half + 10)
            log.commit()
            while log.durableSequence < log.lastSequence { try collect(log) }
            let crashed = disk.copy()
            #expect(try recover(crashed).recovery.report.lastSequence == log.lastSequence)
            // The log makes room by deleting a segment, or another program does.
            if log.segments.count > 1 { log.deleteSegments(below: log.segments[1].number) }
            disk.capacity = .max
            while log.refusal(payloadByteCount: 1000) != nil { try collect(log) }
            _ = try log.append([3].span)
            try log.close()
            #expect(log.durableSequence == log.lastSequence)
        }
    }

    /// A deletion is complete only when the directory is synced.
    @Test func aDirectoryThatCannotBeSyncedIsSyncedLater() throws {
        let disk = SimulatedDisk(seed: 1)
        let log = try Log(recover(disk).recovery, configuration: Self.configuration())
        while log.segments.count < 3 { try put(log, byteCount: 5000) }
        // The next segment is ready, and the helper has nothing to do.
        while log.refusal(payloadByteCount: 62_000) != nil { try collect(log) }
        // The second segment is gone after two operations; the third is the sync.
        for operation in 4...8 { disk.failures[disk.operations + operation] = .input }
        log.deleteSegments(below: 3)
        while log.segments.count > 1 { try collect(log) }
        while log.problem != nil { try collect(log) }
        #expect(disk.safe.keys.sorted() == [3, 4].map { Format.segmentName($0) })
        try log.close()
    }

    /// If preparing a segment fails again and again, the log stops instead of waiting forever.
    @Test func aDiskThatKeepsFailingStopsTheLog() throws {
        let disk = SimulatedDisk(seed: 1)
        let recovery = try recover(disk).recovery
        // The first operations make the first segment.
        for operation in 7...1000 { disk.failures[operation] = .input }
        let log = try Log(recovery, configuration: Self.configuration())
        let error = #expect(throws: LogError.self) { while true { try collect(log) } }
        #expect(error?.cause == .failed)
        #expect(throws: LogError.self) { try log.close() }
    }

    /// The log also stops if parts of the next segment can be written and only syncing fails. Until then, it refuses
    /// frames instead of asking to wait.
    @Test func aDiskThatCannotBeSyncedStopsTheLog() throws {
        let disk = SimulatedDisk(seed: 1)
        var configuration = Self.configuration(.never)
        configuration.segmentByteCount = 4 << 20
        configuration.smallSegmentByteCount = 2 << 20
        let log = try Log(recover(disk).recovery, configuration: configuration)
        disk.failsSyncing = true
        #expect(throws: LogError.self) {
            while true {
                let refusal = log.refusal(payloadByteCount: 3_000_000)
                #expect(refusal == (log.problem == nil ? .busy : .noSpace))
                try collect(log)
            }
        }
        #expect(throws: LogError.self) { try log.close() }
    }

    /// After a refusal for lack of space, the descriptor becomes readable when it is time to try again, even if no work
    /// is in progress.
    @Test func aLackOfSpaceIsFollowedByNews() throws {
        let disk = SimulatedDisk(seed: 1)
        disk.capacity = 300 << 10
        let log = try Log(recover(disk).recovery, configuration: Self.configuration())
        while log.refusal(payloadByteCount: 30_000) != nil { try collect(log) }
        for _ in 0..<3 {
            #expect(try verdict(log, byteCount: 500_000) == .noSpace)
            try collect(log)
        }
        disk.capacity = 2 << 20
        while log.refusal(payloadByteCount: 500_000) != nil { try collect(log) }
        try log.close()
    }

    /// Frames that were taken are written without any more space, whatever is appended and however full the disk is.
    @Test func whatIsTakenHasItsPlace() throws {
        var random = SeededRandom()
        for run in 0..<min(100, testOperations / 2000) {
            let comment: Comment = "run \(run), \(SeededRandom())"
            let disk = SimulatedDisk(seed: UInt64(run))
            disk.capacity = (30 + random.below(500)) << 10
            let log = try Log(recover(disk).recovery, configuration: Self.configuration())
            for _ in 0..<200 {
                let usingReserve = random.below(4) == 0
                let bytes = [UInt8](repeating: 1, count: 1 + random.below(random.below(20) == 0 ? 90_000 : 3000))
                do {
                    _ = try log.append(bytes.span, usingReserve: usingReserve)
                } catch .busy {
                    log.commit()
                    try collect(log)
                } catch .noSpace {
                    try #require(log.problem?.cause == .noSpace, comment)
                    if log.segments.count > 1 { log.deleteSegments(below: log.segments[1].number) }
                } catch {}
                if random.below(3) == 0 { log.commit() }
                if random.below(30) == 0 { _ = log.startOver() }
                if random.below(5) == 0 { try log.collect() }
            }
            log.commit()
            while log.durableSequence < log.lastSequence { try collect(log) }
            try log.close()
            try #require(recover(disk).recovery.report.lastSequence == log.lastSequence, comment)
        }
    }

    @Test func whatFailsOnceGoesOnAndWhatFailsTwiceStops() throws {
        for failures in 1...2 {
            let disk = SimulatedDisk(seed: 1)
            let log = try Log(recover(disk).recovery, configuration: Self.configuration())
            _ = try log.append([1].span)
            log.commit()
            while log.durableSequence < 1 { try collect(log) }
            try log.close()
            let again = try Log(recover(disk).recovery, configuration: Self.configuration())
            // The next segment is ready, and the helper has nothing to do.
            while again.refusal(payloadByteCount: 20_000) != nil { try collect(again) }
            let next = disk.operations + 1
            // Fails the write, and with two failures also the first write to the new segment.
            disk.failures[next] = .input
            if failures == 2 { disk.failures[next + 1] = .input }
            _ = try again.append([2].span)
            again.commit()
            if failures == 1 {
                while again.durableSequence < 2 { try collect(again) }
                #expect(again.segments.count == 2)
                try again.close()
            } else {
                #expect(throws: LogError.self) { while again.durableSequence < 2 { try collect(again) } }
                #expect(throws: LogError.self) { try again.collect() }
                #expect(throws: LogError.self) { try again.close() }
                #expect(again.durableSequence == 1)
            }
        }
    }
}
