// The two protocols of a log's engine. A journal reads the log with a `LogReader` when it starts. Then it writes to the
// `LogStore` that the reader makes. `LogRecovery` and `DirectoryLogStore` are the engine that keeps a log as files in a
// directory.

/// Reads a log from its first frame to its last. It belongs to the event loop's thread.
protocol LogReader: AnyObject {
    /// Where the log is, for messages.
    var location: String { get }
    /// What has been found so far.
    var report: LogReport { get }
    /// The size of the log, in bytes.
    var totalByteCount: Int { get }

    /// Continues to read.
    ///
    /// - Parameters:
    ///   - byteCount: how many bytes to read, plus at most one frame.
    ///   - visit: receives each payload, its sequence and its segment's number.
    /// - Returns: whether everything has been read.
    /// - Throws: `LogError` if the log is damaged or cannot be read, or if `visit` throws.
    func advance(
        byteCount: Int,
        visit: (_ payload: Span<UInt8>, _ sequence: UInt64, _ segment: UInt64) throws(PayloadError) -> Void
    ) throws(LogError) -> Bool

    /// Makes the store that continues the log after its last whole frame. It may wait for the disk.
    ///
    /// - Precondition: everything has been read.
    /// - Throws: `LogError` if the log cannot be written.
    func makeStore(_ configuration: LogConfiguration) throws(LogError) -> any LogStore
}

/// Writes a log. One thread uses it at a time: once `LogHelper` runs it, only the helper's thread. So every method may
/// wait for the disk. There is a call for each batch, none for each request.
///
/// After an error with the cause `noSpace`, any method may be called again. After another error of `write`, `sync` or
/// `startOver`, the log cannot continue.
protocol LogStore: AnyObject {
    /// The space that is ready for frames.
    var room: Room { get }
    /// How often ready space has been lost for a reason other than written frames.
    var lossCount: Int { get }
    /// The largest frame that fits into an empty segment of the next regular size, in bytes.
    var regularFrameByteCount: Int { get }
    /// All segments, oldest first. The last one is the current one; there is always one.
    var segments: [LogSegment] { get }
    /// The sequence of the last frame that has been written.
    var writtenSequence: UInt64 { get }
    /// The sequence of the last frame on stable storage.
    var syncedSequence: UInt64 { get }
    /// Whether a written frame is not on stable storage yet.
    var needsSync: Bool { get }
    /// How much space is left for segments, in bytes; nil if that is unknown. May wait for the disk.
    func freeByteCount() -> Int?

    /// Writes a batch. After a lack of space, writes the rest of it. Its frames follow those already written.
    ///
    /// - Parameters:
    ///   - batch: the frames. The store seals each of them (`Batch.seal`) before it writes it.
    ///   - syncing: whether the frames must be on stable storage when this returns.
    /// - Throws: `LogError`.
    func write(_ batch: Batch, syncing: Bool) throws(LogError)

    /// Puts everything that has been written on stable storage.
    ///
    /// - Throws: `LogError`.
    func sync() throws(LogError)

    /// Continues in a new small segment. If there is no space for one, the log continues where it is.
    ///
    /// - Throws: `LogError`.
    func startOver() throws(LogError)

    /// Does a part of preparing the next segment.
    ///
    /// - Parameters:
    ///   - byteCount: how many bytes to prepare.
    ///   - frameByteCount: the size of a frame that the segment must have room for.
    /// - Returns: whether the next segment is ready and has room for the frame.
    /// - Throws: `LogError`. It may always be called again.
    func prepare(byteCount: Int, for frameByteCount: Int) throws(LogError) -> Bool

    /// Whether `deleteSegments` has anything to do.
    func needsDeletion(below number: UInt64) -> Bool

    /// Deletes the segments with lower numbers, oldest first, but never the current one. Puts everything that has been
    /// written on stable storage first: it may be why those segments are no longer needed.
    ///
    /// - Throws: `LogError`. It may be called again, unless syncing has failed: `needsSync` is then still true.
    func deleteSegments(below number: UInt64) throws(LogError)
}

/// What reading a log has found.
struct LogReport: Sendable {
    /// The number of whole frames.
    var frameCount = 0
    /// How many bytes of the segments have been read, including zeros that were skipped.
    var byteCount = 0
    /// How many bytes of incomplete frames a crash left after the last whole frame.
    var droppedByteCount = 0
    /// The sequence of the last whole frame; 0 if there has never been one.
    var lastSequence: UInt64 = 0
    /// Files that do not belong to the log. They are left alone.
    var foreignNames: [String] = []
}
