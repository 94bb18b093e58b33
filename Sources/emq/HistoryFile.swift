// The file in which histories last while the server does not run. Losing it loses nothing but graphs, so no error here
// keeps the server from starting, working or stopping.

import Bytes
import Glibc
import Net
import Queues

/// The file `history` in the directory of the journal. It is written every five minutes and when the server stops, and
/// read when it starts.
final class HistoryFile: Sendable {
    /// About how many bytes there are in the images that are written while the server runs. They are in memory until
    /// they are written.
    static let periodicByteCount = 16 << 20
    /// More than the largest image has.
    private static let maximumByteCount = 256 << 20

    private let path: String
    private let log = Log.standard
    /// Whether a thread writes an image, or is about to.
    private let isBeingWritten = Locked(false)
    /// Whether the last image has been written. Locked while the file is being written.
    private let isClosed = Locked(false)

    init(directory: String) { path = directory + "/history" }

    /// Reads the histories, if there is a file. O(points).
    func restore(_ broker: isolated Broker, now: Int64) {
        var status = stat()
        guard unsafe stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return }
        do throws(FileError) {
            let size = min(Int(status.st_size), Self.maximumByteCount)
            let bytes = try File.read(path, maximumByteCount: size)
            if !broker.restoreHistories(bytes.span, now: now) {
                log.warning("'\(path)' is damaged or of another version, so the histories in /stats/ begin anew")
            }
        } catch {
            log.warning("cannot read '\(path)' (\(error)), so the histories in /stats/ begin anew")
        }
    }

    /// Writes an image on a thread of its own, in place of the last one. If the last one is still being written, this
    /// does nothing. O(1).
    ///
    /// - Parameter image: what `Broker.takeHistoryImage` has returned.
    func saveLater(_ image: [UInt8]) {
        let isBusy = isBeingWritten.with { isBeingWritten in
            defer { isBeingWritten = true }
            return isBeingWritten
        }
        if isBusy { return }
        do throws(SystemError) {
            try DetachedThread.start { [self] in
                isClosed.with { if !$0 { write(image) } }
                isBeingWritten.with { $0 = false }
            }
        } catch {
            log.warning("cannot write the histories of /stats/ (\(error)); emq tries again in five minutes")
            isBeingWritten.with { $0 = false }
        }
    }

    /// Writes the histories, if there are any, for the last time. O(points), with blocking system calls.
    func save(_ broker: isolated Broker, now: Int64) {
        let image = broker.historyImage(now: now)
        isClosed.with { isClosed in
            isClosed = true
            if let image { write(image) }
        }
    }

    private func write(_ image: [UInt8]) {
        guard let code = replace(with: image) else { return }
        unsafe unlink(path + ".new")
        log.warning(
            "cannot write '\(path)' (\(FileError(code: code))), so the histories in /stats/ do not outlive the server")
    }

    /// Replaces the file, and returns the error's number; nil for none. A crash leaves the old file or the new one.
    private func replace(with bytes: [UInt8]) -> Int32? {
        let descriptor = unsafe open(path + ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { return errno }
        defer { close(descriptor) }
        var done = 0
        while done < bytes.count {
            let count = unsafe bytes[done...].withUnsafeBytes {
                unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if count > 0 {
                done += count
            } else if errno != EINTR {
                return errno
            }
        }
        if fsync(descriptor) != 0 { return errno }
        return unsafe rename(path + ".new", path) == 0 ? nil : errno
    }
}
