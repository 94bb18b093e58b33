// What the JSON writer appends to.

/// A buffer that bytes can be appended to.
public protocol JSONOutput: ~Copyable {
    /// Appends one byte.
    mutating func append(_ byte: UInt8)

    /// Appends bytes.
    mutating func append(_ bytes: Span<UInt8>)

    /// Appends the bytes of a literal.
    mutating func append(_ text: StaticString)
}

extension JSONOutput where Self: ~Copyable {
    /// Appends the bytes of a literal.
    public mutating func append(_ text: StaticString) {
        append(unsafe UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount).span)
    }
}

extension [UInt8]: JSONOutput {}
