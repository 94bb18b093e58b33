// A failed system call: which one, and what the kernel said.

import Glibc

/// A system call that failed, with its `errno`.
public struct SystemError: Error, CustomStringConvertible {
    /// What was being done, in words that follow "cannot": `listen on :8080`.
    public let operation: String
    /// The call's `errno`.
    public let code: Int32

    /// Takes `errno` as it is now unless a code is given.
    public init(_ operation: String, code: Int32 = errno) {
        self.operation = operation
        self.code = code
    }

    /// One line for a person: what could not be done, and why.
    public var description: String {
        "cannot \(operation): \(unsafe String(cString: strerror(code)))"
    }
}
