// How answers show a task.

import Bytes
import JSON
import Net
import Queues
import UID

/// How much of a task an answer shows.
struct TaskDetail {
    /// The longest content, metadata, request, progress, result and log that are shown whole, in bytes. Of a longer
    /// one, its size and its beginning are shown; of a longer log, its size and its end.
    var maximumBytes = Int.max
    /// Whether the content is hidden, and with it the metadata, the request, the progress, the result and the log.
    var hidesContent = false
}

/// Writes tasks as JSON.
enum TaskWriter {
    /// The task as workers receive it.
    static func writeDispatched(_ task: borrowing TaskView, to responses: inout (some JSONOutput & ~Copyable)) {
        let id = task.id.text
        writeCommon(task, id: id.span, TaskDetail(), to: &responses)
        responses.append(",\"retry\":")
        JSONWriter.writeSeconds(milliseconds: task.leaseMilliseconds, to: &responses)
        if task.hasOptionalParts { writeText(",\"key\":", task.key, to: &responses) }
        responses.append(",\"receipt\":\"")
        responses.append(id.span)
        responses.append("@")
        let token = Receipt.text(ofToken: task.token)
        responses.append(token.span)
        responses.append("\"}")
    }

    /// The task as a peek lists it.
    static func writeListed(
        _ task: borrowing TaskView, _ detail: TaskDetail, isSending: Bool,
        to responses: inout (some JSONOutput & ~Copyable)
    ) {
        let id = task.id.text
        writeCommon(task, id: id.span, detail, to: &responses)
        writeState(task, to: &responses)
        writeText(",\"worker\":", task.worker, to: &responses)
        writeError(task, isSending: isSending, to: &responses)
        writeText(",\"origin\":", task.origin, to: &responses)
        responses.append("}")
    }

    /// The task with all details.
    static func writeWhole(
        _ task: borrowing TaskView, _ detail: TaskDetail = TaskDetail(), isSending: Bool,
        to responses: inout (some JSONOutput & ~Copyable)
    ) {
        let id = task.id.text
        writeCommon(task, id: id.span, detail, to: &responses)
        writeState(task, to: &responses)
        for field in TaskField.all {
            guard let shown = field.shown, !(detail.hidesContent && field.isContent),
                let value = shown.value(task)
            else { continue }
            if case .json(let json) = value {
                writeJSON(shown.name, json.span, detail, to: &responses)
            } else {
                value.write(shown.name, isFirst: false, to: &responses)
            }
        }
        responses.append(",\"retries\":")
        JSONWriter.writeInteger(Int64(task.retries), to: &responses)
        if task.crashes > 0 {
            responses.append(",\"crashes\":")
            JSONWriter.writeInteger(Int64(task.crashes), to: &responses)
        }
        writeText(",\"worker\":", task.worker, to: &responses)
        writeError(task, isSending: isSending, to: &responses)
        writeText(",\"origin\":", task.origin, to: &responses)
        if !detail.hidesContent {
            let (progress, result) = (task.progress, task.result)
            writeJSON("progress", progress.span, detail, to: &responses)
            writeJSON("result", result.span, detail, to: &responses)
            writeLog(task.log, detail, to: &responses)
        }
        write(task.attempts, to: &responses)
        responses.append("}")
    }

    /// The task as a search lists it.
    static func writeFound(_ task: borrowing TaskView, to responses: inout (some JSONOutput & ~Copyable)) {
        let id = task.id.text
        responses.append("{\"id\":\"")
        responses.append(id.span)
        responses.append("\",\"queue\":")
        JSONWriter.writeString(task.queueName, to: &responses)
        responses.append(",\"state\":\"")
        responses.append(task.state.name)
        responses.append("\"")
        writeText(",\"key\":", task.key, to: &responses)
        writeTime(",\"enqueued\":", task.enqueued, to: &responses)
        responses.append("}")
    }

    /// A key that is still reserved after its task is gone.
    static func writeKeptKey(
        _ key: [UInt8], _ holder: KeyHolder, in queue: Span<UInt8>,
        to responses: inout (some JSONOutput & ~Copyable)
    ) {
        responses.append("{\"key\":")
        JSONWriter.writeString(key.span, to: &responses)
        responses.append(",\"queue\":")
        JSONWriter.writeString(queue, to: &responses)
        responses.append(",\"id\":\"")
        let id = holder.task.text
        responses.append(id.span)
        responses.append("\"")
        writeTime(",\"since\":", holder.since, to: &responses)
        writeTime(",\"until\":", holder.until, to: &responses)
        responses.append("}")
    }

    private static func write(_ attempts: [TaskAttempt], to responses: inout (some JSONOutput & ~Copyable)) {
        if attempts.isEmpty { return }
        for (index, attempt) in attempts.enumerated() {
            responses.append(index == 0 ? ",\"attempts\":[{\"attempt\":" : ",{\"attempt\":")
            JSONWriter.writeInteger(attempt.number, to: &responses)
            writeTime(",\"dispatched\":", attempt.dispatched, to: &responses)
            writeTime(",\"ended\":", attempt.ended, to: &responses)
            writeText(",\"worker\":", attempt.worker, to: &responses)
            if let outcome = attempt.outcome {
                responses.append(",\"outcome\":\"")
                responses.append(outcome.name)
                responses.append("\"")
            }
            writeText(",\"error\":", attempt.error, to: &responses)
            responses.append("}")
        }
        responses.append("]")
    }

