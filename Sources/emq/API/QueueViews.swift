// Listings of queues for clients: pages of a sorted list that is made in slices, between other work.
//
// A list is kept for a while, so many clients that look at many queues share one.

import Net
import Queues

/// The pages that are being made, and the lists that they are parts of.
final class QueueViews {
    /// How much to do in a turn: about a millisecond.
    static let stepsPerTurn = 20_000
    /// With more queues than this, a list that is complete is used again.
    static let sharingCount = 1000
    /// For how long it stays in memory after its last use.
    static let keepingMilliseconds: Int64 = 5000

    /// How many lists of groups are kept, since there are as many as clients think of prefixes and patterns.
    static let maximumGroupsCount = 16

    /// For how long after its beginning a list is used again, if somebody may be waiting to see a change.
    private static let shortSharingMilliseconds: Int64 = 2000

    /// For how long after its beginning a list is used again. A list for names is always recent. One for figures lasts
    /// longer the more queues there are, but for half a minute at most. A queue in a list takes about 350 ns. So the
    /// lists in one order take less than a thousandth of the time, unless there are more than 85,000 queues.
    private static func sharingMilliseconds(_ content: QueuePage.Content, count: Int) -> Int64 {
        content == .names ? shortSharingMilliseconds : min(30_000, max(shortSharingMilliseconds, Int64(count / 2)))
    }

    private struct Kept {
        let listing: QueueListing
        let begun: Int64
        var lastUsed: Int64
    }

    private struct KeptGroups {
        let groups: QueueGroups
        /// Which queues it has.
        let filter: QueueFilter
        let begun: Int64
        var lastUsed: Int64
    }

    private var kept: [Kept] = []
    private var keptGroups: [KeptGroups] = []
    private var pages: [QueuePage] = []
    /// When an operator changed queues last.
    private var lastChange = Int64.min
    // Unchecked, because each turn uses them, also if nobody looks at queues. An access is one read or write, but
    // `steps` is also passed inout to a page, which cannot reach this object.
    /// The time of the last turn, and what may still be done in it.
    @exclusivity(unchecked) private var now: Int64 = 0
    @exclusivity(unchecked) private var steps = 0
    /// Whether there are neither lists nor pages.
    @exclusivity(unchecked) private var isIdle = true

    /// The memory of lists and pages, in bytes. O(lists and pages), of which there usually are few.
    var byteCount: Int {
        if unsafe isIdle { return 0 }
        var listings = kept.map(\.listing)
        for case let listing? in pages.map(\.listing) where !listings.contains(where: { $0 === listing }) {
            listings.append(listing)
        }
        var groups = keptGroups.map(\.groups)
        for case let new? in pages.map(\.groups) where !groups.contains(where: { $0 === new }) { groups.append(new) }
        return listings.reduce(0) { $0 + $1.byteCount } + groups.reduce(0) { $0 + $1.byteCount }
            + pages.reduce(0) { $0 + $1.byteCount }
    }

    /// Whether pages are being made, so that the next turn should follow at once.
    var isBusy: Bool { unsafe !isIdle && !pages.isEmpty }

    /// When to call `beginTurn` next; nil for no such time.
    var nextDeadline: Int64? {
        if unsafe isIdle || kept.isEmpty && keptGroups.isEmpty { return nil }
        let lastUsed = min(kept.map(\.lastUsed).min() ?? .max, keptGroups.map(\.lastUsed).min() ?? .max)
        return lastUsed + Self.keepingMilliseconds
    }

    /// Notes that an operator has changed queues, and will soon want to see that. O(1).
    func noteChange() { lastChange = unsafe now }

    /// Whether a complete list that was begun at this time may be used again.
    private func isRecent(_ begun: Int64, for content: QueuePage.Content, count: Int, now: Int64) -> Bool {
        let isUnchanged = begun > lastChange
        let milliseconds =
            isUnchanged ? Self.sharingMilliseconds(content, count: count) : Self.shortSharingMilliseconds
        return now < begun + milliseconds
    }

