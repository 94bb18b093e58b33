// Short, corrupt, missing and foreign files and files of other versions are told apart from the effects of a crash.

import Support
import Testing

@testable import Journal

@Suite(.blocking) struct DamageTests {
    /// Makes a log whose frames fill three segments, in batches of two.
    private func makeLog(random: inout SeededRandom, syncing: Bool = true) throws -> (SimulatedDisk, Model) {
        let disk = SimulatedDisk(seed: random.next())
        var model = try Model(disk, segmentByteCount: 1024)
        while model.writer.segments.count < 3 || model.lastSequence % 5 != 0 {
            let batch = Batch()
            for _ in 0..<2 {
                model.lastSequence += 1
                let bytes = payload(&random, limit: 120)
                model.payloads[model.lastSequence] = bytes
                batch.append(bytes.span, sequence: model.lastSequence)
            }
            try model.writer.write(batch, syncing: syncing)
        }
        return (disk, model)
    }

    private func name(_ number: UInt64) -> String { Format.segmentName(number) }

    /// Writes the next frame.
    private func write(_ bytes: [UInt8], _ writer: DirectoryLogStore, syncing: Bool = true) throws {
        let batch = Batch()
        batch.append(bytes.span, sequence: writer.writtenSequence + 1)
        try writer.write(batch, syncing: syncing)
    }

    /// Expects that a log does not open if its last segment is zeroed or deleted.
    private func expectLastSegmentIsMissed(
        _ whole: SimulatedDisk, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let last = try #require(whole.lastSegmentName)
        for isZeroed in [true, false] {
            let disk = whole.copy()
            for name in try disk.names().filter({ $0 > last }) { disk[name] = nil }
            disk[last] = isZeroed ? whole[last]?.map { _ in 0 } : nil
            let error = #expect(throws: LogError.self, sourceLocation: sourceLocation) { try recover(disk) }
            #expect(error?.cause == .damaged && error?.file == "disk/" + last, sourceLocation: sourceLocation)
            #expect(try LogMaintenance.check(disk) { _ in }.failure == error, sourceLocation: sourceLocation)
        }
    }

    /// A segment gets its size before its header. So a shorter segment has been cut, and what it lost is unknown.
    @Test func aLastSegmentThatWasCutIsDamaged() throws {
        var random = SeededRandom()
        let (whole, model) = try makeLog(random: &random)
        let last = try #require(model.writer.segments.last)
        let bytes = try #require(whole[name(last.number)])
        let all = try recover(whole.copy()).frames
        #expect(all.count == Int(model.lastSequence))
        for count in bytes.indices {
            let disk = whole.copy()
            disk[name(last.number)] = Array(bytes.prefix(count))
            var end = Format.segmentHeaderByteCount
            var expected = all.filter { $0.segment < last.number }
            for frame in all where frame.segment == last.number && count >= end {
                end += Format.frameHeaderByteCount + frame.payload.count
                if end <= count { expected.append(frame) }
            }
            let comment: Comment = "cut at \(count), \(SeededRandom())"
            let error = #expect(throws: LogError.self, comment) { try recover(disk) }
            try #require(error?.cause == .damaged && error?.file == "disk/" + name(last.number), comment)
            try #require(LogMaintenance.check(disk) { _ in }.failure == error, comment)
            let fresh = SimulatedDisk(seed: 1)
            _ = try LogMaintenance.repair(disk, into: fresh, segmentByteCount: 2048) { _ in }
            try #require(recover(fresh).frames.map(\.payload) == expected.map(\.payload), comment)
        }
    }

    /// The segment before it shows that it existed.
    @Test func aLastSegmentThatIsGoneIsMissed() throws {
        var random = SeededRandom()
        let (whole, _) = try makeLog(random: &random)
        try expectLastSegmentIsMissed(whole)
    }

    /// The crash comes before the segment before the last one has its end mark.
    @Test func aLastSegmentThatIsGoneIsMissedAfterACrashToo() throws {
        let disk = SimulatedDisk(seed: 1)
        let writer = try DirectoryLogStore(recover(disk).recovery, segmentByteCount: 1024)
        try write([1], writer)
        try writer.startOver()
        try write([2], writer, syncing: false)
        for hasFrames in [false, true] {
            // The header reached the disk, but the bytes after it did not.
            let crashed = disk.copy()
            if !hasFrames {
                let end = try #require(crashed[name(2)]).count
                let rest = Format.segmentHeaderByteCount..<end
                crashed[name(2)]?.replaceSubrange(rest, with: [UInt8](repeating: 0, count: rest.count))
            }
            let again = try DirectoryLogStore(recover(crashed).recovery, segmentByteCount: 1024)
            try expectLastSegmentIsMissed(crashed)
            try write([3], again)
            try expectLastSegmentIsMissed(crashed)
            #expect(try recover(crashed.copy()).frames.map(\.payload) == (hasFrames ? [[1], [2], [3]] : [[1], [3]]))
        }
    }

