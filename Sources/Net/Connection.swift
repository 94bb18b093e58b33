// One client's socket, as the event loop knows it. It takes note of what the kernel reports; its conversation is
// carried on when the server's turn for it comes.

import CLinux

/// An accepted connection.
final class Connection: EventSource {
    private unowned let server: HTTPServer
    /// Where it stands in the exchange of requests and answers. One access to it lasts for a whole visit: checking each
    /// of a class's variables for exclusive access would take longer than the work.
    var conversation: Conversation
    /// Its socket has not been closed; a connection that was closed may still stand in the server's lists.
    var isOpen = true
    /// It stands in the server's list of connections to serve.
    var isQueued = false
    /// It stands in the server's list of connections whose request was postponed.
    var isPostponed = false
    /// It stands in the server's list of connections that wait for this mark or a higher one; 0 if it does not.
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
