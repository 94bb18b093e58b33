// Images: the states of tasks and queues, as bytes for a journal. One description of each image (Images.swift) serves
// for writing and for reading.
//
// An image is a list of fields, each with a number, a length and a value. A field with its default value is left out.
// Fields are in the order of their numbers, so a reader compares one number for each field that it knows. An unknown
// field was written by a newer program; the reader refuses it, because it cannot know what it means.

import UID

/// Writes or reads the fields of an image, one after the other, in the order of their numbers.
protocol ImageCoder: ~Copyable, ~Escapable {
    /// The error of reading; writing does not fail.
    associatedtype Failure: Error

    /// Codes the id of a task, and its position.
    @_lifetime(self: copy self)
    mutating func code(_ high: inout UInt64, _ low: inout UInt64, position: inout Int64) throws(Failure)
    @_lifetime(self: copy self)
    mutating func code<Integer: FixedWidthInteger & BitwiseCopyable>(
        _ field: UInt8, _ integer: inout Integer, default: Integer
    ) throws(Failure)
    @_lifetime(self: copy self)
    mutating func code(_ field: UInt8, _ bytes: inout [UInt8]) throws(Failure)
    /// Codes a content, which has no default and is always present.
    @_lifetime(self: copy self)
    mutating func code(_ field: UInt8, _ content: inout Content) throws(Failure)
    /// Codes whether any of the fields is present. A writer is told by `isThere`; a reader sets it.
    @_lifetime(self: copy self)
    mutating func code(anyOf fields: ClosedRange<UInt8>, _ isThere: inout Bool) throws(Failure)
    /// Call this before the first field of an image without an id.
    @_lifetime(self: copy self)
    mutating func beginFields() throws(Failure)
    /// Call this after the last field; `image` names the kind of image for error messages.
    @_lifetime(self: copy self)
    mutating func endFields(of image: StaticString) throws(Failure)
    /// Checks a condition that users of the fields rely on.
    func check(_ isSound: Bool, _ problem: StaticString) throws(Failure)
}

extension ImageCoder where Self: ~Copyable & ~Escapable {
    @inline(__always)
    @_lifetime(self: copy self)
    mutating func code(_ field: UInt8, _ flag: inout Bool) throws(Failure) {
        var byte: UInt8 = flag ? 1 : 0
        try code(field, &byte, default: 0)
        try check(byte <= 1, "a flag that is neither 0 nor 1")
        flag = byte == 1
    }

    /// Codes a duration or a time; a time before 1970 counts as 1970.
    @inline(__always)
    @_lifetime(self: copy self)
    mutating func code(_ field: UInt8, milliseconds: inout Int64, default: Int64) throws(Failure) {
        milliseconds = max(0, milliseconds)
        try code(field, &milliseconds, default: `default`)
        try check(milliseconds >= 0, "a negative time")
    }

    /// Codes an optional duration; -1 means nil.
    @inline(__always)
    @_lifetime(self: copy self)
    mutating func code(_ field: UInt8, milliseconds: inout Int64?) throws(Failure) {
        var number = milliseconds.map { max(0, $0) } ?? -1
        try code(field, &number, default: -1)
        try check(number >= -1, "a negative time")
        milliseconds = number < 0 ? nil : number
    }

    /// Codes a limit of retries or crashes: 0 for unsaid, 1 for unlimited, otherwise the number plus 2.
    @_lifetime(self: copy self)
    mutating func code(_ field: UInt8, _ limit: inout RetryLimit) throws(Failure) {
        var number: UInt64 =
            switch limit {
            case .unsaid: 0
            case .unlimited: 1
            case .limited(let retries): UInt64(retries) + 2
            }
        try code(field, &number, default: 0)
        try check(number <= UInt64(UInt32.max) + 2, "too large a number of retries")
        limit = number == 0 ? .unsaid : number == 1 ? .unlimited : .limited(UInt32(truncatingIfNeeded: number - 2))
    }

    /// Codes a backoff in four fields; the first is present if there is a backoff.
    @_lifetime(self: copy self)
    mutating func code(_ field: UInt8, _ backoff: inout Backoff?) throws(Failure) {
        var isThere = backoff != nil
        try code(anyOf: field...field + 3, &isThere)
        guard isThere else { return backoff = nil }
        var value = backoff ?? Backoff(minimumMilliseconds: 0)
        value.minimumMilliseconds = max(0, value.minimumMilliseconds)
        try code(field, &value.minimumMilliseconds, default: -1)
        try check(value.minimumMilliseconds >= 0, "a backoff without a first pause")
        try code(field + 1, milliseconds: &value.maximumMilliseconds, default: 86_400_000)
        try code(field + 2, &value.maximumDoublings, default: .max)
        var jitter = value.jitter.bitPattern
        try code(field + 3, &jitter, default: 0)
        value.jitter = Double(bitPattern: jitter)
        try check((0...1).contains(value.jitter), "a jitter that is not from 0 to 1")
        backoff = value
    }
}

