// One client's connection as the event loop sees it. It notes what the kernel reports, and enters the queue from which
// the server continues its conversation later in the turn.

import Bytes
import CLinux

/// An accepted connection.
final class Connection: EventSource {
    private let queue: VisitQueue
    // The state of requests and answers. It is a struct, because exclusivity checks for each variable of a class would
    // take longer than the work.
    #if DEBUG
        var conversation: Conversation
    #else
        private let place: HeapPlace<Conversation>
        /// Only the server and `ready` enter it, on the loop's thread. The server is not entered again for the same
        /// connection during a visit: what a handler does to its own connection goes through the visit's arguments.
        var conversation: Conversation {
            unsafeAddress { unsafe UnsafePointer(place.address) }
            unsafeMutableAddress { unsafe place.address }
        }
    #endif
    /// The connection has not been closed. A closed one may still be in the server's lists.
    var isOpen = true
    /// It is in the queue.
    fileprivate(set) var isQueued = false
    /// It is in the server's list of connections with a postponed request.
    var isPostponed = false
    /// It is in the server's list of connections that wait for this mark or a higher one; 0 if it is not.
    var heldMark: UInt64 = 0

    init(_ conversation: consuming Conversation, queue: VisitQueue) {
        #if DEBUG
            self.conversation = conversation
        #else
            place = HeapPlace(conversation)
        #endif
        self.queue = queue
    }

    override func ready(events: UInt32) {
        conversation.note(events: events)
        if conversation.hasLostItsClient { queue.noteGone(self) }
        queue.add(self)
    }

    override func timerFired() { queue.add(self) }
}

/// The connections that a server has to visit. It is apart from the server so that connections can have a reference to
/// it. It and a connection retain each other only while the connection is in a list; the server empties the lists at its
/// end.
final class VisitQueue {
    // Unchecked, because each request and each turn use them. Each access is one operation on a list, so that none can
    // overlap.
    @exclusivity(unchecked) private var connections: [Connection] = []
    @exclusivity(unchecked) private var gone: [Connection] = []
    /// An empty list, whose memory the next one takes over.
    @exclusivity(unchecked) private var spare: [Connection] = []

    var isEmpty: Bool { unsafe connections.isEmpty }

    /// Adds a connection, unless it is in the queue.
    func add(_ connection: Connection) {
        if connection.isQueued { return }
        connection.isQueued = true
        unsafe connections.append(connection)
    }

    /// Takes the first connections, at most `count`. O(connections).
    ///
    /// - Returns: the connections. Return their list with `reuse`.
    func take(atMost count: Int) -> [Connection] {
        var taken = unsafe exchange(&connections, with: exchange(&spare, with: []))
        if taken.count > count {
            unsafe connections = Array(taken[count...])
            taken.removeLast(taken.count - count)
        }
        return taken
    }

    /// Notes that a connection that was taken is visited, so that it can be added again.
    func noteVisit(_ connection: Connection) { connection.isQueued = false }

    /// Returns connections that were taken and not visited, before all others.
    func putBack(_ rest: ArraySlice<Connection>) { unsafe connections = rest + connections }

    /// Puts connections before all others, where some of them may be. O(connections).
    func putFirst(_ first: [Connection]) {
        for connection in first { connection.isQueued = false }
        unsafe connections.removeAll { !$0.isQueued }
        for connection in first { connection.isQueued = true }
        unsafe connections = first + connections
    }

    /// Keeps the memory of a list for the next one.
    func reuse(_ list: inout [Connection]) {
        list.removeAll(keepingCapacity: true)
        unsafe swap(&spare, &list)
    }

    /// Notes that the client of an owed answer disconnected. The request is withdrawn before all other work of this
    /// turn.
    func noteGone(_ connection: Connection) { unsafe gone.append(connection) }

    func removeAll() { unsafe (connections, gone, spare) = ([], [], []) }

    /// Takes the connections whose client disconnected while an answer was owed.
    func takeGone() -> [Connection] { unsafe gone.isEmpty ? [] : exchange(&gone, with: []) }
}