    /// In a segment that was given up, the frames from some sequence on are void. They must not hide the loss of the
    /// next segment.
    @Test func aLastSegmentBehindOneThatWasGivenUpIsMissedWhenItIsGone() throws {
        let disk = SimulatedDisk(seed: 1)
        let writer = try DirectoryLogStore(recover(disk).recovery, segmentByteCount: 1024)
        try write([1], writer)
        let offset = Format.segmentHeaderByteCount + Format.frameHeaderByteCount + 1
        func writeWithAFailedSync(_ bytes: [UInt8]) throws {
            disk.failures[disk.operations + 2] = .input
            try write(bytes, writer)
        }
        try writeWithAFailedSync([2])
        #expect(writer.segments.map(\.firstSequence) == [1, 2])
        try expectLastSegmentIsMissed(disk)
        // The same after a crash that kept the end mark from the disk.
        let crashed = disk.copy()
        let mark = offset..<offset + Format.endMarkByteCount
        crashed[name(1)]?.replaceSubrange(mark, with: [UInt8](repeating: 0xFF, count: mark.count))
        _ = try DirectoryLogStore(recover(crashed).recovery, segmentByteCount: 1024)
        try expectLastSegmentIsMissed(crashed)
        #expect(try recover(crashed).frames.map(\.payload) == [[1], [2]])
        // A segment in which no frame was ever safe, first with and then without a header.
        try writer.startOver()
        try writeWithAFailedSync([3])
        #expect(writer.segments.map(\.firstSequence) == [1, 2, 3, 3])
        try expectLastSegmentIsMissed(disk)
        disk[name(3)]?.replaceSubrange(0..<10, with: [UInt8](repeating: 0, count: 10))
        #expect(try recover(disk.copy()).frames.map(\.payload) == [[1], [2], [3]])
        disk[name(4)] = nil
        #expect(throws: LogError.self) { try recover(disk) }
    }

    /// Segments are deleted oldest first, so the first one that exists must have a header.
    @Test func aFirstSegmentThatWasEmptiedIsDamaged() throws {
        var random = SeededRandom()
        let (whole, _) = try makeLog(random: &random)
        let size = try #require(whole[name(1)]).count
        for kept in [0, 1, 100, size] {
            let disk = whole.copy()
            disk[name(1)] = [UInt8](repeating: 0, count: kept)
            let error = #expect(throws: LogError.self) { try recover(disk) }
            #expect(error?.cause == .damaged && error?.file == "disk/" + name(1))
            let report = try LogMaintenance.check(disk) { _ in }
            #expect(report.failure == error)
            #expect(report.segments[0].damages.isEmpty == false)
        }
        // The same if its frames are intact, and the segment before it is gone.
        let disk = whole.copy()
        disk[name(1)] = nil
        disk[name(2)]?.replaceSubrange(0..<10, with: [UInt8](repeating: 0, count: 10))
        #expect(throws: LogError.self) { try recover(disk) }
    }

    /// A file that never was a segment is not overwritten, even where a crash may leave a segment without a header.
    @Test func aFileOfSomethingElseIsLeftAlone() throws {
        for text in ["hello\n", "emq logs of 2019", String(repeating: "x", count: 52), "\u{0}\u{0}x"] {
            let disk = SimulatedDisk(seed: 1)
            disk[name(1)] = Array(text.utf8)
            let error = #expect(throws: LogError.self) { try recover(disk) }
            #expect(error?.cause == .damaged && error?.file == "disk/" + name(1))
            #expect(disk[name(1)] == Array(text.utf8))
        }
        // A crash may leave a segment like one of these.
        for text in ["", "\u{0}\u{0}\u{0}", "emq l", "emq log\n"] {
            let disk = SimulatedDisk(seed: 1)
            disk[name(1)] = Array(text.utf8)
            #expect(try recover(disk).frames.isEmpty)
        }
    }

