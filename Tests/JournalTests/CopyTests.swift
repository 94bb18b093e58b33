// Copies of logs that are being written: each is the log at some moment after the copy began.

import Foundation
import Support
import Testing

@testable import Journal

/// A disk on which something happens between any two calls of its reader, and in the middle of a read.
private final class BusyDisk: Disk, @unchecked Sendable {
    // @unchecked: the tests use it on one thread.

    private let disk: SimulatedDisk
    fileprivate let act: () throws -> Void

    init(_ disk: SimulatedDisk, act: @escaping () throws -> Void) { (self.disk, self.act) = (disk, act) }

    /// Lets something happen.
    fileprivate func pass() throws(LogError) {
        do { try act() } catch { throw LogError(.failed, file: path, problem: "the writer failed: \(error)") }
    }

    var path: String { disk.path }

    func lock(waitMilliseconds: Int64) {}

    func names() throws(LogError) -> [String] {
        try pass()
        return try disk.names()
    }

    func open(_ name: String, creating: Bool) throws(LogError) -> any DiskFile {
        try pass()
        return BusyFile(self, try disk.open(name, creating: false))
    }

    func remove(_ name: String) throws(LogError) { throw unexpected }
    func syncDirectory() throws(LogError) { throw unexpected }
    func freeByteCount() -> Int? { disk.freeByteCount() }
    func random() -> UInt64 { disk.random() }

    fileprivate var unexpected: LogError { LogError(.failed, file: path, problem: "the copied log was changed") }
}

private final class BusyFile: DiskFile, @unchecked Sendable {
    private let disk: BusyDisk
    private let file: any DiskFile

    init(_ disk: BusyDisk, _ file: any DiskFile) { (self.disk, self.file) = (disk, file) }

    var path: String { file.path }

    func byteCount() throws(LogError) -> Int { try file.byteCount() }

    func read(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(LogError) -> Int {
        // A frame may be written while it is read.
        let part = UnsafeMutableRawBufferPointer(rebasing: bytes[..<(bytes.count / 2)])
        let count = try file.read(into: part, at: offset)
        try disk.pass()
        guard count == part.count else { return count }
        return try count
            + file.read(into: UnsafeMutableRawBufferPointer(rebasing: bytes[count...]), at: offset + count)
    }

    func write(_ bytes: RawSpan, at offset: Int) throws(LogError) { throw disk.unexpected }
    func truncate(to byteCount: Int) throws(LogError) { throw disk.unexpected }
    func sync() throws(LogError) { throw disk.unexpected }
}

@Suite(.blocking) struct CopyTests {
    /// A log's writer, and what its deletions allow.
    private final class Writer {
        var model: Model
        var random: SeededRandom
        /// For each deletion, the last frame before it, and the first frame that a log with that frame must have.
        private(set) var deletions: [(last: UInt64, first: UInt64)] = []

        /// Whether an operation of the disk was to fail.
        var hasFailed = false

        init(_ disk: SimulatedDisk, _ random: SeededRandom) throws {
            model = try Model(disk, segmentByteCount: 1500)
            self.random = random
        }

        func act() throws {
            let (first, last) = (model.firstSequence, model.lastSequence)
            if random.below(20) == 0 {
                hasFailed = true
                model.disk.failures = [model.disk.operations + 1 + random.below(6): .input]
            }
            do {
                try model.act(&random, syncsAlways: random.below(2) == 0)
            } catch let error as LogError {
                // What fails can be tried again.
                try #require(error.cause == .failed)
            }
            // Frames that cannot be written are written elsewhere.
            try #require(model.writer.writtenSequence == model.lastSequence)
            if model.firstSequence > first { deletions.append((last, model.firstSequence)) }
        }

        /// The first frame that a log up to `last` must have.
        func firstNeeded(upTo last: UInt64) -> UInt64 {
            deletions.last { $0.last <= last }?.first ?? 1
        }
    }

    @Test(arguments: 0..<max(200, testOperations / 1000))
    func aCopyOfABusyLogIsTheLogAtOneMoment(number: Int) throws {
        let seed = SeededRandom.runSeed &+ UInt64(number)
        let comment: Comment = "\(SeededRandom()), number \(number)"
        let disk = SimulatedDisk(seed: seed)
        let writer = try Writer(disk, SeededRandom(seed: seed))
        for _ in 0..<writer.random.below(40) { try writer.act() }
        let durable = writer.model.written
        disk.failures = [:]
        writer.hasFailed = false
        // With segments this small, a busier writer would delete them faster than they can be listed.
        let pause = 4 + number % 20
        let busy = BusyDisk(disk) {
            if writer.random.below(pause) == 0 { try writer.act() }
        }
        let target = SimulatedDisk(seed: seed &+ 1)
        let result = Result { try LogMaintenance.copy(LogSnapshot(busy), to: target) }
        if writer.hasFailed, case .failure(let error as LogError) = result {
            #expect(error.problem.hasPrefix("a write of the server has failed"), comment)
            return
        }
        let report = try result.get()
        // What was copied is safe.
        target.restart()
        let (frames, recovery) = try recover(target)
        let last = recovery.report.lastSequence
        try #require(last >= durable && last <= writer.model.lastSequence, comment)
        #expect(frames.count == report.frameCount, comment)
        let first = frames.first?.sequence ?? last + 1
        #expect(first <= writer.firstNeeded(upTo: last), comment)
        for (index, frame) in frames.enumerated() {
            try #require(frame.sequence == first + UInt64(index), comment)
            try #require(frame.payload == writer.model.payloads[frame.sequence], comment)
        }
        // A server can continue it.
        let store = try DirectoryLogStore(recovery, segmentByteCount: 1500)
        let batch = Batch()
        batch.append([1, 2, 3].span, sequence: last + 1)
        try store.write(batch, syncing: true)
        #expect(try recover(target).recovery.report.lastSequence == last + 1, comment)
    }

