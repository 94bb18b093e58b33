// The lines of a file or a pipe, read in blocks and never whole.

import Bytes
import Glibc
import Net

/// Reads lines from a descriptor, which it does not close.
struct LineReader {
    /// What comes next.
    enum Next {
        /// A line, as its range in `buffer`, without its line feed. It stays there until the next call.
        case line(Range<Int>)
        /// Nothing yet: the other end of the pipe has written no whole line.
        case nothingYet
        case end
    }

    /// The longest line, in bytes: that of a request's body.
    static let maximumLineBytes = TaskBatch.maximumBodyBytes
    /// How much is read at once, in bytes.
    private static let blockBytes = 256 << 10

    let descriptor: Int32
    /// The bytes that have been read, from some line on.
    private(set) var buffer: [UInt8] = []
    /// Where the next line begins in `buffer`, and how far its end has been looked for.
    private var start = 0
    private var searched = 0
    private var isAtEnd = false
    /// The number of the last line that was returned, counted from 1; and the bytes up to its end.
    private(set) var position: LinePosition

    /// - Parameters:
    ///   - descriptor: is at the position.
    ///   - position: the lines that are left out.
    init(_ descriptor: Int32, after position: LinePosition = LinePosition()) {
        (self.descriptor, self.position) = (descriptor, position)
    }

    /// The next line. It waits for a disk, but not for a pipe.
    ///
    /// - Throws: `CommandFailure` if the line is too long, or if it cannot be read.
    /// - Complexity: O(n) for a line of n bytes.
    mutating func next() throws(CommandFailure) -> Next {
        while true {
            if let end = buffer.span.index(of: UInt8(ascii: "\n"), from: searched) { return line(until: end, 1) }
            searched = buffer.count
            if searched - start > Self.maximumLineBytes {
                throw CommandFailure(
                    .usage,
                    "line \(position.line + 1) has more than \(Self.maximumLineBytes >> 20) MiB, the server's limit")
            }
            if isAtEnd { return start == buffer.count ? .end : line(until: buffer.count, 0) }
            if !canRead { return .nothingYet }
            try fill()
        }
    }

    private mutating func line(until end: Int, _ feedBytes: Int) -> Next {
        let range = start..<end
        start = end + feedBytes
        searched = start
        position.line += 1
        position.offset += Int64(range.count + feedBytes)
        return .line(range)
    }

    /// Whether reading does not wait. A file can always be read, and so can the end of a pipe.
    private var canRead: Bool {
        var readiness = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return unsafe poll(&readiness, 1, 0) != 0
    }

    private mutating func fill() throws(CommandFailure) {
        buffer.removeFirst(start)
        searched -= start
        start = 0
        var failure: Int32 = 0
        let block = unsafe [UInt8](unsafeUninitializedCapacity: Self.blockBytes) { block, count in
            let result = unsafe read(descriptor, block.baseAddress, block.count)
            if result < 0 { failure = errno }
            count = max(0, result)
        }
        if failure == EINTR || failure == EAGAIN { return }
        if failure != 0 { throw CommandFailure(.failed, "\(SystemError("read the input", code: failure))") }
        if block.isEmpty { isAtEnd = true } else { buffer += block }
    }
}

/// A place between two lines.
struct LinePosition: Equatable {
    /// How many lines are before it.
    var line = 0
    /// How many bytes are before it.
    var offset: Int64 = 0
}
