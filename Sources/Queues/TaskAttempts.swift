// The attempts of a task: how they are kept, and how they are shown.
//
// Most tasks succeed at their first attempt, of which nothing is kept: the record says when it began and when it ended.
// Attempts that ended otherwise are in the task's extras, one after the other in one array of bytes (`AttemptLog`),
// which is small, and which the journal writes as it is.

import Bytes

/// How an attempt ended.
public enum AttemptOutcome: UInt8, Hashable, Sendable, CaseIterable {
    /// A worker refused the task, or it could not be sent.
    case failed = 1
    /// The lease ran out.
    case timedOut = 2
    /// The task was given back, or its worker disconnected before it got the task.
    case released = 3
    /// The task was cancelled.
    case cancelled = 4
    /// The task expired.
    case expired = 5
    /// The task was acknowledged.
    case done = 6
}

/// An attempt to do a task. All times are in milliseconds since the Unix epoch.
public struct TaskAttempt: Hashable, Sendable {
    /// Its number: 1 for the first. An attempt that was released has the number of the next one, if the release did not
    /// count.
    public var number: UInt32
    /// When it began.
    public var dispatched: Int64
    /// When it ended; nil if it has not.
    public var ended: Int64?
    /// How it ended; nil if it has not.
    public var outcome: AttemptOutcome?
    /// The name of the worker; empty if unknown.
    public var worker: [UInt8]
    /// Why it failed, at most 200 bytes; empty if unknown.
    public var error: [UInt8] = []
}

/// The attempts of a task that have ended, as bytes.
///
/// An entry has the outcome (1 byte), the number (4), the times of its beginning and its end (8 each), the length of the
/// worker's name (1), the name, the length of the error (1) and the error. Numbers are little endian.
enum AttemptLog {
    /// The most attempts of a task that are kept.
    static let maximumCount = 10
    /// The most bytes of an error that are kept.
    static let maximumErrorBytes = 200
    /// The size of an entry without texts.
    private static let fixedBytes = 23
    private static let workerLength = 21

    /// Appends an attempt. If there are too many then, removes one (`removal`), or leaves out a release that would push
    /// out an attempt which ended otherwise. O(bytes).
    ///
    /// - Parameters:
    ///   - attempt: the attempt, which has ended; its error is not used.
    ///   - error: the error, of which the beginning is kept.
    ///   - bytes: the log.
    static func append(_ attempt: TaskAttempt, error: Span<UInt8>, to bytes: inout [UInt8]) {
        if let removal = removal(from: bytes.span) {
            if attempt.outcome == .released, bytes[removal.lowerBound] != AttemptOutcome.released.rawValue { return }
            bytes.removeSubrange(removal)
        }
        let worker = attempt.worker.prefix(255)
        let errorLength =
            error.count > maximumErrorBytes ? error.characterBoundary(atMost: maximumErrorBytes) : error.count
        bytes.reserveCapacity(bytes.count + fixedBytes + worker.count + errorLength)
        bytes.append(attempt.outcome?.rawValue ?? 0)
        append(attempt.number, to: &bytes)
        append(UInt64(bitPattern: attempt.dispatched), to: &bytes)
        append(UInt64(bitPattern: attempt.ended ?? 0), to: &bytes)
        bytes.append(UInt8(worker.count))
        bytes += worker
        bytes.append(UInt8(errorLength))
        for index in 0..<errorLength { bytes.append(error[index]) }
    }

    /// The attempts, the oldest first. O(bytes).
    ///
    /// - Parameter bytes: the log; what is no whole entry is left out.
    /// - Returns: the attempts.
    static func attempts(in bytes: Span<UInt8>) -> [TaskAttempt] {
        var attempts: [TaskAttempt] = []
        var start = 0
        while let end = end(ofEntryAt: start, in: bytes) {
            let workerEnd = start + workerLength + 1 + Int(bytes[start + workerLength])
            attempts.append(
                TaskAttempt(
                    number: UInt32(truncatingIfNeeded: number(of: 4, at: start + 1, in: bytes)),
                    dispatched: Int64(bitPattern: number(of: 8, at: start + 5, in: bytes)),
                    ended: Int64(bitPattern: number(of: 8, at: start + 13, in: bytes)),
                    outcome: AttemptOutcome(rawValue: bytes[start]),
                    worker: Array(copying: bytes.extracting(start + workerLength + 1..<workerEnd)),
                    error: Array(copying: bytes.extracting(workerEnd + 1..<end))))
            start = end
        }
        return attempts
    }

    /// Whether bytes that were read are a log that this program could have written. O(bytes).
    static func isSound(_ bytes: Span<UInt8>) -> Bool {
        var (count, start) = (0, 0)
        while start < bytes.count {
            guard let end = end(ofEntryAt: start, in: bytes), AttemptOutcome(rawValue: bytes[start]) != nil else {
                return false
            }
            (count, start) = (count + 1, end)
        }
        return count <= maximumCount
    }

