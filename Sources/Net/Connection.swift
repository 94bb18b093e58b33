// One client's connection as the event loop sees it. It notes what the kernel reports; the server continues its
// conversation later in the turn.

import Bytes
import CLinux

/// An accepted connection.
final class Connection: EventSource {
    private unowned let server: HTTPServer
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
    /// It is in the server's list of connections to serve.
    var isQueued = false
    /// It is in the server's list of connections with a postponed request.
    var isPostponed = false
    /// It is in the server's list of connections that wait for this mark or a higher one; 0 if it is not.
    var heldMark: UInt64 = 0

    init(_ conversation: consuming Conversation, server: HTTPServer) {
        #if DEBUG
            self.conversation = conversation
        #else
            place = HeapPlace(conversation)
        #endif
        self.server = server
    }

    override func ready(events: UInt32) {
        conversation.note(events: events)
        if conversation.hasLostItsClient { server.noteGone(self) }
        server.queue(self)
    }

    override func timerFired() { server.queue(self) }
}
