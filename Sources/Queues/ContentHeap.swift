// The memory of the tasks' contents: it is divided into size classes, and unused memory is returned to the system.
//
// `malloc` puts blocks of all sizes side by side. After many small contents have come and gone, those that are left pin
// memory that fits no large content, and the process can take twice the memory that is counted. Here all contents are
// in one range of reserved address space, of which only pages that were written cost memory:
//
// - The address space is divided into units of 16 KiB, and allocated in blocks of 2^order units, each aligned to its
//   size (a buddy system: K. Knowlton, "A fast storage allocator", CACM 1965). A free block is joined with its free
//   neighbour.
// - A content of up to 32 KiB gets a slot. A block of slots has at least eight slots of one size. Sizes are multiples
//   of 8 bytes up to 512; above, there are eight sizes between a power of two and the next, so at most an eighth of a
//   slot is wasted. Vacant slots are chained through their first bytes; slots that were never used need no link.
// - A larger content gets a block of its own and touches only the pages that it needs; the rest is only address space.
//
// A new slot is taken from the block of its class that has had vacant slots for the longest time. Tasks mostly finish
// in the order in which they came, so a block that is about to become empty is not filled again.
//
// A block that has become empty is dirty: its pages still take memory. Dirty blocks are used again first, and 4 MiB of
// dirty pages are kept, so that a queue that is filled and emptied continually does not keep asking the system for
// memory. Beyond that, `trim` returns a slice in each turn, and an allocation that touches new pages returns as many
// dirty ones, so that the resident memory does not grow while there are pages to return.
//
// What remains is fragmentation within a class: a block stays as long as one of its slots is used. If nine of ten small
// contents are freed at random, few blocks become empty, and the memory of the others can serve only contents of their
// class. `residentBytes` is the memory that is really taken.

/// Memory for contents. Allocating and freeing are O(1), except for the system's work on pages.
@safe struct ContentHeap: ~Copyable {
    private static var unitShift: Int { 14 }
    private static var unitBytes: Int { 1 << unitShift }
    private static var pageBytes: Int { 4096 }
    private static var orders: Int { 19 }
    private static var maximumSlotBytes: Int { 32 << 10 }
    /// How many bytes of dirty pages are kept.
    static var keptBytes: Int { 4 << 20 }
    /// How many bytes one call of `trim` returns at most, which takes a fifth of a millisecond.
    private static var trimBytes: Int { 4 << 20 }

    /// A block: 16 bytes per unit, of which only those of a block's first unit are used.
    struct Block {
        enum Kind: UInt8 {
            /// The unit is not the first one of a block, or is beyond all blocks.
            case none
            case free
            case dirty
            case slots
            case large
        }

        /// Neighbours in the list of free blocks of its order, or of blocks of its class with vacant slots. Dirty
        /// blocks have only a next one.
        var next: UInt32 = 0
        var previous: UInt32 = 0
        /// How many of its pages, from the first one, take memory.
        var pages: UInt32 = 0
        /// The number of slots in use.
        var live: UInt16 = 0
        var kind = Kind.none
        var order: UInt8 = 0
        /// The first vacant slot and the first slot that was never used, as offsets from the block's start in units of
        /// 8 bytes. The former has 1 added, so that 0 means none.
        var vacant: UInt16 = 0
        var fresh: UInt16 = 0
    }

    /// The blocks of a class that have vacant slots.
    struct List {
        var first: UInt32 = 0
        var last: UInt32 = 0
    }

    /// The slots of a class.
    struct SizeClass {
        let index: Int
        let slotBytes: Int
        let order: UInt8

        /// The class for contents of a size in bytes.
        @inline(__always) init(_ count: Int) {
            if count <= 512 {
                index = (count + 7) >> 3
                slotBytes = index << 3
                order = 0
            } else {
                let bits = Int.bitWidth - 1 - (count - 1).leadingZeroBitCount
                let eighths = ((count - 1) >> (bits - 3)) + 1
                index = 64 + (bits - 9) << 3 + eighths - 8
                slotBytes = eighths << (bits - 3)
                order = UInt8(max(0, bits - 10))
            }
        }
    }

    private let bytes: Region<UInt8>
    private let blocks: Region<Block>
    /// The number of units, and how many of them have been part of a block; unit 0 never is.
    private let units: Int
    private var used = 1
    // Arrays, not stored in place: calls may copy the struct that owns the heap, which costs by its size.
    private var partial = [List](repeating: List(), count: 113)
    private var free = [UInt32](repeating: 0, count: 19)
    private var dirty = [UInt32](repeating: 0, count: 19)
    /// The pages of blocks in use, and of dirty blocks.
    private var usedPages = 0
    private var dirtyPages = 0

