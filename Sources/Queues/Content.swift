// A task's content: bytes of their own, as they came.

/// Where bytes are: in a `ContentHeap`, or, while an image is read, in the image. An array would cost 40 bytes more for each
/// task. The task's record owns what is in the heap; whoever removes the record frees it there.
@safe struct Content {
    let start: UnsafeMutablePointer<UInt8>?
    let count: UInt32

    /// No bytes.
    init() {
        unsafe start = nil
        count = 0
    }

    /// The bytes at an address.
    init(start: UnsafeMutablePointer<UInt8>, count: UInt32) {
        unsafe self.start = unsafe start
        self.count = count
    }

    /// What it takes of a heap, in bytes.
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
