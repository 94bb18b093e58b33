// A failed system call: which one, and what the kernel said.

import Glibc

/// Something that the system did not do.
public struct SystemError: Error, CustomStringConvertible {
    /// What was being done, in words that follow "cannot": `listen on :8080`.
    public let operation: String
    /// Why it failed, in words.
    public let reason: String
    /// The call's `errno`; 0 if the reason is no such number.
    public let code: Int32

    /// Takes `errno` as it is now unless a code is given.
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

    /// One line for a person: what could not be done, and why.
    public var description: String { "cannot \(operation): \(reason)" }
}
