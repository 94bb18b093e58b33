// What the broker keeps of a queue.

/// One queue.
struct QueueRecord: LinkedRecord {
    var name: [UInt8] = []
    private(set) var hash: UInt32 = 0
    var chained: Slot = 0
    /// Links of the list of idle queues.
    private var links = Links()
    var ready = LinkedList<TaskRecord, 0>()
    /// How many tasks it holds, ready and dispatched.
    var tasks: UInt32 = 0
    /// How often waiting clients name it.
    var waits: UInt32 = 0
    /// How often a take under way names it; 0 between takes.
    var wanted: UInt32 = 0
    /// The waiters filed under it, by how many of its tasks they need: always more than are ready.
    var waiters: [UInt32: WaiterHeap<ByArrival>] = [:]

    init() {}

    init(name: Span<UInt8>, hash: UInt32) {
        self.name = unsafe name.withUnsafeBufferPointer { unsafe Array($0) }
        self.hash = hash
    }

    /// Whether nothing would be lost if it were forgotten.
    var isIdle: Bool { tasks == 0 && waits == 0 }

    /// Clients choose the names, so they are hashed with a key that is drawn anew for each process (SipHash).
    static func hash(of name: Span<UInt8>) -> UInt32 {
        var hasher = Hasher()
        unsafe name.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
        return UInt32(truncatingIfNeeded: hasher.finalize())
    }

    subscript(links kind: Int) -> Links {
        get { links }
        set { links = newValue }
    }
}
