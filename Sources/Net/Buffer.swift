// The bytes of one direction of a connection: a growing block with a live range that moves towards its end.
// A move-only struct, so that keeping a span over a change of the buffer is an error; with a class it compiles and is
// wrong.

import Bytes
import Glibc

/// A block of bytes, filled at its end and emptied at its start.
///
/// An empty buffer can own no memory, so ten thousand idle connections cost nothing here. If the system has no memory
/// for more bytes, the buffer leaves them out and sets `isExhausted`. The owner of the buffer then has to give up its
/// request or response.
@safe public struct Buffer: ~Copyable {
    // Allocated by malloc, so that growing a large block remaps pages and copies nothing. The bytes from `start` to
    // `end` are initialised, and every access below stays within them or, when filling, within the block.
    @usableFromInline private(set) var block = unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)
    @usableFromInline private(set) var start = 0
    @usableFromInline private(set) var end = 0
    /// The memory in front of this offset has been returned to the system.
    private var released = 0

    /// An empty buffer that owns no memory.
    public init() {}

    deinit { unsafe free(block.baseAddress) }

    /// Owns a block that `takeBlock` returned.
    init(owning block: UnsafeMutableRawBufferPointer) { unsafe self.block = block }

    /// Gives its block up, which the caller has to free or to hand to another buffer. The buffer is empty.
    mutating func takeBlock() -> UnsafeMutableRawBufferPointer {
        precondition(isEmpty)
        let taken = unsafe block
        unsafe block = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        (start, end, released) = (0, 0, 0)
        return unsafe taken
    }

    /// The size of the smallest block, in bytes.
    static let smallestBlock = 512

    /// Whether bytes are missing because the system had no memory.
    @usableFromInline private(set) var isExhausted = false

    /// How many bytes it holds.
    public var count: Int { end - start }

    /// Whether it holds no bytes.
    public var isEmpty: Bool { start == end }

    /// How many bytes its block can hold; 0 when it owns none.
    var capacity: Int { unsafe block.count }

    /// How much of its block's memory it keeps, in bytes.
    var keptBytes: Int { capacity - released }

    /// The bytes it holds.
    public var span: Span<UInt8> {
        @_lifetime(borrow self)
        get {
            let live = unsafe UnsafeRawBufferPointer(rebasing: block[start..<end])
            // Initialised, and tied to this borrow of the buffer, which no change can outlast.
            let bytes = unsafe Span<UInt8>(_unsafeBytes: live)
            return unsafe _overrideLifetime(bytes, borrowing: self)
        }
    }

    /// Makes room for `byteCount` more bytes behind the last one. Amortised O(1) a byte.
    ///
    /// - Returns: Whether there is room; if not, the buffer is exhausted.
    @discardableResult
    public mutating func reserve(_ byteCount: Int) -> Bool {
        precondition(byteCount >= 0)
        if capacity - end >= byteCount { return true }
        // Moving down costs O(bytes left); it pays once half of the block is free in front of them.
        if start > 0, start >= capacity / 2 || isEmpty {
            unsafe block.copyMemory(from: UnsafeRawBufferPointer(rebasing: block[start..<end]))
            end -= start
            start = 0
            released = 0
            if capacity - end >= byteCount { return true }
        }
        var grown = max(capacity * 2, Self.smallestBlock)
        while grown - end < byteCount { grown *= 2 }
        guard let moved = unsafe realloc(block.baseAddress, grown) else {
            isExhausted = true
            return false
        }
        unsafe block = UnsafeMutableRawBufferPointer(start: moved, count: grown)
        released = 0
        return true
    }

    /// Whether the system would allocate this many bytes now. Takes some microseconds.
    static func canAllocate(_ byteCount: Int) -> Bool {
        let address = unsafe mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let address = unsafe address, unsafe address != MAP_FAILED else { return false }
        unsafe munmap(address, byteCount)
        return true
    }

    /// Forgets that bytes are missing.
    mutating func endExhaustion() { isExhausted = false }

    /// Passes room for `byteCount` bytes behind the last one to `fill`, which returns how many it wrote.
    ///
    /// - Returns: The result of `fill`; a negative one (a failed call, or no memory) adds nothing.
    mutating func append(atMost byteCount: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Int) -> Int {
        guard reserve(byteCount) else { return -1 }
        let written = unsafe fill(UnsafeMutableRawBufferPointer(rebasing: block[end..<end + byteCount]))
        precondition(written <= byteCount)
        end += max(written, 0)
        return written
    }

    /// Adds one byte.
    @inlinable
    public mutating func append(_ byte: UInt8) {
        if unsafe end == block.count, !reserve(1) { return }
        unsafe block[end] = byte
        end += 1
    }

    /// Adds bytes. O(count).
    @inlinable
    public mutating func append(_ bytes: Span<UInt8>) {
        unsafe bytes.withUnsafeBytes { source in unsafe append(source) }
    }

    /// Adds the bytes of a literal. O(count). Inlined, so that the compiler knows what it copies.
    @inlinable @inline(__always)
    public mutating func append(_ text: StaticString) {
        unsafe append(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// Adds bytes, which must be valid during the call. O(count).
    @inlinable @inline(__always)
    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        if unsafe block.count - end < bytes.count, !reserve(bytes.count) { return }
        // There is room behind `end`. An empty span may have no address.
        if let source = bytes.baseAddress, let target = unsafe block.baseAddress {
            unsafe (target + end).copyMemory(from: source, byteCount: bytes.count)
        }
        end += bytes.count
    }

    /// Adds a number's decimal digits.
    public mutating func append(decimal number: Int) {
        precondition(number >= 0)
        let digits = DecimalDigits(UInt64(number))
        append(digits.span)
    }

    /// Puts bytes in front of the first one, into room that `consume` has left. O(count).
    ///
    /// - Returns: Whether there was room.
    mutating func prepend(_ bytes: Span<UInt8>) -> Bool {
        guard !bytes.isEmpty, start - released >= bytes.count else { return bytes.isEmpty }
        start -= bytes.count
        // Within the block: `start` was at least the count.
        unsafe bytes.withUnsafeBytes { source in
            unsafe UnsafeMutableRawBufferPointer(rebasing: block[start..<start + source.count]).copyMemory(from: source)
        }
        return true
    }

    /// Writes the last decimal digits of a number, as many as `range` has bytes, over what is there.
    mutating func set(_ range: Range<Int>, toDigitsOf number: Int) {
        precondition(range.lowerBound >= 0 && range.upperBound <= count && number >= 0)
        // It holds bytes, so it has a block.
        guard let base = unsafe block.baseAddress else { return }
        var rest = UInt(bitPattern: number)
        var place = range.upperBound
        while place > range.lowerBound {
            place -= 1
            // Within `range`, which is checked above.
            unsafe (base + start + place).storeBytes(of: UInt8(ascii: "0") + UInt8(rest % 10), as: UInt8.self)
            rest /= 10
        }
    }

    /// Drops bytes from the end until `count` are left. O(1).
    mutating func truncate(to count: Int) {
        precondition(count >= 0 && count <= self.count)
        end = start + count
    }

    /// Removes `range` and moves the following bytes down. O(bytes that follow).
    mutating func remove(_ range: Range<Int>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= count)
        shift(from: range.upperBound, by: -range.count)
    }

    /// Opens a gap of `byteCount` undefined bytes at `offset`, moving up what follows; none if there is no memory for
    /// it. O(bytes that follow).
    mutating func open(_ byteCount: Int, at offset: Int) {
        precondition(offset >= 0 && offset <= count)
        guard reserve(byteCount) else { return }
        shift(from: offset, by: byteCount)
    }

    private mutating func shift(from offset: Int, by distance: Int) {
        if distance == 0 { return }
        let tail = unsafe UnsafeRawBufferPointer(rebasing: block[start + offset..<end])
        unsafe UnsafeMutableRawBufferPointer(rebasing: block[(start + offset + distance)...]).copyMemory(from: tail)
        end += distance
    }

    /// Moves `range` down to `target`, overwriting the bytes there. O(range).
    mutating func move(_ range: Range<Int>, downTo target: Int) {
        precondition(target >= 0 && target <= range.lowerBound && range.upperBound <= count)
        let moved = unsafe UnsafeRawBufferPointer(rebasing: block[start + range.lowerBound..<start + range.upperBound])
        unsafe UnsafeMutableRawBufferPointer(rebasing: block[(start + target)...]).copyMemory(from: moved)
    }

    /// Gives up a large block that is mostly unused, so that a few bytes do not keep what a large body took. O(count).
    mutating func shrink() {
        guard capacity > 256 * 1024, !isEmpty, count < capacity / 4 else { return }
        var smaller = Buffer()
        smaller.append(span)
        if smaller.isExhausted { return }
        swap(&self, &smaller)
    }

    /// Removes `byteCount` bytes from the front. O(1).
    public mutating func consume(_ byteCount: Int) {
        precondition(byteCount >= 0 && byteCount <= count)
        start += byteCount
        if start == end {
            start = 0
            end = 0
            released = 0
        } else if start - released >= Self.releaseUnit {
            releaseConsumed()
        }
    }

    /// Memory of removed bytes is returned to the system in pieces of about this size, in bytes.
    private static let releaseUnit = 1 << 20

    /// Gives the whole pages in front of the first byte back to the system: a large answer takes less memory the more
    /// of it is sent. They stay in the block, and are zero if they are used again.
    private mutating func releaseConsumed() {
        let pageSize = sysconf(Int32(_SC_PAGESIZE))
        guard let base = unsafe block.baseAddress else { return }
        let address = Int(bitPattern: base)
        let first = (address + released + pageSize - 1) / pageSize * pageSize
        let last = (address + start) / pageSize * pageSize
        guard first < last else { return }
        // Within the block, and in front of all that is initialised.
        if unsafe madvise(base + (first - address), last - first, MADV_DONTNEED) == 0 { released = last - address }
    }
}