    @Test func aLostLastSegmentIsReported() throws {
        var random = SeededRandom()
        let disk = SimulatedDisk(seed: random.next())
        var model = try Model(disk, segmentByteCount: 1500)
        while model.writer.segments.count < 2 { try model.act(&random, syncsAlways: true) }
        let number = try #require(model.writer.segments.last?.number)
        // The end mark in the segment before says that it has begun, once its header is safe.
        try model.writer.sync()
        for name in try disk.names() where Format.segmentNumber(of: name) ?? 0 >= number { try disk.remove(name) }
        let error = #expect(throws: LogError.self) {
            try LogMaintenance.copy(LogSnapshot(disk), to: SimulatedDisk(seed: 1))
        }
        #expect(error?.cause == .damaged && error?.file == "disk/\(Format.segmentName(number))")
    }

    /// A frame that is not whole ends the log only if no later frame follows.
    @Test func damageIsNotTakenForTheEnd() throws {
        var random = SeededRandom()
        let disk = SimulatedDisk(seed: random.next())
        var model = try Model(disk, segmentByteCount: 4000)
        while model.writer.segments.count < 3 || model.lastSequence < model.writer.segments[2].firstSequence + 3 {
            let batch = Batch()
            model.lastSequence += 1
            batch.append([UInt8](repeating: 7, count: 100).span, sequence: model.lastSequence)
            try model.writer.write(batch, syncing: true)
        }
        for segment in model.writer.segments {
            let name = Format.segmentName(segment.number)
            let bytes = try #require(disk[name])
            // The first frame's header, its payload, and the segment's header.
            for offset in [60, 100, 20] {
                var damaged = bytes
                damaged[offset] ^= 1
                disk[name] = damaged
                let error = #expect(throws: LogError.self, "\(offset) in \(name)") {
                    try LogMaintenance.copy(LogSnapshot(disk), to: SimulatedDisk(seed: 1))
                }
                #expect(error?.cause == .damaged, "\(offset) in \(name)")
                // Without its header, the segment's frames are missing where the one before it ends.
                if offset != 20 { #expect(error?.file == "disk/\(name)", "\(offset) in \(name)") }
                disk[name] = bytes
            }
        }
        #expect(try LogMaintenance.copy(LogSnapshot(disk), to: SimulatedDisk(seed: 1)).segmentCount == 3)
    }

    @Test func aMissingSegmentIsReported() throws {
        var random = SeededRandom()
        let disk = SimulatedDisk(seed: random.next())
        var model = try Model(disk, segmentByteCount: 1500)
        while model.writer.segments.count < 3 { try model.act(&random, syncsAlways: true) }
        let name = Format.segmentName(model.writer.segments[1].number)
        try disk.remove(name)
        let error = #expect(throws: LogError.self) { try LogSnapshot(disk) }
        #expect(error?.cause == .damaged && error?.file == "disk/\(name)")
    }

    // MARK: Directories

    private func withDirectory(_ body: (String) throws -> Void) throws {
        let path = NSTemporaryDirectory() + "emq-copy-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    /// Opens a log. A program that another test has just started may have its lock for a moment.
    private func open(_ path: String) throws -> LogRecovery {
        let recovery = try LogRecovery(directory: path, lockWaitMilliseconds: 5000)
        while try !recovery.advance(byteCount: .max, visit: { _, _, _ in }) {}
        return recovery
    }

    @Test func anOpenLogCanBeCopied() throws {
        try withDirectory { path in
            let log = try Log(open(path + "/log"))
            _ = try log.append([1, 2, 3].span)
            log.commit()
            while log.durableSequence < log.lastSequence {
                var poll = pollfd(fd: log.descriptor, events: Int16(POLLIN), revents: 0)
                _ = Glibc.poll(&poll, 1, 120_000)
                try log.collect()
            }
            let report = try LogMaintenance.copy(directory: path + "/log", to: path + "/copy")
            #expect((report.segmentCount, report.frameCount) == (1, 1))
            #expect(try open(path + "/copy").report.frameCount == 1)
            #expect(try FileManager.default.contentsOfDirectory(atPath: path).sorted() == ["copy", "log"])
            try log.close()
        }
    }

    @Test func aFailureLeavesNothing() throws {
        try withDirectory { path in
            try Log(open(path + "/log")).close()
            // Nothing that exists is overwritten.
            for name in ["copy", "copy.partial"] {
                try Data().write(to: URL(fileURLWithPath: path + "/" + name))
                let error = #expect(throws: LogError.self) {
                    try LogMaintenance.copy(directory: path + "/log", to: path + "/copy")
                }
                #expect(error?.file == path + "/" + name)
                try FileManager.default.removeItem(atPath: path + "/" + name)
            }
            // There is no journal, or it is damaged.
            for bytes in [nil, [UInt8](repeating: 0, count: 1000)] {
                let name = path + "/log/" + Format.segmentName(1)
                if let bytes { try Data(bytes).write(to: URL(fileURLWithPath: name)) }
                if bytes == nil {
                    for name in try FileManager.default.contentsOfDirectory(atPath: path + "/log") {
                        try FileManager.default.removeItem(atPath: path + "/log/" + name)
                    }
                }
                #expect(throws: LogError.self) {
                    try LogMaintenance.copy(directory: path + "/log", to: path + "/copy")
                }
                #expect(try FileManager.default.contentsOfDirectory(atPath: path) == ["log"])
            }
        }
    }
}
