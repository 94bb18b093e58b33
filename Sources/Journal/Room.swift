// Where frames will go, decided when they are taken: nothing is accepted that has no place on disk yet.

/// The space that has been made ready: what is left of the current segment, and the one after it.
struct Room: Equatable, Sendable {
    /// The number of the current segment.
    var segment: UInt64
    /// What is left of the current segment, in bytes.
    var tail: Int
    /// The frames that the next segment can take, in bytes; nil until it is ready.
    var next: Int?

    /// How much is ready in all.
    var byteCount: Int { tail + (next ?? 0) }

    /// Takes the place of a frame as the writer will: in the current segment if it fits, else in the next.
    ///
    /// - Returns: false, and nothing changes, if there is no such place, or less than `reserve` would be left.
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
