// Unpacks gzip (RFC 1952) and deflate, which servers send both as RFC 1950 has it and as bare RFC 1951, with zlib.

import Bytes
import CLibraries

/// Unpacks one body, a piece at a time. The pointer inside is never handed out, so its use is safe.
@safe final class Inflater {
    enum Progress {
        /// There is more to unpack.
        case more
        /// The whole input is unpacked.
        case ended
        /// The input ends too early.
        case starved
        /// The input is in neither format.
        case malformed
        case noMemory
    }

    private enum Format: Int32 {
        // The window's size as a power of two, and zlib's signs for what is around the data.
        case gzipOrZlib = 47
        case bare = -15
    }

    private let zlib: Zlib
    // zlib keeps the stream's address, so the stream has a place of its own.
    private let stream: UnsafeMutablePointer<emq_zlib_stream>
    private var isBegun = false
    private var format = Format.gzipOrZlib
    /// How much of the input is used.
    private var consumed = 0
    /// Whether the input has begun as its format says.
    private var isRecognized = false

    /// nil if the system has no zlib.
    init?() {
        guard let zlib = Zlib.system else { return nil }
        self.zlib = zlib
        unsafe stream = .allocate(capacity: 1)
        unsafe stream.initialize(to: emq_zlib_stream())
    }

    deinit {
        end()
        unsafe stream.deallocate()
    }

    /// Unpacks the next piece of the body.
    ///
    /// - Parameters:
    ///   - input: the whole packed body, the same in each call.
    ///   - output: where to add what is unpacked.
    ///   - byteCount: the most to add.
    /// - Returns: how far it got.
    func inflate(_ input: Span<UInt8>, into output: inout Buffer, atMost byteCount: Int) -> Progress {
        while true {
            if !isBegun, !begin() { return .noMemory }
            let code = step(input, into: &output, atMost: byteCount)
            switch code {
            case nil, Zlib.memoryError: return .noMemory
            case Zlib.ok, Zlib.bufferError:
                // zlib stops when it has no more input or no more room, whichever comes first.
                return unsafe consumed == input.count && stream.pointee.avail_out > 0 ? .starved : .more
            case Zlib.streamEnd:
                // Several gzip members may follow each other. Anything else behind the end is left out.
                let rest = input.extracting(consumed..<input.count)
                guard rest.count >= 2, rest[0] == 0x1F, rest[1] == 0x8B else { return .ended }
                isRecognized = true
                guard unsafe zlib.inflateReset(stream) == Zlib.ok else { return .malformed }
                return .more
            default:
                guard format == .gzipOrZlib, !isRecognized, unsafe stream.pointee.total_out == 0 else {
                    return .malformed
                }
                end()
                format = .bare
                consumed = 0
            }
        }
    }

    private func begin() -> Bool {
        let size = unsafe Int32(MemoryLayout<emq_zlib_stream>.size)
        isBegun = unsafe "1".withCString { version in
            unsafe zlib.inflateInit2(stream, format.rawValue, version, size) == Zlib.ok
        }
        return isBegun
    }

    private func end() {
        if isBegun { unsafe _ = zlib.inflateEnd(stream) }
        isBegun = false
    }

    /// Calls zlib once; nil if the output has no memory.
    private func step(_ input: Span<UInt8>, into output: inout Buffer, atMost byteCount: Int) -> Int32? {
        precondition(consumed <= input.count)
        var code: Int32?
        // The spans' bounds are passed on as they are, and both pointers are forgotten after the call.
        _ = unsafe output.append(atMost: byteCount) { room in
            unsafe input.extracting(consumed..<input.count).withUnsafeBufferPointer { rest in
                unsafe stream.pointee.next_in = rest.baseAddress
                unsafe stream.pointee.avail_in = UInt32(clamping: rest.count)
                unsafe stream.pointee.next_out = room.baseAddress?.assumingMemoryBound(to: UInt8.self)
                unsafe stream.pointee.avail_out = UInt32(clamping: room.count)
                let (given, free) = unsafe (stream.pointee.avail_in, stream.pointee.avail_out)
                unsafe code = zlib.inflate(stream, 0)
                unsafe consumed += Int(given - stream.pointee.avail_in)
                unsafe stream.pointee.next_in = nil
                let written = unsafe free - stream.pointee.avail_out
                unsafe stream.pointee.next_out = nil
                return Int(written)
            }
        }
        return code
    }
}
