// A disk in memory that fails and crashes as the test demands. The same seed gives the same result.
//
// Writes go to the cache; a sync copies them to the platter. After a crash, each 512-byte sector written since the last
// sync has any of its versions, or a part of one. Each file has any size it had since then, and each name that was
// added or removed may exist or not.

import Foundation
import Support

@testable import Journal

final class SimulatedDisk: Disk, @unchecked Sendable {
    // @unchecked: `mutex` protects the operations and the files. The test sets failures only while the log is idle,
    // except where a comment says that any thread may.

    static let sector = 512

    final class Content {
        /// What programs read.
        var cache: [UInt8] = []
        /// What is safe.
        var platter: [UInt8] = []
        /// The versions of each sector that may reach the platter in a crash.
        var versions: [Int: [[UInt8]]] = [:]
        var sizes: [Int] = []
    }

    enum Failure {
        case input, space
    }

    let path = "disk"
    var generator: SeededRandom
    /// The files that programs see, and those that are safe.
    private(set) var cached: [String: Content] = [:]
    private(set) var safe: [String: Content] = [:]
    /// The number of changes and syncs so far.
    private(set) var operations = 0
    /// The operation at which the machine crashes.
    var crashesAt = Int.max
    private(set) var hasCrashed = false
    /// Which operations fail.
    var failures: [Int: Failure] = [:]
    /// The number of reads so far, and the read that fails.
    private(set) var reads = 0
    var failingRead = 0
    /// The limit on the size of all files together, in bytes. Any thread may change it.
    var capacity: Int {
        get { mutex.withLock { lockedCapacity } }
        set { mutex.withLock { lockedCapacity = newValue } }
    }
    /// Whether no file can be deleted. Any thread may change it.
    var failsRemoving: Bool {
        get { mutex.withLock { lockedFailsRemoving } }
        set { mutex.withLock { lockedFailsRemoving = newValue } }
    }
    /// Whether no file can be synced, although it can be written. Any thread may change it.
    var failsSyncing: Bool {
        get { mutex.withLock { lockedFailsSyncing } }
        set { mutex.withLock { lockedFailsSyncing = newValue } }
    }
    fileprivate let mutex = NSRecursiveLock()
    private var lockedCapacity = Int.max
    private var lockedFailsRemoving = false
    private var lockedFailsSyncing = false
    /// Whether a failed sync also drops the unsynced writes from the cache, as on some file systems.
    var dropsAfterFailedSync = false
    private var salt: UInt64

    init(seed: UInt64) {
        generator = SeededRandom(seed: seed)
        salt = generator.next()
    }

    /// The file's bytes. Tests read and change them without the log's knowledge.
    subscript(name: String) -> [UInt8]? {
        get { mutex.withLock { cached[name]?.cache } }
        set {
            mutex.lock()
            defer { mutex.unlock() }
            guard let newValue else {
                (cached[name], safe[name]) = (nil, nil)
                return
            }
            let content = Content()
            (content.cache, content.platter) = (newValue, newValue)
            (cached[name], safe[name]) = (content, content)
        }
    }

    /// The name of the last segment that has a header.
    var lastSegmentName: String? {
        mutex.withLock {
            cached.filter { file in
                file.value.cache.withUnsafeBytes { SegmentHeader(RawSpan(_unsafeBytes: $0)) } != nil
            }.keys.max()
        }
    }

    /// A copy of the disk, with everything on it safe.
    func copy() -> SimulatedDisk {
        mutex.lock()
        defer { mutex.unlock() }
        let copy = SimulatedDisk(seed: salt)
        for (name, content) in cached { copy[name] = content.cache }
        return copy
    }

