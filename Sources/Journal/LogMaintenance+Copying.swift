// Copies a log, also while a server writes it. `LogSnapshot` says why the copy is consistent.

extension LogMaintenance {
    /// What a copy of a log has.
    public struct CopyReport: Sendable, Equatable {
        /// The number of segments.
        public internal(set) var segmentCount = 0
        /// The number of frames.
        public internal(set) var frameCount = 0
        /// The size of the headers and frames, in bytes, without the zeros behind them.
        public internal(set) var byteCount = 0
    }

    /// Copies a log that a server may be writing. The copy has everything that was durable when the call began, and
    /// maybe some later frames: it is what a crash at that moment would have left behind. The log is not changed, and
    /// the server does not notice. The space of segments that it deletes meanwhile becomes free when the copy is made.
    ///
    /// - Parameters:
    ///   - directory: the log's directory.
    ///   - newDirectory: the directory of the copy, which must not exist. It appears when the copy is complete,
    ///     checked, and safe on disk. Until then, its name ends in `.partial`.
    /// - Returns: what the copy has.
    /// - Throws: `LogError`; then there is no copy.
    /// - Complexity: O(n) for n bytes. Takes as much memory as the largest frame, and a descriptor for each segment.
    public static func copy(directory: String, to newDirectory: String) throws(LogError) -> CopyReport {
        if FileSystemDisk.exists(newDirectory) { throw .exists(newDirectory) }
        let snapshot = try LogSnapshot(FileSystemDisk(path: directory, .reading))
        let partial = newDirectory + ".partial"
        if FileSystemDisk.exists(partial) {
            throw LogError(
                .failed, file: partial, problem: "it already exists: a copy is being made there, or was interrupted",
                remedy: "delete it if no copy is being made")
        }
        let target = try FileSystemDisk(path: partial, .creatingNew)
        do throws(LogError) {
            let report = try copy(snapshot, to: target)
            try target.rename(to: newDirectory)
            return report
        } catch {
            // Renaming it may have succeeded, and making that safe may have failed.
            target.discard(at: FileSystemDisk.exists(partial) ? partial : newDirectory)
            throw error
        }
    }

    /// Copies a log to an empty directory, and reads the copy as a server would. The payloads are not inspected,
    /// because that would take as much memory as the server that uses them has; their checksums are.
    static func copy(_ snapshot: LogSnapshot, to target: any Disk) throws(LogError) -> CopyReport {
        let report = try snapshot.copy(to: target)
        let recovery = try LogRecovery(disk: target)
        while try !recovery.advance(byteCount: .max, visit: { _, _, _ throws(PayloadError) in }) {}
        guard recovery.report.frameCount == report.frameCount else {
            throw LogError(
                .failed, file: target.path,
                problem: "\(report.frameCount) frames were written, and \(recovery.report.frameCount) can be read")
        }
        return report
    }
}
