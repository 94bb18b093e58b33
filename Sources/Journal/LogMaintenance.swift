// The operator's tools for a damaged journal: report what is intact, and copy that into a new journal.

import Glibc

/// Checks logs that are not open, and copies their intact frames. Neither changes the original log.
public enum LogMaintenance {
    /// A place without the intact frame that belongs there, or with a frame whose payload is invalid.
    public struct Damage: Sendable, Equatable {
        /// Where it begins, in bytes.
        public let offset: Int
        /// The number of bytes up to the next intact frame, or else to the last byte that is not zero.
        public let byteCount: Int
        /// What is wrong there, in words.
        public let problem: String
        /// The frames that are lost there; nil if their number is unknown.
        public let lostSequences: ClosedRange<UInt64>?
    }

    /// What is in one segment.
    public struct SegmentReport: Sendable {
        /// The file's name.
        public let name: String
        /// The file's size.
        public let byteCount: Int
        /// The number of intact frames with valid payloads, not counting those that a later segment repeats.
        public internal(set) var frameCount = 0
        /// The first of them.
        public internal(set) var firstSequence: UInt64?
        /// The last of them.
        public internal(set) var lastSequence: UInt64?
        /// The damage, in file order.
        public internal(set) var damages: [Damage] = []

        mutating func add(_ damage: Damage) {
            // Further damage is not listed.
            if damages.count < damagesLimit { damages.append(damage) }
        }
    }

    /// What is in a log.
    public struct Report: Sendable {
        /// The segments, oldest first.
        public internal(set) var segments: [SegmentReport] = []
        /// Why the log cannot be opened; nil if it can. Opening a log repairs the damage that a crash leaves.
        public internal(set) var failure: LogError?
        /// How many bytes opening it would drop because they were never safe. Meaningless after a failure.
        public internal(set) var droppedByteCount = 0
    }

    /// Inspects the payload of an intact frame, and throws if it is invalid.
    public typealias Inspection = (_ payload: Span<UInt8>) throws(PayloadError) -> Void

    /// The maximum number of damages that a report lists in a segment.
    private static let damagesLimit = 1000

    /// Reads all of a log.
    ///
    /// - Parameters:
    ///   - directory: The log's directory.
    ///   - inspect: Receives the payload of each intact frame once, in order. Its errors are reported as damage.
    /// - Returns: what is in each segment, and whether the log can be opened.
    /// - Throws: `LogError` if it is open elsewhere, or cannot be read.
    /// - Complexity: O(n) for n bytes.
    public static func check(directory: String, inspect: Inspection) throws(LogError) -> Report {
        try check(FileSystemDisk(path: directory, .reading), inspect: inspect)
    }

    static func check(_ disk: any Disk, inspect: Inspection) throws(LogError) -> Report {
        try disk.lock(waitMilliseconds: 0)
        // The errors of frames with invalid payloads, by sequence.
        var senseless: [UInt64: PayloadError] = [:]
        var report = try salvage(disk) { payload, sequence throws(SalvageError) in
            do throws(PayloadError) {
                try inspect(payload)
            } catch {
                if senseless.count < damagesLimit { senseless[sequence] = error }
                throw .payload(error)
            }
        }
        open(disk, into: &report, senseless)
        return report
    }

    /// Checks whether the log can be opened. This also finds damage that is not visible in any single segment.
    private static func open(_ disk: any Disk, into report: inout Report, _ senseless: [UInt64: PayloadError] = [:]) {
        do throws(LogError) {
            let recovery = try LogRecovery(disk: disk)
            let visit = { (_: Span<UInt8>, sequence: UInt64, _: UInt64) throws(PayloadError) in
                if let error = senseless[sequence] { throw error }
            }
            while try !recovery.advance(byteCount: .max, visit: visit) {}
            report.droppedByteCount = recovery.report.droppedByteCount
        } catch {
            report.failure = error
        }
    }

