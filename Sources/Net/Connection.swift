// One client's connection as the event loop sees it. It notes what the kernel reports; the server continues its
// conversation later in the turn.

import CLinux

/// An accepted connection.
final class Connection: EventSource {
    private unowned let server: HTTPServer
    /// The state of requests and answers. It is a struct, so that one exclusivity check covers a whole visit; a check
    /// for each variable of a class would take longer than the work.
    var conversation: Conversation
    /// The connection has not been closed. A closed one may still be in the server's lists.
    var isOpen = true
    /// It is in the server's list of connections to serve.
    var isQueued = false
    /// It is in the server's list of connections with a postponed request.
    var isPostponed = false
    /// It is in the server's list of connections that wait for this mark or a higher one; 0 if it is not.
    var heldMark: UInt64 = 0

    init(_ conversation: consuming Conversation, server: HTTPServer) {
        self.conversation = conversation
        self.server = server
    }

    override func ready(events: UInt32) {
        conversation.note(events: events)
        if conversation.hasLostItsClient { server.noteGone(self) }
        server.queue(self)
    }

    override func timerFired() { server.queue(self) }
}