    private static func writeError(
        _ task: borrowing TaskView, isSending: Bool, to responses: inout (some JSONOutput & ~Copyable)
    ) {
        let isStuck = task.isToBeSent && !isSending
        let reason =
            "this server was started without --push or a legacy system's option, so it does not send this task; it waits "
            + "for a server that does"
        writeText(",\"error\":", isStuck ? Array(reason.utf8) : task.error, to: &responses)
    }

    private static func writeState(_ task: borrowing TaskView, to responses: inout (some JSONOutput & ~Copyable)) {
        responses.append(",\"state\":\"")
        responses.append(task.state.name)
        responses.append("\"")
        writeTime(",\"enqueued\":", task.enqueued, to: &responses)
        writeTime(",\"due\":", task.due, to: &responses)
        writeTime(",\"dispatched\":", task.dispatched, to: &responses)
        writeTime(",\"lease_end\":", task.leaseEnd, to: &responses)
        writeTime(",\"expires\":", task.expires, to: &responses)
        writeTime(",\"finished\":", task.finished, to: &responses)
        writeTime(",\"died\":", task.died, to: &responses)
    }

    private static func writeCommon(
        _ task: borrowing TaskView, id: Span<UInt8>, _ detail: TaskDetail,
        to responses: inout (some JSONOutput & ~Copyable)
    ) {
        responses.append("{\"id\":\"")
        responses.append(id)
        responses.append("\",\"queue\":")
        JSONWriter.writeString(task.queueName, to: &responses)
        if detail.hidesContent {
            responses.append(",\"content_hidden\":true")
        } else if task.content.count <= detail.maximumBytes, !task.content.isEmpty {
            responses.append(",\"content\":")
            responses.append(task.content)
        } else {
            writeJSON("content", task.content, detail, to: &responses)
        }
        responses.append(",\"attempt\":")
        JSONWriter.writeInteger(Int64(task.attempt), to: &responses)
        if !task.hasOptionalParts { return }
        if !detail.hidesContent {
            let metadata = task.metadata
            writeJSON("metadata", metadata.span, detail, to: &responses)
        }
        let trace = task.trace
        if trace.isEmpty { return }
        writeText(",\"request_id\":", trace.requestID, to: &responses)
        writeText(",\"traceparent\":", trace.traceparent, to: &responses)
    }

    // These write nothing for an absent value.

    private static func writeTime(
        _ member: StaticString, _ milliseconds: Int64?, to responses: inout (some JSONOutput & ~Copyable)
    ) {
        guard let milliseconds else { return }
        responses.append(member)
        JSONWriter.writeSeconds(milliseconds: milliseconds, to: &responses)
    }

    private static func writeText(
        _ member: StaticString, _ text: [UInt8], to responses: inout (some JSONOutput & ~Copyable)
    ) {
        if text.isEmpty { return }
        responses.append(member)
        JSONWriter.writeString(text.span, to: &responses)
    }

    /// Of a log, the end says the most.
    private static func writeLog(
        _ log: [UInt8], _ detail: TaskDetail, to responses: inout (some JSONOutput & ~Copyable)
    ) {
        if log.count <= detail.maximumBytes { return writeText(",\"log\":", log, to: &responses) }
        responses.append(",\"log_bytes\":")
        JSONWriter.writeInteger(Int64(log.count), to: &responses)
        responses.append(",\"log_end\":")
        JSONWriter.writeString(log.characters(ofLast: detail.maximumBytes).span, to: &responses)
    }

    private static func writeJSON(
        _ name: StaticString, _ json: Span<UInt8>, _ detail: TaskDetail,
        to responses: inout (some JSONOutput & ~Copyable)
    ) {
        if json.isEmpty { return }
        responses.append(",\"")
        responses.append(name)
        if json.count <= detail.maximumBytes {
            responses.append("\":")
            responses.append(json)
            return
        }
        responses.append("_bytes\":")
        JSONWriter.writeInteger(Int64(json.count), to: &responses)
        responses.append(",\"")
        responses.append(name)
        responses.append("_start\":")
        JSONWriter.writeString(
            json.extracting(first: json.characterBoundary(atMost: detail.maximumBytes)), to: &responses)
    }
}

extension [UInt8] {
    /// The last `count` bytes of a text in UTF-8, or up to three fewer, so that they begin with a whole character.
    func characters(ofLast count: Int) -> ArraySlice<UInt8> {
        suffix(count).drop { $0 & 0b1100_0000 == 0b1000_0000 }
    }
}

extension TaskState {
    /// The state as the interface calls it.
    var name: StaticString {
        switch self {
        case .ready: "ready"
        case .delayed: "delayed"
        case .dispatched: "dispatched"
        case .dead: "dead"
        case .done: "done"
        case .cancelled: "cancelled"
        case .expired: "expired"
        }
    }

    /// All states by their names.
    static let named = Dictionary(uniqueKeysWithValues: allCases.map { ("\($0.name)", $0) })
}

extension AttemptOutcome {
    /// The outcome as the interface calls it.
    var name: StaticString {
        switch self {
        case .failed: "failed"
        case .timedOut: "timed_out"
        case .released: "released"
        case .cancelled: "cancelled"
        case .expired: "expired"
        case .done: "done"
        }
    }
}
