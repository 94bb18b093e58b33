// The histories as bytes, to be kept while the server does not run: eight bytes that name the format, the time, the
// series of all queues together, the series of each queue behind its name, beginning with the queue that was used last,
// and a checksum (FNV-1a, 64 bits). Numbers are LEB128.

import Bytes

/// Writes and reads numbers, and checks what it reads.
private struct HistoryCoder {
    static let format = Array("emqhist4".utf8)
    /// An earlier format, which has no times.
    static let formatWithoutTimes = Array("emqhist2".utf8)

    private(set) var bytes: [UInt8]
    /// How much was read, or is in the checksum.
    private var place = 0
    private var sum = Span<UInt8>().hashFNV1a()
    /// Whether the format that is written or read has times.
    private var hasTimes = true

    /// - Parameter capacity: about how many bytes will be written.
    init(capacity: Int) {
        bytes = []
        bytes.reserveCapacity(capacity)
        bytes += Self.format
    }

    /// Reads bytes that were written before; nil if they are not whole.
    init?(reading bytes: Span<UInt8>) {
        guard bytes.count >= 16 else { return nil }
        let beginning = bytes.extracting(first: 8)
        hasTimes = beginning.equals(Self.format.span)
        guard hasTimes || beginning.equals(Self.formatWithoutTimes.span) else { return nil }
        let end = bytes.count - 8
        var sum: UInt64 = 0
        for index in end..<bytes.count { sum = sum << 8 | UInt64(bytes[index]) }
        guard sum == bytes.extracting(0..<end).hashFNV1a() else { return nil }
        self.bytes = Array(copying: bytes.extracting(0..<end))
        place = 8
    }

    /// Adds what was written since the last call to the checksum.
    mutating func sumUp() {
        sum = bytes.span.extracting(place..<bytes.count).hashFNV1a(after: sum)
        place = bytes.count
    }

    mutating func writeChecksum() {
        sumUp()
        for shift in stride(from: 56, through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: sum >> shift)) }
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

    mutating func write(_ times: TaskTimes) {
        for durations in [times.waits, times.runs] {
            write(durations.count)
            write(durations.sum)
            write(durations.longest)
        }
    }

    /// Reads times. Whatever they are, adding to them does not overflow.
    mutating func times() -> TaskTimes? {
        var times = TaskTimes()
        guard hasTimes else { return times }
        guard let waits = durations(), let runs = durations() else { return nil }
        (times.waits, times.runs) = (waits, runs)
        return times
    }

    private mutating func durations() -> Durations? {
        guard let count = number(), let sum = number(), let longest = number() else { return nil }
        return Durations(count: count, sum: sum, longest: longest)
    }

    mutating func write(_ happenings: Happenings) {
        write(happenings.counts)
        write(happenings.times)
    }

    mutating func happenings() -> Happenings? {
        guard let counts = counts(), let times = times() else { return nil }
        return Happenings(counts: counts, times: times)
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
            write(point.times)
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
            if hasTimes {
                guard let times = self.number(), times <= UInt32.max else { return nil }
                point.times = times
            }
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
        guard let minute = happenings(), let fiveMinutes = happenings(),
            let minutes = points(.minute, last: HistoryInterval.minute.last(now: savedAt)),
            let fives = points(.fiveMinutes, last: HistoryInterval.fiveMinutes.last(now: savedAt))
        else { return nil }
        return Series(
            Series.Parts(minute: minute, fiveMinutes: fiveMinutes, minutes: minutes, fives: fives), savedAt: savedAt,
            now: now)
    }
}

extension HistoryPoint {
    /// The four times as one number.
    fileprivate var times: UInt64 {
        get {
            UInt64(waitMean.code) | UInt64(waitMaximum.code) << 8 | UInt64(runMean.code) << 16
                | UInt64(runMaximum.code) << 24
        }
        set {
            func time(_ shift: UInt64) -> CodedDuration {
                CodedDuration(code: UInt8(truncatingIfNeeded: newValue >> shift))
            }
            (waitMean, waitMaximum, runMean, runMaximum) = (time(0), time(8), time(16), time(24))
        }
    }
}

/// An image of the histories that is being made. While it is, no series may be added, removed or counted.
struct HistoryImage {
    private var coder: HistoryCoder
    /// The series that comes next; 0 if the image is complete.
    private var next: Slot
    private let limit: Int

    /// The memory that it takes, in bytes.
    var byteCount: Int { coder.bytes.count }

    /// Begins an image.
    ///
    /// - Parameters:
    ///   - sampling: the histories.
    ///   - limit: about how many bytes the image may have. It leaves out the queues that were used least lately.
    ///   - now: the time.
    fileprivate init(of sampling: borrowing Sampling, limit: Int, now: Int64) {
        self.limit = limit
        coder = HistoryCoder(capacity: min(limit, sampling.byteCount))
        coder.write(UInt64(max(0, now)))
        coder.write(sampling.server)
        next = sampling.recency.last
    }

    /// Adds the series of the next queue, and returns whether there was one. O(points).
    fileprivate mutating func add(from sampling: borrowing Sampling) -> Bool {
        guard next != 0, coder.bytes.count < limit else { return false }
        coder.write(sampling.records[next].name)
        coder.write(sampling.records[next].series)
        coder.sumUp()
        next = sampling.records[next][links: 0].previous
        return true
    }

    /// The bytes of the image, which is complete.
    fileprivate mutating func end() -> [UInt8] {
        coder.writeChecksum()
        return coder.bytes
    }
}

extension TaskStore {
    /// How many steps the series of a queue takes: as long as it takes to count the events of about so many.
    private static let imageSteps = 20

    /// Begins an image of the histories, for `takeHistoryImage`.
    mutating func beginHistoryImage(now: Int64) {
        sampling.imageUnderWay = HistoryImage(of: sampling, limit: sampling.imageLimit, now: now)
    }

    /// Goes on with the image that is being made, and returns whether there is none any more.
    mutating func continueHistoryImage(steps: inout Int) -> Bool {
        // Taken out of the record, so that its bytes are not copied.
        guard var image = sampling.imageUnderWay.take() else { return true }
        while image.add(from: sampling) {
            steps -= Self.imageSteps
            guard steps > 0 else {
                sampling.imageBytes = image.byteCount
                sampling.imageUnderWay = image
                return false
            }
        }
        let bytes = image.end()
        sampling.imageBytes = bytes.count
        sampling.image = bytes
        return true
    }
}

extension Broker {
    /// Makes an image of the histories every five minutes, for `takeHistoryImage`.
    ///
    /// - Parameter limit: about how many bytes an image may have. It leaves out the queues that were used least lately.
    public func keepHistoryImages(ofBytes limit: Int) { store.sampling.imageLimit = limit }

    /// The image that has become complete since the last call; nil for none. O(1).
    public func takeHistoryImage() -> [UInt8]? {
        guard let image = store.sampling.image.take() else { return nil }
        store.sampling.imageBytes = 0
        return image
    }

    /// The histories of all queues as bytes; nil if there are none. O(points).
    public func historyImage(now: Int64) -> [UInt8]? {
        if store.sampling.recency.isEmpty { return nil }
        var image = HistoryImage(of: store.sampling, limit: .max, now: now)
        while image.add(from: store.sampling) {}
        return image.end()
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
        for (name, series) in found.prefix(store.sampling.limit).reversed() { store.restore(series, of: name) }
        return true
    }
}
