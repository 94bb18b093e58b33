// The memory that the program really takes from the system. It is more than the count of used memory, because freed
// memory leaves gaps that cannot hold everything, in `malloc` and among contents of one size.

import CLinux
import Glibc

/// The program's resident memory, as the system reports it.
struct ResidentMemory {
    private static let askingMilliseconds: Int64 = 100
    private static let trimmingMilliseconds: Int64 = 1000
    /// Memory that the program needs after its start and does not count: blocks kept for later use, the edges of
    /// tables.
    private static let uncountedBytes = 16 << 20
    /// A trim is worth its time only if at least this much memory was used before and is free now.
    private static let freedBytes = 4 << 20

    private let bytesAtStart = Memory.resident
    /// The last value that the system reported, in bytes; 0 before the first.
    private(set) var byteCount = 0
    private var askedAt = Int64.min
    private var usedWhenAsked = 0
    private var trimmedAt = Int64.min
    /// The maximum in use since the last trim.
    private var mostUsed = 0

    /// Asks the system again if some time has passed or the memory in use has changed much. If much was freed, makes
    /// `malloc` return memory to the system.
    ///
    /// - Parameters:
    ///   - used: the counted memory in use, in bytes.
    ///   - limit: the limit for counted memory, in bytes.
    ///   - now: the time.
    mutating func update(used: Int, limit: Int, now: Int64) {
        mostUsed = max(mostUsed, used)
        guard now - Self.askingMilliseconds >= askedAt || abs(used - usedWhenAsked) > limit / 64 else { return }
        askedAt = now
        usedWhenAsked = used
        byteCount = Memory.resident
        let isMuchFree =
            mostUsed - used > Self.freedBytes && byteCount > bytesAtStart + used + used / 8 + Self.uncountedBytes
        if isMuchFree, now - Self.trimmingMilliseconds >= trimmedAt {
            malloc_trim(0)
            trimmedAt = now
            mostUsed = used
            byteCount = Memory.resident
        }
    }

    /// Whether resident memory exceeds the limit for counted memory so far that the server must accept nothing more.
    func exceeds(_ limit: Int) -> Bool { byteCount - bytesAtStart - Self.uncountedBytes > limit + limit / 4 }

    /// The memory of this program; nil under a sanitizer, which needs several times as much.
    static func ofProgram() -> ResidentMemory? {
        let isSanitized = unsafe dlsym(nil, "__asan_init") != nil || dlsym(nil, "__tsan_init") != nil
        return isSanitized ? nil : ResidentMemory()
    }
}
