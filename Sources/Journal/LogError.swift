// Errors of a log: where the problem is, what it is, and how to fix it.

import Glibc

/// Why the log cannot be read or written.
public struct LogError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What kind of failure it is.
    public enum Cause: Sendable {
        /// The data on disk differs from what was written.
        case damaged
        /// Another process has the log open.
        case inUse
        /// The file system is full, files may not be larger, or the system is short of memory or of open files.
        case noSpace
        /// A newer program wrote it.
        case unsupportedVersion
        /// A system call failed.
        case failed
    }

    /// What kind of failure it is.
    public let cause: Cause
    /// The file or directory that it is about.
    public let file: String
    /// The position in the file, in bytes, if it is useful.
    public let offset: Int?
    /// What is wrong, in words.
    public let problem: String
    /// How to fix it, in words; empty if the problem already suggests it.
    public let remedy: String

    /// One line for a person.
    public var description: String { finding + (remedy.isEmpty ? "" : "; " + remedy) }

    /// The same without the remedy.
    public var finding: String {
        let place = offset.map { "\(file), byte \($0): " } ?? "\(file): "
        return place + problem
    }

    init(_ cause: Cause, file: String, offset: Int? = nil, problem: String, remedy: String = "") {
        (self.cause, self.file, self.offset) = (cause, file, offset)
        (self.problem, self.remedy) = (problem, remedy)
    }

    /// A failed system call; `operation` follows "cannot".
    init(_ operation: String, file: String, offset: Int? = nil, code: Int32) {
        let isFull = code == ENOSPC || code == EDQUOT
        let isShort = isFull || [EFBIG, EMFILE, ENFILE, ENOMEM].contains(code)
        self.init(
            isShort ? .noSpace : .failed, file: file, offset: offset,
            problem: unsafe "cannot \(operation): \(String(cString: strerror(code)))",
            remedy: isFull
                ? "make room on the file system"
                : code == EFBIG ? "raise the limit on the size of files (`ulimit -f`)" : "")
    }

    /// A segment that another program has written.
    static func unsupported(_ file: String, _ version: UInt32) -> LogError {
        LogError(
            .unsupportedVersion, file: file, offset: 8,
            problem: "its format has version \(version), this program knows "
                + "\(Format.oldestVersion) to \(Format.version)",
            remedy: "use the version of emq that wrote it")
    }

    /// A frame with content that only a newer program understands.
    static func newer(_ file: String, offset: Int?, sequence: UInt64, _ error: PayloadError) -> LogError {
        LogError(
            .unsupportedVersion, file: file, offset: offset, problem: "frame \(sequence) has \(error.problem)",
            remedy: "a newer emq wrote it: use that version, or a later one")
    }

    /// A frame that does not fit in memory.
    static func short(_ file: String, offset: Int?, sequence: UInt64, _ error: PayloadError) -> LogError {
        LogError(
            .failed, file: file, offset: offset, problem: "frame \(sequence) cannot be kept: \(error.problem)",
            remedy: "give emq more memory or address space (`--address-space`, `ulimit -v`)")
    }

    /// The path of a new directory that already exists.
    static func exists(_ path: String) -> LogError {
        LogError(
            .failed, file: path, problem: "it already exists", remedy: "name a directory that does not exist yet")
    }

    /// The path of a directory without a log.
    static func absent(_ path: String) -> LogError {
        LogError(
            .failed, file: path, problem: "there is no journal in this directory",
            remedy: "name the directory given to --data")
    }

    /// Damage on disk.
    static func damaged(_ directory: String, _ name: String, offset: Int?, _ problem: String) -> LogError {
        LogError(
            .damaged, file: directory + "/" + name, offset: offset, problem: problem,
            remedy: "`emq journal check \(directory)` shows what is whole, "
                + "`emq journal repair \(directory)` copies it into a new journal")
    }
}

/// The error that a replay throws for a payload that it cannot use.
public struct PayloadError: Error {
    /// What is wrong with it, in words.
    public let problem: String
    /// Whether the payload is not damaged but was written by a newer program.
    public let isNewer: Bool
    /// Whether the payload is not damaged but does not fit in memory.
    public let isShortage: Bool

    /// Says what is wrong.
    public init(_ problem: String, isNewer: Bool = false, isShortage: Bool = false) {
        (self.problem, self.isNewer, self.isShortage) = (problem, isNewer, isShortage)
    }
}