/// Writes images. It keeps its memory for the next images, unless it is large.
@safe struct ImageWriter: ~Copyable, ImageCoder {
    private static var keptBytes: Int { 1 << 20 }

    private var bytes: UnsafeMutableRawBufferPointer
    private(set) var count = 0

    init() { unsafe bytes = .allocate(byteCount: 4096, alignment: 16) }

    deinit { unsafe bytes.deallocate() }

    var isEmpty: Bool { count == 0 }

    var span: Span<UInt8> {
        @_lifetime(borrow self)
        borrowing get {
            let written = unsafe UnsafeRawBufferPointer(rebasing: bytes[..<count])
            return unsafe _overrideLifetime(Span(_unsafeBytes: written), borrowing: self)
        }
    }

    mutating func removeAll() {
        count = 0
        guard unsafe bytes.count > Self.keptBytes else { return }
        unsafe bytes.deallocate()
        unsafe bytes = .allocate(byteCount: 4096, alignment: 16)
    }

    /// Makes room for `more` bytes.
    @inline(__always)
    private mutating func reserve(_ more: Int) {
        if unsafe bytes.count - count < more { grow(more) }
    }

    private mutating func grow(_ more: Int) {
        let larger = unsafe UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(2 * bytes.count, count + more), alignment: 16)
        unsafe larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<count]))
        unsafe bytes.deallocate()
        unsafe bytes = larger
    }

    /// Writes an integer with its fixed size.
    @inline(__always)
    private mutating func append<Integer: FixedWidthInteger & BitwiseCopyable>(_ integer: Integer) {
        reserve(MemoryLayout<Integer>.size)
        unsafe bytes.storeBytes(of: integer.littleEndian, toByteOffset: count, as: Integer.self)
        count += MemoryLayout<Integer>.size
    }

    private mutating func append(_ more: Span<UInt8>) {
        reserve(more.count)
        unsafe more.withUnsafeBytes {
            let place = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[count..<count + more.count])
            unsafe place.copyMemory(from: $0)
        }
        count += more.count
    }

    mutating func append(_ kind: ImageKind) { append(kind.rawValue) }

    mutating func append(_ id: UID) {
        append(id.high.byteSwapped)
        append(id.low.byteSwapped)
    }

    /// Writes a name of at most 255 bytes; names of queues are checked when the queues are made.
    mutating func append(name: [UInt8]) {
        append(UInt8(clamping: name.count))
        append(name.span.extracting(first: min(name.count, 255)))
    }

    @inline(__always)
    mutating func code(_ high: inout UInt64, _ low: inout UInt64, position: inout Int64) {
        append(UID(high: high, low: low))
        code(1, &position, default: 0)
    }

    /// Writes an integer in as many bytes as it needs, including its sign.
    @inline(__always)
    mutating func code<Integer: FixedWidthInteger & BitwiseCopyable>(
        _ field: UInt8, _ integer: inout Integer, default: Integer
    ) {
        if integer == `default` { return }
        let value = Int64(truncatingIfNeeded: integer)
        let size = (72 - (value ^ value >> 63).leadingZeroBitCount) / 8
        reserve(10)
        let head = UInt16(field) | UInt16(truncatingIfNeeded: size) << 8
        unsafe bytes.storeBytes(of: head.littleEndian, toByteOffset: count, as: UInt16.self)
        unsafe bytes.storeBytes(of: value.littleEndian, toByteOffset: count + 2, as: Int64.self)
        count += 2 + size
    }

    mutating func code(_ field: UInt8, _ bytes: inout [UInt8]) {
        if !bytes.isEmpty { append(field, bytes.span) }
    }

    mutating func code(_ field: UInt8, _ content: inout Content) { append(field, content.span) }

    private mutating func append(_ field: UInt8, _ text: Span<UInt8>) {
        append(field)
        if text.count < ImageFormat.longText {
            append(UInt8(truncatingIfNeeded: text.count))
        } else {
            append(UInt8(ImageFormat.longText))
            append(UInt32(text.count))
        }
        append(text)
    }

    func code(anyOf fields: ClosedRange<UInt8>, _ isThere: inout Bool) {}

    func beginFields() {}

    mutating func endFields(of image: StaticString) { append(ImageFormat.end) }

    func check(_ isSound: Bool, _ problem: StaticString) {
        assert(isSound, "an image is written that could not be read")
    }
}

enum ImageFormat {
    /// The number that follows the last field.
    static var end: UInt8 { 0 }
    /// The length byte that announces a length of 32 bits.
    static var longText: Int { 255 }
}