    /// Makes a heap that reserves the given address space, or as much of it as the system grants.
    init(addressBytes: Int) {
        bytes = Region(capacity: max(addressBytes, 2 * Self.unitBytes))
        units = min(bytes.capacity >> Self.unitShift, Int(UInt32.max))
        blocks = Region(capacity: units)
        precondition(blocks.capacity == units, "no address space for the heap's blocks")
    }

    /// The memory taken from the system, in bytes, except for 16 bytes per block.
    var residentBytes: Int { (usedPages + dirtyPages) * Self.pageBytes }

    /// How much of it is unused. It is used first, or returned.
    var dirtyBytes: Int { dirtyPages * Self.pageBytes }

    /// The memory that a content takes, in bytes.
    static func heapBytes(_ count: Int) -> Int {
        if count <= maximumSlotBytes { return count == 0 ? 0 : SizeClass(count).slotBytes }
        return (count + pageBytes - 1) / pageBytes * pageBytes
    }

    /// Copies `source` into the heap; nil if no address space is left for it, or if it is 4 GiB or longer.
    mutating func allocate(copying source: Span<UInt8>) -> Content? {
        guard let count = UInt32(exactly: source.count) else { return nil }
        if count == 0 { return Content() }
        let place = source.count <= Self.maximumSlotBytes ? takeSlot(SizeClass(source.count)) : takeLarge(source.count)
        guard let place else { return nil }
        precondition(place >= 0 && place + source.count <= bytes.capacity)
        let start = unsafe bytes.start + place
        unsafe source.withUnsafeBufferPointer { source in
            if let first = source.baseAddress { unsafe start.update(from: first, count: source.count) }
        }
        return unsafe Content(start: start, count: count)
    }

    /// Frees a content, which must be in this heap.
    mutating func deallocate(_ content: Content) {
        guard let start = unsafe content.start, content.count > 0 else { return }
        let place = unsafe start - bytes.start
        let unit = place >> Self.unitShift
        if Int(content.count) > Self.maximumSlotBytes {
            precondition(self[unit].kind == .large, "a large content without a block")
            empty(unit)
        } else {
            freeSlot(place, SizeClass(Int(content.count)))
        }
    }

    /// Returns unused memory to the system, one slice per call.
    ///
    /// - Returns: whether nothing is left to return, except for the memory that is kept.
    mutating func trim() -> Bool {
        giveBack(Self.trimBytes / Self.pageBytes)
        return dirtyBytes <= Self.keptBytes
    }

    // MARK: Slots

    private mutating func takeSlot(_ sizeClass: SizeClass) -> Int? {
        var head = Int(partial[sizeClass.index].first)
        if head == 0 {
            guard let block = takeBlock(order: sizeClass.order, .slots) else { return nil }
            head = block
            append(block, to: sizeClass.index)
        }
        let start = head << Self.unitShift
        let place: Int
        if self[head].vacant != 0 {
            place = start + Int(self[head].vacant - 1) << 3
            self[head].vacant = unsafe UnsafeRawPointer(bytes.start + place).load(as: UInt16.self)
        } else {
            place = start + Int(self[head].fresh) << 3
            let end = Int(self[head].fresh) << 3 + sizeClass.slotBytes
            self[head].fresh = UInt16(truncatingIfNeeded: end >> 3)
            let pages = (end + Self.pageBytes - 1) / Self.pageBytes
            if pages > self[head].pages { touch(head, pages: pages) }
        }
        self[head].live += 1
        if isFull(head, sizeClass) { remove(head, from: sizeClass.index) }
        return place
    }

    private mutating func freeSlot(_ place: Int, _ sizeClass: SizeClass) {
        let head = place >> Self.unitShift & ~(1 << Int(sizeClass.order) - 1)
        precondition(self[head].kind == .slots && self[head].order == sizeClass.order, "a content without a slot")
        if isFull(head, sizeClass) { append(head, to: sizeClass.index) }
        self[head].live -= 1
        if self[head].live == 0 {
            self[head].vacant = 0
            self[head].fresh = 0
            // The last block of its class is kept for the next content.
            let list = partial[sizeClass.index]
            if list.first == list.last { return }
            remove(head, from: sizeClass.index)
            return empty(head)
        }
        unsafe UnsafeMutableRawPointer(bytes.start + place).storeBytes(of: self[head].vacant, as: UInt16.self)
        self[head].vacant = UInt16(truncatingIfNeeded: (place - head << Self.unitShift) >> 3 + 1)
    }

