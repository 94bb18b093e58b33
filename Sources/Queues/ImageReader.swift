// Reading images. The reader trusts nothing in them.

import Bytes
import UID

/// Why an image is invalid although its checksum is right.
public struct ImageError: Error, Hashable, Sendable {
    /// A description.
    public let problem: String
    /// Whether only a newer program can have written the image.
    public let isNewer: Bool
    /// Whether the image is valid, but there is no memory for it.
    public let isShortage: Bool

    init(problem: String, isNewer: Bool = false, isShortage: Bool = false) {
        (self.problem, self.isNewer, self.isShortage) = (problem, isNewer, isShortage)
    }
}

/// Reads the images of a frame, one after the other.
protocol ImageReading: ImageCoder, ~Copyable, ~Escapable where Failure == ImageError {
    /// How many bytes have been read.
    var readCount: Int { get }
    /// Reads the kind of the next image; nil at the end.
    @_lifetime(self: copy self)
    mutating func readKind() throws(ImageError) -> ImageKind?
    /// Reads the name of a queue; it is empty for the defaults for all queues.
    @_lifetime(copy self)
    mutating func readName() throws(ImageError) -> Span<UInt8>
    /// Reads an id without fields.
    @_lifetime(self: copy self)
    mutating func readID() throws(ImageError) -> UID
}

extension ImageReading where Self: ~Copyable & ~Escapable {
    @inline(__always)
    func check(_ isSound: Bool, _ problem: StaticString) throws(ImageError) {
        if !isSound { throw ImageError(problem: "\(problem)") }
    }
}

/// A position in the bytes that are being read.
struct ByteCursor: ~Copyable, ~Escapable {
    private let bytes: Span<UInt8>
    private(set) var offset = 0

    @_lifetime(copy bytes)
    init(_ bytes: Span<UInt8>) { self.bytes = bytes }

    var isAtEnd: Bool { offset == bytes.count }

    static var isTooShort: ImageError { ImageError(problem: "an image ends too early") }

    @_lifetime(copy self)
    mutating func read(_ count: Int) throws(ImageError) -> Span<UInt8> {
        guard count >= 0, count <= bytes.count - offset else { throw Self.isTooShort }
        defer { offset += count }
        return bytes.extracting(offset..<offset + count)
    }

    /// Reads an integer of fixed size.
    @inline(__always)
    @_lifetime(self: copy self)
    mutating func read<Integer: FixedWidthInteger & BitwiseCopyable>(
        _ type: Integer.Type
    ) throws(ImageError) -> Integer {
        let size = MemoryLayout<Integer>.size
        guard size <= bytes.count - offset else { throw Self.isTooShort }
        defer { offset += size }
        return unsafe Integer(littleEndian: bytes.bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: type))
    }

    /// Reads an integer of 1 to 8 bytes; the last one has the sign.
    @inline(__always)
    @_lifetime(self: copy self)
    mutating func readInteger(byteCount: Int) throws(ImageError) -> Int64 {
        guard byteCount <= bytes.count - offset else { throw Self.isTooShort }
        guard 1...8 ~= byteCount else { throw ImageError(problem: "a number of \(byteCount) bytes") }
        var value: Int64 = 0
        if bytes.count - offset >= 8 {
            value = unsafe Int64(
                littleEndian: bytes.bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: Int64.self))
        } else {
            for index in 0..<byteCount { value |= Int64(bytes[offset + index]) << Int64(8 * index) }
        }
        offset += byteCount
        let unused = Int64(64 - 8 * byteCount)
        return (value << unused) >> unused
    }

    /// Reads a content. Its bytes stay in the image: copy them to keep them.
    @_lifetime(self: copy self)
    mutating func readContent(_ count: Int) throws(ImageError) -> Content {
        let read = try read(count)
        // Lengths have 32 bits.
        return unsafe read.withUnsafeBufferPointer { bytes in
            guard let first = bytes.baseAddress else { return Content() }
            return unsafe Content(start: UnsafeMutablePointer(mutating: first), count: UInt32(clamping: bytes.count))
        }
    }
}

/// Reads images of the current version.
struct ImageReader: ~Copyable, ~Escapable, ImageReading {
    private var cursor: ByteCursor
    /// The number of the next field.
    private var next = ImageFormat.end

    @_lifetime(copy bytes)
    init(_ bytes: Span<UInt8>) { cursor = ByteCursor(bytes) }

    var readCount: Int { cursor.offset }

    @_lifetime(self: copy self)
    mutating func readKind() throws(ImageError) -> ImageKind? {
        if cursor.isAtEnd { return nil }
        let code = try cursor.read(UInt8.self)
        guard let kind = ImageKind(rawValue: code) else {
            throw ImageError(problem: "an image of the kind \(code), which this version does not know", isNewer: true)
        }
        return kind
    }

    @_lifetime(copy self)
    mutating func readName() throws(ImageError) -> Span<UInt8> {
        try cursor.read(Int(try cursor.read(UInt8.self)))
    }

    @_lifetime(self: copy self)
    mutating func readID() throws(ImageError) -> UID {
        UID(high: try cursor.read(UInt64.self).byteSwapped, low: try cursor.read(UInt64.self).byteSwapped)
    }

    @inline(__always)
    @_lifetime(self: copy self)
    mutating func code(_ high: inout UInt64, _ low: inout UInt64, position: inout Int64) throws(ImageError) {
        let id = try readID()
        (high, low) = (id.high, id.low)
        try beginFields()
        try code(1, &position, default: 0)
    }

    @inline(__always)
    @_lifetime(self: copy self)
    mutating func code<Integer: FixedWidthInteger & BitwiseCopyable>(
        _ field: UInt8, _ integer: inout Integer, default: Integer
    ) throws(ImageError) {
        guard next == field else { return integer = `default` }
        let value = try cursor.readInteger(byteCount: Int(try cursor.read(UInt8.self)))
        integer = Integer(truncatingIfNeeded: value)
        guard Int64(truncatingIfNeeded: integer) == value else {
            throw ImageError(problem: "\(value) is too large a number for the field \(field)")
        }
        next = try cursor.read(UInt8.self)
    }

    @_lifetime(self: copy self)
    mutating func code(_ field: UInt8, _ bytes: inout [UInt8]) throws(ImageError) {
        guard next == field else { return bytes = [] }
        bytes = Array(copying: try cursor.read(try readTextCount()))
        next = try cursor.read(UInt8.self)
    }

    @_lifetime(self: copy self)
    mutating func code(_ field: UInt8, _ content: inout Content) throws(ImageError) {
        guard next == field else {
            try endFields(of: "a task")
            throw ImageError(problem: "a task without content")
        }
        content = try cursor.readContent(try readTextCount())
        next = try cursor.read(UInt8.self)
    }

    @_lifetime(self: copy self)
    private mutating func readTextCount() throws(ImageError) -> Int {
        let count = Int(try cursor.read(UInt8.self))
        return count < ImageFormat.longText ? count : Int(try cursor.read(UInt32.self))
    }

    @inline(__always)
    func code(anyOf fields: ClosedRange<UInt8>, _ isThere: inout Bool) { isThere = fields ~= next }

    @_lifetime(self: copy self)
    mutating func beginFields() throws(ImageError) { next = try cursor.read(UInt8.self) }

    @_lifetime(self: copy self)
    mutating func endFields(of image: StaticString) throws(ImageError) {
        guard next != ImageFormat.end else { return }
        throw ImageError(problem: "\(image) with the field \(next), which this version does not know", isNewer: true)
    }
}
