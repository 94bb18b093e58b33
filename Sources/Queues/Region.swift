// Address space for an array that grows in place: it is reserved once, and the kernel adds memory when a page is
// touched.

import Glibc

/// Zero-filled address space for elements that must never move.
///
/// `mmap` with `MAP_NORESERVE` costs address space only; a page becomes memory when it is first written. Growing copies
/// nothing, so no insertion waits for it (an `Array` of 10 million records stops for seconds when it doubles). Huge
/// pages would make 10 million records a sixth faster, but an insertion that meets a new one waits up to 12 ms for it.
@safe struct Region<Element: ~Copyable>: ~Copyable {
    /// How many bytes one `trim` returns at most: unmapping them takes some tens of microseconds.
    private static var trimBytes: Int { 1 << 20 }

    /// How many elements there is room for.
    let capacity: Int
    /// The first element. The owner knows how many elements are in use, and checks indices.
    let start: UnsafeMutablePointer<Element>
    /// Memory at and beyond this element has not been touched since it was reserved or trimmed.
    private var touched = 0

    /// Reserves room for `capacity` elements, or for as many as the system grants.
    init(capacity: Int) {
        var capacity = capacity
        while true {
            let address = unsafe mmap(
                nil, capacity * MemoryLayout<Element>.stride, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
            if let address = unsafe address, unsafe address != MAP_FAILED {
                self.capacity = capacity
                unsafe start = address.bindMemory(to: Element.self, capacity: capacity)
                // If the system uses huge pages by default, a few bytes would take two megabytes.
                unsafe _ = madvise(address, capacity * MemoryLayout<Element>.stride, MADV_NOHUGEPAGE)
                return
            }
            capacity /= 2
            precondition(capacity > 0, "no address space at all")
        }
    }

    deinit {
        unsafe _ = munmap(start, capacity * MemoryLayout<Element>.stride)
    }

    /// Notes that the first `count` elements are in use.
    mutating func use(_ count: Int) {
        touched = max(touched, count)
    }

    /// Returns memory beyond the first `count` elements to the system, one slice per call. The elements there must hold
    /// nothing; they are zero-filled when they are used again.
    ///
    /// - Returns: whether nothing is left to return. A remainder of less than one slice is kept.
    mutating func trim(keeping count: Int) -> Bool {
        let slice = Self.trimBytes / MemoryLayout<Element>.stride
        guard touched - count > slice else { return true }
        touched -= slice
        giveBack(touched..<touched + slice)
        return touched - count <= slice
    }

    /// Returns the memory of elements that hold nothing to the system, as far as they fill whole pages. They are
    /// zero-filled when they are used again. Takes some tens of microseconds per megabyte.
    func giveBack(_ range: Range<Int>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= capacity)
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let first = (range.lowerBound * MemoryLayout<Element>.stride + page - 1) / page * page
        let end = range.upperBound * MemoryLayout<Element>.stride / page * page
        if first < end { unsafe _ = madvise(UnsafeMutableRawPointer(start) + first, end - first, MADV_DONTNEED) }
    }
}
