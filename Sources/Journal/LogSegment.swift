// The public description of a segment, and the configuration of a log.

/// A segment: one file of the log.
struct LogSegment: Sendable, Equatable {
    /// Its number, after which its file is named. Segments are numbered without gaps.
    let number: UInt64
    /// The sequence of its first frame. It holds the frames up to the next segment's first.
    let firstSequence: UInt64
    /// Its size, including zeros at the end.
    let byteCount: Int
}

/// The configuration of a log.
public struct LogConfiguration: Sendable {
    /// When written frames go to stable storage. Durable frames survive the end of the process in every mode, but a
    /// power cut only with `always`.
    public enum SyncMode: Sendable, Equatable {
        /// A batch is durable when it has been synced.
        case always
        /// A batch is durable when it has been written, and is synced at most this many milliseconds later.
        case interval(milliseconds: Int)
        /// A batch is durable when it has been written. Only full segments are synced.
        case never
    }

    /// The size that segments grow to, from 512 bytes to 1 TiB. The first has 1 MiB, and each later one is twice as
    /// large as the one before. A segment for a single larger frame is larger.
    public var segmentByteCount = 64 << 20
    /// How many bytes of frames may be gathered while a batch is being written.
    public var gatheringByteCount = 16 << 20
    /// When written frames go to stable storage.
    public var syncMode = SyncMode.always

    /// The size of the first segment, if that is smaller than `segmentByteCount`.
    var smallSegmentByteCount = 1 << 20
    /// How long after a failure to make or give back space the helper retries.
    var retryMilliseconds: Int64 = 1000

    /// The defaults.
    public init() {}
}