    /// Copies every intact frame with a valid payload into a new log. There, the frames are numbered from 1 without
    /// gaps.
    ///
    /// - Parameters:
    ///   - directory: The log's directory, which is left as it is.
    ///   - newDirectory: The directory of the new log, which must not exist. To use the new log, rename both by hand.
    ///   - configuration: The size of the new log's segments.
    ///   - inspect: Receives the payload of each intact frame once, in order. If it throws, that frame is left out.
    /// - Returns: what was found in the old log.
    /// - Throws: `LogError`; the new log is then not complete.
    /// - Complexity: O(n) for n bytes.
    public static func repair(
        directory: String, into newDirectory: String, configuration: LogConfiguration = LogConfiguration(),
        inspect: Inspection
    ) throws(LogError) -> Report {
        let disk = try FileSystemDisk(path: directory, .reading)
        try disk.lock(waitMilliseconds: 0)
        // Create nothing if the log cannot be repaired.
        _ = try segments(of: disk)
        return try repair(
            disk, into: FileSystemDisk(path: newDirectory, .creatingNew),
            segmentByteCount: configuration.segmentByteCount, inspect: inspect)
    }

    static func repair(
        _ disk: any Disk, into newDisk: any Disk, segmentByteCount: Int, inspect: Inspection
    ) throws(LogError) -> Report {
        let recovery = try LogRecovery(disk: newDisk)
        let writer = try DirectoryLogStore(recovery, segmentByteCount: segmentByteCount)
        let batch = Batch()
        var sequence = writer.writtenSequence
        var report = try salvage(disk) { payload, _ throws(SalvageError) in
            do throws(PayloadError) { try inspect(payload) } catch { throw .payload(error) }
            sequence += 1
            batch.append(payload, sequence: sequence)
            guard batch.byteCount >= 1 << 20 else { return }
            do throws(LogError) { try writer.write(batch, syncing: false) } catch { throw .log(error) }
            batch.removeAll()
        }
        try writer.write(batch, syncing: true)
        open(disk, into: &report)
        if let failure = report.failure, failure.cause != .damaged { throw failure }
        return report
    }

    /// Why a visit of `salvage` failed: the payload is invalid, or the new log cannot be written.
    private enum SalvageError: Error {
        case payload(PayloadError)
        case log(LogError)
    }

    /// The segments of a log, in order, and the first header that can be read.
    ///
    /// - Throws: `LogError` if there is no log, if no header can be read, or if a version is not supported.
    private static func segments(
        of disk: any Disk
    ) throws(LogError) -> (found: [(number: UInt64, name: String, header: SegmentHeader?)], known: SegmentHeader) {
        // The number in the header counts, even if the file was renamed.
        var found: [(number: UInt64, name: String, header: SegmentHeader?)] = []
        for name in try disk.names() {
            guard let number = Format.segmentNumber(of: name) else { continue }
            let file = try disk.open(name, creating: false)
            let header = try SegmentReader.header(of: file)
            if let header, !(Format.oldestVersion...Format.version ~= header.version) {
                throw .unsupported(file.path, header.version)
            }
            found.append((header?.number ?? number, name, header))
        }
        found.sort { ($0.number, $0.name) < ($1.number, $1.name) }
        if found.isEmpty { throw .absent(disk.path) }
        guard let known = found.lazy.compactMap(\.header).first else {
            throw LogError(
                .damaged, file: disk.path, problem: "no segment has a header, so nothing of this journal can be read",
                remedy: "use a copy of it")
        }
        return (found, known)
    }

    /// Visits every intact frame once, in order.
    private static func salvage(
        _ disk: any Disk, _ visit: (_ payload: Span<UInt8>, _ sequence: UInt64) throws(SalvageError) -> Void
    ) throws(LogError) -> Report {
        let (found, known) = try segments(of: disk)
        // Headers of another log are ignored.
        let headers = found.map { $0.header?.salt == known.salt ? $0.header : nil }
        var report = Report()
        // 0 if the first segment's header is lost. The log then begins with the first intact frame.
        var last = (headers.first??.firstSequence ?? 1) - 1
        for (index, (_, name, _)) in found.enumerated() {
            let end = headers[(index + 1)...].lazy.compactMap { $0?.firstSequence }.first ?? .max
            let file = try disk.open(name, creating: false)
            let header = headers[index]
            let assumed: SegmentHeader
            if let header {
                assumed = header
            } else {
                let neighbor = headers[..<index].lazy.compactMap { $0 }.last ?? known
                assumed = try lostHeader(of: file, beside: neighbor, after: last, before: end)
            }
            var reader = try SegmentReader(file, FrameFormat(assumed), limit: header?.segmentByteCount ?? .max)
            var segment = SegmentReport(name: name, byteCount: reader.byteCount)
            if header == nil, try reader.contentEnd(from: 0) > 0 || index == 0 && last + 1 < end {
                let byteCount = min(reader.byteCount, assumed.byteCount)
                segment.damages.append(
                    Damage(offset: 0, byteCount: byteCount, problem: "its header is damaged", lostSequences: nil))
            }
            let isEndKnown = index + 1 < headers.count && headers[index + 1] != nil
            try salvage(
                &reader, from: min(assumed.byteCount, reader.byteCount), after: &last, before: end,
                isEndKnown: isEndKnown, into: &segment, visit)
            report.segments.append(segment)
        }
        return report
    }

