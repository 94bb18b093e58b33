// Reading small files: settings, and what the kernel shows under /proc.

import Glibc

/// Reads files whole.
public enum File {
    /// Reads a file from its beginning, in memory of `maximumByteCount` bytes.
    ///
    /// - Parameters:
    ///   - path: The file's path.
    ///   - maximumByteCount: The most bytes to read; what follows them is left out.
    /// - Returns: The bytes.
    /// - Throws: ``FileError`` if the file cannot be opened or read.
    /// - Complexity: O(*n*) for *n* bytes, with blocking system calls.
    public static func read(_ path: String, maximumByteCount: Int) throws(FileError) -> [UInt8] {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError(code: errno) }
        defer { close(descriptor) }
        var failure: Int32?
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: maximumByteCount) { block, count in
            while count < block.count {
                let rest = unsafe UnsafeMutableBufferPointer(rebasing: block[count...])
                let result = unsafe Glibc.read(descriptor, rest.baseAddress, rest.count)
                if result == 0 { return }
                if result > 0 {
                    count += result
                } else if errno != EINTR {
                    failure = errno
                    return
                }
            }
        }
        if let failure { throw FileError(code: failure) }
        return bytes
    }
}

/// The state of a file, by which a change is noticed.
public struct FileVersion: Equatable, Sendable {
    private let values: [Int]

    /// The present state of the file at a path; nil if there is none, or it is not accessible. One system call.
    public init?(_ path: String) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { return nil }
        values = [
            Int(status.st_dev), Int(status.st_ino), Int(status.st_size), status.st_mtim.tv_sec, status.st_mtim.tv_nsec,
            status.st_ctim.tv_sec, status.st_ctim.tv_nsec,
        ]
    }
}

/// Why a file cannot be read.
public struct FileError: Error, CustomStringConvertible {
    /// The error number, as in `errno`.
    public let code: Int32

    /// Makes an error from a number of `errno`.
    public init(code: Int32) { self.code = code }

    /// The system's description of the error, such as `No such file or directory`.
    public var description: String { unsafe String(cString: strerror(code)) }
}
