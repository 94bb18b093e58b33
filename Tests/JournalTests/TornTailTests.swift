// Power cuts that tear the last frames: whatever they hold and whichever of their pages are missing, the log opens with
// all frames that were safe. Conversely, the loss of a safe frame is reported.

import Queues
import Support
import Testing
import UID

@testable import Journal

@Suite(.blocking) struct TornTailTests {
    private static let page = 4096
    /// Whether to test many pages and the largest frames, which takes long.
    private static let isThorough = testOperations >= 10_000_000
    /// Divides the size of large turns in short runs.
    private static let scale = testOperations >= 1_000_000 ? 1 : 20

    /// What the broker does in its last turn.
    enum Turn: String, CaseIterable, Sendable {
        case enqueue, batch, retries, wait, nack, move, configuration, large
    }

    /// The payloads of all frames up to and including that turn's.
    private static func payloads(_ turn: Turn, largeByteCount: Int) throws -> [[UInt8]] {
        let broker = Broker(executor: InlineExecutor(), firstToken: 1, now: 1_700_000_000_000)
        return try broker.assumeIsolated { broker in
            let now: Int64 = 1_700_000_000_000
            broker.beginRestoring()
            while !broker.finishRestoring(nextSequence: 1, now: now, graceMilliseconds: 0) {}
            var payloads: [[UInt8]] = []
            func end(_ broker: isolated Broker) {
                // A broker with much to write does not continue its work.
                while !broker.advance(to: now), turn != .large {}
                broker.writeChanges { payload, _ in payloads.append(payload.indices.map { payload[$0] }) }
            }
            let (name, target) = (Array("a queue".utf8), Array("another".utf8))
            let queue = try broker.queue(named: name.span)
            var ids: [UID] = []
            func enqueue(
                _ broker: isolated Broker, _ count: Int, byteCount: Int = 30, retries: RetryLimit = .unsaid
            ) throws {
                let options = TaskOptions()
                options.retryLimit = retries
                let content = [UInt8](repeating: 49, count: byteCount)
                let tasks = (0..<count).map { number in
                    NewTask(
                        id: UID(high: UInt64(now) << 20 | UInt64(ids.count + number), low: 7), content: 0..<byteCount,
                        options: retries == .unsaid ? nil : options)
                }
                ids += tasks.map(\.id)
                var results: [Enqueued] = []
                try broker.enqueue(tasks, contents: content.span, in: queue, now: now, into: &results)
            }
            func take(_ broker: isolated Broker) -> [TaskHandle?] {
                var taken: [TaskHandle?] = []
                _ = broker.takeAny([queue], limit: 100, worker: Array("host-7/worker 1".utf8), now: now, into: &taken)
                return taken
            }
            switch turn {
            case .enqueue:
                for _ in 0..<5 {
                    try enqueue(broker, 1)
                    end(broker)
                }
            case .batch:
                try enqueue(broker, 5)
                end(broker)
                try enqueue(broker, 100)
            case .retries: try enqueue(broker, 10_000 / scale, retries: .limited(3))
            case .wait, .nack:
                try enqueue(broker, 150)
                end(broker)
                #expect(take(broker).count == 100)
                if turn == .nack {
                    end(broker)
                    let error = Array("it does not work".utf8)
                    for id in ids.prefix(100) {
                        #expect(broker.nak(TaskReference(id: id), .failed, error: error.span, now: now) == .requeued)
                    }
                }
            case .move:
                try enqueue(broker, 5000 / scale)
                end(broker)
                try broker.move(queue, to: broker.queue(named: target.span), now: now) { _ in }
            case .configuration:
                try enqueue(broker, 1)
                end(broker)
                try broker.configure(queue, QueueConfiguration())
                broker.pause(queue, now: now)
            case .large:
                try enqueue(broker, 1)
                end(broker)
                try enqueue(broker, 1, byteCount: largeByteCount)
            }
            end(broker)
            return payloads
        }
    }

    private func batch(_ payloads: some Sequence<[UInt8]>, after sequence: UInt64) -> Batch {
        let batch = Batch()
        for (index, payload) in payloads.enumerated() {
            batch.append(payload.span, sequence: sequence + 1 + UInt64(index))
        }
        return batch
    }

