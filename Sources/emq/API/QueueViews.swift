// Listings of queues for clients: pages of a sorted list that is made in slices, between other work.
//
// A list is kept for a while, so many clients that look at many queues share one.

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
    fileprivate(set) var text = ResponseStream.partWithRoom(UInt8(ascii: "["))
    /// The indexes in the list of the queues of the page, if it shows statistics.
    private(set) var found: [Int] = []
    /// Behind which queue the next page begins; nil if there is none.
    fileprivate(set) var next: QueueListing.Cursor?
    /// Whether there is no memory for the page.
    private(set) var isTooLarge = false
    /// How many queues are listed, those before and behind the page included, if it has an offset.
    private(set) var total = 0
    /// How many queues it leaves out because there is no memory for a list of them.
    fileprivate(set) var leftOut = 0
    private(set) var listing: QueueListing?
    /// The query as the client wrote it, for the link to the next page.
    let target: [UInt8]
    fileprivate let ticket: Ticket
    fileprivate private(set) var isWithdrawn = false
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
    fileprivate func begin(_ listing: QueueListing) { self.listing = listing }

    /// The memory that it takes, in bytes. O(1).
    fileprivate var byteCount: Int { text.count + found.count * MemoryLayout<Int>.stride }

    /// Goes on.
    ///
    /// - Returns: whether the page is complete.
    fileprivate func extend(_ server: HTTPServer, steps: inout Int, on broker: isolated Broker) -> Bool {
        guard let listing else { return true }
        if position == nil {
            guard broker.extend(listing, steps: &steps) else {
                // Long names take more than was estimated.
                guard listing.byteCount > Gate.largeAnswerBytes, !server.hasBuffers(for: listing.byteCount) else {
                    return false
                }
                leftOut = broker.counts.queues
                return true
            }
        }
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
        next = found.indices.contains(position) ? listing?.cursor(behind: found[position]) : query.after
    }

    /// Takes the text, which is then empty.
    func takeText() -> Buffer {
        var taken = Buffer()
        swap(&taken, &text)
        return taken
    }
}

/// The pages that are being made, and the lists that they are parts of.
final class QueueViews {
    /// How much to do in a turn: about a millisecond.
    static let stepsPerTurn = 20_000
    /// With more queues than this, a list that is complete is used again.
    static let sharingCount = 1000
    /// For how long after its beginning, and for how long it stays in memory after its last use.
    static let sharingMilliseconds: Int64 = 2000
    static let keepingMilliseconds: Int64 = 5000

    private struct Kept {
        let listing: QueueListing
        let begun: Int64
        var lastUsed: Int64
    }

    private var kept: [Kept] = []
    private var pages: [QueuePage] = []
    private var steps = 0

    /// The memory of lists and pages, in bytes. O(lists and pages), of which there usually are few.
    var byteCount: Int {
        if kept.isEmpty, pages.isEmpty { return 0 }
        var listings = kept.map(\.listing)
        for case let listing? in pages.map(\.listing) where !listings.contains(where: { $0 === listing }) {
            listings.append(listing)
        }
        return listings.reduce(0) { $0 + $1.byteCount } + pages.reduce(0) { $0 + $1.byteCount }
    }

    /// Whether pages are being made, so that the next turn should follow at once.
    var isBusy: Bool { !pages.isEmpty }

    /// When to call `beginTurn` next; nil for no such time.
    var nextDeadline: Int64? { kept.map(\.lastUsed).min().map { $0 + Self.keepingMilliseconds } }

    /// Begins a page. If it cannot be complete in this turn, the client gets it later.
    ///
    /// - Parameters:
    ///   - page: the page, which nobody has begun.
    ///   - server: the server.
    ///   - now: the time.
    ///   - broker: the broker.
    /// - Returns: whether the page is complete.
    func begin(_ page: QueuePage, of server: HTTPServer, now: Int64, on broker: isolated Broker) -> Bool {
        let count = broker.counts.queues
        guard let listing = listing(by: page.query.order, count: count, server, now: now) else {
            page.leftOut = count
            return true
        }
        page.begin(listing)
        if page.extend(server, steps: &steps, on: broker) { return true }
        pages.append(page)
        return false
    }

    /// The list to use; nil if there is no memory for one.
    private func listing(
        by order: QueueOrder, count: Int, _ server: HTTPServer, now: Int64
    ) -> QueueListing? {
        if let place = kept.firstIndex(where: { $0.listing.order == order }) {
            if !kept[place].listing.isComplete || now < kept[place].begun + Self.sharingMilliseconds {
                kept[place].lastUsed = now
                return kept[place].listing
            }
            kept.remove(at: place)
        }
        let byteCount = QueueListing.estimatedByteCount(of: count)
        if byteCount > Gate.largeAnswerBytes, !server.hasBuffers(for: byteCount + self.byteCount) { return nil }
        let listing = QueueListing(by: order)
        if count > Self.sharingCount { kept.append(Kept(listing: listing, begun: now, lastUsed: now)) }
        return listing
    }

    /// Goes on with the pages, for about a millisecond, and forgets lists that nobody uses.
    ///
    /// - Parameters:
    ///   - server: the server.
    ///   - now: the time.
    ///   - broker: the broker.
    ///   - write: writes a complete page.
    func beginTurn(
        _ server: HTTPServer, now: Int64, on broker: isolated Broker,
        _ write: (QueuePage, inout ResponseStream) -> Void
    ) {
        steps = Self.stepsPerTurn
        if pages.isEmpty, kept.isEmpty { return }
        pages.removeAll { $0.isWithdrawn }
        // Those that have their share of this turn come last in the next one.
        var (unserved, served): ([QueuePage], [QueuePage]) = ([], [])
        for page in pages {
            guard steps > 0 else {
                unserved.append(page)
                continue
            }
            guard page.extend(server, steps: &steps, on: broker) else {
                served.append(page)
                continue
            }
            server.answer(page.ticket) { write(page, &$0) }
            // Writing a page of statistics takes longer than finding its queues.
            steps -= page.found.count * Self.stepsPerStatistics
        }
        pages = unserved + served
        let used = pages.compactMap(\.listing)
        kept.removeAll { kept in
            // An incomplete list whose viewers have left would be outdated when it is complete.
            let isOver = !kept.listing.isComplete || now >= kept.lastUsed + Self.keepingMilliseconds
            return isOver && !used.contains { $0 === kept.listing }
        }
    }

    /// What writing the statistics of a queue takes.
    private static let stepsPerStatistics = 50
}

extension Buffer: JSONOutput {}
