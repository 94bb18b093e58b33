// A failed system call: the operation and the kernel's reason.

import Glibc

/// An operation that the system could not do.
public struct SystemError: Error, CustomStringConvertible {
    /// The operation, in words that follow "cannot": `listen on :8080`.
    public let operation: String
    /// Why it failed, in words.
    public let reason: String
    /// The call's `errno`; 0 if it has none.
    public let code: Int32

    /// Uses the current `errno` unless a code is given.
    public init(_ operation: String, code: Int32 = errno) {
        self.operation = operation
        self.code = code
        reason = unsafe String(cString: strerror(code))
    }

    /// A failure that has no `errno`.
    public init(_ operation: String, reason: String) {
        self.operation = operation
        self.reason = reason
        code = 0
    }

    /// One line for the user: what failed, and why.
    public var description: String { "cannot \(operation): \(reason)" }
}
