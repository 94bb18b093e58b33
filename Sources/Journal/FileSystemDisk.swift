// The real disk: a directory of the file system.

import Glibc

/// A directory that is kept open and locked.
final class FileSystemDisk: Disk {
    /// How a directory is used.
    enum Access {
        /// Only reading: the medium may be read-only.
        case reading
        /// Writing: the directory must exist.
        case writing
        /// Writing: the directory is created if it does not exist.
        case creating
        /// Writing: the directory is created and must not exist yet.
        case creatingNew
    }

    let path: String
    private let access: Access
    private let directory: Int32
    /// The file `lock`; -1 if there is none in a directory that is only read.
    private let lockFile: Int32

    /// Opens a directory.
    init(path: String, _ access: Access) throws(LogError) {
        (self.path, self.access) = (path, access)
        let creates = access == .creating || access == .creatingNew
        // The error names the file in the way, not the call that fails because of it.
        var status = stat()
        if unsafe stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFDIR {
            (directory, lockFile) = (-1, -1)
            if access == .creatingNew { throw LogError.exists(path) }
            throw LogError(
                .failed, file: path, problem: "it is not a directory",
                // A log that is only read needs no new directory.
                remedy: creates ? "name one, or move this away" : "")
        }
        if creates {
            guard unsafe mkdir(path, 0o700) == 0 || (errno == EEXIST && access == .creating) else {
                if errno == ENOENT {
                    throw LogError(
                        .failed, file: path, problem: "its parent directory does not exist",
                        remedy: "create that first")
                }
                if errno == ENOTDIR {
                    throw LogError(
                        .failed, file: path, problem: "a part of this path is not a directory",
                        remedy: "name another one")
                }
                if errno == EEXIST { throw LogError.exists(path) }
                throw LogError("make the directory", file: path, code: errno)
            }
        }
        // Fail now rather than when the next file is created.
        if creates, unsafe Glibc.access(path, W_OK | X_OK) != 0 {
            (directory, lockFile) = (-1, -1)
            throw LogError("write to the directory", file: path, code: errno)
        }
        directory = unsafe Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else {
            lockFile = -1
            throw LogError("open the directory", file: path, code: errno)
        }
        let flags = access == .reading ? O_RDONLY : O_RDWR | O_CREAT
        lockFile = unsafe openat(directory, "lock", flags | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard lockFile >= 0 || (access == .reading && errno == ENOENT) else {
            throw LogError("open the lock file", file: path + "/lock", code: errno)
        }
        if creates { try syncParent() }
    }

    deinit {
        if lockFile >= 0 { close(lockFile) }
        if directory >= 0 { close(directory) }
    }

    /// Makes the directory itself survive a crash, even if an earlier process created it without syncing its parent.
    private func syncParent() throws(LogError) {
        let parent = unsafe openat(directory, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if parent < 0 && errno == EACCES { return }
        guard parent >= 0 else { throw LogError("open the directory above", file: path, code: errno) }
        defer { close(parent) }
        guard fsync(parent) == 0 else { throw LogError("sync the directory above", file: path, code: errno) }
    }

    /// Whether there is a file or a directory at a path.
    static func exists(_ path: String) -> Bool {
        var status = stat()
        return unsafe lstat(path, &status) == 0
    }

    /// Gives the directory another path in the same file system, and makes that survive a crash. Only an empty
    /// directory may be there.
    func rename(to newPath: String) throws(LogError) {
        guard unsafe Glibc.rename(path, newPath) == 0 else {
            if errno == EEXIST || errno == ENOTEMPTY { throw LogError.exists(newPath) }
            throw LogError("give it the name \(newPath)", file: path, code: errno)
        }
        try syncParent()
    }

    /// Deletes the directory, which may have been renamed, and its files, as far as that is possible.
    func discard(at path: String) {
        for name in ((try? names()) ?? []) + ["lock"] { try? remove(name) }
        unsafe rmdir(path)
    }

    func lock(waitMilliseconds: Int64) throws(LogError) {
        // The directory's own lock holds even if another program deletes the file. Some network file systems lock only
        // files.
        for descriptor in [directory, lockFile] where descriptor >= 0 {
            var patience = waitMilliseconds / Self.lockRetryMilliseconds
            var result = flock(descriptor, LOCK_EX | LOCK_NB)
            while result != 0, errno == EWOULDBLOCK, patience > 0 {
                patience -= 1
                usleep(UInt32(Self.lockRetryMilliseconds) * 1000)
                result = flock(descriptor, LOCK_EX | LOCK_NB)
            }
            guard result != 0 else { continue }
            guard errno == EWOULDBLOCK else {
                if descriptor == directory { continue }
                throw LogError("lock it", file: path + "/lock", code: errno)
            }
            throw LogError(
                .inUse, file: path, problem: "another process has this journal open",
                remedy: "stop it (`fuser \(path)` names it), or use another directory")
        }
    }

    private static let lockRetryMilliseconds: Int64 = 50

    func freeByteCount() -> Int? {
        var status = statvfs()
        guard unsafe fstatvfs(directory, &status) == 0 else { return nil }
        let (count, isTooLarge) = UInt(status.f_bavail).multipliedReportingOverflow(by: status.f_frsize)
        return isTooLarge ? .max : Int(clamping: count)
    }

    func names() throws(LogError) -> [String] {
        // Listing needs its own descriptor: reading a directory moves the descriptor's position, and closing the stream
        // closes it.
        let descriptor = unsafe openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0, let stream = unsafe fdopendir(descriptor) else {
            let code = errno
            if descriptor >= 0 { close(descriptor) }
            throw LogError("list the directory", file: path, code: code)
        }
        defer { unsafe _ = closedir(stream) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = unsafe readdir(stream) else { break }
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != "." && name != ".." && name != "lock" { names.append(name) }
        }
        guard errno == 0 else { throw LogError("list the directory", file: path, code: errno) }
        return names
    }

    func open(_ name: String, creating: Bool) throws(LogError) -> any DiskFile {
        // The open must not block on a special file; those are rejected later.
        let flags = (access == .reading ? O_RDONLY : O_RDWR) | (creating ? O_CREAT : 0)
        let descriptor = unsafe openat(directory, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o600)
        guard descriptor >= 0 else { throw LogError("open it", file: path + "/" + name, code: errno) }
        return FileSystemFile(path: path + "/" + name, descriptor: descriptor)
    }

    func remove(_ name: String) throws(LogError) {
        guard unsafe unlinkat(directory, name, 0) == 0 || errno == ENOENT else {
            throw LogError("delete it", file: path + "/" + name, code: errno)
        }
    }

    func syncDirectory() throws(LogError) {
        guard fsync(directory) == 0 else { throw LogError("sync the directory", file: path, code: errno) }
    }

    func random() -> UInt64 {
        var number: UInt64 = 0
        let result = unsafe withUnsafeMutableBytes(of: &number) { unsafe getentropy($0.baseAddress, $0.count) }
        precondition(result == 0, "the kernel has no random numbers (getentropy failed)")
        return number
    }
}

/// A file of the file system.
private final class FileSystemFile: DiskFile {
    let path: String
    private let descriptor: Int32

    init(path: String, descriptor: Int32) {
        (self.path, self.descriptor) = (path, descriptor)
    }

    deinit { close(descriptor) }

    func byteCount() throws(LogError) -> Int {
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { throw LogError("read its size", file: path, code: errno) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw LogError(.failed, file: path, problem: "it is not a regular file", remedy: "move it away")
        }
        return Int(status.st_size)
    }

    func read(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(LogError) -> Int {
        var done = 0
        while done < bytes.count {
            let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[done...])
            let count = unsafe pread(descriptor, rest.baseAddress, rest.count, off_t(offset + done))
            if count == 0 { break }
            if count > 0 {
                done += count
            } else if errno != EINTR {
                throw LogError("read", file: path, offset: offset + done, code: errno)
            }
        }
        return done
    }

    func write(_ bytes: RawSpan, at offset: Int) throws(LogError) {
        var done = 0
        while done < bytes.byteCount {
            let count = unsafe bytes.extracting(droppingFirst: done).withUnsafeBytes {
                unsafe pwrite(descriptor, $0.baseAddress, $0.count, off_t(offset + done))
            }
            if count > 0 {
                done += count
            } else if count == 0 {
                throw LogError("write", file: path, offset: offset + done, code: EIO)
            } else if errno != EINTR {
                throw LogError("write", file: path, offset: offset + done, code: errno)
            }
        }
    }

    func truncate(to byteCount: Int) throws(LogError) {
        guard ftruncate(descriptor, off_t(byteCount)) == 0 else {
            throw LogError("truncate it", file: path, code: errno)
        }
        guard fsync(descriptor) == 0 else { throw LogError("sync it", file: path, code: errno) }
    }

    func sync() throws(LogError) {
        guard fdatasync(descriptor) == 0 else { throw LogError("sync it", file: path, code: errno) }
    }
}
