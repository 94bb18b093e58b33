// What others know of a segment, and how the log is set up.

/// One file of the log.
struct LogSegment: Sendable, Equatable {
    /// Its number, which its file is called by; segments are numbered without gaps.
    let number: UInt64
    /// The sequence of its first frame; it holds the frames up to the next segment's first.
    let firstSequence: UInt64
    /// The file's size, zeros at its end included.
    let byteCount: Int
}

/// How a log is kept.
public struct LogConfiguration: Sendable {
    /// When what was written goes to stable storage. A process that is killed loses nothing that is durable in any of these
    /// modes; a power cut loses nothing only with `always`.
    public enum SyncMode: Sendable, Equatable {
        /// Each batch is synced before it counts as durable.
        case always
        /// A batch is durable when it is written, and synced at most that many milliseconds later.
        case interval(milliseconds: Int)
        /// A batch is durable when it is written; only full segments are synced.
        case never
    }

    /// What the sizes of segments grow to, from 512 bytes to 1 TiB: the first has 1 MiB, each one after it twice as much. One
    /// for a single larger frame is larger.
    public var segmentByteCount = 64 << 20
    /// How much may be gathered while a batch is being written.
    public var gatheringByteCount = 16 << 20
    /// When what was written goes to stable storage.
    public var syncMode = SyncMode.always

    /// What the sizes of segments begin with, if it is less than `segmentByteCount`.
    var smallSegmentByteCount = 1 << 20
    /// How long after a failure to make or give back space it is tried again.
    var retryMilliseconds: Int64 = 1000

    /// The defaults.
    public init() {}
}
