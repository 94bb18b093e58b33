// `emq journal`: the operator's tools to back up a journal, and to check and repair a damaged one.

import Glibc
import Journal
import Net
import Queues

enum JournalCommand {
    private static let text = [
        "DIR is the directory given to --data. It is not changed. No server may be using it, except for copy."
    ]

    static let copy = Command(
        name: "journal copy", section: .server, operands: "DIR NEWDIR", operandCount: 2...2,
        operandCompletion: .directory, summary: "copy a journal, also while a server is using it", text: text,
        examples: [CommandExample("emq journal copy /var/lib/emq /backup/emq", "make a backup")]
    ) { try copy($0.operands[0], to: trimmed($0.operands[1])) }

    static let check = Command(
        name: "journal check", section: .server, operands: "DIR", operandCount: 1...1, operandCompletion: .directory,
        summary: "report what is whole in a journal, and what is not", text: text,
        examples: [CommandExample("emq journal check /var/lib/emq", "see whether a stopped server's tasks are whole")]
    ) { try check($0.operands[0]) }

    static let repair = Command(
        name: "journal repair", section: .server, operands: "DIR [NEWDIR]", operandCount: 1...2,
        operandCompletion: .directory, summary: "copy what is whole into a new journal",
        text: text + ["Without NEWDIR, the new journal is DIR-repaired."],
        examples: [CommandExample("emq journal repair /var/lib/emq /var/lib/emq-new", "save what can be saved")]
    ) { invocation in
        let directory = invocation.operands[0]
        let newDirectory = invocation.operands.count > 1 ? invocation.operands[1] : trimmed(directory) + "-repaired"
        return try repair(directory, into: newDirectory)
    }

    /// A directory's path without slashes at its end.
    private static func trimmed(_ directory: String) -> String {
        var path = directory[...]
        while path.count > 1, path.last == "/" { path.removeLast() }
        return String(path)
    }

    private static func copy(_ directory: String, to newDirectory: String) throws -> ExitCode {
        // All segments are open at once.
        Emq.raiseFileLimit()
        let report = try LogMaintenance.copy(directory: directory, to: newDirectory)
        let segments = report.segmentCount == 1 ? "1 segment" : "\(report.segmentCount) segments"
        Emq.print(
            "\(newDirectory) has \(report.byteCount) bytes in \(segments); "
                + "`emq journal check \(newDirectory)` says how many tasks")
        return .done
    }

    private static func check(_ directory: String) throws -> ExitCode {
        let inspector = try Inspector()
        let report = try LogMaintenance.check(directory: directory, inspect: inspector.inspect)
        describe(report)
        if let failure = report.failure {
            // `failure` suggests `journal check`, which has just run: suggest only the repair.
            let isRepairable = failure.cause == .damaged
            let remedy = "`emq journal repair \(directory)` copies what is whole into a new journal"
            Emq.print(isRepairable ? "not whole: \(failure.finding); \(remedy)" : "not whole: \(failure)")
            return .failed
        }
        let dropped =
            report.droppedByteCount > 0
            ? "; \(report.droppedByteCount) bytes at the end are not whole: a crash while they were written, or damage to the last frames"
            : ""
        Emq.print("whole: \(inspector.tasks)\(dropped)")
        return .done
    }

    private static func repair(_ directory: String, into newDirectory: String) throws -> ExitCode {
        let inspector = try Inspector()
        let report = try LogMaintenance.repair(directory: directory, into: newDirectory, inspect: inspector.inspect)
        describe(report)
        if let failure = report.failure { Emq.print("not whole: \(failure.finding)") }
        let isWhole = report.failure == nil && report.segments.allSatisfy(\.damages.isEmpty)
        let loss =
            isWhole
            ? "\(directory) is whole, so nothing is lost, and it needs no repair"
            : "What was only in a part that is lost is gone; tasks whose end was there are given out again"
        Emq.print("\(newDirectory) has \(inspector.tasks); start emq with --data \(newDirectory). \(loss)")
        return .done
    }

    private static func describe(_ report: LogMaintenance.Report) {
        for segment in report.segments {
            let frames = segment.frameCount == 1 ? "1 frame" : "\(segment.frameCount) frames"
            let range = segment.firstSequence.map { " (\($0) to \(segment.lastSequence ?? $0))" } ?? ""
            Emq.print("\(segment.name): \(segment.byteCount) bytes, \(frames)\(range)")
            for damage in segment.damages {
                let lost =
                    damage.lostSequences.map { "frames \($0.lowerBound) to \($0.upperBound) are lost" }
                    ?? "the number of lost frames is unknown"
                Emq.print(
                    "  byte \(damage.offset), \(damage.byteCount) bytes: \(damage.problem); \(lost)")
            }
        }
    }
}

/// Reads payloads as the server does, to find out whether they are valid and how many tasks they leave.
private final class Inspector {
    private let broker: Broker
    private var sequence: UInt64 = 0

    init() throws {
        broker = Broker(
            executor: try EventLoop(), firstToken: 0, now: 0, addressBytes: Memory.addressSpace.map { $0 / 2 } ?? .max)
        broker.assumeIsolated { $0.beginRestoring() }
    }

    var tasks: String {
        let count = broker.assumeIsolated { $0.counts.tasks }
        return count == 1 ? "1 task" : "\(count) tasks"
    }

    func inspect(_ payload: Span<UInt8>) throws(PayloadError) {
        sequence += 1
        let error: ImageError? = broker.assumeIsolated { [sequence] broker in
            do throws(ImageError) {
                try broker.restore(payload, sequence: sequence)
                return nil
            } catch {
                return error
            }
        }
        if let error { throw PayloadError(error.problem, isNewer: error.isNewer, isShortage: error.isShortage) }
    }
}