    private func isFull(_ head: Int, _ sizeClass: SizeClass) -> Bool {
        self[head].vacant == 0
            && Int(self[head].fresh) << 3 + sizeClass.slotBytes > Self.unitBytes << Int(sizeClass.order)
    }

    private mutating func append(_ block: Int, to index: Int) {
        let last = Int(partial[index].last)
        self[block].previous = UInt32(last)
        self[block].next = 0
        if last == 0 { partial[index].first = UInt32(block) } else { self[last].next = UInt32(block) }
        partial[index].last = UInt32(block)
    }

    private mutating func remove(_ block: Int, from index: Int) {
        let (previous, next) = (Int(self[block].previous), Int(self[block].next))
        if previous == 0 { partial[index].first = UInt32(next) } else { self[previous].next = UInt32(next) }
        if next == 0 { partial[index].last = UInt32(previous) } else { self[next].previous = UInt32(previous) }
    }

    // MARK: Pages

    private mutating func takeLarge(_ count: Int) -> Int? {
        let units = (count + Self.unitBytes - 1) >> Self.unitShift
        let order = units == 1 ? 0 : Int.bitWidth - (units - 1).leadingZeroBitCount
        guard order < Self.orders, let block = takeBlock(order: UInt8(order), .large) else { return nil }
        let pages = (count + Self.pageBytes - 1) / Self.pageBytes
        touch(block, pages: pages)
        // Pages that a larger content left there.
        let unneeded = Int(self[block].pages) - pages
        if unneeded > 0 {
            giveBack(unneeded, of: block)
            usedPages -= unneeded
        }
        return block << Self.unitShift
    }

    /// Counts the pages of a block that are about to be written.
    private mutating func touch(_ block: Int, pages: Int) {
        let more = pages - Int(self[block].pages)
        guard more > 0 else { return }
        self[block].pages += UInt32(more)
        usedPages += more
        if dirtyBytes > Self.keptBytes { giveBack(more) }
    }

    /// Makes an empty block dirty.
    private mutating func empty(_ block: Int) {
        let order = Int(self[block].order)
        let pages = Int(self[block].pages)
        usedPages -= pages
        dirtyPages += pages
        self[block].kind = .dirty
        self[block].next = dirty[order]
        dirty[order] = UInt32(block)
    }

    /// Makes blocks dirty that were kept empty for the next content of their class.
    private mutating func emptyVacantBlocks() {
        for index in partial.indices {
            let block = Int(partial[index].first)
            if block == 0 || self[block].live > 0 { continue }
            remove(block, from: index)
            empty(block)
        }
    }

    /// Returns dirty pages beyond those that are kept, at most `limit`, from the largest blocks first.
    private mutating func giveBack(_ limit: Int, keeping kept: Int = keptBytes / pageBytes) {
        var rest = min(limit, dirtyPages - kept)
        var order = Self.orders - 1
        while rest > 0, order >= 0 {
            let block = Int(dirty[order])
            if block == 0 {
                order -= 1
                continue
            }
            let pages = min(rest, Int(self[block].pages))
            giveBack(pages, of: block)
            dirtyPages -= pages
            rest -= pages
            if self[block].pages == 0 {
                dirty[order] = self[block].next
                release(block)
            }
        }
    }

    /// Returns the last pages of a block that take memory.
    private mutating func giveBack(_ count: Int, of block: Int) {
        let pages = Int(self[block].pages)
        let start = block << Self.unitShift
        bytes.giveBack(start + (pages - count) * Self.pageBytes..<start + pages * Self.pageBytes)
        self[block].pages = UInt32(pages - count)
    }

    // MARK: Blocks

    private subscript(unit: Int) -> Block {
        unsafeAddress {
            precondition(unit < used, "no such block")
            return unsafe UnsafePointer(blocks.start + unit)
        }
        unsafeMutableAddress {
            precondition(unit < used, "no such block")
            return unsafe blocks.start + unit
        }
    }

    /// Takes a block for use: a dirty one if there is any.
    private mutating func takeBlock(order: UInt8, _ kind: Block.Kind) -> Int? {
        let wanted = Int(order)
        var block = Int(dirty[wanted])
        if block != 0 {
            dirty[wanted] = self[block].next
            let pages = Int(self[block].pages)
            dirtyPages -= pages
            usedPages += pages
        } else {
            var clean = takeFree(order: wanted)
            if clean == nil {
                // The dirty blocks that are kept may be enough once they are joined.
                emptyVacantBlocks()
                giveBack(dirtyPages, keeping: 0)
                clean = takeFree(order: wanted)
            }
            guard let clean else { return nil }
            block = clean
            self[block].pages = 0
        }
        self[block].kind = kind
        self[block].live = 0
        self[block].vacant = 0
        self[block].fresh = 0
        return block
    }

