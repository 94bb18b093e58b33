// The list of the requests that wait to be sent.

import Delivery
import JSON
import Net
import Queues
import UID

extension Htq {
    /// The most requests that are listed.
    private static let maximumListed = 1000

    /// Lists the requests that wait to be sent, the newest first.
    func list(
        _ links: HtqLinks, _ responses: inout ResponseStream, _ context: borrowing Context, on broker: isolated Broker
    ) throws(Problem) {
        begin(links: [("self", .all)], links, &responses)
        responses.append("[")
        var isFirst = true
        var isTooLarge = false
        for id in listed(now: context.now, on: broker) where !isTooLarge {
            broker.withTask(id: id, now: context.now) { task in
                guard context.gate.mayAnswer(responses, adding: task.content.count) else {
                    isTooLarge = true
                    return
                }
                if !isFirst { responses.append(", ") }
                isFirst = false
                HtqRequest.write(task, to: &responses)
                responses.append(", \"links\": ")
                links.write(of: id, to: &responses)
                responses.append("}")
            }
        }
        responses.append("]")
        if isTooLarge { throw .answerTooLarge }
        responses.end()
    }

    /// The requests that are listed. A cancelled one stays in the original's list until a worker comes to it: while all
    /// workers are busy, and no newer request has been sent.
    private func listed(now: Int64, on broker: isolated Broker) -> ArraySlice<UID> {
        guard let queue = queue(on: broker) else { return [] }
        var waiting: [UID] = []
        var unsent: [UID] = []
        var newestSent = UID(high: 0, low: 0)
        func look(at states: [TaskState], _ body: (borrowing TaskView) -> Void) {
            for state in states {
                broker.peekBackwards(queue, state: state, limit: Self.maximumListed, now: now) { task in
                    if isRequest(task) { body(task) }
                }
            }
        }
        look(at: [.ready, .delayed]) { waiting.append($0.id) }
        let statistics = broker.statistics(of: queue)
        let concurrency = PushOptions(stored: broker.push(of: queue), of: .queue).concurrency ?? workers
        if !waiting.isEmpty || statistics.isPaused || statistics.dispatched >= concurrency {
            look(at: [.cancelled, .dispatched, .done]) { task in
                if task.attempt > 0 { newestSent = max(newestSent, task.id) } else { unsent.append(task.id) }
            }
        }
        return (waiting + unsent.filter { $0 > newestSent }).sorted(by: >).prefix(Self.maximumListed)
    }
}
