// Keys, as terminals send them.

import CLinux
import Glibc
import Net

/// A key.
enum Key: Equatable {
    case character(Character)
    case enter, escape, backspace, up, down, left, right, pageUp, pageDown, home, end

    /// The keys of an input, and the bytes at its end that begin another one. The byte of the escape key also begins the
    /// sequences of others; at the end of the input, it is that key only if the input is complete.
    static func keys(of input: [UInt8], isComplete: Bool) -> (keys: [Key], rest: [UInt8]) {
        var keys: [Key] = []
        var rest = input[...]
        while let byte = rest.first {
            if byte == 0x1B, rest.count == 1, !isComplete { return (keys, [byte]) }
            if byte == 0x1B, rest.count > 1, let (key, length) = sequence(rest) {
                if length > rest.count { return (keys, Array(rest.prefix(32))) }
                if let key { keys.append(key) }
                rest = rest.dropFirst(length)
                continue
            }
            let length = byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4
            if length > rest.count { return (keys, Array(rest)) }
            switch byte {
            case 0x1B: keys.append(.escape)
            case 0x0D, 0x0A: keys.append(.enter)
            case 0x7F, 0x08: keys.append(.backspace)
            case 0..<0x20: break
            default:
                if let text = String(validating: rest.prefix(length), as: UTF8.self) {
                    keys += text.map { .character($0) }
                }
            }
            rest = rest.dropFirst(length)
        }
        return (keys, [])
    }

    /// The key of a control sequence (ECMA-48 section 5.4), which is nil if it is none of these, and the length of the
    /// sequence, which is larger than the input if that ends within it; nil if it is no control sequence.
    private static func sequence(_ input: ArraySlice<UInt8>) -> (key: Key?, length: Int)? {
        let second = input[input.startIndex + 1]
        guard second == UInt8(ascii: "[") || second == UInt8(ascii: "O") else { return nil }
        guard let last = input.dropFirst(2).firstIndex(where: { (0x40...0x7E).contains($0) }) else {
            return (nil, input.count + 1)
        }
        let length = last - input.startIndex + 1
        let number = String(decoding: input[(input.startIndex + 2)..<last], as: UTF8.self)
        let key: Key? =
            switch (input[last], number) {
            case (UInt8(ascii: "A"), _): .up
            case (UInt8(ascii: "B"), _): .down
            case (UInt8(ascii: "C"), _): .right
            case (UInt8(ascii: "D"), _): .left
            case (UInt8(ascii: "H"), _), (UInt8(ascii: "~"), "1"), (UInt8(ascii: "~"), "7"): .home
            case (UInt8(ascii: "F"), _), (UInt8(ascii: "~"), "4"), (UInt8(ascii: "~"), "8"): .end
            case (UInt8(ascii: "~"), "5"): .pageUp
            case (UInt8(ascii: "~"), "6"): .pageDown
            default: nil
            }
        return (key, length)
    }
}

/// The keys that are pressed in a terminal.
final class KeyReader: EventSource {
    /// How long the rest of a key's sequence may take, in milliseconds: slow links bring it in parts.
    static let sequenceMilliseconds: Int64 = 50

    private var rest: [UInt8] = []
    private var keys: [Key] = []
    /// Whether the terminal is gone.
    private(set) var hasEnded = false
    private let descriptor: Int32
    // The loop has this source, and lives as long.
    private unowned let loop: EventLoop

    /// Reads keys from a descriptor.
    ///
    /// - Throws: `SystemError` if it cannot be watched.
    init(_ descriptor: Int32, on loop: EventLoop) throws(SystemError) {
        (self.descriptor, self.loop) = (descriptor, loop)
        super.init()
        try loop.watch(descriptor, for: self, events: UInt32(EPOLLIN.rawValue))
    }

    override func ready(events: UInt32) {
        var block = [UInt8](repeating: 0, count: 256)
        let count = unsafe block.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
        if count < 0, errno == EINTR || errno == EAGAIN { return }
        if count <= 0 {
            hasEnded = true
            loop.unwatch(descriptor, for: self)
            return
        }
        take(rest + block[..<count], isComplete: false)
        if rest.isEmpty {
            loop.cancelTimer(self)
        } else {
            loop.setTimer(self, at: loop.now + Self.sequenceMilliseconds)
        }
    }

    /// Nothing more has come of a sequence.
    override func timerFired() { take(rest, isComplete: true) }

    private func take(_ input: [UInt8], isComplete: Bool) {
        let input = Key.keys(of: input, isComplete: isComplete)
        keys += input.keys
        rest = input.rest
    }

    /// The keys pressed since the last call.
    func take() -> [Key] {
        defer { keys = [] }
        return keys
    }
}
