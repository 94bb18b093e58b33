// What the JSON writer appends to.

/// A buffer that bytes can be appended to.
public protocol JSONOutput: ~Copyable {
    /// Appends one byte.
    mutating func append(_ byte: UInt8)

    /// Appends bytes.
    mutating func append(_ bytes: Span<UInt8>)
}

extension [UInt8]: JSONOutput {}
