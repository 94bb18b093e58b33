// Comparing, searching and copying spans of bytes.

import Glibc

extension Span<UInt8> {
    /// Whether the bytes are those of a literal. O(*n*).
    @inlinable
    public func equals(_ text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount else { return false }
        return unsafe withUnsafeBytes { bytes in
            // An empty span may have no address, and no bytes to compare.
            guard let base = bytes.baseAddress else { return true }
            return unsafe memcmp(base, text.utf8Start, bytes.count) == 0
        }
    }

    /// Whether two spans have the same bytes. O(*n*).
    @inlinable
    public func equals(_ other: Span<UInt8>) -> Bool {
        guard count == other.count else { return false }
        return unsafe withUnsafeBytes { first in
            unsafe other.withUnsafeBytes { second in
                // An empty span may have no address, and no bytes to compare.
                guard let first = first.baseAddress, let second = second.baseAddress else { return true }
                return unsafe memcmp(first, second, count) == 0
            }
        }
    }

    /// Whether the bytes precede others in bytewise order. O(*n*).
    @inlinable
    public func precedes(_ other: Span<UInt8>) -> Bool {
        let shared = Swift.min(count, other.count)
        let difference: Int32 = unsafe withUnsafeBytes { first in
            unsafe other.withUnsafeBytes { second in
                // An empty span may have no address, and no bytes to compare.
                guard let first = first.baseAddress, let second = second.baseAddress else { return 0 }
                // Both have as many bytes.
                return unsafe memcmp(first, second, shared)
            }
        }
        return difference == 0 ? count < other.count : difference < 0
    }

    /// Whether the bytes are those of a literal, ignoring the case of ASCII letters.
    ///
    /// - Complexity: O(*n*), and fastest if the case is the same.
    @inlinable
    public func equalsIgnoringCase(_ text: StaticString) -> Bool {
        equals(text)
            || equalsIgnoringCase(unsafe UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount).span)
    }

    /// Whether two spans have the same bytes, ignoring the case of ASCII letters. O(*n*).
    @inlinable
    public func equalsIgnoringCase(_ other: Span<UInt8>) -> Bool {
        guard count == other.count else { return false }
        for index in indices {
            // Both have `count` bytes.
            let (first, second) = unsafe (self[unchecked: index], other[unchecked: index])
            if first != second, first.lowercasedASCII != second.lowercasedASCII { return false }
        }
        return true
    }

    /// The last position up to `position`, which is in the span, that is not within a character of UTF-8. O(1).
    public func characterBoundary(atMost position: Int) -> Int {
        var boundary = position
        while boundary > 0, self[boundary] & 0b1100_0000 == 0b1000_0000 { boundary -= 1 }
        return boundary
    }

    /// Whether the bytes begin with those of a literal. O(length of the literal).
    @inlinable
    public func starts(with text: StaticString) -> Bool {
        count >= text.utf8CodeUnitCount && extracting(first: text.utf8CodeUnitCount).equals(text)
    }

    /// The index of the first occurrence of a byte at or after `start`; nil if there is none. O(*n*).
    @inlinable
    public func index(of byte: UInt8, from start: Int = 0) -> Int? {
        if start >= count { return nil }
        return unsafe extracting(start..<count).withUnsafeBytes { bytes in
            // The C library looks at 32 bytes at a time.
            guard let base = bytes.baseAddress, let found = unsafe memchr(base, Int32(byte), bytes.count) else {
                return nil
            }
            return unsafe start + (UnsafeRawPointer(found) - base)
        }
    }
}

extension [UInt8] {
    /// Copies the bytes of a span. O(*n*).
    @inlinable
    public init(copying bytes: Span<UInt8>) {
        self = unsafe bytes.withUnsafeBufferPointer { unsafe Array($0) }
    }

    /// Appends the bytes of a span. O(*n*) on average.
    @inlinable
    public mutating func append(_ bytes: Span<UInt8>) {
        unsafe bytes.withUnsafeBufferPointer { unsafe append(contentsOf: $0) }
    }
}

extension String {
    /// Decodes UTF-8, with U+FFFD in place of what is not valid. O(*n*).
    public init(decoding utf8: Span<UInt8>) {
        self = unsafe utf8.withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
    }
}
