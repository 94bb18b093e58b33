// What the log needs from the operating system. Tests substitute a disk that fails and crashes on demand.

/// One directory. Any thread may call it, but only one at a time.
protocol Disk: AnyObject, Sendable {
    /// The directory's path, for messages.
    var path: String { get }

    /// Locks out other processes until the disk is released. Waits this long for a process that holds the lock.
    func lock(waitMilliseconds: Int64) throws(LogError)
    /// The names of all files.
    func names() throws(LogError) -> [String]
    /// Opens a file for reading and writing. A crash before `syncDirectory` may remove a file that this created.
    func open(_ name: String, creating: Bool) throws(LogError) -> any DiskFile
    /// Deletes a file if it exists. A crash before `syncDirectory` may bring it back.
    func remove(_ name: String) throws(LogError)
    /// Makes creations and deletions of files survive a crash.
    func syncDirectory() throws(LogError)
    /// How many bytes more its files may take; nil if that is unknown. May wait for the disk.
    func freeByteCount() -> Int?
    /// An unpredictable random number.
    func random() -> UInt64
}

/// An open file. Releasing the object closes the file.
protocol DiskFile: AnyObject, Sendable {
    /// The file's path, for messages.
    var path: String { get }

    /// The file's size.
    func byteCount() throws(LogError) -> Int
    /// Reads until `bytes` is full or the file ends.
    ///
    /// - Returns: how many bytes were read.
    func read(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(LogError) -> Int
    /// Writes all of `bytes`. After an error, any part of them may be there.
    func write(_ bytes: RawSpan, at offset: Int) throws(LogError)
    /// Truncates the file, and makes the new size and all writes survive a crash.
    func truncate(to byteCount: Int) throws(LogError)
    /// Makes all writes survive a crash. After an error, assume nothing about any write since the last success,
    /// even if a later call succeeds.
    func sync() throws(LogError)
}
