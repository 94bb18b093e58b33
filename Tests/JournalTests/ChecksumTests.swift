// The checksum, against the vectors of RFC 3720, B.4.

import CLinux
import Support
import Testing

@testable import Journal

@Suite(.blocking) struct ChecksumTests {
    private static let read: [UInt8] =
        [0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18]
        + [0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0]

    @Test func vectors() {
        let ascending = (0..<32).map { UInt8($0) }
        for (bytes, sum) in [
            ([UInt8](repeating: 0, count: 32), 0x8a91_36aa), ([UInt8](repeating: 0xff, count: 32), 0x62a8_ab43),
            (ascending, 0x46dd_794e), (ascending.reversed(), 0x113f_db5c), (Self.read, 0xd996_3a56), ([], 0),
        ] as [([UInt8], UInt32)] {
            #expect(Format.checksum(0, bytes.span.bytes) == sum)
            #expect(bytes.withUnsafeBufferPointer { ~emq_crc32c_portable(~0, $0.baseAddress, $0.count) } == sum)
            for cut in 0...bytes.count {
                let first = Format.checksum(0, bytes.span.extracting(..<cut).bytes)
                #expect(Format.checksum(first, bytes.span.extracting(cut...).bytes) == sum)
            }
        }
    }
}
