// Random numbers for the broker's tests.

import Support

typealias Random = SeededRandom

extension SeededRandom {
    /// A number from 0 up to the bound, without the bound.
    mutating func below(_ bound: Int) -> Int {
        Int(next() % UInt64(bound))
    }

    /// A number of up to `bits` bits. All lengths are equally likely.
    mutating func anyLength(bits: Int) -> Int64 {
        Int64(next() >> UInt64(64 - 1 - below(bits)))
    }

    mutating func oneIn(_ number: Int) -> Bool {
        below(number) == 0
    }
}