    /// The disk as it is after a crash and a restart.
    func restart() {
        mutex.lock()
        defer { mutex.unlock() }
        var names: [String: Content] = [:]
        for name in Set(cached.keys).union(safe.keys).sorted() {
            let (now, before) = (cached[name], safe[name])
            names[name] = now === before || Bool.random(using: &generator) ? now : before
        }
        for name in names.keys.sorted() {
            guard let content = names[name] else { continue }
            let size = ([content.platter.count] + content.sizes).randomElement(using: &generator) ?? 0
            var bytes = content.platter
            bytes += [UInt8](repeating: 0, count: max(0, size - bytes.count))
            for (sector, versions) in content.versions.sorted(by: { $0.key < $1.key }) {
                guard Int.random(in: 0..<3, using: &generator) > 0,
                    var version = versions.randomElement(using: &generator)
                else { continue }
                let start = sector * Self.sector
                if Int.random(in: 0..<4, using: &generator) == 0 {
                    version.removeLast(Int.random(in: 0..<version.count, using: &generator))
                }
                let end = min(start + version.count, bytes.count)
                if start < end { bytes.replaceSubrange(start..<end, with: version.prefix(end - start)) }
            }
            content.platter = Array(bytes.prefix(size))
            content.cache = content.platter
            (content.versions, content.sizes) = ([:], [])
        }
        (cached, safe) = (names, names)
        resume()
    }

    /// Lets another process open the disk, which still has what is in the cache.
    func resume() {
        (hasCrashed, crashesAt, failures) = (false, .max, [:])
    }

    /// Counts an operation.
    ///
    /// - Returns: how it fails, if it does.
    fileprivate func step(_ name: String) throws(LogError) -> Failure? {
        operations += 1
        if hasCrashed { throw crash }
        return failures[operations]
    }

    fileprivate func stepRead(_ name: String) throws(LogError) {
        reads += 1
        if reads == failingRead { throw error(.input, name) }
    }

    /// Call this once the operation has begun to take effect.
    fileprivate func crashIfDue() throws(LogError) {
        guard operations >= crashesAt else { return }
        hasCrashed = true
        throw crash
    }

    private var crash: LogError { LogError(.failed, file: path, problem: "crashed") }

    fileprivate func error(_ failure: Failure, _ name: String) -> LogError {
        LogError("do it", file: path + "/" + name, code: failure == .input ? EIO : ENOSPC)
    }

    /// The size of all files together, in bytes.
    var used: Int { mutex.withLock { cached.values.reduce(0) { $0 + $1.cache.count } } }

    // MARK: Disk

    func lock(waitMilliseconds: Int64) {}

    func names() throws(LogError) -> [String] {
        mutex.lock()
        defer { mutex.unlock() }
        if hasCrashed { throw crash }
        return cached.keys.shuffled(using: &generator)
    }

    func open(_ name: String, creating: Bool) throws(LogError) -> any DiskFile {
        mutex.lock()
        defer { mutex.unlock() }
        if cached[name] == nil {
            guard creating else { throw LogError("open it", file: path + "/" + name, code: ENOENT) }
            if let failure = try step(name) { throw error(failure, name) }
            cached[name] = Content()
            try crashIfDue()
        }
        guard let content = cached[name] else { throw crash }
        return SimulatedFile(self, name, content)
    }

    func remove(_ name: String) throws(LogError) {
        mutex.lock()
        defer { mutex.unlock() }
        if let failure = try step(name) ?? (failsRemoving ? .input : nil) { throw error(failure, name) }
        cached[name] = nil
        try crashIfDue()
    }

    func syncDirectory() throws(LogError) {
        mutex.lock()
        defer { mutex.unlock() }
        if let failure = try step("") { throw error(failure, "") }
        try crashIfDue()
        safe = cached
    }

    func freeByteCount() -> Int? { capacity - used }

    func random() -> UInt64 { salt }
}

private final class SimulatedFile: DiskFile, @unchecked Sendable {
    private let disk: SimulatedDisk
    private let name: String
    private let content: SimulatedDisk.Content

    init(_ disk: SimulatedDisk, _ name: String, _ content: SimulatedDisk.Content) {
        (self.disk, self.name, self.content) = (disk, name, content)
    }

    var path: String { disk.path + "/" + name }

