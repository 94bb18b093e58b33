// Parsed heads of requests. A client sends nearly the same head again and again, and then the parser's verdict is the
// same, too. To compare bytes takes a tenth of the time that it takes to parse them.

import Bytes
import Glibc

/// Remembers heads that were parsed, of all connections of a server.
///
/// A head may differ from a remembered one only in *holes*: the values of Content-Length, X-Request-Id and traceparent,
/// which differ between requests of one client, and of Authorization, which is a secret: it is not kept, and no
/// comparison with it takes a time that says something about it. Values in holes must be as long as those before, and
/// are checked like new ones. A head is remembered when another one with the same request line and length has just been
/// parsed, so that heads which never come again cost little.
@safe struct HeadCache: ~Copyable {
    private let pin = Pin()
    /// The longest head that is remembered, in bytes. With all places taken, the bytes of the heads take at most a
    /// quarter of a MiB, and the places of their fields at most 1 MiB.
    static let maximumLength = 1024
    /// Heads with the same request line are in the same set.
    private static let setCount = 64
    private static let placesPerSet = 4
    static let placeCount = setCount * placesPerSet

    /// What a request with a known head is.
    struct Recollection {
        /// The length of the head, in bytes.
        let length: Int
        /// The value of Content-Length; 0 if there is none.
        let contentLength: Int
    }

    private struct Entry: ~Copyable {
        private let pin = Pin()
        var bytes: [UInt8] = []
        var head = RequestHead()
        /// The head's key, because to read that of `head` would copy the whole.
        var key: UInt64 = 0
        /// The place of the head that came after this one on the same connection, the last time; at first its own.
        var next = 0
        /// The holes in order, and how many they are.
        var holes = InlineArray<4, Range<Int>>(repeating: 0..<0)
        var holeCount = 0
        /// The hole that is the value of Content-Length, and that of Authorization; empty if there is none.
        var digits = 0..<0
        var credentials = 0..<0
        /// Whether there are other holes than Content-Length's.
        var hasValues: Bool { holeCount > (digits.isEmpty ? 0 : 1) }

        /// Copies the head, except whether it came over TLS. Part by part, because the compiler copies the whole
        /// several times.
        func copyHead(to other: inout RequestHead) {
            (other.method, other.methodName, other.path, other.query) = (
                head.method, head.methodName, head.path, head.query
            )
            (other.authority, other.fields, other.body) = (head.authority, head.fields, head.body)
            (other.minorVersion, other.isPersistent, other.isFromBrowser) = (
                head.minorVersion, head.isPersistent, head.isFromBrowser
            )
            (other.requestIDPlace, other.traceparentPlace) = (head.requestIDPlace, head.traceparentPlace)
            other.authorizationPlace = head.authorizationPlace
            other.key = head.key
        }

        /// What the request is that a buffer begins with; nil if it begins with another head.
        func recollect(_ bytes: Span<UInt8>) -> Recollection? {
            let known = self.bytes.span
            if known.isEmpty || bytes.count < known.count { return nil }
            var start = 0
            for index in 0..<holeCount {
                let hole = holes[index]
                guard bytes.agrees(with: known, in: start..<hole.lowerBound) else { return nil }
                start = hole.upperBound
            }
            guard bytes.agrees(with: known, in: start..<known.count) else { return nil }
            guard let contentLength = bytes.extracting(digits).decimalValue else { return nil }
            if hasValues, !hasValidValues(bytes) { return nil }
            return Recollection(length: known.count, contentLength: contentLength)
        }

        /// Whether the values of Authorization, X-Request-Id and traceparent are as valid as those that were parsed.
        private func hasValidValues(_ bytes: Span<UInt8>) -> Bool {
            if !credentials.isEmpty {
                let value = bytes.extracting(credentials)
                guard value.isFieldValue, !value[0].isBlank, !value[value.count - 1].isBlank else { return false }
            }
            let (requestID, traceparent) = (head.requestID, head.traceparent)
            if !requestID.isEmpty, !bytes.extracting(requestID).isRequestID { return false }
            return traceparent.isEmpty || bytes.extracting(traceparent).isTraceparent
        }
    }

    /// Empty until a head is remembered, so that a server without clients has no memory for them.
    private var entries = unsafe UnsafeMutableBufferPointer<Entry>(start: nil, count: 0)
    private var nextPlaces = InlineArray<64, UInt8>(repeating: 0)
    /// What was parsed last in each set, as `sketch` describes it.
    private var lastParsed = InlineArray<64, UInt64>(repeating: 0)
    /// How many keys were given. A key begins with its number, and ends with the place of its head.
    private var keyCount: UInt64 = 0

    deinit {
        unsafe entries.deinitialize()
        unsafe entries.deallocate()
    }

