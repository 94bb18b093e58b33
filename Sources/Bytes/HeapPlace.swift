// A place in the heap for a value that a class would check too often.

/// A value in memory of its own.
///
/// Swift checks each access to a variable of a class for overlaps with others, which takes about 40 instructions. An
/// addressor over this place leaves the checks out. Use it only for a variable that each request enters, and only where
/// accesses cannot overlap. Keep a plain variable in debug builds, so that the tests still check it.
@safe public struct HeapPlace<Value: ~Copyable>: ~Copyable {
    /// Where the value is, as long as this place exists.
    public let address: UnsafeMutablePointer<Value>

    /// Moves a value to the heap.
    public init(_ value: consuming Value) {
        unsafe address = .allocate(capacity: 1)
        unsafe address.initialize(to: value)
    }

    deinit {
        unsafe address.deinitialize(count: 1)
        unsafe address.deallocate()
    }
}
