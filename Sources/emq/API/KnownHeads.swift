// What the heads of requests have come to, for heads that the server remembers (`Request.headKey`).

/// Remembers the route, the operation and the name in the path for the keys of heads.
///
/// It keeps only what follows from the bytes of the head alone: neither who sent it nor what the server's state is
/// matters. Heads with a query are left out.
struct KnownHeads {
    /// A class, so that finding one copies nothing.
    final class Known {
        fileprivate let key: UInt64
        /// The route's place in `Route.all`.
        let place: Int
        let operation: Operation
        /// The name or id in the path, percent-decoded.
        let name: [UInt8]

        fileprivate init(_ key: UInt64, place: Int, _ operation: Operation, name: [UInt8]) {
            (self.key, self.place, self.operation, self.name) = (key, place, operation, name)
        }
    }

    private static let capacity = 256
    private var places: [Known?] = []

    /// What is known of the head with a key; nil if nothing is. O(1).
    func known(_ key: UInt64) -> Known? {
        if key == 0 || places.isEmpty { return nil }
        guard let known = places[Int(key % UInt64(Self.capacity))], known.key == key else { return nil }
        return known
    }

    /// Remembers what a head has come to, in place of the one that was remembered `capacity` heads ago. O(1).
    mutating func note(_ key: UInt64, place: Int, _ operation: Operation, name: [UInt8]) {
        if key == 0 { return }
        if places.isEmpty { places = Array(repeating: nil, count: Self.capacity) }
        places[Int(key % UInt64(Self.capacity))] = Known(key, place: place, operation, name: name)
    }
}
