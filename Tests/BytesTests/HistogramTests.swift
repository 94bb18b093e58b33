// Histograms: which bucket a value is counted in.

import Bytes
import Testing

@Suite struct HistogramTests {
    @Test(arguments: [
        (Int64.min, 0), (-1, 0), (0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1024, 10), (1025, 11),
        (1 << 39, 39), (1 << 39 + 1, 39), (.max, 39),
    ])
    func aBucketHasTheValuesUpToItsPowerOfTwo(value: Int64, bucket: Int) {
        var histogram = Histogram()
        histogram.record(value)
        for other in 0..<Histogram.bucketCount {
            let count = histogram.count(in: other)
            #expect(count == (other == bucket ? 1 : 0))
        }
        #expect(histogram.sum == UInt64(max(0, value)))
    }

    @Test func countAndSumAreOfAllValues() {
        var histogram = Histogram()
        for value: Int64 in [0, 7, 7, 1 << 50, -3] { histogram.record(value) }
        #expect(histogram.count == 5)
        #expect(histogram.sum == 14 + 1 << 50)
    }
}
