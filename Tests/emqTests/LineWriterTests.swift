// The writer of log lines: their order, and the count of lines dropped while there is no reader.

import Foundation
import Support
import Testing

@testable import emq

/// A pipe that holds one page.
final class NarrowPipe {
    private(set) var reading: Int32
    let writing: Int32

    init() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        (reading, writing) = (ends[0], ends[1])
        // F_SETPIPE_SZ, which Glibc's module leaves out.
        try #require(fcntl(writing, 1031, 4096) >= 4096)
    }

    deinit {
        endReading()
        close(writing)
    }

    /// Closes the reading end.
    func endReading() {
        if reading >= 0 { close(reading) }
        reading = -1
    }

    /// Fills the pipe.
    func fill() {
        let flags = fcntl(writing, F_GETFL)
        _ = fcntl(writing, F_SETFL, flags | O_NONBLOCK)
        let bytes = [UInt8](repeating: UInt8(ascii: "."), count: 1024)
        while write(writing, bytes, bytes.count) > 0 {}
        _ = fcntl(writing, F_SETFL, flags)
    }

    /// Reads until the text ends like this.
    func read(until end: String) throws -> String {
        var text = ""
        while !text.hasSuffix(end) {
            var bytes = [UInt8](repeating: 0, count: 4096)
            var readiness = pollfd(fd: reading, events: Int16(POLLIN), revents: 0)
            let isReady = uninterrupted { poll(&readiness, 1, 120_000) }
            try #require(isReady == 1, "nothing more comes behind \(text.suffix(200))")
            let count = uninterrupted { Glibc.read(reading, &bytes, bytes.count) }
            text += String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
        }
        return text
    }
}

/// The line that tells how many are missing.
private let notice: @Sendable (Int) -> [UInt8] = { Array("\($0) are missing".utf8) }

extension LineWriter {
    fileprivate func add(_ line: String, isOptional: Bool = false) {
        write(Array(line.utf8).span, isOptional: isOptional)
    }
}

@Suite(.blocking) struct LineWriterTests {
    @Test func linesComeWholeAndInOrder() throws {
        let pipe = try NarrowPipe()
        let writer = LineWriter(pipe.writing, notice: notice)
        let lines = (1...2000).map { "line \($0)" }
        for line in lines { writer.add(line) }
        let text = try pipe.read(until: "line 2000\n")
        #expect(text == lines.joined(separator: "\n") + "\n")
        #expect(fcntl(pipe.writing, F_GETFL) & O_NONBLOCK == 0)
    }

    @Test func linesWithoutAReaderAreDroppedCountedAndReported() throws {
        let pipe = try NarrowPipe()
        pipe.fill()
        let writer = LineWriter(pipe.writing, notice: notice)
        // A writer that waits for its reader would hang here.
        for number in 1...3000 { writer.add("\(number) " + String(repeating: "x", count: 93)) }
        writer.flush(milliseconds: 1)
        // Each line is there, in order, or counted. A writer thread that starts late may count more than once.
        var (last, isTold) = (0, 0)
        while last < 3000 {
            // The dots that filled the pipe come first.
            let text = try pipe.read(until: "are missing\n").drop { $0 == "." }
            for line in text.split(separator: "\n") {
                if let notice = line.wholeMatch(of: /(\d+) are missing/) {
                    last += Int(notice.1) ?? 0
                    isTold += 1
                } else {
                    last += 1
                    #expect(line.hasPrefix("\(last) "))
                }
            }
        }
        #expect(last == 3000 && isTold > 0 && writer.droppedLineCount > 0)
        writer.add("later")
        #expect(try pipe.read(until: "\n") == "later\n")
    }

    @Test func optionalLinesLeaveRoomForOthers() throws {
        let pipe = try NarrowPipe()
        pipe.fill()
        let writer = LineWriter(pipe.writing, notice: notice)
        for _ in 1...3000 { writer.add("optional " + String(repeating: "x", count: 93), isOptional: true) }
        writer.add("important")
        var text = ""
        while !text.contains("important\n") || !text.contains("are missing\n") { text += try pipe.read(until: "\n") }
        #expect(writer.droppedLineCount > 0)
    }

    @Test func lostLinesAreReportedWhenWritingWorksAgain() throws {
        // Standard error can be anything: here, a pipe whose reader goes away.
        signal(SIGPIPE, SIG_IGN)
        let (first, second) = (try NarrowPipe(), try NarrowPipe())
        let descriptor = dup(first.writing)
        defer { close(descriptor) }
        let writer = LineWriter(descriptor, notice: notice)
        first.endReading()
        writer.add("lost")
        writer.add("lost too")
        writer.flush(milliseconds: 60_000)
        try #require(dup2(second.writing, descriptor) == descriptor)
        writer.add("seen")
        #expect(try second.read(until: "seen\n") == "2 are missing\nseen\n")
        #expect(writer.droppedLineCount == 2)
    }
}
