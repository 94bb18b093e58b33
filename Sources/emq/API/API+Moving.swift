// Moving tasks that a request names.

import Net
import Queues
import UID

extension API {
    /// `POST /move/`
    static func moveTasks(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try api.readTasks(request, &context)
        let target = try api.moveTarget(context.caller)
        // All of them, before the first task moves.
        for (index, reference) in api.references.enumerated() where context.covers(reference.task.id, on: broker) {
            let names = broker.withTask(id: reference.task.id, now: context.now) {
                (queue: Array(copying: $0.queueName), origin: $0.origin)
            }
            guard let names else { continue }
            do throws(Problem) {
                try checkMove(from: names.queue.span, to: target.span)
                try context.checkContent(from: names.queue.span, to: target.span, on: broker)
                if !names.origin.isEmpty {
                    try context.checkContent(from: names.origin.span, to: target.span, on: broker)
                }
            } catch {
                throw error.inside("ids[\(index)]")
            }
        }
        try context.gate.admit(
            api.cost, count: api.references.count,
            writtenBytes: context.gate.writtenBytes(of: api.references, on: broker), on: broker)
        if !broker.isQueueInUse(named: target.span) { try context.gate.admit(.names, on: broker) }
        let destination = try broker.requireQueue(named: target.span)
        var counts: [[UInt8]: Int] = [:]
        api.finish(request.body, &responses, context, begin: "{\"moved\":", on: broker) {
            let name = broker.queueName(of: $0.task.id, now: context.now) ?? []
            guard broker.move($0.task.id, to: destination, now: context.now) else { return false }
            counts[name, default: 0] += 1
            return true
        }
        context.audit?.add(.text("to", target))
        context.logAudit(of: counts)
        return .answered
    }

    /// The queue to which the query wants tasks to move.
    ///
    /// - Throws: 400 for a wrong name, 403 if the sender may not change that queue.
    func moveTarget(_ caller: Caller) throws(Problem) -> [UInt8] {
        guard let to = query["to"] else {
            let path = name.isEmpty ? "/move/" : "/move/NAME"
            throw Problem(.missingParameter, "name the target queue: \(path)?to=OTHER", field: "to")
        }
        let target = Array(to.utf8)
        if let flaw = QueueName.flaw(in: target.span) { throw Problem(.invalidParameter, flaw, field: "to") }
        do throws(Problem) { try caller.check(.manage, in: target.span) } catch { throw error.inside("to") }
        return target
    }

    /// - Throws: 403 if tasks of one queue cannot move to another.
    static func checkMove(from source: Span<UInt8>, to target: Span<UInt8>) throws(Problem) {
        // From another system's queue, a task would be sent in a form that its receiver does not know.
        guard LegacySystem(of: source) == LegacySystem(of: target) else {
            throw Problem(
                .queueReserved,
                "a legacy system's tasks can move only between its own queues, and no other tasks can move there")
        }
    }
}

extension Broker {
    /// The name of a task's queue; nil if there is no such task.
    func queueName(of id: UID, now: Int64) -> [UInt8]? {
        withTask(id: id, now: now) { Array(copying: $0.queueName) }
    }
}