    /// A log whose last batch is the last payload's frame between two others, and the batch's range in the last
    /// segment.
    private func makeLog(_ payloads: [[UInt8]]) throws -> (disk: SimulatedDisk, safe: UInt64, range: Range<Int>) {
        let disk = SimulatedDisk(seed: 1)
        let writer = try DirectoryLogStore(recover(disk).recovery, segmentByteCount: 128 << 20)
        for payload in payloads.dropLast() {
            try writer.write(batch([payload], after: writer.writtenSequence), syncing: true)
        }
        // Each safe frame records that those before it are safe.
        try writer.write(batch([[1], payloads.last ?? []], after: writer.writtenSequence), syncing: true)
        let safe = writer.syncedSequence
        let last = [[2], payloads.last ?? [], [3]]
        let byteCount = last.reduce(0) { $0 + Format.frameHeaderByteCount + $1.count }
        // The last batch must fit into one segment.
        if writer.room.tail < byteCount {
            let filler = [UInt8](repeating: 1, count: max(1, writer.room.tail + 1 - Format.frameHeaderByteCount))
            let needed = Format.frameHeaderByteCount + filler.count + byteCount
            while try !writer.prepare(byteCount: 1 << 20, for: needed) {}
            try writer.write(batch([filler], after: safe), syncing: true)
        }
        let (start, first) = (writer.room.tail, writer.writtenSequence)
        let size = try #require(writer.segments.last?.byteCount)
        try writer.write(batch(last, after: first), syncing: true)
        return (disk, first, size - start..<size - start + byteCount)
    }

    /// The ways in which pages of a range can be missing: all, one, all but one, those up to one, or those from one on.
    private func tears(_ range: Range<Int>) -> [(name: String, lost: (Int) -> Bool)] {
        let pages = Array(range.lowerBound / Self.page...(range.upperBound - 1) / Self.page)
        let edge = Self.scale > 1 ? 1 : 2
        let count = Self.scale > 1 ? 2 : !Self.isThorough ? 3 : pages.count > 10_000 ? 4 : 60
        // The first and the last pages, and some between them.
        let step = max(1, pages.count / count)
        let between = stride(from: 0, to: pages.count, by: step).map { pages[$0] }
        let chosen = Set(pages.prefix(edge) + pages.suffix(edge) + between)
        var tears: [(String, (Int) -> Bool)] = [("all", { _ in true })]
        for page in chosen.sorted() {
            tears.append(("\(page)", { $0 == page }))
            tears.append(("all but \(page)", { $0 != page }))
            tears.append(("up to \(page)", { $0 <= page }))
            tears.append(("from \(page)", { $0 >= page }))
        }
        return tears
    }

    @Test(arguments: scale > 1 ? [.batch, .retries, .wait, .nack, .move] : Turn.allCases)
    func whateverIsLostOfTheLastFramesTheRestOpens(turn: Turn) throws {
        let sizes = turn == .large ? (Self.isThorough ? [100_000, 5 << 20, 64 << 20] : [100_000]) : [0]
        for size in sizes {
            let (whole, safe, range) = try makeLog(Self.payloads(turn, largeByteCount: size))
            let all = try recover(whole.copy()).frames
            let name = try #require(whole.lastSegmentName)
            let bytes = try #require(whole[name])
            for (tear, isLost) in tears(range) {
                var torn = bytes
                for page in range.lowerBound / Self.page...(range.upperBound - 1) / Self.page where isLost(page) {
                    // Safe bytes stay, even in a page with lost ones.
                    let bounds = page * Self.page..<(page + 1) * Self.page
                    for place in range.clamped(to: bounds) { torn[place] = 0 }
                }
                let disk = whole.copy()
                disk[name] = torn
                let frames = try recover(disk).frames
                let comment: Comment = "\(turn), \(size), lost: \(tear)"
                try #require(frames.count >= Int(safe) && frames.count <= Int(safe) + 3, comment)
                try #require(frames == Array(all.prefix(frames.count)), comment)
            }
        }
    }

    // MARK: Older versions

