// What the program really takes of the system's memory. What is counted is less: what is freed leaves gaps that do not suit
// everything, in `malloc` and among contents of one size.

import CLinux
import Glibc

/// The memory that the program has from the system, as the system says.
struct ResidentMemory {
    private static let askingMilliseconds: Int64 = 100
    private static let trimmingMilliseconds: Int64 = 1000
    /// What the program needs beyond what it had at its start that is not counted: blocks that are kept for what comes next, the
    /// edges of tables.
    private static let uncountedBytes = 16 << 20
    /// So much has to be free that was used before, for a trim to be worth its time. What is less stays where it is.
    private static let freedBytes = 4 << 20

    private let bytesAtStart = Memory.resident
    /// How much it was when last asked, in bytes; 0 if it never was.
    private(set) var byteCount = 0
    private var askedAt = Int64.min
    private var usedWhenAsked = 0
    private var trimmedAt = Int64.min
    /// The most that was used since the last trim.
    private var mostUsed = 0

    /// Asks anew, if some time has passed or what is used has changed much; and after a great change, has `malloc` give back
    /// what it can.
    ///
    /// - Parameters:
    ///   - used: how much of the limit is used, as counted, in bytes.
    ///   - limit: the limit.
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

    /// Whether it is so much over a limit for what is counted that nothing more should be taken in.
    func exceeds(_ limit: Int) -> Bool { byteCount - bytesAtStart - Self.uncountedBytes > limit + limit / 4 }

    /// That of this program, unless a sanitizer is at work, which needs several times as much.
    static func ofProgram() -> ResidentMemory? {
        let isSanitized = unsafe dlsym(nil, "__asan_init") != nil || dlsym(nil, "__tsan_init") != nil
        return isSanitized ? nil : ResidentMemory()
    }
}