    /// Begins a page. If it cannot be complete in this turn, the client gets it later.
    ///
    /// - Parameters:
    ///   - page: the page, which nobody has begun.
    ///   - server: the server.
    ///   - now: the time.
    ///   - broker: the broker.
    /// - Returns: whether the page is complete.
    func begin(_ page: QueuePage, of server: HTTPServer, now: Int64, on broker: isolated Broker) -> Bool {
        unsafe isIdle = false
        let count = broker.counts.queues
        let order = page.query.delimiter == nil ? page.query.order : .name
        guard let listing = listing(by: order, for: page.content, count: count, server, now: now) else {
            page.leftOut = count
            return true
        }
        page.begin(
            listing,
            page.query.grouping.map {
                groups(of: listing, by: $0, page.query.filter, for: page.content, count: count, now: now)
            })
        if unsafe page.extend(server, now: now, steps: &steps, on: broker) { return true }
        pages.append(page)
        return false
    }

    /// The list to use; nil if there is no memory for one.
    private func listing(
        by order: QueueOrder, for content: QueuePage.Content, count: Int, _ server: HTTPServer, now: Int64
    ) -> QueueListing? {
        if let place = kept.firstIndex(where: { $0.listing.order == order }) {
            if !kept[place].listing.isComplete || isRecent(kept[place].begun, for: content, count: count, now: now) {
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

    /// The list of groups to use.
    private func groups(
        of listing: QueueListing, by grouping: QueueGroups.Grouping, _ filter: QueueFilter,
        for content: QueuePage.Content, count: Int, now: Int64
    ) -> QueueGroups {
        if let place = keptGroups.firstIndex(where: { $0.groups.grouping == grouping && $0.filter.isSame(as: filter) })
        {
            if !keptGroups[place].groups.isComplete
                || isRecent(keptGroups[place].begun, for: content, count: count, now: now)
            {
                keptGroups[place].lastUsed = now
                return keptGroups[place].groups
            }
            keptGroups.remove(at: place)
        }
        let groups = QueueGroups(of: listing, by: grouping)
        if count > Self.sharingCount {
            if keptGroups.count == Self.maximumGroupsCount { keptGroups.removeFirst() }
            keptGroups.append(KeptGroups(groups: groups, filter: filter, begun: now, lastUsed: now))
        }
        return groups
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
        unsafe (steps, self.now) = (Self.stepsPerTurn, now)
        if unsafe isIdle { return }
        defer { unsafe isIdle = pages.isEmpty && kept.isEmpty && keptGroups.isEmpty }
        pages.removeAll { $0.isWithdrawn }
        // Those that have their share of this turn come last in the next one.
        var (unserved, served): ([QueuePage], [QueuePage]) = ([], [])
        for page in pages {
            guard unsafe steps > 0 else {
                unserved.append(page)
                continue
            }
            guard unsafe page.extend(server, now: now, steps: &steps, on: broker) else {
                served.append(page)
                continue
            }
            server.answer(page.ticket) { write(page, &$0) }
            // Writing a page of statistics takes longer than finding its queues.
            unsafe steps -= page.found.count * Self.stepsPerStatistics
        }
        pages = unserved + served
        // An incomplete list whose viewers have left would be outdated when it is complete.
        let used = pages.compactMap(\.listing)
        kept.removeAll { kept in
            let isOver = !kept.listing.isComplete || now >= kept.lastUsed + Self.keepingMilliseconds
            return isOver && !used.contains { $0 === kept.listing }
        }
        let usedGroups = pages.compactMap(\.groups)
        keptGroups.removeAll { kept in
            let isOver = !kept.groups.isComplete || now >= kept.lastUsed + Self.keepingMilliseconds
            return isOver && !usedGroups.contains { $0 === kept.groups }
        }
    }

    /// What writing the statistics of a queue takes.
    private static let stepsPerStatistics = 50
}