    /// Finds the head that a buffer begins with. O(length of the head).
    ///
    /// - Parameters:
    ///   - bytes: The buffer, which begins with a request.
    ///   - head: Becomes the remembered head, without a body, if one is found.
    /// - Returns: nil if no complete head is found.
    mutating func recall(_ bytes: Span<UInt8>, into head: inout RequestHead) -> Recollection? {
        if unsafe entries.isEmpty { return nil }
        // A client that repeats itself sends what it sent after the last head before.
        let last = Int(head.key % UInt64(Self.placeCount))
        let isKnown = unsafe head.key != 0 && entries[last].key == head.key
        if isKnown {
            let next = unsafe entries[last].next
            if let request = unsafe entries[next].recollect(bytes) {
                if next != last { unsafe entries[next].copyHead(to: &head) }
                return request
            }
        }
        guard let lineEnd = bytes.index(of: UInt8(ascii: "\n")), lineEnd < Self.maximumLength else { return nil }
        let first = Self.set(of: Self.hash(bytes, lineEnd)) * Self.placesPerSet
        // A set's number is less than their count, and there are `placeCount` entries.
        for place in first..<first + Self.placesPerSet {
            guard let request = unsafe entries[place].recollect(bytes) else { continue }
            unsafe entries[place].copyHead(to: &head)
            if isKnown { unsafe entries[last].next = place }
            return request
        }
        return nil
    }

    /// Notes a head that was parsed: one without Transfer-Encoding, Expect and empty lines before it. Gives it a key if
    /// it is remembered. O(length of the head).
    ///
    /// - Parameters:
    ///   - bytes: All bytes of the head.
    ///   - head: What the parser made of them.
    mutating func note(_ bytes: Span<UInt8>, _ head: inout RequestHead) {
        guard bytes.count <= Self.maximumLength, let lineEnd = bytes.index(of: UInt8(ascii: "\n")) else { return }
        let hash = Self.hash(bytes, lineEnd)
        let set = Self.set(of: hash)
        let sketch = hash ^ UInt64(bytes.count)
        guard lastParsed[set] == sketch else {
            lastParsed[set] = sketch
            return
        }
        guard var entry = Self.entry(bytes, head) else { return }
        if unsafe entries.isEmpty {
            unsafe entries = .allocate(capacity: Self.placeCount)
            for place in unsafe entries.indices { unsafe entries.initializeElement(at: place, to: Entry()) }
        }
        let place = set * Self.placesPerSet + Int(nextPlaces[set])
        keyCount += 1
        head.key = keyCount * UInt64(Self.placeCount) + UInt64(place)
        (entry.head.key, entry.key, entry.next) = (head.key, head.key, place)
        unsafe entries[place] = entry
        nextPlaces[set] = (nextPlaces[set] + 1) % UInt8(Self.placesPerSet)
    }

    /// What to remember of a head; nil if its length is not written as one short number, or if it has several fields
    /// Authorization.
    private static func entry(_ bytes: Span<UInt8>, _ head: RequestHead) -> Entry? {
        var entry = Entry()
        (entry.bytes, entry.head) = ([UInt8](copying: bytes), head)
        entry.head.body = 0..<0
        for field in head.fields {
            let name = bytes.extracting(field.name)
            if name.equalsIgnoringCase("Content-Length") {
                guard entry.digits.isEmpty, 1...9 ~= field.value.count else { return nil }
                for index in field.value where !bytes[index].isDigit { return nil }
                entry.digits = field.value
            } else if name.equalsIgnoringCase("Authorization"), !field.value.isEmpty {
                guard entry.credentials.isEmpty else { return nil }
                entry.credentials = field.value
            }
        }
        let holes = [entry.digits, entry.credentials, head.requestID, head.traceparent]
        for (index, hole) in holes.filter({ !$0.isEmpty }).sorted(by: { $0.lowerBound < $1.lowerBound }).enumerated() {
            entry.holes[index] = hole
            entry.holeCount = index + 1
            for place in hole { entry.bytes[place] = 0 }
        }
        return entry
    }

    private static func set(of hash: UInt64) -> Int { Int(truncatingIfNeeded: hash >> 58) }

    /// A hash of the first `count` bytes, eight at a time.
    private static func hash(_ bytes: Span<UInt8>, _ count: Int) -> UInt64 {
        precondition(count <= bytes.count, "no such bytes")
        let factor: UInt64 = 0x9E37_79B9_7F4A_7C15
        var hash = UInt64(count)
        var index = 0
        while index + 8 <= count {
            // Unsafe only because not all bits are valid for every type; the end is checked above.
            let word = unsafe bytes.bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: index, as: UInt64.self)
            hash = (hash ^ word) &* factor
            hash ^= hash >> 29
            index += 8
        }
        while index < count {
            hash = (hash ^ UInt64(unsafe bytes[unchecked: index])) &* factor
            index += 1
        }
        return hash &* factor
    }
}

extension Span<UInt8> {
    /// The number that up to 18 decimal digits stand for: 0 for none, nil for other bytes.
    fileprivate var decimalValue: Int? {
        var value = 0
        for index in indices {
            guard self[index].isDigit else { return nil }
            value = value &* 10 &+ Int(self[index] &- UInt8(ascii: "0"))
        }
        return value
    }

    /// Whether both have the same bytes in a range that both have.
    @inline(__always)
    fileprivate func agrees(with other: Span<UInt8>, in range: Range<Int>) -> Bool {
        precondition(range.lowerBound >= 0 && range.upperBound <= count && range.upperBound <= other.count)
        return unsafe withUnsafeBytes { first in
            unsafe other.withUnsafeBytes { second in
                guard let first = first.baseAddress, let second = second.baseAddress else { return true }
                return unsafe memcmp(first + range.lowerBound, second + range.lowerBound, range.count) == 0
            }
        }
    }
}
