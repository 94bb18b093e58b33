// Server-sent events, as `/events` sends them (HTML Standard, section 9.2).

/// Reads events from the parts of a stream.
public struct EventReader {
    /// An event.
    public struct Event: Sendable {
        /// What the stream calls it.
        public let name: String
        /// Its data; lines are separated by line feeds.
        public let data: [UInt8]
    }

    /// The most of an event that is kept, in bytes. The data of a longer one is cut, so that it is no JSON any more.
    private static let maximumBytes = 64 << 20

    private var line: [UInt8] = []
    private var name = ""
    private var data: [UInt8] = []

    /// A reader at the beginning of a stream.
    public init() {}

    /// Reads the next part of the stream. O(its length).
    ///
    /// - Returns: the events that it completes.
    public mutating func read(_ part: [UInt8]) -> [Event] {
        var events: [Event] = []
        var rest = part[...]
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            keep(rest[..<end])
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            if line.isEmpty {
                if !name.isEmpty { events.append(Event(name: name, data: data)) }
                (name, data) = ("", [])
            } else {
                readLine()
            }
            line.removeAll(keepingCapacity: true)
            rest = rest[(end + 1)...]
        }
        keep(rest)
        return events
    }

    private mutating func keep(_ bytes: ArraySlice<UInt8>) {
        line += bytes.prefix(max(0, Self.maximumBytes - line.count))
    }

    private mutating func readLine() {
        let colon = line.firstIndex(of: UInt8(ascii: ":")) ?? line.endIndex
        var value = line[colon...].dropFirst()
        if value.first == UInt8(ascii: " ") { value = value.dropFirst() }
        switch String(decoding: line[..<colon], as: UTF8.self) {
        case "event": name = String(decoding: value, as: UTF8.self)
        case "data" where data.count + value.count < Self.maximumBytes:
            if !data.isEmpty { data.append(UInt8(ascii: "\n")) }
            data += value
        default: break
        }
    }
}
