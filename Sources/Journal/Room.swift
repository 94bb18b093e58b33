// Where frames will go. The log decides this when a frame is appended, and accepts no frame without a place on disk.

/// The space that is ready: the rest of the current segment, and the next segment.
struct Room: Equatable, Sendable {
    /// The number of the current segment.
    var segment: UInt64
    /// The size of the frames that the rest of the current segment can take, in bytes.
    var tail: Int
    /// The size of the frames that the next segment can take, in bytes; nil until it is ready.
    var next: Int?

    /// How many bytes are ready in all.
    var byteCount: Int { tail + (next ?? 0) }

    /// Takes the place of a frame, as the store will: in the current segment if the frame fits, otherwise in the next.
    ///
    /// - Returns: whether there is such a place and at least `reserve` bytes remain. If not, nothing changes.
    mutating func take(_ frameByteCount: Int, leaving reserve: Int = 0) -> Bool {
        var left = self
        if frameByteCount <= tail {
            left.tail -= frameByteCount
        } else if let next, frameByteCount <= next {
            left = Room(segment: segment + 1, tail: next - frameByteCount, next: nil)
        } else {
            return false
        }
        guard left.byteCount >= reserve else { return false }
        self = left
        return true
    }
}
