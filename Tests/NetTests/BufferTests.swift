// Compares a connection's buffer with an array.

import Support
import Testing

@testable import Net

@Suite(.blocking) struct BufferTests {
    private func contents(_ buffer: borrowing Buffer) -> [UInt8] { buffer.span.indices.map { buffer.span[$0] } }

    @Test func anEmptyBufferOwnsNothing() {
        let buffer = Buffer()
        #expect(buffer.span.isEmpty && buffer.count == 0 && buffer.capacity == 0)
    }

    @Test func spareBlocksAreLentOnceAndOnlyToBuffersWithoutOne() {
        var blocks = SpareBlocks()
        var first = Buffer()
        var second = Buffer()
        first.append("a")
        first.consume(1)
        blocks.takeBack(from: &first)
        #expect(first.capacity == 0)
        blocks.lend(to: &first)
        blocks.lend(to: &second)
        #expect(first.capacity == Buffer.smallestBlock && first.isEmpty && second.capacity == 0)
        first.append("b")
        #expect(contents(first) == Array("b".utf8))
        // A block of another size is freed.
        second.reserve(Buffer.smallestBlock + 1)
        blocks.takeBack(from: &second)
        blocks.lend(to: &second)
        #expect(second.capacity == 0)
    }

    /// An answer that lacks bytes must not be taken for one that was sent.
    @Test func aSpareBlockDoesNotHideThatBytesAreMissing() {
        var blocks = SpareBlocks()
        var buffer = Buffer()
        buffer.append("a")
        buffer.consume(1)
        blocks.takeBack(from: &buffer)
        let hasRoom = buffer.reserve(1 << 60)
        #expect(!hasRoom && buffer.isExhausted)
        blocks.lend(to: &buffer)
        #expect(buffer.isExhausted == true)
    }

    @Test func itAgreesWithAnArray() {
        var random = SeededRandom()
        for _ in 0..<100 {
            var buffer = Buffer()
            var model: [UInt8] = []
            for _ in 0..<100 {
                let count = Int.random(in: 0...100, using: &random)
                let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
                let place = Int.random(in: 0...model.count, using: &random)
                let other = Int.random(in: place...model.count, using: &random)
                switch Int.random(in: 0..<11, using: &random) {
                case 0, 1:
                    buffer.append(bytes.span)
                    model += bytes
                case 2:
                    buffer.append(UInt8(place & 0xFF))
                    model.append(UInt8(place & 0xFF))
                case 3:
                    buffer.append("literal")
                    model += Array("literal".utf8)
                case 4:
                    buffer.append(decimal: place * 1_000_003)
                    model += Array("\(place * 1_000_003)".utf8)
                case 5:
                    buffer.consume(place)
                    model.removeFirst(place)
                case 6:
                    buffer.truncate(to: place)
                    model.removeLast(model.count - place)
                case 7:
                    buffer.remove(place..<other)
                    model.removeSubrange(place..<other)
                case 8:
                    buffer.open(3, at: place)
                    buffer.set(place..<place + 3, toDigitsOf: 9_012)
                    model.insert(contentsOf: Array("012".utf8), at: place)
                case 9:
                    let target = Int.random(in: 0...place, using: &random)
                    buffer.move(place..<other, downTo: target)
                    model.replaceSubrange(target..<target + (other - place), with: Array(model[place..<other]))
                default:
                    // A read that returned fewer bytes than there was room for, or failed.
                    let wanted = count + place
                    let result = buffer.append(atMost: wanted) { room in
                        room.copyBytes(from: bytes)
                        return bytes.isEmpty ? -1 : bytes.count
                    }
                    #expect(result == (bytes.isEmpty ? -1 : bytes.count), "\(random)")
                    model += bytes
                }
                #expect(buffer.count == model.count, "\(random)")
                guard contents(buffer) == model else {
                    Issue.record("the contents differ; \(random)")
                    return
                }
            }
        }
    }

    @Test func numbersAreWrittenInDecimal() {
        for number in [0, 1, 9, 10, 99, 100, 1_000_000, Int.max - 1, Int.max] {
            var buffer = Buffer()
            buffer.append(decimal: number)
            #expect(contents(buffer) == Array("\(number)".utf8))
        }
    }
}
