// The log in real directories: unusual ones, ones that other programs change, and a full file system.

import Foundation
import Support
import Testing

@testable import Journal

@Suite(.blocking) struct FileSystemTests {
    private static var configuration: LogConfiguration {
        var configuration = LogConfiguration()
        configuration.segmentByteCount = 64 << 10
        configuration.smallSegmentByteCount = 16 << 10
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
        _ path: String, _ configuration: LogConfiguration = configuration, lockWaitMilliseconds: Int64 = 5000
    ) throws -> (log: Log, frameCount: Int) {
        let recovery = try LogRecovery(directory: path, lockWaitMilliseconds: lockWaitMilliseconds)
        while try !recovery.advance(byteCount: .max, visit: { _, _, _ in }) {}
        return (try Log(recovery, configuration: configuration), recovery.report.frameCount)
    }

    private func collect(_ log: Log) throws {
        var poll = pollfd(fd: log.descriptor, events: Int16(POLLIN), revents: 0)
        var count: Int32
        repeat { count = Glibc.poll(&poll, 1, 120_000) } while count < 0 && errno == EINTR
        try #require(count == 1, "the helper does not answer")
        try log.collect()
    }

    private func put(_ log: Log, byteCount: Int) throws {
        while log.refusal(payloadByteCount: byteCount) != nil { try collect(log) }
        _ = try log.append([UInt8](repeating: 1, count: byteCount).span)
        log.commit()
        while log.durableSequence < log.lastSequence { try collect(log) }
    }

    private func makeLog(_ path: String, segmentCount: Int = 1) throws {
        let (log, _) = try open(path)
        repeat { try put(log, byteCount: 3000) } while log.segments.count < segmentCount
        try log.close()
    }

    @Test func aSecondServerIsKeptOutEvenWhenTheLockFileIsDeleted() throws {
        try withDirectory { path in
            let (log, _) = try open(path)
            try FileManager.default.removeItem(atPath: path + "/lock")
            #expect(throws: LogError.self) { try open(path, lockWaitMilliseconds: 0) }
            try FileManager.default.removeItem(atPath: path + "/lock")
            let error = #expect(throws: LogError.self) { try LogMaintenance.check(directory: path) { _ in } }
            #expect(error?.cause == .inUse)
            try log.close()
        }
    }

    @Test func checkingLeavesTheDirectoryAsItIs() throws {
        try withDirectory { path in
            try makeLog(path, segmentCount: 2)
            try FileManager.default.removeItem(atPath: path + "/lock")
            let names = try FileManager.default.contentsOfDirectory(atPath: path).sorted()
            let report = try LogMaintenance.check(directory: path) { _ in }
            #expect(report.failure == nil)
            #expect(try FileManager.default.contentsOfDirectory(atPath: path).sorted() == names)
        }
    }

    @Test func pathsOfAnyForm() throws {
        try withDirectory { path in
            try makeLog(path)
            let link = path + ".link"
            defer { try? FileManager.default.removeItem(atPath: link) }
            try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: path)
            var relative = String(repeating: "../", count: 20) + path.dropFirst()
            relative += "//."
            for other in [link, relative, path + "/"] { #expect(try open(other).frameCount == 1, "\(other)") }
            for wrong in ["", path + "/none/none", path + "/lock", "/dev/null"] {
                let error = #expect(throws: LogError.self) { try open(wrong) }
                #expect(error?.file == wrong)
            }
        }
    }

    @Test func whatIsNoRegularFileIsNamed() throws {
        for kind in 0..<4 {
            try withDirectory { path in
                try makeLog(path)
                let odd = path + "/0000000002.log"
                try FileManager.default.removeItem(atPath: odd)
                switch kind {
                case 0: #expect(mkdir(odd, 0o700) == 0)
                case 1: #expect(mkfifo(odd, 0o600) == 0)
                case 2: #expect(symlink(path + "/0000000001.log", odd) == 0)
                default:
                    _ = FileManager.default.createFile(atPath: odd, contents: Data([0]))
                    // Nothing of it is on the disk.
                    try #require(truncate(odd, 2 << 40) == 0)
                }
                let error = #expect(throws: LogError.self) { try open(path) }
                #expect(error?.file == odd)
                #expect(throws: LogError.self) { try LogMaintenance.check(directory: path) { _ in } }
            }
        }
    }