    // MARK: Parts

    /// The entry to remove to make room for another one; nil if there is room. It is the oldest release, so that a
    /// worker which gives a task back does not push out why it failed; or else the oldest entry.
    private static func removal(from bytes: Span<UInt8>) -> Range<Int>? {
        let released = AttemptOutcome.released.rawValue
        var (count, start, removal) = (0, 0, 0..<0)
        while let end = end(ofEntryAt: start, in: bytes) {
            if count == 0 || bytes[start] == released && bytes[removal.lowerBound] != released { removal = start..<end }
            (count, start) = (count + 1, end)
        }
        return count < maximumCount ? nil : removal
    }

    /// Where an entry ends; nil if it is not whole.
    private static func end(ofEntryAt start: Int, in bytes: Span<UInt8>) -> Int? {
        guard bytes.count - start >= fixedBytes else { return nil }
        let errorLength = start + workerLength + 1 + Int(bytes[start + workerLength])
        guard errorLength < bytes.count, Int(bytes[errorLength]) <= maximumErrorBytes else { return nil }
        let end = errorLength + 1 + Int(bytes[errorLength])
        return end <= bytes.count ? end : nil
    }

    private static func append(_ number: some FixedWidthInteger, to bytes: inout [UInt8]) {
        for shift in stride(from: 0, to: number.bitWidth, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: number >> shift))
        }
    }

    private static func number(of byteCount: Int, at start: Int, in bytes: Span<UInt8>) -> UInt64 {
        (0..<byteCount).reduce(0) { $0 | UInt64(bytes[start + $1]) << UInt64(8 * $1) }
    }
}

extension TaskStore {
    /// Remembers how the attempt of a dispatched task ended, if there is memory for it. Call this before the task
    /// changes its state.
    ///
    /// - Parameters:
    ///   - slot: the task.
    ///   - outcome: how it ended.
    ///   - number: the attempt's number; nil for the one that the record has.
    ///   - time: when it ended.
    ///   - error: why it failed; empty if that is not known.
    mutating func noteAttempt(
        _ slot: Slot, _ outcome: AttemptOutcome, number: UInt32? = nil, at time: Int64, error: Span<UInt8> = Span()
    ) {
        if isShortOfMemory { return }
        var attempt = TaskAttempt(
            number: number ?? tasks[slot].attempt, dispatched: tasks[slot].dispatched, ended: time, outcome: outcome,
            worker: [])
        withExtras(slot) { extras in
            attempt.worker = extras.worker
            AttemptLog.append(attempt, error: error, to: &extras.attempts)
        }
    }

    /// Replaces the log of the attempt before by that of the attempt that ends; an empty one drops it. Call this before
    /// the task changes its state.
    mutating func replaceLog(of slot: Slot, with log: Span<UInt8> = Span()) {
        if log.isEmpty, extras(of: slot)?.log.isEmpty != false { return }
        withExtras(slot) { $0.log = Array(copying: log) }
        // Only a full image has the log.
        if !log.isEmpty { note(slot, [.awaited, .full]) }
    }

    /// Counts a lease of a worker that ran out, if there is memory for it. No worker held a task that was being sent.
    mutating func noteCrash(of slot: Slot) {
        if tasks[slot].isPushed || isShortOfMemory && tasks[slot].extras == 0 { return }
        withExtras(slot) { if $0.crashes < .max { $0.crashes += 1 } }
    }

    /// Notes why a task failed if no worker gave a reason.
    ///
    /// - Parameters:
    ///   - slot: the task.
    ///   - isLastCrash: whether too many of its leases have run out.
    ///   - namesWorker: whether it was the last worker whose lease ran out.
    mutating func noteThatLeaseRanOut(_ slot: Slot, isLastCrash: Bool, namesWorker: Bool = true) {
        withExtras(slot) { extras in
            extras.error = Array("the lease ran out".utf8)
            if isLastCrash { extras.error += Array(" \(extras.crashes) time\(extras.crashes == 1 ? "" : "s")".utf8) }
            if namesWorker, !extras.worker.isEmpty {
                extras.error += Array(" (worker ".utf8) + extras.worker + Array(")".utf8)
            }
        }
    }
}

extension TaskView {
    /// Its last attempts, the oldest first: up to ten that have ended, and the present one if it is dispatched. Those
    /// for which there was no memory are missing. O(attempts).
    public var attempts: [TaskAttempt] {
        let log = attemptLog
        var attempts = AttemptLog.attempts(in: log.span)
        guard attempt > 0, state == .dispatched || state == .done, let dispatched else { return attempts }
        if state == .done, attempts.count == AttemptLog.maximumCount {
            attempts.remove(at: attempts.firstIndex { $0.outcome == .released } ?? 0)
        }
        attempts.append(
            TaskAttempt(
                number: attempt, dispatched: dispatched, ended: finished, outcome: state == .done ? .done : nil,
                worker: worker))
        return attempts
    }
}