    @Test func eachFlippedBitIsNamedOrIsInTheTail() throws {
        var random = SeededRandom()
        let (whole, model) = try makeLog(random: &random)
        let all = try recover(whole.copy()).frames
        let last = try #require(model.writer.segments.last)
        // An odd step, so that each bit of a byte is tested.
        let step = testOperations >= 1_000_000 ? 1 : 9
        for segment in model.writer.segments {
            let bytes = try #require(whole[name(segment.number)])
            // The offsets where the segment's frames begin and end.
            var ends = [Format.segmentHeaderByteCount]
            for frame in all where frame.segment == segment.number {
                ends.append((ends.last ?? 0) + Format.frameHeaderByteCount + frame.payload.count)
            }
            let contentEnd = ends.last ?? 0
            for bit in stride(from: random.below(step), to: bytes.count * 8, by: step) {
                let place = bit / 8
                let comment: Comment = "segment \(segment.number), bit \(bit), \(SeededRandom())"
                var flipped = bytes
                flipped[place] ^= 1 << (bit % 8)
                let disk = whole.copy()
                disk[name(segment.number)] = flipped
                let start = place < Format.segmentHeaderByteCount ? 0 : ends.last { $0 <= place } ?? 0
                do {
                    let frames = try recover(disk).frames
                    if place >= contentEnd {
                        // Zeros that are never read, or an empty tail.
                        try #require(frames == all, comment)
                    } else {
                        try #require(segment == last, comment)
                        let kept = start == 0 ? 0 : ends.firstIndex(of: start) ?? 0
                        let before = all.count { $0.segment < segment.number }
                        try #require(frames == Array(all.prefix(before + kept)), comment)
                        // Only the last batch may be lost: nothing shows that it was safe.
                        try #require(start == 0 || frames.count >= all.count - 2, comment)
                    }
                } catch let error as LogError {
                    try #require(error.file == "disk/" + name(segment.number), comment)
                    try #require(error.cause == .damaged && place < contentEnd, comment)
                    try #require(error.offset == start, comment)
                    try #require(error.description.contains("emq journal repair disk"))
                    let report = try LogMaintenance.check(disk) { _ in }
                    try #require(report.failure == error, comment)
                }
            }
        }
    }

    @Test func missingForeignAndNewerFiles() throws {
        var random = SeededRandom()
        let (whole, _) = try makeLog(random: &random)
        let missing = whole.copy()
        missing[name(2)] = nil
        #expect(throws: LogError.self) { try recover(missing) }
        let foreign = whole.copy()
        for name in ["lost+found", "1.log", "000000000a.log", "0000000000.log", "00000000001.log", "0000000001.log~"] {
            foreign[name] = [1, 2, 3]
        }
        #expect(try recover(foreign).recovery.report.foreignNames.count == 6)
        let newer = whole.copy()
        var header = SegmentHeader(number: 1, firstSequence: 1, salt: 0, segmentByteCount: 1000)
        header.version += 1
        newer[name(1)] = header.bytes + [UInt8](repeating: 0, count: 1000)
        let error = #expect(throws: LogError.self) { try recover(newer) }
        #expect(error?.cause == .unsupportedVersion)
        let swapped = whole.copy()
        (swapped[name(1)], swapped[name(2)]) = (whole[name(2)], whole[name(1)])
        #expect(throws: LogError.self) { try recover(swapped) }
        let other = SimulatedDisk(seed: random.next())
        _ = try Model(other, segmentByteCount: 1024)
        let mixed = whole.copy()
        mixed[name(2)] = other[name(1)]
        #expect(throws: LogError.self) { try recover(mixed) }
        // Repair finds the intact frames.
        let all = try recover(whole.copy()).frames
        func repaired(_ disk: SimulatedDisk) throws -> [[UInt8]] {
            let fresh = SimulatedDisk(seed: 1)
            _ = try LogMaintenance.repair(disk, into: fresh, segmentByteCount: 2048) { _ in }
            return try recover(fresh).frames.map(\.payload)
        }
        #expect(try repaired(swapped) == all.map(\.payload))
        // Without its last segment, the log is damaged, although each of the other segments is intact.
        let last = try #require(whole.names().max())
        let shorter = whole.copy()
        shorter[last] = nil
        let report = try LogMaintenance.repair(shorter, into: SimulatedDisk(seed: 1), segmentByteCount: 2048) { _ in }
        let checked = try LogMaintenance.check(shorter) { _ in }
        #expect(report.failure?.cause == .damaged && report.failure == checked.failure)
        for disk in [missing, mixed] {
            #expect(try repaired(disk) == all.filter { $0.segment != 2 }.map(\.payload))
        }
    }

