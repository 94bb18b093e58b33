// The histories as bytes, to be kept while the server does not run: eight bytes that name the format, the time, the
// series of all queues together, the series of each queue behind its name, and a checksum (FNV-1a, 64 bits). Numbers
// are LEB128.

import Bytes

/// Writes and reads numbers, and checks what it reads.
private struct HistoryCoder {
    static let format = Array("emqhist1".utf8)

    var bytes: [UInt8] = []
    private var place = 0

    init() {}

    /// Reads bytes that were written before; nil if they are not whole.
    init?(reading bytes: Span<UInt8>) {
        guard bytes.count >= 16, bytes.extracting(first: 8).equals(Self.format.span) else { return nil }
        let end = bytes.count - 8
        var sum: UInt64 = 0
        for index in end..<bytes.count { sum = sum << 8 | UInt64(bytes[index]) }
        guard sum == Self.checksum(bytes.extracting(0..<end)) else { return nil }
        self.bytes = Array(copying: bytes.extracting(0..<end))
        place = 8
    }

    static func checksum(_ bytes: Span<UInt8>) -> UInt64 {
        var sum: UInt64 = 0xcbf2_9ce4_8422_2325
        for index in bytes.indices { sum = (sum ^ UInt64(bytes[index])) &* 0x100_0000_01b3 }
        return sum
    }

    /// Whether everything has been read.
    var isAtEnd: Bool { place == bytes.count }

    mutating func write(_ number: UInt64) {
        var rest = number
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    mutating func number() -> UInt64? {
        var (number, shift): (UInt64, UInt64) = (0, 0)
        while place < bytes.count, shift < 64 {
            let byte = bytes[place]
            place += 1
            number |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return number }
            shift += 7
        }
        return nil
    }

    mutating func write(_ name: [UInt8]) {
        write(UInt64(name.count))
        bytes += name
    }

    mutating func name() -> [UInt8]? {
        guard let count = number(), (1...255).contains(count), Int(count) <= bytes.count - place else { return nil }
        defer { place += Int(count) }
        return Array(bytes[place..<place + Int(count)])
    }

    mutating func write(_ counts: EventCounts) {
        for count in [counts.enqueued, counts.done, counts.failed] { write(count) }
    }

    mutating func counts() -> EventCounts? {
        guard let enqueued = number(), let done = number(), let failed = number(),
            max(enqueued, done, failed) < 1 << 48
        else { return nil }
        var counts = EventCounts()
        (counts.enqueued, counts.done, counts.failed) = (enqueued, done, failed)
        return counts
    }

    mutating func write(_ points: Points) {
        write(UInt64(points.entries.count))
        for entry in points.entries {
            let point = entry.point
            let numbers = [
                entry.number, point.enqueued, point.done, point.failed, point.ready, point.dead,
                point.oldestReadySeconds,
            ]
            for number in numbers { write(UInt64(number)) }
        }
    }

    /// Reads points. Those of later intervals than `last` are left out: the clock has been set back since.
    mutating func points(_ interval: HistoryInterval, last: Int64) -> Points? {
        guard let count = number(), count <= interval.count else { return nil }
        var points = Points()
        var previous: Int64 = -1
        for _ in 0..<Int(count) {
            var numbers = InlineArray<7, UInt32>(repeating: 0)
            for index in numbers.indices {
                guard let number = number(), number <= UInt32.max else { return nil }
                numbers[index] = UInt32(number)
            }
            var point = HistoryPoint()
            (point.enqueued, point.done, point.failed) = (numbers[1], numbers[2], numbers[3])
            (point.ready, point.dead, point.oldestReadySeconds) = (numbers[4], numbers[5], numbers[6])
            let number = Int64(numbers[0])
            guard number > previous else { return nil }
            previous = number
            if number <= last { points.append(point, at: number, limit: interval.count) }
        }
        return points
    }

    mutating func write(_ series: Series) {
        let parts = series.parts
        write(parts.minute)
        write(parts.fiveMinutes)
        write(parts.minutes)
        write(parts.fives)
    }

    mutating func series(savedAt: Int64, now: Int64) -> Series? {
        guard let minute = counts(), let fiveMinutes = counts(),
            let minutes = points(.minute, last: HistoryInterval.minute.last(now: savedAt)),
            let fives = points(.fiveMinutes, last: HistoryInterval.fiveMinutes.last(now: savedAt))
        else { return nil }
        return Series(
            Series.Parts(minute: minute, fiveMinutes: fiveMinutes, minutes: minutes, fives: fives), savedAt: savedAt,
            now: now)
    }
}

extension Broker {
    /// The histories of all queues as bytes; nil if there are none. O(points).
    public func historyImage(now: Int64) -> [UInt8]? {
        if store.sampling.recency.isEmpty { return nil }
        var coder = HistoryCoder()
        coder.bytes = HistoryCoder.format
        coder.write(UInt64(max(0, now)))
        coder.write(store.sampling.server)
        var series = store.sampling.recency.first
        while series != 0 {
            coder.write(store.sampling.records[series].name)
            coder.write(store.sampling.records[series].series)
            series = store.sampling.records[series][links: 0].next
        }
        let sum = HistoryCoder.checksum(coder.bytes.span)
        for shift in stride(from: 56, through: 0, by: -8) {
            coder.bytes.append(UInt8(truncatingIfNeeded: sum >> shift))
        }
        return coder.bytes
    }

    /// Takes up histories that `historyImage` has made. Call it before the first `sample`.
    ///
    /// - Parameters:
    ///   - image: the bytes.
    ///   - now: the time.
    /// - Returns: whether the bytes are whole. If not, this changes nothing.
    public func restoreHistories(_ image: Span<UInt8>, now: Int64) -> Bool {
        guard var coder = HistoryCoder(reading: image), let saved = coder.number(), saved < 1 << 48 else {
            return false
        }
        // The clock may have been set back since.
        let savedAt = min(Int64(saved), now)
        guard let server = coder.series(savedAt: savedAt, now: now) else { return false }
        var found: [(name: [UInt8], series: Series)] = []
        while !coder.isAtEnd {
            guard found.count < Sampling.maximumCount, let name = coder.name(),
                let series = coder.series(savedAt: savedAt, now: now)
            else { return false }
            found.append((name, series))
        }
        store.sampling.server = server
        // The queues that were used last are at the end.
        for (name, series) in found.suffix(store.sampling.limit) { store.restore(series, of: name) }
        return true
    }
}
