// Random numbers from the kernel, without a system call for each.

import Bytes
import Glibc

/// The kernel's cryptographic random number generator, read 32 numbers at a time.
///
/// No number stays in memory after it was returned. Copies share one stream, so no number is returned twice. Copies
/// must not be used by several threads at once.
public struct KernelRandom: RandomNumberGenerator {
    private let block = Block()

    /// Makes a generator. It asks the kernel when the first number is needed.
    public init() {}

    /// The next 64 random bits.
    ///
    /// Stops the program if the kernel has no random numbers, because identifiers that can be guessed would be worse.
    ///
    /// - Returns: A number; all values are equally likely.
    /// - Complexity: O(1), with one system call in 32.
    public mutating func next() -> UInt64 { block.next() }
}

/// Numbers fetched ahead. A class, because a copied struct would return the same numbers again.
private final class Block {
    /// Only `next` enters them, and it calls nothing that comes back here.
    #if DEBUG
        private var numbers = Numbers()
    #else
        private let place = HeapPlace(Numbers())
        private var numbers: Numbers {
            unsafeAddress { unsafe UnsafePointer(place.address) }
            unsafeMutableAddress { unsafe place.address }
        }
    #endif

    func next() -> UInt64 { numbers.next() }

    deinit { numbers.erase() }
}

private struct Numbers: ~Copyable {
    /// `getentropy` gives at most 256 bytes per call, and always all or none, even if signals arrive (POSIX.1-2024).
    /// `getrandom`, which gives more, is not in the Glibc module.
    private var values = InlineArray<32, UInt64>(repeating: 0)
    private var remaining = 0

    mutating func next() -> UInt64 {
        if remaining == 0 { refill() }
        remaining -= 1
        let value = values[remaining]
        values[remaining] = 0
        return value
    }

    private mutating func refill() {
        let result = unsafe withUnsafeMutableBytes(of: &values) { unsafe getentropy($0.baseAddress, $0.count) }
        precondition(result == 0, "the kernel has no random numbers (getentropy failed)")
        remaining = values.count
    }

    /// Overwrites what has not been returned.
    mutating func erase() {
        // A plain store to memory about to be freed would be optimised away.
        unsafe withUnsafeMutableBytes(of: &values) { bytes in
            if let start = bytes.baseAddress { unsafe explicit_bzero(start, bytes.count) }
        }
    }
}
