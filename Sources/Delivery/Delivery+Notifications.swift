// Dead-letter notifications: each is a task of the queue where the other task died.

import Queues

extension Delivery {
    /// When a turn has added notifications of this size, the others are added in the next turns.
    private static let notificationBytesPerTurn = 16 << 20

    /// Adds notifications for the tasks that have died, as far as there is room, and then wakes the queues that have
    /// something to send.
    func addNotifications(on broker: isolated Broker, now: Int64, _ notificationBytes: inout Int) {
        broker.takeDeadTasks { deadTask in
            guard !postponesNotifications, notificationBytes < Self.notificationBytesPerTurn else { return false }
            notificationBytes += addNotification(for: deadTask, on: broker, now: now)
            return true
        }
        broker.takeSendableQueues { wake($0, on: broker) }
    }

    /// Adds a notification for a dead task, if there is a URL to notify.
    ///
    /// - Returns: the size of its content.
    private func addNotification(for deadTask: Broker.DeadTask, on broker: isolated Broker, now: Int64) -> Int {
        let queueName = broker.name(of: deadTask.queue)
        guard let courier = courier(queueName) else { return 0 }
        let push = PushOptions(stored: broker.push(of: deadTask.queue), of: .queue)
        var trace = TraceContext()
        let found = broker.withTask(id: deadTask.task, now: now) { task in
            trace = task.trace
            return courier.deadLetterNotification(for: task, in: queueName, push: push)
        }
        guard case let notification?? = found else { return 0 }
        let content = notification.content
        var request = PushOptions()
        request.url = notification.url
        request.method = Array("POST".utf8)
        request.isNotice = true
        let options = TaskOptions()
        request.write(isMasked: false, to: &options.request)
        options.isNotice = true
        options.trace = trace
        // The queue's retry limit is meant for its own tasks; a notification is retried until it expires.
        options.retryLimit = .unlimited
        options.backoff = notification.backoff
        let task = NewTask(id: makeID(now), content: 0..<content.count, options: options)
        // This fails only if there is no room for any task at all.
        _ = try? broker.enqueue(task, content: content.span, in: deadTask.queue, isLimited: false, now: now)
        return content.count
    }
}
