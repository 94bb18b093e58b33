// What the log asks of the operating system, so that the tests can put a disk there that fails and crashes as they like.

/// One directory. Any thread may call it, one at a time.
protocol Disk: AnyObject, Sendable {
    /// The directory's path, for messages.
    var path: String { get }

    /// Keeps every other process out until the disk is released. Waits so long for a process that is there already.
    func lock(waitMilliseconds: Int64) throws(LogError)
    /// The names of all files.
    func names() throws(LogError) -> [String]
    /// Opens a file for reading and writing. One that was created may vanish in a crash until `syncDirectory`.
    func open(_ name: String, creating: Bool) throws(LogError) -> any DiskFile
    /// Deletes a file if it is there, which may come back in a crash until `syncDirectory`.
    func remove(_ name: String) throws(LogError)
    /// Makes what was created and removed survive a crash.
    func syncDirectory() throws(LogError)
    /// A number nobody can guess.
    func random() -> UInt64
}

/// An open file; it is closed when it is released.
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
    /// Makes the file shorter, and makes that and what was written survive a crash.
    func truncate(to byteCount: Int) throws(LogError)
    /// Makes what was written survive a crash. After an error nothing may be assumed of any write since the last success,
    /// even if a later call succeeds.
    func sync() throws(LogError)
}