    @Test func tooLittleMemoryIsNoDamage() throws {
        var random = SeededRandom()
        let (disk, _) = try makeLog(random: &random)
        let inspect = { (_: Span<UInt8>) throws(PayloadError) in throw PayloadError("no memory", isShortage: true) }
        let recovery = try LogRecovery(disk: disk)
        let errors = [
            #expect(throws: LogError.self) {
                _ = try recovery.advance(
                    byteCount: .max, visit: { payload, _, _ throws(PayloadError) in try inspect(payload) })
            },
            #expect(throws: LogError.self) { try LogMaintenance.check(disk, inspect: inspect) },
            #expect(throws: LogError.self) {
                try LogMaintenance.repair(disk, into: SimulatedDisk(seed: 1), segmentByteCount: 2048, inspect: inspect)
            },
        ]
        for error in errors {
            #expect(error?.cause == .failed && error?.remedy.contains("--address-space") == true)
        }
    }

    @Test func whatThePayloadSaysIsWrongIsNamedToo() throws {
        var random = SeededRandom()
        let (disk, _) = try makeLog(random: &random)
        let recovery = try LogRecovery(disk: disk)
        let error = #expect(throws: LogError.self) {
            _ = try recovery.advance(
                byteCount: .max, visit: { _, _, _ throws(PayloadError) in throw PayloadError("no such record") })
        }
        #expect(error?.offset == Format.segmentHeaderByteCount)
        #expect(error?.problem == "frame 1 is invalid: no such record")
        let all = try recover(disk.copy()).frames
        // Two random payloads can be equal.
        let bad = try #require(
            all[(all.count / 2)...].first { frame in all.count { $0.payload == frame.payload } == 1 })
        let inspect = { (payload: Span<UInt8>) throws(PayloadError) in
            if payload.indices.map({ payload[$0] }) == bad.payload { throw PayloadError("no such record") }
        }
        let report = try LogMaintenance.check(disk, inspect: inspect)
        let segment = try #require(report.segments.first { $0.name == name(bad.segment) })
        let damage = try #require(segment.damages.first)
        #expect(report.segments.flatMap(\.damages) == [damage])
        #expect(damage.lostSequences == bad.sequence...bad.sequence)
        #expect(damage.problem == "frame \(bad.sequence) is invalid: no such record")
        #expect(report.failure?.offset == damage.offset)
        #expect(report.failure?.file == "disk/" + segment.name)
        let fresh = SimulatedDisk(seed: 1)
        _ = try LogMaintenance.repair(disk, into: fresh, segmentByteCount: 2048, inspect: inspect)
        #expect(try recover(fresh).frames.map(\.payload) == all.map(\.payload).filter { $0 != bad.payload })
    }

    /// Every failed read is reported as such, not as the end of the log or as damage.
    @Test func eachReadThatFailsIsNamed() throws {
        var random = SeededRandom()
        let (disk, model) = try makeLog(random: &random)
        // Random bytes to search through, followed by intact frames.
        var bytes = try #require(disk[name(2)])
        for index in 200..<300 { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
        let harmed = disk.copy()
        harmed[name(2)] = bytes
        func eachRead(_ disk: SimulatedDisk, _ body: () throws -> Void) throws {
            for read in 1... {
                disk.failingRead = disk.reads + read
                do {
                    try body()
                    if disk.reads < disk.failingRead { return }
                    Issue.record("read \(read) has failed, and nobody says so")
                } catch let error as LogError {
                    if disk.reads < disk.failingRead { return }
                    #expect(error.cause == .failed)
                }
            }
        }
        try eachRead(disk) {
            let last = try recover(disk).recovery.report.lastSequence
            #expect(last == model.lastSequence)
        }
        try eachRead(harmed) {
            _ = try LogMaintenance.repair(harmed, into: SimulatedDisk(seed: 1), segmentByteCount: 2048) { _ in }
        }
    }

    /// Random bytes overwrite random places. Repair finds all frames outside these places.
    @Test func repairCopiesWhatIsWhole() throws {
        var random = SeededRandom()
        for run in 0..<min(300, testOperations / 200) {
            let comment: Comment = "run \(run), \(SeededRandom())"
            let (disk, model) = try makeLog(random: &random)
            let all = try recover(disk.copy()).frames
            var harmed: Set<UInt64> = []
            for _ in 0...random.below(3) {
                let segment = model.writer.segments[random.below(3)]
                var bytes = try #require(disk[name(segment.number)])
                let place = random.below(bytes.count)
                let end = min(bytes.count, place + 1 + random.below(200))
                for index in place..<end { bytes[index] = UInt8(truncatingIfNeeded: random.next()) }
                disk[name(segment.number)] = bytes
                var offset = Format.segmentHeaderByteCount
                for frame in all where frame.segment == segment.number {
                    let next = offset + Format.frameHeaderByteCount + frame.payload.count
                    if offset < end && next > place { harmed.insert(frame.sequence) }
                    offset = next
                }
            }
            let fresh = SimulatedDisk(seed: 1)
            let report = try LogMaintenance.repair(disk, into: fresh, segmentByteCount: 2048) { _ in }
            let expected = all.filter { !harmed.contains($0.sequence) }
            let found = try recover(fresh).frames
            // Random bytes can equal the original ones.
            try #require(found.count >= expected.count, comment)
            try #require(
                harmed.isEmpty || found.count < all.count || found.map(\.payload) == all.map(\.payload), comment)
            let payloads = Set(found.map(\.payload))
            for frame in expected { try #require(payloads.contains(frame.payload), comment) }
            try #require(report.segments.reduce(0) { $0 + $1.frameCount } == found.count, comment)
        }
    }
}
