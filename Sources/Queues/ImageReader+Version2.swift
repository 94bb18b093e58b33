// Reading images of version 2 of the journal: the same fields in the same order, without numbers. All fields are
// present, integers have the size of their type, and a flag says whether an optional field has a value.

import Bytes
import UID

/// Reads images of version 2.
struct Version2ImageReader: ~Copyable, ~Escapable, ImageReading {
    /// The kinds of images, in the order of their codes. The last one is followed by a count and as many sweeps.
    private static let kinds: [ImageKind] = [.nothing, .task, .state, .removal, .queue, .sweeps]

    private var cursor: ByteCursor
    private var sweepCount: UInt8 = 0

    @_lifetime(copy bytes)
    init(_ bytes: Span<UInt8>) { cursor = ByteCursor(bytes) }

    /// Whether a frame's payload begins with an image of version 2.
    static func reads(_ payload: Span<UInt8>) -> Bool { payload.count > 0 && Int(payload[0]) < kinds.count }

    /// Whether version 2 has the field with this number. Other fields have their defaults.
    private static func has(_ field: UInt8) -> Bool {
        switch field {
        case 1...12, 32...49, 64...76, 127, 255: true
        default: false
        }
    }

    var readCount: Int { cursor.offset }

    @_lifetime(self: copy self)
    mutating func readKind() throws(ImageError) -> ImageKind? {
        if sweepCount > 0 {
            sweepCount -= 1
            return .sweep
        }
        if cursor.isAtEnd { return nil }
        let code = try cursor.read(UInt8.self)
        guard code < Self.kinds.count else { throw ImageError(problem: "an image of unknown kind \(code)") }
        let kind = Self.kinds[Int(code)]
        if kind == .sweeps { sweepCount = try cursor.read(UInt8.self) }
        return kind
    }

    @_lifetime(copy self)
    mutating func readName() throws(ImageError) -> Span<UInt8> {
        let count = try cursor.read(UInt8.self)
        try check(count > 0, "a queue without a name")
        return try cursor.read(Int(count))
    }

    @_lifetime(self: copy self)
    mutating func readID() throws(ImageError) -> UID {
        UID(high: try cursor.read(UInt64.self), low: try cursor.read(UInt64.self))
    }

    @_lifetime(self: copy self)
    mutating func code(_ high: inout UInt64, _ low: inout UInt64, position: inout Int64) throws(ImageError) {
        position = try cursor.read(Int64.self)
        let id = try readID()
        (high, low) = (id.high, id.low)
    }

    @_lifetime(self: copy self)
    mutating func code<Integer: FixedWidthInteger & BitwiseCopyable>(
        _ field: UInt8, _ integer: inout Integer, default: Integer
    ) throws(ImageError) {
        integer = Self.has(field) ? try cursor.read(Integer.self) : `default`
    }

    @_lifetime(self: copy self)
    mutating func code(_ field: UInt8, _ bytes: inout [UInt8]) throws(ImageError) {
        bytes = Self.has(field) ? Array(copying: try cursor.read(Int(try cursor.read(UInt32.self)))) : []
    }

    @_lifetime(self: copy self)
    mutating func code(_ field: UInt8, _ content: inout Content) throws(ImageError) {
        content = try cursor.readContent(Int(try cursor.read(UInt32.self)))
    }

    @_lifetime(self: copy self)
    mutating func code(anyOf fields: ClosedRange<UInt8>, _ isThere: inout Bool) throws(ImageError) {
        let flag = try cursor.read(UInt8.self)
        try check(flag <= 1, "a flag that is neither 0 nor 1")
        isThere = flag == 1
    }

    func beginFields() {}

    func endFields(of image: StaticString) {}
}
