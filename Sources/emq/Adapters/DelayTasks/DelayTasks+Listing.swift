// `GET /tasks`: all categories and their tasks, for people to read.

import Bytes
import Delivery
import Glibc
import JSON
import Net
import Queues

extension DelayTasks {
    /// The most tasks that are listed for a category.
    private static let maximumRows = 1000
    /// After this many bytes, the listing only counts the remaining categories: a task takes about 10 µs of the loop,
    /// and nobody reads thousands.
    private static let maximumListingBytes = 256 << 10

    /// Writes the whole answer. O(n log n) in the number of queues, and a bounded number of tasks.
    func writeListing(
        to responses: inout ResponseStream, _ context: borrowing Context, of broker: isolated Broker
    ) throws(Problem) {
        let now = context.now
        var listing = ""
        var omitted = 0
        broker.forEachQueueName { name in
            guard LegacySystem.delayTasks.owns(name), let queue = broker.existingQueue(named: name) else { return }
            if listing.utf8.count < Self.maximumListingBytes {
                list(queue, as: text(LegacySystem.delayTasks.part(of: name)), in: &listing, of: broker, now: now)
            } else {
                omitted += 1
            }
        }
        if omitted > 0 { listing += "… and \(count(omitted, "more category", "more categories"))\n" }
        if listing.isEmpty { listing = "no categories\n" }
        let bytes = Array(listing.utf8)
        responses.begin(status: 200, contentType: "text/plain; charset=utf-8")
        responses.beginBody(estimatedCount: bytes.count)
        responses.append(bytes.span)
        try context.gate.admitAnswer(responses)
        responses.end()
    }

    private func list(
        _ queue: QueueIndex, as category: String, in listing: inout String, of broker: isolated Broker, now: Int64
    ) {
        let registered = PushOptions(stored: broker.push(of: queue), of: .queue).url
        var rows: [(task: DelayTask, text: String)] = []
        var shown = 0
        for state in [TaskState.dispatched, .ready, .delayed] where shown < Self.maximumRows {
            broker.peek(queue, state: state, limit: Self.maximumRows - shown, now: now) { view in
                shown += 1
                guard let task = DelayTask(view) else { return }
                let handler = PushOptions(stored: view.request, of: .task).url ?? registered
                let standing = standing(of: view, hasHandler: handler != nil) + (task.isInAdvance ? " in advance" : "")
                rows.append((task, "key \(task.key)  \(standing)  \(handler?.description ?? "-")"))
            }
        }
        rows.sort { ($0.task.timestamp, $0.task.key) < ($1.task.timestamp, $1.task.key) }
        let statistics = broker.statistics(of: queue)
        let total = statistics.dispatched + statistics.ready + statistics.delayed
        let handler = registered.map { "handler \($0)" } ?? "no handler"
        listing += "\(category): \(count(total, "task", "tasks")), \(handler)\n"
        for row in rows {
            let timestamp = row.task.timestamp
            listing += "  \(Self.format(unixSeconds: timestamp)) (\(timestamp))  \(row.text)\n"
        }
        if total > shown { listing += "  … and \(count(total - shown, "more task", "more tasks"))\n" }
    }

    private func standing(of task: borrowing TaskView, hasHandler: Bool) -> String {
        if task.state == .dispatched { return "running" }
        if task.state == .ready, !hasHandler { return "no handler" }
        return task.retries > 0 ? "retrying" : "waiting"
    }

    private func count(_ number: Int, _ one: String, _ many: String) -> String {
        "\(number) \(number == 1 ? one : many)"
    }

    /// A time, in UTC.
    private static func format(unixSeconds: Int64) -> String {
        var seconds = time_t(unixSeconds)
        var parts = unsafe tm()
        var text = [CChar](repeating: 0, count: 40)
        guard unsafe gmtime_r(&seconds, &parts) != nil else { return "-" }
        let length = unsafe strftime(&text, text.count, "%Y-%m-%d %H:%M:%S UTC", &parts)
        return String(decoding: text[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
