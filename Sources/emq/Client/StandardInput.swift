// Standard input, read whole or in lines.

import Glibc
import Net

enum StandardInput {
    /// The most that is read whole, in bytes: the largest request that a server takes.
    private static let maximumBytes = 1 << 30

    /// Everything until the end.
    ///
    /// - Throws: `SystemError` if it cannot be read, or is too large.
    static func readAll() throws(SystemError) -> [UInt8] {
        var bytes: [UInt8] = []
        var block = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = unsafe block.withUnsafeMutableBytes { unsafe read(STDIN_FILENO, $0.baseAddress, $0.count) }
            if count == 0 { return bytes }
            if count < 0 {
                if errno == EINTR { continue }
                throw SystemError("read standard input")
            }
            bytes += block[..<count]
            if bytes.count > maximumBytes { throw SystemError("read standard input", code: EFBIG) }
        }
    }
}
