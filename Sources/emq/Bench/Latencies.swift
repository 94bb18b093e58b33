// What a phase took: its rate, and how its latencies are spread.

/// The latencies of one phase, each one kept, so that percentiles are exact.
struct Latencies {
    private var nanoseconds: [UInt64] = []

    /// Room for `count` latencies.
    init(count: Int) { nanoseconds.reserveCapacity(count) }

    mutating func add(_ latency: UInt64) { nanoseconds.append(latency) }

    mutating func sort() { nanoseconds.sort() }

    /// The latency below which that share of them lies, in microseconds, once they are sorted.
    func microseconds(share: Double) -> Double {
        if nanoseconds.isEmpty { return 0 }
        return Double(nanoseconds[min(nanoseconds.count - 1, Int(Double(nanoseconds.count) * share))]) / 1000
    }
}
