// How much memory this program has, and how much it may use: the machine's, or less by a control group or `ulimit -v`.

import Bytes
import CLinux
import Glibc

enum Memory {
    /// The machine's memory, or the lowest limit of the program's control group and its ancestors, in bytes.
    static var available: Int {
        let machine = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))
        return limits(of: isLimitKnown ? groups : rootGroup) { contents(of: $0) }.reduce(machine, min)
    }

    /// The address space that the program may still take, in bytes; nil if there is no limit (`ulimit -v`).
    static var addressSpace: Int? {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0,
            let bytes = Int(exactly: limit.rlim_cur)
        else { return nil }
        return max(0, bytes - pages(at: 0))
    }

    /// The program's resident memory, in bytes; 0 if the system does not tell.
    static var resident: Int { pages(at: 1) }

    /// The program's address space, in bytes; 0 if the system does not tell.
    static var virtual: Int { pages(at: 0) }

    /// A field of /proc/self/statm (proc_pid_statm(5)), which counts pages, in bytes.
    private static func pages(at place: Int) -> Int {
        let fields = contents(of: "/proc/self/statm").split(separator: " ")
        return place < fields.count ? (Int(fields[place]) ?? 0) * sysconf(Int32(_SC_PAGESIZE)) : 0
    }

    /// Makes `malloc` return memory to the system: large blocks always get mappings of their own, and all threads share
    /// one arena.
    static func configureAllocator() {
        mallopt(M_MMAP_THRESHOLD, 256 << 10)
        mallopt(M_TRIM_THRESHOLD, 1 << 20)
        mallopt(M_ARENA_MAX, 1)
    }

    /// Gives back the pages of the program's and the libraries' code and constants. Most of those that are resident
    /// were needed only by the start, or were mapped along with a neighbour. The system maps a page from its file again
    /// when it is used.
    static func giveBackCodePages() {
        var pagemap = unsafe open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)
        guard pagemap >= 0 else { return }
        defer { close(pagemap) }
        _ = unsafe dl_iterate_phdr(
            { object, _, pagemap in
                guard let object = unsafe object?.pointee, let pagemap = unsafe pagemap?.load(as: Int32.self) else {
                    return 0
                }
                // The loader vouches for the headers (elf(5)) and their number.
                let headers = unsafe UnsafeBufferPointer(start: object.dlpi_phdr, count: Int(object.dlpi_phnum))
                for index in headers.indices {
                    let segment = unsafe headers[index]
                    guard segment.p_type == PT_LOAD, Int32(segment.p_flags) & PF_W == 0 else { continue }
                    let start = unsafe Int(bitPattern: UInt(object.dlpi_addr &+ segment.p_vaddr))
                    Memory.giveBackFilePages(from: start, to: start + Int(segment.p_filesz), pagemap)
                }
                return 0
            }, &pagemap)
    }

    /// Gives back the pages between two addresses that are as they are in their file. Others are copies that something
    /// has changed, such as a debugger or a tracer that has put breakpoints there.
    private static func giveBackFilePages(from start: Int, to end: Int, _ pagemap: Int32) {
        let pageByteCount = sysconf(Int32(_SC_PAGESIZE))
        let pages = start / pageByteCount..<max(start, end) / pageByteCount
        // For each page, the highest bits say whether it is resident, is swapped out and is of a file; see pagemap in
        // the kernel's Documentation/admin-guide/mm.
        var entries = [UInt64](repeating: 0, count: pages.count)
        let byteCount = entries.count * MemoryLayout<UInt64>.size
        guard unsafe pread(pagemap, &entries, byteCount, pages.lowerBound * MemoryLayout<UInt64>.size) == byteCount
        else { return }
        var index = 0
        while index < entries.count {
            let first = index
            while index < entries.count, entries[index] >> 61 == 0b101 { index += 1 }
            if index > first {
                let address = unsafe UnsafeMutableRawPointer(bitPattern: (pages.lowerBound + first) * pageByteCount)
                unsafe madvise(address, (index - first) * pageByteCount, MADV_DONTNEED)
            }
            index += 1
        }
    }

    /// Whether the system tells the program's control group.
    static var isLimitKnown: Bool { !groups.isEmpty }

    private static var groups: String { contents(of: "/proc/self/cgroup") }
    /// In a container, the root that is visible is often the container's own group.
    private static let rootGroup = "0::/"

    /// The limits that control groups set (cgroups(7)).
    ///
    /// - Parameters:
    ///   - groups: the text of /proc/self/cgroup: a line `ID:CONTROLLERS:PATH` per group, without controllers in
    ///     version 2.
    ///   - read: returns the text of a file; empty if there is no such file.
    /// - Returns: all limits that are set, in bytes.
    static func limits(of groups: String, _ read: (String) -> String) -> [Int] {
        var limits: [Int] = []
        for line in groups.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            let isSecond = parts[1].isEmpty
            guard isSecond || parts[1].split(separator: ",").contains("memory") else { continue }
            let root = isSecond ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory"
            let file = isSecond ? "memory.max" : "memory.limit_in_bytes"
            var path = parts[2]
            while true {
                // `max` means no limit, and is not a number.
                let text = read("\(root)\(path == "/" ? "" : path)/\(file)").prefix { $0 != "\n" }
                if let limit = Int(text) { limits.append(limit) }
                guard let slash = path.lastIndex(of: "/"), path != "/" else { break }
                path = slash == path.startIndex ? "/" : path[..<slash]
            }
        }
        return limits
    }

    private static func contents(of path: String) -> String {
        let bytes = try? File.read(path, maximumByteCount: 4096)
        return String(decoding: bytes ?? [], as: UTF8.self)
    }
}
