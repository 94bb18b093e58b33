// The latencies of a phase and their percentiles.

/// The latencies of one phase. Each one is kept, so percentiles are exact.
struct Latencies {
    private var nanoseconds: [UInt64] = []

    /// Reserves room for `count` latencies.
    init(count: Int) { nanoseconds.reserveCapacity(count) }

    mutating func add(_ latency: UInt64) { nanoseconds.append(latency) }

    mutating func sort() { nanoseconds.sort() }

    /// The latency below which this share of all latencies lies, in microseconds. Call `sort` first.
    func microseconds(share: Double) -> Double {
        if nanoseconds.isEmpty { return 0 }
        return Double(nanoseconds[min(nanoseconds.count - 1, Int(Double(nanoseconds.count) * share))]) / 1000
    }
}
