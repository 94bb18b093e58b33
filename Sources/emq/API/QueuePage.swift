// A page of a sorted list of queues for a client.

import Bytes
import JSON
import Net
import Queues

/// A page of queues for one client.
final class QueuePage: PendingAnswer {
    /// What the page shows of each queue.
    enum Content {
        /// The names of queues in use.
        case names
        /// Statistics of all queues that the broker knows.
        case statistics
    }

    private static let stepsPerQueue = 6

    let content: Content
    let query: QueuePageQuery
    /// A JSON array of the names of the page, but for its end, if it shows names.
    var text = ResponseStream.partWithRoom(UInt8(ascii: "["))
    /// The indexes in the list, or in the groups, of the rows of the page, if it shows statistics.
    private(set) var found: [Int] = []
    /// Behind which queue the next page begins; nil if there is none.
    var next: QueueListing.Cursor?
    /// Whether there is no memory for the page.
    private(set) var isTooLarge = false
    /// How many rows are listed, those before and behind the page included, if it has an offset.
    private(set) var total = 0
    /// How many queues it leaves out because there is no memory for a list of them.
    var leftOut = 0
    private(set) var listing: QueueListing?
    /// The groups that the page shows instead of all queues; nil if the client does not ask for groups.
    private(set) var groups: QueueGroups?
    /// The query as the client wrote it, for the link to the next page.
    let target: [UInt8]
    let ticket: Ticket
    private(set) var isWithdrawn = false
    /// The place in the list, from which the page is made; nil until it has begun.
    private var position: Int?
    private var last = 0
    private var count = 0

    /// - Parameters:
    ///   - content: what the page shows.
    ///   - query: which queues the client asks for.
    ///   - request: the request.
    init(of content: Content, _ query: QueuePageQuery, of request: borrowing Request) {
        self.content = content
        self.query = query
        ticket = request.ticket
        target = Array(copying: request.query)
        super.init(nil)
    }

    override func withdraw(on broker: isolated Broker) { isWithdrawn = true }

    /// Takes the list that the page is a part of. It may be incomplete.
    func begin(_ listing: QueueListing, _ groups: QueueGroups?) { (self.listing, self.groups) = (listing, groups) }

    /// The memory that it takes, in bytes. O(1).
    var byteCount: Int { text.count + found.count * MemoryLayout<Int>.stride }

    /// Goes on.
    ///
    /// - Returns: whether the page is complete.
    func extend(_ server: HTTPServer, now: Int64, steps: inout Int, on broker: isolated Broker) -> Bool {
        guard let listing else { return true }
        if position == nil {
            guard extendList(listing, now: now, steps: &steps, on: broker) else {
                // Long names take more than was estimated.
                let byteCount = listing.byteCount + (groups?.byteCount ?? 0)
                guard byteCount > Gate.largeAnswerBytes, !server.hasBuffers(for: byteCount) else { return false }
                leftOut = broker.counts.queues
                return true
            }
            leftOut = groups?.leftOut ?? 0
        }
        if let groups { return extend(of: groups, steps: &steps, on: broker) }
        var index = position ?? start(in: listing)
        defer { position = index }
        while index < listing.count {
            guard steps > 0 else { return false }
            let isEnd = listing.withName(at: index) { name in
                steps -= query.filter.steps(for: name)
                if !query.filter.admits(name) { return query.order == .name && isBehindPrefix(name) }
                return !take(name, at: index, in: listing, steps: &steps, on: broker)
            }
            if isEnd { return true }
            index += 1
            if text.count > Gate.largeAnswerBytes, server.isShortOfMemory || !server.hasBuffers(for: text.count) {
                isTooLarge = true
                text = Buffer()
                return true
            }
        }
        return true
    }

    private func extendList(
        _ listing: QueueListing, now: Int64, steps: inout Int, on broker: isolated Broker
    ) -> Bool {
        guard let groups else { return broker.extend(listing, steps: &steps) }
        let filter = query.filter
        return broker.extend(groups, now: now, steps: &steps) { name, steps in
            steps -= filter.steps(for: name)
            return filter.admits(name)
        }
    }

    /// Goes on with the rows of a complete list of groups.
    private func extend(of groups: QueueGroups, steps: inout Int, on broker: isolated Broker) -> Bool {
        var index = position ?? query.after.map { groups.index(behind: $0) } ?? min(query.offset ?? 0, groups.count)
        defer { position = index }
        total = groups.count
        while index < groups.count {
            guard steps > 0 else { return false }
            steps -= Self.stepsPerQueue
            let isThere =
                groups.group(at: index) != nil
                || groups.withName(at: index) { broker.existingQueue(named: $0) != nil }
            if isThere {
                if found.count == query.count {
                    next = groups.cursor(behind: last)
                    return true
                }
                found.append(index)
                last = index
            }
            index += 1
        }
        return true
    }

    private func start(in listing: QueueListing) -> Int {
        if let offset = query.offset, query.filter.admitsAll {
            total = listing.count
            return min(offset, listing.count)
        }
        let start = query.after.map { listing.index(behind: $0) } ?? 0
        // Sorted by name, the queues with a prefix are neighbours.
        if query.order != .name { return start }
        let prefix = query.filter.prefix
        return max(start, listing.index(of: prefix.span))
    }

    private func isBehindPrefix(_ name: Span<UInt8>) -> Bool { !query.filter.hasPrefix(name) }

    /// Counts a queue that is listed and adds it if it belongs to the page, and returns whether to go on.
    private func take(
        _ name: Span<UInt8>, at index: Int, in listing: QueueListing, steps: inout Int, on broker: isolated Broker
    ) -> Bool {
        guard let offset = query.offset, !query.filter.admitsAll else {
            return add(name, at: index, in: listing, steps: &steps, on: broker)
        }
        total += 1
        // Those behind a full page are only counted.
        if total > offset, next == nil { _ = add(name, at: index, in: listing, steps: &steps, on: broker) }
        return true
    }

    /// Adds a queue, if it still exists, and returns whether the page may take more.
    private func add(
        _ name: Span<UInt8>, at index: Int, in listing: QueueListing, steps: inout Int, on broker: isolated Broker
    ) -> Bool {
        steps -= Self.stepsPerQueue
        guard let queue = broker.existingQueue(named: name), content == .statistics || broker.isListed(queue) else {
            return true
        }
        if count == query.count {
            next = listing.cursor(behind: last)
            return false
        }
        count += 1
        last = index
        if content == .statistics {
            found.append(index)
        } else {
            if count > 1 { text.append(UInt8(ascii: ",")) }
            JSONWriter.writeString(name, to: &text)
        }
        return true
    }
}

extension QueuePage {
    /// Ends the page early, because there is no memory for more. The next one begins behind its queue at `position`, or
    /// where this one began if it has none.
    func end(behind position: Int) {
        guard found.indices.contains(position) else {
            next = query.after
            return
        }
        next = groups?.cursor(behind: found[position]) ?? listing?.cursor(behind: found[position])
    }

    /// Takes the text, which is then empty.
    func takeText() -> Buffer {
        var taken = Buffer()
        swap(&taken, &text)
        return taken
    }
}

extension Buffer: JSONOutput {}
