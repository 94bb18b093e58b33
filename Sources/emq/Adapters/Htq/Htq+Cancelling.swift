// Cancelling requests, and telling their receivers.

import Net
import Queues
import UID

extension Htq {
    /// Takes the response of a request away that has come to its end, and leaves its status.
    func end(_ id: UID, leaving status: HtqStatus, _ context: borrowing Context, on broker: isolated Broker) {
        let rest = status.json
        broker.replaceResult(of: id, with: rest.span, now: context.now)
    }

    /// Cancels a request, or deletes its response. If the request was in flight, the client is answered when the
    /// receiver has answered the notice, or has not done so in time.
    ///
    /// - Throws: 404, and 503 if there is no space for the change.
    func cancel(
        _ id: UID, _ ticket: Ticket, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try withRequest(id, now: context.now, on: broker) { _ in }
        let notice = notice(of: id, now: context.now, on: broker)
        // It takes no more memory than the cancelled request.
        if let notice { try context.gate.admit(.grows(), count: 2, writtenBytes: notice.byteCount, on: broker) }
        // A dead request could be kicked, and sent after all.
        if !broker.cancelTask(id, includingDead: true, now: context.now) {
            end(id, leaving: .canceled, context, on: broker)
        } else if let notice, let waiter = add(notice, answering: ticket, &context, on: broker) {
            return .owed(PendingResponse(waiter, writeNoContent))
        }
        writeNoContent(to: &responses)
        return .answered
    }

    // MARK: Notices

    /// The notice to a URL that a request to it was cancelled in flight.
    struct Notice {
        fileprivate let content: [UInt8]
        fileprivate let options: TaskOptions
        fileprivate let timeoutMilliseconds: Int64

        /// The size of its texts.
        var byteCount: Int { content.count + options.request.count }
    }

    /// The notice to send if a request is cancelled now; nil if none is needed.
    func notice(of id: UID, now: Int64, on broker: isolated Broker) -> Notice? {
        let options = TaskOptions()
        var request: HtqRequest?
        broker.withTask(id: id, now: now) { task in
            guard task.state == .dispatched else { return }
            options.request = task.request
            request = HtqRequest(stored: task.content)?.cancellation
        }
        options.retryLimit = .limited(0)
        options.keepMilliseconds = 0
        options.metadata = Array("{\"cancels\": \"\(id.uuidString)\"}".utf8)
        return request.map {
            Notice(content: $0.json, options: options, timeoutMilliseconds: $0.timeoutMilliseconds)
        }
    }

    /// Adds a notice. The request `ticket` is answered when the notice has been sent, unless it is nil.
    ///
    /// - Returns: the wait for the end of the notice; nil if there is none.
    @discardableResult
    func add(
        _ notice: Notice, answering ticket: Ticket? = nil, _ context: inout Context, on broker: isolated Broker
    ) -> Waiter? {
        guard let queue = queue(on: broker) else { return nil }
        let id = context.makeID()
        let task = NewTask(
            id: id, content: 0..<notice.content.count, expiry: .after(milliseconds: Self.lifeMilliseconds),
            priority: .max, options: notice.options)
        // It fails only if there is no room for any task at all.
        _ = try? broker.enqueue(task, content: notice.content.span, in: queue, isLimited: false, now: context.now)
        guard let ticket, !context.isStopping else { return nil }
        let (server, deadline) = (context.server, context.now + notice.timeoutMilliseconds)
        return broker.waitForResult(of: id, deadline: deadline, now: context.now) { _, _ in
            server.answer(ticket) { responses in
                self.writeNoContent(to: &responses)
                responses.hold(until: broker.changeSequence)
            }
        }
    }
}
