// Heaps of waiters that allow removal from the middle.

/// An order of waiters, or of their registrations, and where each element stores its position in a heap of that order.
protocol WaiterOrder {
    associatedtype Element: AnyObject
    static func precedes(_ first: Element, _ second: Element) -> Bool
    static func position(of element: Element) -> Int
    static func setPosition(of element: Element, to position: Int)
}

/// First come, first served.
enum ByArrival: WaiterOrder {
    static func precedes(_ first: Registration, _ second: Registration) -> Bool {
        first.waiter.arrival < second.waiter.arrival
    }
    static func position(of registration: Registration) -> Int { registration.position }
    static func setPosition(of registration: Registration, to position: Int) { registration.position = position }
}

/// Undecided waiters, in the order of their arrival.
enum Undecided: WaiterOrder {
    static func precedes(_ first: Waiter, _ second: Waiter) -> Bool { first.arrival < second.arrival }
    static func position(of waiter: Waiter) -> Int { waiter.undecidedPosition }
    static func setPosition(of waiter: Waiter, to position: Int) { waiter.undecidedPosition = position }
}

/// The earliest deadline first; within a millisecond, in the order of arrival.
enum ByDeadline: WaiterOrder {
    static func precedes(_ first: Waiter, _ second: Waiter) -> Bool {
        (first.deadline, first.arrival) < (second.deadline, second.arrival)
    }
    static func position(of waiter: Waiter) -> Int { waiter.deadlinePosition }
    static func setPosition(of waiter: Waiter, to position: Int) { waiter.deadlinePosition = position }
}

/// A binary heap of elements that know their positions. `insert` and `remove` are O(log n); `insert` is O(1) for an
/// element that is last in the order.
struct WaiterHeap<Order: WaiterOrder> {
    private var waiters: [Order.Element] = []

    /// The first in the order. O(1).
    var first: Order.Element? { waiters.first }
    var count: Int { waiters.count }
    var isEmpty: Bool { waiters.isEmpty }

    mutating func insert(_ waiter: Order.Element) {
        waiters.append(waiter)
        rise(waiter, from: waiters.count - 1)
    }

    mutating func remove(_ waiter: Order.Element) {
        let position = Order.position(of: waiter)
        precondition(position < waiters.count && waiters[position] === waiter, "a waiter that is not in this heap")
        let last = waiters.removeLast()
        guard last !== waiter else { return }
        // The last element fills the gap; it may have to move up or down from there.
        waiters[position] = last
        rise(last, from: sink(last, from: position))
    }

    private mutating func rise(_ waiter: Order.Element, from position: Int) {
        var position = position
        while position > 0, Order.precedes(waiter, waiters[(position - 1) / 2]) {
            put(waiters[(position - 1) / 2], at: position)
            position = (position - 1) / 2
        }
        put(waiter, at: position)
    }

    private mutating func sink(_ waiter: Order.Element, from position: Int) -> Int {
        var position = position
        while true {
            var child = 2 * position + 1
            guard child < waiters.count else { return position }
            if child + 1 < waiters.count, Order.precedes(waiters[child + 1], waiters[child]) { child += 1 }
            guard Order.precedes(waiters[child], waiter) else { return position }
            put(waiters[child], at: position)
            position = child
        }
    }

    private mutating func put(_ waiter: Order.Element, at position: Int) {
        waiters[position] = waiter
        Order.setPosition(of: waiter, to: position)
    }

    /// Calls `body` with each waiter, in no particular order, and checks positions and order. O(n).
    func checkInvariants(_ body: (Order.Element) -> Void) {
        for (position, waiter) in waiters.enumerated() {
            precondition(Order.position(of: waiter) == position, "a waiter that does not know its position")
            precondition(position == 0 || Order.precedes(waiters[(position - 1) / 2], waiter), "a heap out of order")
            body(waiter)
        }
    }
}
