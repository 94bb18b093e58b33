// The memory of contents, without a broker.

import Support
import Testing

@testable import Queues

@Suite(.blocking) struct ContentHeapTests {
    /// Bytes that tell one content from another.
    private func bytes(_ count: Int, seed: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ seed) }
    }

    /// A random length: all powers of two are equally likely, and so are the lengths next to them.
    private func length(_ random: inout Random, bits: Int) -> Int {
        random.oneIn(4)
            ? max(0, 1 << random.below(bits) + random.below(3) - 1) : Int(random.anyLength(bits: bits))
    }

    @Test(arguments: 0..<4) func contentsStayAsTheyWereWritten(part: Int) throws {
        var random = Random(seed: Random.runSeed &+ UInt64(part))
        let comment: Comment = "EMQ_TEST_SEED=\(Random.runSeed), part \(part)"
        var heap = ContentHeap(addressBytes: 8 << 20)
        var held: [(content: Content, seed: Int)] = []
        for operation in 0..<max(1200, testOperations / 100) {
            let grows = operation / 300 % 2 == 0
            if held.isEmpty || random.below(10) < (grows ? 7 : 3) {
                let count = length(&random, bits: part == 0 ? 16 : 12)
                let seed = random.below(256)
                if let content = heap.allocate(copying: bytes(count, seed: seed).span) {
                    held.append((content, seed))
                }
            } else {
                let (content, seed) = held.remove(at: random.below(held.count))
                let copy = Array(copying: content.span)
                try #require(copy == bytes(copy.count, seed: seed), comment)
                heap.deallocate(content)
            }
            if random.oneIn(20) { _ = heap.trim() }
            if operation % 20 == 0 {
                let contents = heap.checkInvariants()
                try #require(contents == held.count { $0.content.count > 0 }, comment)
            }
        }
        for (content, seed) in held {
            #expect(Array(copying: content.span) == bytes(Int(content.count), seed: seed), comment)
            heap.deallocate(content)
        }
        while !heap.trim() {}
        let contents = heap.checkInvariants()
        #expect(contents == 0)
    }

    @Test func sizesAreRoundedUpByAnEighthAtMost() {
        for count in 1...40_000 {
            let taken = ContentHeap.heapBytes(count)
            #expect(taken >= count && taken <= max(count + 7, count + count / 8 + 1))
        }
        #expect(ContentHeap.heapBytes(0) == 0 && ContentHeap.heapBytes(100) == 104)
    }

    @Test(arguments: [100, 3000, 30_000, 100_000, 1_000_000]) func usesLittleMoreMemoryThanTheContents(count: Int) {
        var heap = ContentHeap(addressBytes: 1 << 30)
        let source = bytes(count, seed: 1)
        var bytes = 0
        while bytes < 10 << 20 {
            let content = heap.allocate(copying: source.span)
            #expect(content?.count == UInt32(count))
            bytes += ContentHeap.heapBytes(count)
        }
        let resident = heap.residentBytes
        #expect(resident <= bytes * 9 / 8 + 300_000)
    }

    /// All sizes can use the free memory, whatever sizes were there before.
    @Test func anySizeCanReuseTheMemoryOfAnyOther() throws {
        var heap = ContentHeap(addressBytes: 1 << 30)
        var random = Random(seed: Random.runSeed)
        var largest = 0
        for count in [90, 1_000_000, 5000, 20, 60_000, 700, 3_000_000, 33_000, 100] {
            let source = bytes(count, seed: count)
            var held: [Content] = []
            var bytes = 0
            while bytes < 12 << 20 {
                let content = heap.allocate(copying: source.span)
                held.append(try #require(content))
                bytes += ContentHeap.heapBytes(count)
            }
            largest = max(largest, heap.residentBytes)
            held.shuffle(using: &random)
            for content in held { heap.deallocate(content) }
            let contents = heap.checkInvariants()
            #expect(contents == 0)
        }
        #expect(largest <= 12 << 20 * 9 / 8 + ContentHeap.keptBytes + 3 << 20)
        while !heap.trim() {}
        let resident = heap.residentBytes
        #expect(resident <= ContentHeap.keptBytes + 1 << 20)
    }

    /// A large block is aligned. The units skipped for that are joined with free units before them.
    @Test func skippedUnitsAreJoined() throws {
        var heap = ContentHeap(addressBytes: 1 << 30)
        let (small, large) = (bytes(512, seed: 1), bytes(33_000, seed: 2))
        // 400 units of 32 slots each. All that become empty are kept but the last one.
        var held: [Content] = []
        for _ in 0..<400 * 32 {
            let content = heap.allocate(copying: small.span)
            held.append(try #require(content))
        }
        for content in held.suffix(ContentHeap.keptBytes / 512 + 64) { heap.deallocate(content) }
        while !heap.trim() {}
        _ = heap.allocate(copying: large.span)
        let contents = heap.checkInvariants()
        #expect(contents == 400 * 32 - ContentHeap.keptBytes / 512 - 64 + 1)
    }

    /// Memory that is kept for one size is given to other sizes before memory runs out.
    @Test func keptMemoryServesAllSizes() throws {
        var heap = ContentHeap(addressBytes: 16 << 20)
        func fill(_ count: Int) -> [Content] {
            let source = bytes(count, seed: count)
            var held: [Content] = []
            while let content = heap.allocate(copying: source.span) { held.append(content) }
            return held
        }
        let large = fill(2_000_000)
        for content in large { heap.deallocate(content) }
        for count in [100_000, 10_000] {
            let held = fill(count)
            #expect(held.count * count > 8 << 20)
            for content in held { heap.deallocate(content) }
        }
        let again = fill(2_000_000)
        #expect(again.count == large.count && large.count >= 4)
        let contents = heap.checkInvariants()
        #expect(contents == again.count)
    }

    /// A queue of steady length does not spread over more and more blocks.
    @Test func blocksOfFinishedTasksBecomeEmpty() throws {
        var heap = ContentHeap(addressBytes: 1 << 30)
        let source = bytes(100, seed: 1)
        var held: [Content] = []
        for _ in 0..<100_000 {
            let content = heap.allocate(copying: source.span)
            held.append(try #require(content))
        }
        for content in held[..<99_000] { heap.deallocate(content) }
        while !heap.trim() {}
        let resident = heap.residentBytes
        #expect(resident <= 1000 * 104 + ContentHeap.keptBytes + 64 << 10)
    }
}
