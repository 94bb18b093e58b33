// Images: what tasks and queues are, as bytes for a journal. One description of each image serves both ways, writing and
// reading. Integers are little endian; bytes of varying length have a 32-bit count before them.

/// Writes or reads the parts of an image, one after the other.
protocol ImageCoder: ~Copyable, ~Escapable {
    /// What goes wrong with reading, and nothing with writing.
    associatedtype Failure: Error

    @_lifetime(self: copy self)
    mutating func code<Integer: FixedWidthInteger & BitwiseCopyable>(_ integer: inout Integer) throws(Failure)
    @_lifetime(self: copy self)
    mutating func code(_ bytes: inout [UInt8]) throws(Failure)
    @_lifetime(self: copy self)
    mutating func code(_ content: inout Content) throws(Failure)
    /// Makes sure of what whoever uses the parts relies on.
    func check(_ isSound: Bool, _ problem: StaticString) throws(Failure)
}

extension ImageCoder where Self: ~Copyable & ~Escapable {
    @_lifetime(self: copy self)
    mutating func code(_ flag: inout Bool) throws(Failure) {
        var byte: UInt8 = flag ? 1 : 0
        try code(&byte)
        try check(byte <= 1, "a flag that is neither 0 nor 1")
        flag = byte == 1
    }

    /// A length or a time; what a clock before 1970 says counts as 1970.
    @_lifetime(self: copy self)
    mutating func code(milliseconds: inout Int64) throws(Failure) {
        milliseconds = max(0, milliseconds)
        try code(&milliseconds)
        try check(milliseconds >= 0, "a negative time")
    }

    /// -1 stands for nil.
    @_lifetime(self: copy self)
    mutating func code(milliseconds: inout Int64?) throws(Failure) {
        var number = milliseconds.map { max(0, $0) } ?? -1
        try code(&number)
        try check(number >= -1, "a negative time")
        milliseconds = number < 0 ? nil : number
    }

    /// 0 is unsaid, 1 unlimited; a number of retries has 2 added.
    @_lifetime(self: copy self)
    mutating func code(_ limit: inout RetryLimit) throws(Failure) {
        var number: UInt64 =
            switch limit {
            case .unsaid: 0
            case .unlimited: 1
            case .limited(let retries): UInt64(retries) + 2
            }
        try code(&number)
        try check(number <= UInt64(UInt32.max) + 2, "too large a number of retries")
        limit = number == 0 ? .unsaid : number == 1 ? .unlimited : .limited(UInt32(truncatingIfNeeded: number - 2))
    }

    @_lifetime(self: copy self)
    mutating func code(_ backoff: inout Backoff?) throws(Failure) {
        var isThere = backoff != nil
        try code(&isThere)
        guard isThere else { return backoff = nil }
        var value = backoff ?? Backoff(minimumMilliseconds: 0)
        try code(milliseconds: &value.minimumMilliseconds)
        try code(milliseconds: &value.maximumMilliseconds)
        try code(&value.maximumDoublings)
        var jitter = value.jitter.bitPattern
        try code(&jitter)
        value.jitter = Double(bitPattern: jitter)
        try check((0...1).contains(value.jitter), "a jitter that is not from 0 to 1")
        backoff = value
    }
}

/// Writes images. Its memory stays for the next ones, unless it was much.
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

    @inline(__always)
    mutating func code<Integer: FixedWidthInteger & BitwiseCopyable>(_ integer: inout Integer) {
        append(integer)
    }

    @inline(__always)
    mutating func append<Integer: FixedWidthInteger & BitwiseCopyable>(_ integer: Integer) {
        reserve(MemoryLayout<Integer>.size)
        unsafe bytes.storeBytes(of: integer.littleEndian, toByteOffset: count, as: Integer.self)
        count += MemoryLayout<Integer>.size
    }

    mutating func append(_ more: Span<UInt8>) {
        reserve(more.count)
        unsafe more.withUnsafeBytes {
            let place = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[count..<count + more.count])
            unsafe place.copyMemory(from: $0)
        }
        count += more.count
    }

    mutating func code(_ bytes: inout [UInt8]) {
        append(UInt32(bytes.count))
        append(bytes.span)
    }

    mutating func code(_ content: inout Content) {
        append(content.count)
        append(content.span)
    }

    func check(_ isSound: Bool, _ problem: StaticString) {
        assert(isSound, "an image is written that could not be read")
    }
}

/// What is wrong with an image: its checksum was right, but it makes no sense.
public struct ImageError: Error, Hashable, Sendable {
    /// In words.
    public let problem: String
}

/// Reads images. Nothing in them is believed.
struct ImageReader: ~Copyable, ~Escapable, ImageCoder {
    private let bytes: Span<UInt8>
    private var offset = 0

    @_lifetime(copy bytes)
    init(_ bytes: Span<UInt8>) { self.bytes = bytes }

    var isAtEnd: Bool { offset == bytes.count }

    /// How many bytes have been read.
    var readCount: Int { offset }

    @inline(__always)
    @_lifetime(self: copy self)
    mutating func code<Integer: FixedWidthInteger & BitwiseCopyable>(
        _ integer: inout Integer
    ) throws(ImageError) {
        let size = MemoryLayout<Integer>.size
        guard size <= bytes.count - offset else { throw ImageError(problem: "an image ends too early") }
        integer = unsafe Integer(
            littleEndian: bytes.bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: Integer.self))
        offset += size
    }

    @_lifetime(copy self)
    mutating func read(_ count: Int) throws(ImageError) -> Span<UInt8> {
        guard count >= 0, count <= bytes.count - offset else { throw ImageError(problem: "an image ends too early") }
        defer { offset += count }
        return bytes.extracting(offset..<offset + count)
    }

    @_lifetime(copy self)
    private mutating func readCounted() throws(ImageError) -> Span<UInt8> {
        var count: UInt32 = 0
        try code(&count)
        return try read(Int(count))
    }

    @_lifetime(self: copy self)
    mutating func code(_ array: inout [UInt8]) throws(ImageError) {
        let read = try readCounted()
        array = read.isEmpty ? [] : Array(copying: read)
    }

    /// The content's bytes stay in the image: whoever keeps it copies them.
    @_lifetime(self: copy self)
    mutating func code(_ content: inout Content) throws(ImageError) {
        let read = try readCounted()
        // A length of 32 bits has just been read.
        content = unsafe read.withUnsafeBufferPointer { bytes in
            guard let first = bytes.baseAddress else { return Content() }
            return unsafe Content(start: UnsafeMutablePointer(mutating: first), count: UInt32(bytes.count))
        }
    }

    func check(_ isSound: Bool, _ problem: StaticString) throws(ImageError) {
        if !isSound { throw ImageError(problem: "\(problem)") }
    }
}
