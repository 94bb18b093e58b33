// What can be wrong with a log: where, what, and what can be done about it.

import Glibc

/// Why the log cannot be read or written.
public struct LogError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What kind of failure it is.
    public enum Cause: Sendable {
        /// What is on disk is not what was written there.
        case damaged
        /// Another process has the log open.
        case inUse
        /// The file system is full, files may not be larger, or the system is short of memory or of open files.
        case noSpace
        /// A newer program has written it.
        case unsupportedVersion
        /// A system call failed.
        case failed
    }

    /// What kind of failure it is.
    public let cause: Cause
    /// The file or directory that it is about.
    public let file: String
    /// Where in the file, in bytes, if that says something.
    public let offset: Int?
    /// What is wrong, in words.
    public let problem: String
    /// What can be done, in words; empty if nothing but what the problem suggests.
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

    /// A frame with something in it that a newer program has written.
    static func newer(_ file: String, offset: Int?, sequence: UInt64, _ error: PayloadError) -> LogError {
        LogError(
            .unsupportedVersion, file: file, offset: offset, problem: "frame \(sequence) has \(error.problem)",
            remedy: "a newer emq wrote it: use that version, or a later one")
    }

    /// A frame that there is no memory for.
    static func short(_ file: String, offset: Int?, sequence: UInt64, _ error: PayloadError) -> LogError {
        LogError(
            .failed, file: file, offset: offset, problem: "frame \(sequence) cannot be kept: \(error.problem)",
            remedy: "give emq more memory or address space (`--address-space`, `ulimit -v`)")
    }

    /// Something where a directory is to be made.
    static func exists(_ path: String) -> LogError {
        LogError(
            .failed, file: path, problem: "it already exists", remedy: "name a directory that does not exist yet")
    }

    /// Something on disk that should not be so.
    static func damaged(_ directory: String, _ name: String, offset: Int?, _ problem: String) -> LogError {
        LogError(
            .damaged, file: directory + "/" + name, offset: offset, problem: problem,
            remedy: "`emq journal check \(directory)` shows what is whole, "
                + "`emq journal repair \(directory)` copies it into a new journal")
    }
}

/// What whoever replays the log throws for a payload that makes no sense.
public struct PayloadError: Error {
    /// What is wrong with it, in words.
    public let problem: String
    /// Whether it is no damage, but something that only a newer program can have written.
    public let isNewer: Bool
    /// Whether it is no damage either, but there is no memory for what it says.
    public let isShortage: Bool

    /// Says what is wrong.
    public init(_ problem: String, isNewer: Bool = false, isShortage: Bool = false) {
        (self.problem, self.isNewer, self.isShortage) = (problem, isNewer, isShortage)
    }
}
