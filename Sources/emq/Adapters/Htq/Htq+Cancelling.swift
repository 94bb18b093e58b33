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
        } else if let notice, let noticeID = add(notice, &context, on: broker), !context.isStopping {
            let (server, now) = (context.server, context.now)
            let answer: (inout ResponseStream) -> Void = { responses in
                self.writeNoContent(to: &responses)
                responses.hold(until: broker.changeSequence)
            }
            let waiter = broker.waitForResult(
                of: noticeID, deadline: now + notice.timeoutMilliseconds, now: now,
                completion: { _, _ in server.answer(ticket, answer) })
            if let waiter { return .owed(PendingResponse(waiter, answer)) }
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

    /// Adds a notice.
    ///
    /// - Returns: the id of its task; nil if there is no room for any task at all.
    @discardableResult
    func add(_ notice: Notice, _ context: inout Context, on broker: isolated Broker) -> UID? {
        guard let queue = queue(on: broker) else { return nil }
        let task = NewTask(
            id: context.makeID(), content: 0..<notice.content.count,
            expiry: .after(milliseconds: Self.lifeMilliseconds), priority: .max, options: notice.options)
        return try? broker.enqueue(task, content: notice.content.span, in: queue, isLimited: false, now: context.now).id
    }
}