    /// A log of an older version. Each frame records that those before it are safe, except the last three of the log.
    private func makeOlderLog(_ payloads: [[UInt8]], version: UInt32 = 2) -> (disk: SimulatedDisk, offsets: [Int]) {
        let disk = SimulatedDisk(seed: 1)
        let salt: UInt64 = 0x1234_5678_9ABC_DEF0
        var header = SegmentHeader(number: 1, firstSequence: 1, salt: salt, segmentByteCount: 1 << 20)
        header.version = version
        var bytes = Array(header.bytes.prefix(Format.plainSegmentHeaderByteCount))
        var offsets: [Int] = []
        for (index, payload) in payloads.enumerated() {
            func field(_ number: UInt64, _ count: Int) -> [UInt8] {
                (0..<count).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
            }
            let synced = min(index, payloads.count - 3)
            var frame = field(UInt64(payload.count), 4) + field(0, 4) + field(UInt64(index + 1), 8)
            frame += field(UInt64(max(0, synced)), 8) + payload
            let checksum = frame.withUnsafeBytes {
                FrameHeader.checksum(RawSpan(_unsafeBytes: $0), FrameFormat(salt: salt, version: 2))
            }
            frame.replaceSubrange(4..<8, with: field(UInt64(checksum), 4))
            offsets.append(bytes.count)
            bytes += frame
        }
        disk[Format.segmentName(1)] = bytes + [UInt8](repeating: 0, count: max(1000, (1 << 20) - bytes.count))
        return (disk, offsets + [bytes.count])
    }

    @Test(arguments: scale > 1 ? [.wait, .nack, .move] : Turn.allCases)
    func olderLogsAreReadAndTornInTheSameWay(turn: Turn) throws {
        try readAndTear(Self.payloads(turn, largeByteCount: 100_000), "\(turn)")
    }

    /// Version 2 wrote all integers at full size, so many bytes of the payload look like a frame's header.
    @Test func aMoveThatVersion2WroteIsReadAndTornInTheSameWay() throws {
        var bytes: [UInt8] = []
        func add(_ integer: Int64, _ count: Int) {
            bytes += (0..<count).map { UInt8(truncatingIfNeeded: integer >> ($0 * 8)) }
        }
        let (now, day) = (Int64(1_700_000_000_000), Int64(86_400_000))
        for number in Int64(1)...Int64(5000 / Self.scale) {
            // The state of a task in the queue `another`: it is ready again after its first dispatch.
            bytes += [2, 7] + Array("another".utf8)
            for integer in [5000 + number, now << 16 | number, number &* 0x1E37_79B9_7F4A_7C15] { add(integer, 8) }
            bytes += [1, 0]
            for attempts in [1, 0] as [Int64] { add(attempts, 4) }
            for integer in [number, now, now + day, day, now, now, 0] { add(integer, 8) }
            bytes.append(0)
        }
        try readAndTear([[0], bytes], "a move")
    }

    private func readAndTear(_ frames: [[UInt8]], _ what: String) throws {
        let payloads = frames + [[1], frames.last ?? [], [2]]
        let (whole, offsets) = makeOlderLog(payloads)
        let name = Format.segmentName(1)
        let bytes = try #require(whole[name])
        let safe = payloads.count - 3
        let last = offsets[payloads.count - 2]..<offsets[payloads.count - 1]
        for (tear, isLost) in [("nothing", { _ in false })] + tears(last) {
            var torn = bytes
            for place in last where isLost(place / Self.page) { torn[place] = 0 }
            let disk = whole.copy()
            disk[name] = torn
            let (found, recovery) = try recover(disk)
            let isWhole = torn == bytes
            try #require(found.count == (isWhole ? payloads.count : safe + 1), "\(what), lost: \(tear)")
            // New frames go to a segment of their own, in the current version.
            let writer = try DirectoryLogStore(recovery, segmentByteCount: 128 << 20)
            try writer.write(batch([[7, 7]], after: writer.writtenSequence), syncing: true)
            let all = try recover(disk)
            try #require(all.frames.map(\.payload) == Array(payloads.prefix(found.count)) + [[7, 7]])
            try #require(all.frames.last?.segment == 2)
        }
        // Damage to a frame that was safe is detected.
        let disk = whole.copy()
        disk[name]?[offsets[safe - 1] + 30] ^= 1
        let error = #expect(throws: LogError.self) { try recover(disk) }
        #expect(error?.cause == .damaged && error?.offset == offsets[safe - 1])
    }