    @Test func aNewerLogIsNotRepaired() throws {
        try withDirectory { path in
            defer { try? FileManager.default.removeItem(atPath: path + ".repaired") }
            try makeLog(path)
            let file = path + "/0000000001.log"
            var bytes = try Data(contentsOf: URL(fileURLWithPath: file))
            var header = try #require([UInt8](bytes).withUnsafeBytes { SegmentHeader(RawSpan(_unsafeBytes: $0)) })
            header.version += 1
            bytes.replaceSubrange(0..<Format.segmentHeaderByteCount, with: header.bytes)
            try bytes.write(to: URL(fileURLWithPath: file))
            let error = #expect(throws: LogError.self) {
                try LogMaintenance.repair(directory: path, into: path + ".repaired") { _ in }
            }
            #expect(error?.cause == .unsupportedVersion)
        }
    }

    @Test func aSegmentThatSomebodyElseDeletedIsDeleted() throws {
        try withDirectory { path in
            let (log, _) = try open(path)
            while log.segments.count < 3 { try put(log, byteCount: 3000) }
            try FileManager.default.removeItem(atPath: path + "/0000000001.log")
            log.deleteSegments(below: 3)
            while log.segments.count > 1 { try collect(log) }
            #expect(log.problem == nil)
            try log.close()
        }
    }

    /// The directory is deleted. Open files still work, but the log reports that it cannot continue.
    @Test func aDirectoryThatSomebodyElseDeletedStopsTheLog() throws {
        try withDirectory { path in
            let (log, _) = try open(path)
            while log.refusal(payloadByteCount: 20_000) != nil { try collect(log) }
            try FileManager.default.removeItem(atPath: path)
            let error = #expect(throws: LogError.self) { while true { try put(log, byteCount: 3000) } }
            #expect(error?.file.hasPrefix(path) == true)
        }
    }

    @Test func aShortageIsNoFailure() {
        for code in [ENOSPC, EDQUOT, EFBIG, EMFILE, ENFILE, ENOMEM] {
            #expect(LogError("open it", file: "", code: code).cause == .noSpace)
        }
        for code in [EIO, EROFS, EACCES] { #expect(LogError("open it", file: "", code: code).cause == .failed) }
    }

    /// A real file system of 8 MiB that another program fills and then empties.
    @Test func aFullFileSystemThatIsEmptiedAgain() throws {
        try withDirectory { path in
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
            guard mount("tmpfs", path, "tmpfs", 0, "size=8m") == 0 else {
                print("skipped: cannot mount a tmpfs: \(String(cString: strerror(errno)))")
                return
            }
            defer { umount(path) }
            var configuration = Self.configuration
            (configuration.segmentByteCount, configuration.smallSegmentByteCount) = (2 << 20, 64 << 10)
            let filler = path + "/filler"
            var random = SeededRandom()
            var durable = 0
            do {
                let (log, _) = try open(path + "/log", configuration)
                for _ in 0..<4 {
                    try put(log, byteCount: 1000)
                    #expect(fill(filler) == ENOSPC)
                    while log.refusal(payloadByteCount: 1000) != .noSpace {
                        if log.refusal(payloadByteCount: 1000) == .busy { try collect(log) }
                        _ = try? log.append([UInt8](repeating: 1, count: 1 + random.below(2000)).span)
                        log.commit()
                    }
                    #expect(log.problem?.cause == .noSpace)
                    // Changes that make room are still accepted.
                    for _ in 0..<10 { _ = try log.append([2].span, usingReserve: true) }
                    log.commit()
                    while log.durableSequence < log.lastSequence { try collect(log) }
                    durable = Int(log.durableSequence)
                    try FileManager.default.removeItem(atPath: filler)
                    while log.refusal(payloadByteCount: 1000) != nil { try collect(log) }
                    #expect(log.problem == nil)
                }
                try log.close()
            }
            let (again, frameCount) = try open(path + "/log", configuration)
            #expect(frameCount == durable, "\(SeededRandom())")
            // Now the log itself fills the file system.
            while true {
                while again.refusal(payloadByteCount: 10_000) == .busy { try collect(again) }
                if again.refusal(payloadByteCount: 10_000) == .noSpace { break }
                _ = try again.append([UInt8](repeating: 3, count: 10_000).span)
                again.commit()
            }
            while again.durableSequence < again.lastSequence { try collect(again) }
            again.deleteSegments(below: .max)
            try put(again, byteCount: 10_000)
            while again.segments.count > 2 { try collect(again) }
            while !again.startOver() { try collect(again) }
            while again.byteCount > 4 << 20 { try collect(again) }
            try again.close()
        }
    }

    /// Writes zeros until a write fails, and returns the reason.
    private func fill(_ path: String) -> Int32 {
        let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        let zeros = [UInt8](repeating: 0, count: 64 << 10)
        while write(descriptor, zeros, zeros.count) > 0 {}
        return errno
    }
}
