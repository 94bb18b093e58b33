// A task's content: bytes of their own on the heap, as they came.

import Glibc

/// Bytes from `malloc`: an array would cost 32 bytes more for each task. The task's record owns them; whoever removes
/// the record frees them.
@safe struct Content {
    private var start: UnsafeMutablePointer<UInt8>?
    private(set) var count: UInt32 = 0

    /// No bytes.
    init() { unsafe start = nil }

    /// A copy of `bytes`; nil if the system has no memory for it or it is 4 GiB or longer.
    init?(copying bytes: Span<UInt8>) {
        guard let count = UInt32(exactly: bytes.count) else { return nil }
        self.count = count
        unsafe start = malloc(max(1, bytes.count))?.assumingMemoryBound(to: UInt8.self)
        guard let start = unsafe start else { return nil }
        unsafe bytes.withUnsafeBufferPointer { source in
            if let first = source.baseAddress { unsafe start.update(from: first, count: source.count) }
        }
    }

    /// Ends the bytes' life.
    func deallocate() {
        unsafe free(start)
    }

    /// What the system's `malloc` takes for `count` bytes.
    static func heapBytes(_ count: Int) -> Int {
        max(32, (count + 23) & ~15)
    }

    /// The heap's bytes that it takes.
    var heapBytes: Int { unsafe start == nil ? 0 : Self.heapBytes(Int(count)) }

    /// The bytes, until they are freed.
    var span: Span<UInt8> {
        @_lifetime(borrow self)
        borrowing get {
            let bytes = unsafe UnsafeBufferPointer(start: start, count: Int(count))
            return unsafe _overrideLifetime(Span(_unsafeElements: bytes), borrowing: self)
        }
    }
}