    /// A replacement for a segment's lost header, in the version in which the segment has intact frames. The neighbor's
    /// version may differ: a log that an older version began continues in this one.
    private static func lostHeader(
        of file: any DiskFile, beside neighbor: SegmentHeader, after last: UInt64, before end: UInt64
    ) throws(LogError) -> SegmentHeader {
        guard last + 1 < end else { return neighbor }
        for version in [Format.version, Format.oldestVersion] {
            var header = neighbor
            header.version = version
            var reader = try SegmentReader(file, FrameFormat(header))
            do throws(LogError) {
                if try reader.search(from: 0, sequences: last + 1..<end) != nil { return header }
            } catch  where error.cause == .damaged {
                // The search has given up: too many bytes look like frames but are not.
            }
        }
        return neighbor
    }

    private static func salvage(
        _ reader: inout SegmentReader, from start: Int, after last: inout UInt64, before end: UInt64,
        isEndKnown: Bool, into segment: inout SegmentReport,
        _ visit: (_ payload: Span<UInt8>, _ sequence: UInt64) throws(SalvageError) -> Void
    ) throws(LogError) {
        let path = reader.file.path
        var offset = start
        while last < end - 1 {
            var problem = "it ends too early"
            switch try reader.frame(at: offset) {
            case .frame(let header) where header.sequence == last + 1 || last == 0:
                guard header.sequence < end else { return }
                let payload = try reader.view(at: offset, count: header.byteCount)
                    .extracting(Format.frameHeaderByteCount..<header.byteCount)
                last = header.sequence
                do throws(SalvageError) {
                    try visit(Span(_bytes: payload), last)
                    segment.frameCount += 1
                    segment.firstSequence = segment.firstSequence ?? last
                    segment.lastSequence = last
                } catch {
                    switch error {
                    case .log(let error): throw error
                    case .payload(let error) where error.isNewer:
                        // The frame is intact; only a newer program understands it.
                        throw .newer(path, offset: offset, sequence: last, error)
                    case .payload(let error) where error.isShortage:
                        throw .short(path, offset: offset, sequence: last, error)
                    case .payload(let error):
                        segment.add(
                            Damage(
                                offset: offset, byteCount: header.byteCount,
                                problem: "frame \(last) is invalid: \(error.problem)", lostSequences: last...last))
                    }
                }
                offset += header.byteCount
                continue
            case .frame(let header) where header.sequence <= last:
                // The frame was written again after a failure, and was found in the segment before.
                offset += header.byteCount
                continue
            case .frame(let header): problem = "frames up to \(header.sequence) are missing"
            case .bad(let found): problem = found
            case .end: if try reader.isEndMark(at: offset, sequence: last + 1), !isEndKnown { return }
            }
            let contentEnd = try reader.contentEnd(from: offset)
            if contentEnd == offset && !isEndKnown { return }
            var next: (offset: Int, header: FrameHeader)?
            do throws(LogError) {
                next = try reader.search(from: offset, sequences: last + 1..<end)
            } catch  where error.cause == .damaged {}
            let lostEnd = next?.header.sequence ?? (isEndKnown ? end : .max)
            let isKnown = lostEnd < .max && lostEnd > last + 1
            segment.add(
                Damage(
                    offset: offset, byteCount: (next?.offset ?? contentEnd) - offset, problem: problem,
                    lostSequences: isKnown ? last + 1...lostEnd - 1 : nil))
            guard let next else {
                if isEndKnown { last = end - 1 }
                return
            }
            offset = next.offset
            last = next.header.sequence - 1
        }
    }
}
