// What the heads of requests have come to, for heads that the server remembers (`Request.headKey`).

import Net

/// What a head has come to. It follows from the bytes of the head alone: neither who sent it nor what the server's
/// state is matters.
///
/// It is a class, so that finding one copies nothing.
final class ReadHead {
    fileprivate let key: UInt64
    /// The label by which the metrics count its requests.
    let label: UInt8
    let route: Route
    let operation: Operation
    /// The name or id in the path, percent-decoded.
    let name: [UInt8]

    init(_ key: UInt64, place: Int, _ route: Route, _ operation: Operation, name: [UInt8]) {
        label = Metrics.label(ofRoute: place)
        (self.key, self.route, self.operation, self.name) = (key, route, operation, name)
    }
}

/// Remembers what heads have come to by their keys. Heads with a query are left out.
struct KnownHeads {
    // The server's places give each remembered head one of these.
    private static let capacity = Request.rememberedHeadCount
    private var places: [ReadHead?] = []

    /// What is known of the head with a key; nil if nothing is. O(1).
    func known(_ key: UInt64) -> ReadHead? {
        if key == 0 || places.isEmpty { return nil }
        guard let known = places[Int(key % UInt64(Self.capacity))], known.key == key else { return nil }
        return known
    }

    /// Remembers what a head has come to, in place of one that the server has forgotten. O(1).
    mutating func note(_ head: ReadHead) {
        if head.key == 0 { return }
        if places.isEmpty { places = Array(repeating: nil, count: Self.capacity) }
        places[Int(head.key % UInt64(Self.capacity))] = head
    }
}
