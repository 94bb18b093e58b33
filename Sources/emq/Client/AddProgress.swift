// How far a file has been added, kept in a file of the user's, so that an interrupted command can go on.

import Bytes
import CLinux
import Glibc
import JSON
import Net

/// The progress of adding a file.
///
/// It is in the folder `emq` of XDG_STATE_HOME, or of `.local/state` in the home folder (XDG Base Directory
/// Specification 0.8), under a name made from the server, the queue, the kind of lines and the file's path. It is locked
/// while the command runs, and goes away when everything is in.
final class AddProgress {
    /// What the file says.
    struct Record {
        /// The name of the run, which is a part of its batches' keys.
        var run = ""
        /// The lines that are in.
        var done = LinePosition()
        /// The last line of the batch that was sent and not answered; nil if there is none.
        var sentLine: Int?
        /// When the last batch was sent for the first time, in seconds since the Unix epoch.
        var time = 0
    }

    /// How many bytes before a position must be the same when a command goes on there.
    private static let checkedBytes = 4096
    /// The largest file: more than the longest path makes.
    private static let maximumBytes = 65_536
    /// The file's size is a multiple of this, with so much room for longer records at least.
    private static let blockBytes = 4096
    private static let spareBytes = 256

    /// Where it is.
    let path: String
    private let descriptor: Int32
    private let input: Int32
    private let queue: String
    private let inputPath: String
    /// The file's size, in bytes.
    private var byteCount = 0
    /// What an earlier command left; nil if there is nothing.
    private(set) var record: Record?

    /// Opens the progress of a file, and locks it; nil if there is no place for it.
    ///
    /// - Parameters:
    ///   - inputPath: the file's path, without links.
    ///   - input: the file.
    ///   - queue: the queue.
    ///   - words: what else tells this work from others.
    ///   - environment: the value of a variable.
    /// - Throws: `CommandFailure` if another command has locked it, or if it is damaged.
    init?(
        of inputPath: String, _ input: Int32, queue: String, _ words: [String], _ environment: (String) -> String?
    ) throws(CommandFailure) {
        let hash = Array((words + [queue, inputPath]).joined(separator: "\0").utf8).span.hashFNV1a()
        let name = "add-\(String(hash, radix: 16)).json"
        guard let path = UserFiles.path(of: name, "XDG_STATE_HOME", orInHome: ".local/state", environment) else {
            return nil
        }
        self.path = path
        UserFiles.makeFolders(of: path)
        (self.input, self.queue, self.inputPath) = (input, queue, inputPath)
        while true {
            let file = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
            if file < 0 { return nil }
            if flock(file, LOCK_EX | LOCK_NB) != 0 {
                close(file)
                throw CommandFailure(
                    .failed, "another emq is adding '\(inputPath)' to '\(queue)' now; wait for its end")
            }
            if Self.isInPlace(file, path) {
                descriptor = file
                break
            }
            // The command that had it locked has removed it since it was opened here.
            close(file)
        }
        record = try read()
    }

    /// Whether a path still leads to an open file.
    private static func isInPlace(_ file: Int32, _ path: String) -> Bool {
        var opened = stat()
        var named = stat()
        return unsafe fstat(file, &opened) == 0 && stat(path, &named) == 0 && opened.st_dev == named.st_dev
            && opened.st_ino == named.st_ino
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    private func read() throws(CommandFailure) -> Record? {
        let descriptor = descriptor
        var count = 0
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: Self.maximumBytes) { block, filled in
            count = unsafe pread(descriptor, block.baseAddress, block.count, 0)
            filled = max(0, count)
        }
        if count < 0 { throw CommandFailure(.failed, "cannot read \(path): \(FileError(code: errno))") }
        byteCount = count
        if bytes.isEmpty { return nil }
        guard let json = JSONPart(bytes[...]), let run = json["run"]?.text, let line = json["line"]?.number,
            let offset = json["offset"]?.number, let time = json["time"]?.number, let check = json["check"]?.text,
            let done = Int(exactly: line), let place = Int64(exactly: offset), let seconds = Int(exactly: time),
            case let sentLine = json["sent_line"]?.number.map({ Int(exactly: $0) ?? 0 }), sentLine ?? .max > done,
            done >= 0, place >= 0, seconds >= 0
        else { throw CommandFailure(.failed, "\(path), the progress of an earlier command, is damaged; delete it") }
        var record = Record(run: run, done: LinePosition(line: done, offset: place), time: seconds)
        record.sentLine = sentLine
        if check != self.check(place) {
            throw CommandFailure(
                .failed,
                "an earlier command has added '\(inputPath)' up to line \(done), and these lines have changed since; to add "
                    + "all of it, delete \(path)")
        }
        return record
    }

    /// Writes what the next command must know. It survives the end of this process.
    ///
    /// - Throws: `FileError` if that is impossible, or if somebody has removed the file. An earlier record may still be
    ///   there.
    func write(_ record: Record) throws(FileError) {
        guard Self.isInPlace(descriptor, path) else { throw FileError(code: ENOENT) }
        var json = Array("{\"queue\": ".utf8)
        JSONWriter.write(queue, to: &json)
        json += Array(", \"file\": ".utf8)
        JSONWriter.write(inputPath, to: &json)
        let sent = record.sentLine.map { "\($0)" } ?? "null"
        json += Array(
            """
            , "run": "\(record.run)", "line": \(record.done.line), "offset": \(record.done.offset), "sent_line": \(sent), \
            "time": \(record.time), "check": "\(check(record.done.offset))"}
            """.utf8)
        // Blanks take the place of the end of a longer record. They fill blocks of the disk, so that later records, which
        // are a few digits longer, need no room on a disk that is full by then.
        let blocks = (json.count + Self.spareBytes) / Self.blockBytes + 1
        let size = max(byteCount, blocks * Self.blockBytes)
        json += repeatElement(UInt8(ascii: " "), count: size - json.count)
        let count = unsafe json.withUnsafeBytes { unsafe pwrite(descriptor, $0.baseAddress, $0.count, 0) }
        if count != json.count { throw FileError(code: count < 0 ? errno : ENOSPC) }
        byteCount = count
    }

    /// Forgets it: everything is in, or nothing.
    func remove() { if Self.isInPlace(descriptor, path) { unsafe unlink(path) } }

    /// A check of the bytes before an offset of the file.
    private func check(_ offset: Int64) -> String {
        let count = Int(min(offset, Int64(Self.checkedBytes)))
        let input = input
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { block, filled in
            filled = unsafe max(0, pread(input, block.baseAddress, block.count, Int(offset) - block.count))
        }
        return String(bytes.span.hashFNV1a(), radix: 16)
    }
}
