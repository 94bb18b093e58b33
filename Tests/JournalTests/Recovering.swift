// Shared by the tests of the log: payloads, and a model of the frames that must exist.

import Support
import Testing

@testable import Journal

extension SeededRandom {
    /// A random number from 0 to `limit` - 1.
    mutating func below(_ limit: Int) -> Int { Int.random(in: 0..<limit, using: &self) }
}

struct Frame: Equatable {
    var sequence: UInt64
    var segment: UInt64
    var payload: [UInt8]
}

/// Reads all frames of a log; returns them and the recovery.
func recover(_ disk: SimulatedDisk, slice: Int = .max) throws -> (frames: [Frame], recovery: LogRecovery) {
    let recovery = try LogRecovery(disk: disk)
    var frames: [Frame] = []
    while try !recovery.advance(
        byteCount: slice,
        visit: { payload, sequence, segment in
            frames.append(Frame(sequence: sequence, segment: segment, payload: payload.indices.map { payload[$0] }))
        })
    {}
    return (frames, recovery)
}

/// A payload of any content; some look like frames of the log.
func payload(_ random: inout SeededRandom, limit: Int) -> [UInt8] {
    let count = 1 + random.below(limit)
    switch random.below(4) {
    case 0: return [UInt8](repeating: 0, count: count)
    case 1: return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    case 2:
        // 64-bit integers that could pass for a length, a sequence, and the highest safe sequence.
        let numbers = (0...count / 8).map { _ in UInt64(random.below(60)) }
        let bytes = numbers.flatMap { number in (0..<8).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) } }
        return Array(bytes.prefix(count))
    default: return (0..<count).map { UInt8(truncatingIfNeeded: $0 % 8 == 0 ? 30 : 0) }
    }
}

/// A log with the synchronous writer, and what is known about it.
struct Model {
    let disk: SimulatedDisk
    let segmentByteCount: Int
    var writer: DirectoryLogStore
    /// The payloads given to the writer, by sequence.
    var payloads: [UInt64: [UInt8]] = [:]
    var lastSequence: UInt64 = 0
    /// The first frame that must still be there.
    var firstSequence: UInt64 = 1
    /// Frames up to here survive a power cut.
    var synced: UInt64 = 0
    /// Frames up to here survive the end of the process.
    var written: UInt64 = 0

    init(_ disk: SimulatedDisk, segmentByteCount: Int) throws {
        (self.disk, self.segmentByteCount) = (disk, segmentByteCount)
        writer = try Self.makeWriter(recover(disk).recovery, segmentByteCount)
    }

    private static func makeWriter(_ recovery: LogRecovery, _ segmentByteCount: Int) throws -> DirectoryLogStore {
        try DirectoryLogStore(
            recovery, segmentByteCount: segmentByteCount,
            smallSegmentByteCount: max(Format.smallestSegmentByteCount, segmentByteCount / 3))
    }

    /// Does one of the log's operations, chosen at random.
    mutating func act(_ random: inout SeededRandom, syncsAlways: Bool) throws {
        switch random.below(10) {
        case 0: _ = try writer.prepare(byteCount: 1 + random.below(segmentByteCount))
        case 1: try writer.startOver()
        case 2:
            let segments = writer.segments
            let index = random.below(segments.count)
            firstSequence = max(firstSequence, segments[index].firstSequence)
            try writer.deleteSegments(below: segments[index].number)
        case 3:
            try writer.sync()
            (written, synced) = (writer.writtenSequence, writer.syncedSequence)
        default:
            let batch = Batch()
            for _ in 0...random.below(4) {
                let isLarge = random.below(60) == 0
                lastSequence += 1
                let bytes = payload(&random, limit: isLarge ? 2 * segmentByteCount : 300)
                payloads[lastSequence] = bytes
                batch.append(bytes.span, sequence: lastSequence)
            }
            let syncs = syncsAlways || random.below(3) == 0
            try writer.write(batch, syncing: syncs)
            try #require(writer.writtenSequence == lastSequence)
            if syncs { try #require(writer.syncedSequence == lastSequence) }
            (written, synced) = (writer.writtenSequence, writer.syncedSequence)
        }
    }

    /// Opens the log again after a crash or the end of the process, and checks that no frame is missing.
    mutating func reopen(afterCrash: Bool, _ random: inout SeededRandom, _ comment: Comment) throws {
        let (frames, recovery) = try recover(disk, slice: 1 + random.below(2000))
        let last = recovery.report.lastSequence
        let needed = afterCrash ? synced : written
        try #require(last >= needed && last <= lastSequence, "\(last) of \(needed)...\(lastSequence); \(comment)")
        if let first = frames.first { try #require(first.sequence <= firstSequence, comment) }
        if needed >= firstSequence { try #require(!frames.isEmpty, comment) }
        try #require(recovery.report.byteCount == recovery.totalByteCount, comment)
        for (index, frame) in frames.enumerated() {
            try #require(frame.sequence == frames[0].sequence + UInt64(index), comment)
            try #require(frame.payload == payloads[frame.sequence], comment)
        }
        writer = try Self.makeWriter(recovery, segmentByteCount)
        (lastSequence, written, synced) = (last, last, last)
        firstSequence = writer.segments.first?.firstSequence ?? 1
        for segment in writer.segments.indices.dropLast() {
            let range = writer.segments[segment].firstSequence..<writer.segments[segment + 1].firstSequence
            for frame in frames where range.contains(frame.sequence) {
                try #require(frame.segment == writer.segments[segment].number, comment)
            }
        }
    }
}
