// The blocks of answers that were sent, for the next answers.

import Glibc

/// Small blocks for the buffers of answers, so that an answer allocates nothing, and a connection without answers still
/// owns no memory for them.
@safe struct SpareBlocks: ~Copyable {
    private static let capacity = 64
    // The first `count` own a block of `Buffer.smallestBlock` bytes each.
    private var blocks = unsafe InlineArray<64, UnsafeMutableRawPointer?>(repeating: nil)
    private var count = 0

    deinit {
        for index in 0..<count { unsafe free(blocks[index]) }
    }

    /// Gives a buffer that has no block one of the blocks, if there is one. A buffer that lacks bytes gets none,
    /// because its owner still has to learn of that. O(1).
    mutating func lend(to buffer: inout Buffer) {
        if buffer.capacity > 0 || count == 0 || buffer.isExhausted { return }
        count -= 1
        buffer = unsafe Buffer(
            owning: UnsafeMutableRawBufferPointer(start: blocks[count], count: Buffer.smallestBlock))
    }

    /// Takes the block of an empty buffer, or frees it if it is not of the usual size or there are enough. O(1).
    mutating func takeBack(from buffer: inout Buffer) {
        guard buffer.capacity == Buffer.smallestBlock, count < Self.capacity, !buffer.isExhausted else {
            buffer = Buffer()
            return
        }
        unsafe blocks[count] = buffer.takeBlock().baseAddress
        count += 1
    }
}