    func byteCount() -> Int { disk.mutex.withLock { content.cache.count } }

    func read(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(LogError) -> Int {
        disk.mutex.lock()
        defer { disk.mutex.unlock() }
        try disk.stepRead(name)
        let count = max(0, min(bytes.count, content.cache.count - offset))
        if count > 0 {
            content.cache.withUnsafeBytes {
                bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + count]))
            }
        }
        return count
    }

    func write(_ bytes: RawSpan, at offset: Int) throws(LogError) {
        disk.mutex.lock()
        defer { disk.mutex.unlock() }
        let failure = try disk.step(name)
        var count = bytes.byteCount
        if failure != nil { count = Int.random(in: 0...count, using: &disk.generator) }
        let room = disk.capacity - disk.used + content.cache.count - offset
        let isFull = count > max(room, 0) && offset + count > content.cache.count
        if isFull { count = max(0, min(count, max(room, content.cache.count - offset))) }
        if count > 0 { put(bytes.extracting(first: count), at: offset) }
        try disk.crashIfDue()
        if let failure { throw disk.error(failure, name) }
        if isFull { throw disk.error(.space, name) }
    }

    private func put(_ bytes: RawSpan, at offset: Int) {
        let end = offset + bytes.byteCount
        if end > content.cache.count {
            content.cache += [UInt8](repeating: 0, count: end - content.cache.count)
            content.sizes.append(end)
        }
        content.cache.replaceSubrange(offset..<end, with: bytes.withUnsafeBytes { Array($0) })
        for sector in offset / SimulatedDisk.sector...(end - 1) / SimulatedDisk.sector {
            let start = sector * SimulatedDisk.sector
            let stop = min(start + SimulatedDisk.sector, content.cache.count)
            content.versions[sector, default: []].append(Array(content.cache[start..<stop]))
        }
    }

    func truncate(to byteCount: Int) throws(LogError) {
        disk.mutex.lock()
        defer { disk.mutex.unlock() }
        let failure = try disk.step(name)
        if let failure { throw disk.error(failure, name) }
        if byteCount < content.cache.count { cut(to: byteCount) }
        try disk.crashIfDue()
        content.platter.removeLast(max(0, content.platter.count - byteCount))
        save()
    }

    private func cut(to byteCount: Int) {
        content.cache.removeLast(content.cache.count - byteCount)
        content.sizes.append(byteCount)
        // After a crash, bytes written there come back with the old size, or not at all.
        for sector in content.versions.keys where sector * SimulatedDisk.sector >= byteCount {
            content.versions[sector] = nil
        }
    }

    func sync() throws(LogError) {
        disk.mutex.lock()
        defer { disk.mutex.unlock() }
        let failure = try disk.step(name) ?? (disk.failsSyncing ? .input : nil)
        try disk.crashIfDue()
        guard let failure else { return save() }
        // Part of it reaches the platter. The rest stays in the cache at best, and no later sync writes it.
        for sector in content.versions.keys.sorted() where Bool.random(using: &disk.generator) { save(sector) }
        (content.versions, content.sizes) = ([:], [])
        if disk.dropsAfterFailedSync {
            let count = min(content.cache.count, content.platter.count)
            content.cache.replaceSubrange(0..<count, with: content.platter.prefix(count))
        }
        throw disk.error(failure, name)
    }

    private func save() {
        for (sector, _) in content.versions { save(sector) }
        if let size = content.sizes.last, size > content.platter.count {
            content.platter += [UInt8](repeating: 0, count: size - content.platter.count)
        }
        (content.versions, content.sizes) = ([:], [])
    }

    private func save(_ sector: Int) {
        let start = sector * SimulatedDisk.sector
        let end = min(start + SimulatedDisk.sector, content.cache.count)
        if content.platter.count < end {
            content.platter += [UInt8](repeating: 0, count: end - content.platter.count)
        }
        content.platter.replaceSubrange(start..<end, with: content.cache[start..<end])
    }
}
