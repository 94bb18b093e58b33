// Names with a number each, sorted a slice at a time by a merge sort. A name is copied into a chunk of memory with its
// neighbours, so that a million names are neither a million allocations nor one that is copied when it grows.

import Bytes

/// Names in the order of their numbers; bytewise if the numbers are equal.
struct SortedNames {
    /// A name, and the beginning of what it is sorted by, which avoids most reads of names.
    struct Entry {
        var first: UInt64
        var second: UInt64
        var place: UInt32
        var length: UInt8

        /// Where its name is: in which chunk, and where there.
        var chunk: Int { Int(place) / SortedNames.chunkBytes }
        var range: Range<Int> {
            let start = Int(place) % SortedNames.chunkBytes
            return start..<start + Int(length)
        }
    }

    /// How many entries are sorted at once.
    private static let runLength = 512
    private static let stepsPerRun = 6000
    private static let chunkBytes = 1 << 16

    /// Whether the entries have numbers; if not, only names count.
    private let hasNumbers: Bool
    private var entries: [Entry] = []
    private var chunks: [[UInt8]] = []
    /// The entries of the current pass so far, and the next ones of the two runs that are being merged.
    private var merged: [Entry] = []
    private var runLength = Self.runLength
    private var left = 0..<0
    private var right = 0..<0
    private var sortedRuns = 0

    init(hasNumbers: Bool) { self.hasNumbers = hasNumbers }

    var count: Int { entries.count }

    /// The memory that it takes, in bytes. O(1).
    var byteCount: Int {
        (entries.capacity + merged.capacity) * MemoryLayout<Entry>.stride + chunks.count * Self.chunkBytes
    }

    /// Makes room for names. Memory that is not used costs address space only.
    mutating func reserve(_ count: Int) { entries.reserveCapacity(count) }

    // MARK: Adding and sorting

    /// Adds a name of at most 255 bytes. O(length).
    mutating func append(_ name: Span<UInt8>, number: UInt64) {
        if chunks.isEmpty || chunks[chunks.count - 1].count + name.count > Self.chunkBytes {
            var chunk: [UInt8] = []
            chunk.reserveCapacity(Self.chunkBytes)
            chunks.append(chunk)
        }
        let last = chunks.count - 1
        let place = UInt32(last * Self.chunkBytes + chunks[last].count)
        chunks[last].append(name)
        entries.append(
            Entry(
                first: hasNumbers ? number : Self.number(of: name, from: 0),
                second: Self.number(of: name, from: hasNumbers ? 0 : 8), place: place, length: UInt8(name.count)))
    }

    /// Sorts on. Call it when all names have been added.
    ///
    /// - Parameter steps: how much to do at most; reduced by what was done.
    /// - Returns: whether all names are sorted.
    mutating func sort(steps: inout Int) -> Bool {
        while sortedRuns * Self.runLength < entries.count {
            guard steps > 0 else { return false }
            let start = sortedRuns * Self.runLength
            let end = min(entries.count, start + Self.runLength)
            let chunks = chunks
            entries[start..<end].sort { Self.precedes($0, $1, in: chunks) }
            sortedRuns += 1
            steps -= Self.stepsPerRun * (end - start) / Self.runLength
        }
        while runLength < entries.count {
            if merged.isEmpty {
                merged.reserveCapacity(entries.count)
                (left, right) = runs(from: 0)
            }
            guard merge(steps: &steps) else { return false }
            swap(&entries, &merged)
            merged.removeAll(keepingCapacity: true)
            runLength *= 2
        }
        merged = []
        return true
    }

    /// The two runs to be merged that begin at `start`.
    private func runs(from start: Int) -> (Range<Int>, Range<Int>) {
        let middle = min(entries.count, start + runLength)
        return (start..<middle, middle..<min(entries.count, middle + runLength))
    }

    /// Merges on in the current pass, and returns whether it is complete.
    private mutating func merge(steps: inout Int) -> Bool {
        while merged.count < entries.count {
            if left.isEmpty, right.isEmpty { (left, right) = runs(from: right.upperBound) }
            guard steps > 0 else { return false }
            steps -= 1
            let takesRight =
                left.isEmpty
                || !right.isEmpty && Self.precedes(entries[right.lowerBound], entries[left.lowerBound], in: chunks)
            if takesRight {
                merged.append(entries[right.lowerBound])
                right = right.dropFirst()
            } else {
                merged.append(entries[left.lowerBound])
                left = left.dropFirst()
            }
        }
        return true
    }

    private static func precedes(_ one: Entry, _ other: Entry, in chunks: [[UInt8]]) -> Bool {
        if one.first != other.first { return one.first < other.first }
        if one.second != other.second { return one.second < other.second }
        let (firstChunk, firstRange) = (chunks[one.chunk], one.range)
        let (secondChunk, secondRange) = (chunks[other.chunk], other.range)
        let name = firstChunk.span.extracting(firstRange)
        return name.precedes(secondChunk.span.extracting(secondRange))
    }

    private static func withName<Result>(
        _ entry: Entry, in chunks: [[UInt8]], _ body: (Span<UInt8>) -> Result
    ) -> Result {
        let chunk = chunks[entry.chunk]
        return body(chunk.span.extracting(entry.range))
    }

    /// Eight bytes of a name as a number that sorts as they do, padded with zeros.
    private static func number(of name: Span<UInt8>, from start: Int) -> UInt64 {
        var number: UInt64 = 0
        for index in start..<start + 8 { number = number << 8 | (index < name.count ? UInt64(name[index]) : 0) }
        return number
    }

    // MARK: Reading

    /// The number of an entry; 0 if there are no numbers. O(1).
    func number(at index: Int) -> UInt64 { hasNumbers ? entries[index].first : 0 }

    /// Calls `body` with a name. O(1).
    func withName<Result>(at index: Int, _ body: (Span<UInt8>) -> Result) -> Result {
        Self.withName(entries[index], in: chunks, body)
    }

    /// The index of the first entry that does not precede a number and a name. O(log n).
    func index(of name: Span<UInt8>, number: UInt64) -> Int {
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if precedes(at: middle, name, number) { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private func precedes(at index: Int, _ name: Span<UInt8>, _ number: UInt64) -> Bool {
        if hasNumbers, entries[index].first != number { return entries[index].first < number }
        return withName(at: index) { $0.precedes(name) }
    }
}
