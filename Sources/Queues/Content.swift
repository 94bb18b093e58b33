// The bytes of a task's content.

/// The place of bytes in a `ContentHeap`, or, while an image is read, in the image. An array would cost 40 bytes more
/// for each task. The task's record owns bytes in the heap, which must be freed when the record is removed.
@safe struct Content {
    let start: UnsafeMutablePointer<UInt8>?
    let count: UInt32

    /// Makes an empty content.
    init() {
        unsafe start = nil
        count = 0
    }

    /// Makes a content of the bytes at an address.
    init(start: UnsafeMutablePointer<UInt8>, count: UInt32) {
        unsafe self.start = unsafe start
        self.count = count
    }

    /// The memory that it takes in a heap, in bytes.
    var heapBytes: Int { ContentHeap.heapBytes(Int(count)) }

    /// The bytes, until they are freed.
    var span: Span<UInt8> {
        @_lifetime(borrow self)
        borrowing get {
            let bytes = unsafe UnsafeBufferPointer(start: start, count: Int(count))
            return unsafe _overrideLifetime(Span(_unsafeElements: bytes), borrowing: self)
        }
    }
}
