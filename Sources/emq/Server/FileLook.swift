// When files that may change while the server runs are looked at.

/// Decides when to look whether a file has changed: once a minute, and whenever a signal asks.
struct FileLook {
    static let intervalMilliseconds: Int64 = 60_000

    /// When the next look is due.
    private(set) var next = Int64.min

    /// Whether a look is due now. If so, the next one is due a minute later.
    mutating func isDue(isAsked: Bool, now: Int64) -> Bool {
        guard isAsked || now >= next else { return false }
        next = now + Self.intervalMilliseconds
        return true
    }
}