    /// Segments of this version follow one of an older version. If any segment loses its header, recovery reports it,
    /// and repair finds its frames.
    @Test(arguments: [UInt32(2), 3]) func segmentsThatLoseTheirHeaderBesideOlderOnesAreMissed(version: UInt32) throws {
        let older = try Self.payloads(.wait, largeByteCount: 0) + [[1], [2], [3]]
        let (whole, _) = makeOlderLog(older, version: version)
        let writer = try DirectoryLogStore(recover(whole).recovery, segmentByteCount: 128 << 20)
        func write(_ payloads: [[UInt8]]) throws {
            for payload in payloads {
                try writer.write(batch([payload], after: writer.writtenSequence), syncing: true)
            }
        }
        try write([[4, 4], [5, 5]])
        let two = whole.copy()
        try writer.startOver()
        try write([[6, 6], [7, 7]])
        for (disk, count, lost) in [(two, 2, 2), (two, 2, 1), (whole, 3, 2), (whole, 3, 1), (whole, 3, 3)] {
            let comment: Comment = "segment \(lost) of \(count)"
            let harmed = disk.copy()
            let all = try recover(disk.copy()).frames
            try #require(all.last?.segment == UInt64(count), comment)
            let name = Format.segmentName(UInt64(lost))
            let header = 0..<(lost == 1 ? Format.plainSegmentHeaderByteCount : Format.segmentHeaderByteCount)
            harmed[name]?.replaceSubrange(header, with: [UInt8](repeating: 0, count: header.count))
            let error = #expect(throws: LogError.self, comment) { try recover(harmed) }
            #expect(error?.cause == .damaged && error?.file == "disk/" + name, comment)
            let report = try LogMaintenance.check(harmed) { _ in }
            #expect(report.failure == error, comment)
            #expect(report.segments[lost - 1].damages.map(\.byteCount) == [header.count], comment)
            let fresh = SimulatedDisk(seed: 1)
            _ = try LogMaintenance.repair(harmed, into: fresh, segmentByteCount: 1 << 20) { _ in }
            #expect(try recover(fresh).frames.map(\.payload) == all.map(\.payload), comment)
        }
    }

    /// The first segment of this version replaces the one that was made in advance. If there is none and the disk is
    /// full, the log stays as it was.
    @Test func anOlderLogOnAFullDiskIsOpenedInWhatWasMadeInAdvance() throws {
        let payloads: [[UInt8]] = [[1], [2], [3], [4]]
        let (disk, _) = makeOlderLog(payloads)
        disk.capacity = disk.used
        let error = #expect(throws: LogError.self) {
            try DirectoryLogStore(recover(disk).recovery, segmentByteCount: 64 << 20)
        }
        #expect(error?.cause == .noSpace)
        #expect(try recover(disk.copy()).frames.map(\.payload) == payloads)
        disk.capacity = .max
        disk[Format.segmentName(2)] = [UInt8](repeating: 0, count: 2 << 20)
        disk.capacity = disk.used
        let writer = try DirectoryLogStore(recover(disk).recovery, segmentByteCount: 64 << 20)
        try writer.write(batch([[5]], after: writer.writtenSequence), syncing: true)
        #expect(try recover(disk.copy()).frames.map(\.payload) == payloads + [[5]])
    }

    /// This holds whichever operation fails while the log moves to a segment of this version.
    @Test func nothingIsWrittenToASegmentOfAnOlderVersion() throws {
        let payloads: [[UInt8]] = [[1], [2], [3], [4]]
        let (whole, _) = makeOlderLog(payloads)
        let name = Format.segmentName(1)
        var opened = 0
        for operation in 1...20 {
            let disk = whole.copy()
            disk.failures[operation] = .input
            guard let writer = try? DirectoryLogStore(recover(disk).recovery, segmentByteCount: 128 << 20) else {
                continue
            }
            opened += 1
            try writer.write(batch([[5]], after: writer.writtenSequence), syncing: true)
            #expect(disk[name] == whole[name], "operation \(operation) has failed")
            #expect(try recover(disk).frames.map(\.payload) == payloads + [[5]])
        }
        #expect(opened > 10)
    }

    // MARK: What was safe

    /// The loss of any safe frame is reported, wherever it was and whatever follows it.
    @Test(arguments: [Turn.enqueue, .wait, .nack]) func whatWasSafeAndIsLostIsDamage(turn: Turn) throws {
        let (whole, safe, range) = try makeLog(Self.payloads(turn, largeByteCount: 0))
        let name = try #require(whole.lastSegmentName)
        let bytes = try #require(whole[name])
        let pages = (Format.segmentHeaderByteCount..<range.lowerBound).split { $0 % Self.page == 0 }
        #expect(safe > 0 && !pages.isEmpty)
        for page in pages {
            var torn = bytes
            for place in page { torn[place] = 0 }
            let disk = whole.copy()
            disk[name] = torn
            let error = #expect(throws: LogError.self) { try recover(disk) }
            #expect(error?.cause == .damaged)
        }
    }
}
