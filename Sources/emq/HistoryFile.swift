// The file in which histories last while the server does not run. Losing it loses nothing but graphs, so no error here
// keeps the server from starting or stopping.

import Bytes
import Glibc
import Queues

/// The file `history` in the directory of the journal. It is written when the server stops, and read when it starts.
struct HistoryFile {
    /// More than the largest image has.
    private static let maximumByteCount = 256 << 20

    private let path: String

    init(directory: String) { path = directory + "/history" }

    /// Reads the histories, if there is a file. O(points).
    func restore(_ broker: isolated Broker, now: Int64) {
        var status = stat()
        guard unsafe stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return }
        do throws(FileError) {
            let size = min(Int(status.st_size), Self.maximumByteCount)
            let bytes = try File.read(path, maximumByteCount: size)
            if !broker.restoreHistories(bytes.span, now: now) {
                Emq.log("emq: '\(path)' is damaged or of another version, so the histories in /stats/ begin anew")
            }
        } catch {
            Emq.log("emq: cannot read '\(path)' (\(error)), so the histories in /stats/ begin anew")
        }
    }

    /// Writes the histories, if there are any, in place of those of the last stop. O(points), with blocking system
    /// calls.
    func save(_ broker: isolated Broker, now: Int64) {
        guard let image = broker.historyImage(now: now) else { return }
        if let code = write(image) {
            unsafe unlink(path + ".new")
            Emq.log("emq: cannot write '\(path)' (\(FileError(code: code))), so the histories in /stats/ are lost")
        }
    }

    /// Writes the file, and returns the error's number; nil for none. A crash leaves the old file or the new one.
    private func write(_ bytes: [UInt8]) -> Int32? {
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
