// Finding the best few of many elements, a step at a time.

/// The best few of the elements that were inserted, in an order that whoever calls its methods knows. Each comparison
/// reduces `steps`, as a step of a census (`TaskCensus`) takes some 10 ns.
struct BestFew<Element> {
    private static var stepsPerComparison: Int { 5 }

    /// How many to keep.
    private let limit: Int
    /// A binary heap with the worst at its top.
    private var heap: [Element] = []

    /// - Parameter limit: how many to keep, at least one.
    init(limit: Int) { self.limit = limit }

    /// Keeps an element if it is one of the best. O(log of the limit).
    mutating func insert(_ element: Element, steps: inout Int, _ precedes: (Element, Element) -> Bool) {
        if heap.count < limit {
            heap.append(element)
            rise(&steps, precedes)
        } else {
            steps -= Self.stepsPerComparison
            guard precedes(element, heap[0]) else { return }
            heap[0] = element
            sink(&steps, precedes)
        }
    }

    /// Removes the worst of those that are kept; nil if there is none. O(log of the limit).
    mutating func removeWorst(steps: inout Int, _ precedes: (Element, Element) -> Bool) -> Element? {
        guard let last = heap.popLast() else { return nil }
        guard let worst = heap.first else { return last }
        heap[0] = last
        sink(&steps, precedes)
        return worst
    }

    private mutating func rise(_ steps: inout Int, _ precedes: (Element, Element) -> Bool) {
        var place = heap.count - 1
        while place > 0 {
            let parent = (place - 1) / 2
            steps -= Self.stepsPerComparison
            guard precedes(heap[parent], heap[place]) else { return }
            heap.swapAt(parent, place)
            place = parent
        }
    }

    private mutating func sink(_ steps: inout Int, _ precedes: (Element, Element) -> Bool) {
        var place = 0
        while 2 * place + 1 < heap.count {
            var child = 2 * place + 1
            steps -= 2 * Self.stepsPerComparison
            if child + 1 < heap.count, precedes(heap[child], heap[child + 1]) { child += 1 }
            guard precedes(heap[place], heap[child]) else { return }
            heap.swapAt(place, child)
            place = child
        }
    }
}