    /// Takes the smallest free block that is large enough, and frees the part beyond `wanted`.
    private mutating func takeFree(order wanted: Int) -> Int? {
        var order = wanted
        while order < Self.orders, free[order] == 0 { order += 1 }
        guard order < Self.orders else { return extend(order: wanted) }
        let block = Int(free[order])
        unlinkFree(block)
        while order > wanted {
            order -= 1
            linkFree(block + 1 << order, order: order)
        }
        self[block].order = UInt8(wanted)
        return block
    }

    /// Takes a block of units that were never used. Units skipped for its alignment become free blocks.
    private mutating func extend(order: Int) -> Int? {
        let size = 1 << order
        let block = (used + size - 1) & ~(size - 1)
        guard block + size <= units else { return nil }
        var gap = used
        used = block + size
        while gap < block {
            let order = gap.trailingZeroBitCount
            self[gap] = Block(order: UInt8(order))
            release(gap)
            gap += 1 << order
        }
        self[block].order = UInt8(order)
        return block
    }

    /// Frees a block without pages, and joins it with its free neighbours.
    private mutating func release(_ block: Int) {
        var (block, order) = (block, Int(self[block].order))
        while order < Self.orders - 1 {
            let neighbour = block ^ 1 << order
            guard neighbour + 1 << order <= used, self[neighbour].kind == .free, self[neighbour].order == order
            else { break }
            unlinkFree(neighbour)
            self[max(block, neighbour)].kind = .none
            block = min(block, neighbour)
            order += 1
        }
        linkFree(block, order: order)
    }

    private mutating func linkFree(_ block: Int, order: Int) {
        let next = free[order]
        self[block] = Block(next: next, kind: .free, order: UInt8(order))
        if next != 0 { self[Int(next)].previous = UInt32(block) }
        free[order] = UInt32(block)
    }

    private mutating func unlinkFree(_ block: Int) {
        let (previous, next) = (self[block].previous, self[block].next)
        if previous == 0 { free[Int(self[block].order)] = next } else { self[Int(previous)].next = next }
        if next != 0 { self[Int(next)].previous = previous }
    }

    // MARK: Checks

    /// Checks that blocks fill the units without gaps or overlaps, that each is in its list, and that the counts of
    /// slots and pages are right. O(n).
    ///
    /// - Returns: the number of contents.
    func checkInvariants() -> Int {
        var (contents, inUse, unused, listed, unit) = (0, 0, 0, 0, 1)
        while unit < used {
            let block = self[unit]
            precondition(block.kind != .none && unit & (1 << Int(block.order) - 1) == 0, "no block begins here")
            switch block.kind {
            case .free:
                precondition(block.pages == 0, "a free block has memory")
                let neighbour = unit ^ 1 << Int(block.order)
                if neighbour + 1 << Int(block.order) <= used, Int(block.order) < Self.orders - 1 {
                    precondition(
                        self[neighbour].kind != .free || self[neighbour].order != block.order,
                        "neighbours are not joined")
                }
                listed += 1
            case .dirty:
                unused += Int(block.pages)
                listed += 1
            case .slots, .large:
                inUse += Int(block.pages)
                contents += block.kind == .large ? 1 : Int(block.live)
            case .none: break
            }
            unit += 1 << Int(block.order)
        }
        precondition(unit == used && inUse == usedPages && unused == dirtyPages, "pages are miscounted")
        for order in 0..<Self.orders {
            listed -= count(from: free[order]) { $0.kind == .free && Int($0.order) == order }
            listed -= count(from: dirty[order]) { $0.kind == .dirty && Int($0.order) == order }
        }
        precondition(listed == 0, "a block is in no list")
        for index in partial.indices where partial[index].first != 0 {
            let eighths = max(0, index - 65)
            let sizeClass = SizeClass(index <= 64 ? index << 3 : (eighths % 8 + 9) << (eighths / 8 + 6))
            precondition(sizeClass.index == index, "the classes are misnumbered")
            _ = count(from: partial[sizeClass.index].first) {
                $0.kind == .slots && $0.order == sizeClass.order
                    && ($0.vacant != 0
                        || Int($0.fresh) << 3 + sizeClass.slotBytes <= Self.unitBytes << Int(sizeClass.order))
            }
        }
        return contents
    }

    private func count(from first: UInt32, where fits: (Block) -> Bool) -> Int {
        var (block, count) = (Int(first), 0)
        while block != 0 {
            precondition(fits(self[block]), "a block is in the wrong list")
            count += 1
            precondition(count < used, "a list forms a circle")
            block = Int(self[block].next)
        }
        return count
    }
}
