// Lines of a file as tasks.

import Bytes
import JSON

/// Makes batches of tasks from lines.
struct TaskLines: ~Copyable {
    /// What a line is.
    enum Format {
        /// A text, which is the content.
        case text
        /// JSON, which is the content.
        case content
        /// A task, with the fields of an enqueue and those of its trace.
        case task
    }

    /// What there is to send.
    enum Supply {
        case batch(TaskBatch)
        /// Nothing yet: the pipe is empty.
        case nothingYet
        case end
    }

    /// The most fields of a task: more than there are.
    private static let maximumFields = 1000

    let format: Format
    /// The fields that all tasks get: members of an object, each after a comma.
    let fields: [UInt8]
    private var reader: LineReader
    private var scanner: JSONScanner
    /// The batch that is being made.
    private var draft = TaskBatch()
    /// The last line's task if it did not fit into the batch before.
    private var task: [UInt8] = []
    private var hasTask = false
    private var takesKey = true
    private var trace = TaskBatch.Trace()

    init(_ format: Format, fields: [UInt8], from reader: LineReader) {
        (self.format, self.fields, self.reader) = (format, fields, reader)
        scanner = JSONScanner(maximumEntries: format == .task ? Self.maximumFields : Self.pieceBytes)
        draft.start = reader.position
    }

    /// The end of the last line that was read.
    var position: LinePosition { reader.position }

    /// The next batch. Tasks with different traces are in different batches.
    ///
    /// - Parameters:
    ///   - maximumCount: the most tasks.
    ///   - lastLine: the number of the batch's last line, whatever its size; nil for one of the usual size.
    /// - Returns: the batch; or what there is instead.
    /// - Throws: `CommandFailure` about a line, with its number.
    mutating func next(maximumCount: Int, lastLine: Int?) throws(CommandFailure) -> Supply {
        while true {
            if hasTask {
                let isFull = draft.count >= maximumCount || draft.byteCount + task.count > TaskBatch.maximumBytes
                if !draft.isEmpty, trace != draft.trace || lastLine.map({ draft.end.line >= $0 }) ?? isFull {
                    return .batch(takeDraft())
                }
                if let lastLine { try checkRoom(until: lastLine) }
                draft.trace = trace
                let bytes = task
                draft.append(bytes.span, end: reader.position, takesKey: takesKey)
                hasTask = false
            }
            switch try reader.next() {
            case .line(let range): try read(range)
            case .nothingYet: return draft.isEmpty ? .nothingYet : .batch(takeDraft())
            case .end: return draft.isEmpty ? .end : .batch(takeDraft())
            }
        }
    }

    /// Checks that the last task fits into the batch, whatever the usual size.
    private func checkRoom(until lastLine: Int) throws(CommandFailure) {
        if draft.count < TaskBatch.serverMaximumCount,
            draft.byteCount + task.count + TaskBatch.envelopeBytes <= TaskBatch.maximumBodyBytes
        {
            return
        }
        throw CommandFailure(
            .failed,
            "an earlier command has sent lines \(draft.start.line + 1) to \(lastLine) in one request, which now has no "
                + "room for them; undo what you have changed in these lines")
    }

    private mutating func takeDraft() -> TaskBatch {
        let batch = draft
        draft = TaskBatch()
        draft.start = batch.end
        return batch
    }

    /// Makes a task of a line. Lines of blanks are left out, unless lines are texts.
    private mutating func read(_ range: Range<Int>) throws(CommandFailure) {
        task.removeAll(keepingCapacity: true)
        let buffer = reader.buffer
        switch format {
        case .text:
            let line = buffer.span.extracting(range)
            if (try? UTF8Span(validating: line)) == nil {
                throw failure("is not UTF-8; encode it first, such as with base64")
            }
            task += Self.contentStart
            JSONWriter.writeString(line, to: &task)
            endTask()
        case .content:
            guard let value = try scan(range) else { return }
            task += Self.contentStart
            task.append(buffer.span.extracting(value))
            endTask()
        case .task:
            guard let value = try scan(range) else { return }
            if scanner.kind != .object { throw failure("is no object, such as {\"content\": 1}") }
            try readFields(range, value)
        }
        if task.count + TaskBatch.envelopeBytes > TaskBatch.maximumBodyBytes {
            throw failure("makes a request of more than \(TaskBatch.maximumBodyBytes >> 20) MiB, the server's limit")
        }
        hasTask = true
    }

    private static let contentStart = Array("{\"content\":".utf8)

    private mutating func endTask() {
        task += fields
        task.append(UInt8(ascii: "}"))
    }

    /// How much is scanned at once, in bytes: an outline has no more entries.
    private static let pieceBytes = 65_536

    /// Checks that a line is JSON.
    ///
    /// - Returns: the range of the value in the buffer; nil if there are only blanks.
    private mutating func scan(_ range: Range<Int>) throws(CommandFailure) -> Range<Int>? {
        let buffer = reader.buffer
        let line = buffer.span.extracting(range)
        var isBlank = true
        for index in line.indices where ![0x20, 0x09, 0x0D].contains(line[index]) {
            isBlank = false
            break
        }
        if isBlank { return nil }
        scanner.reset()
        do throws(JSONError) {
            if format == .task {
                try scanner.consume(line)
            } else {
                var begin = 0
                while begin < line.count {
                    let end = min(begin + Self.pieceBytes, line.count)
                    try scanner.consume(line.extracting(begin..<end))
                    scanner.forgetEntries()
                    begin = end
                }
            }
            try scanner.finish()
        } catch {
            throw failure("is not JSON \(error)")
        }
        let value = scanner.value
        return range.lowerBound + value.lowerBound..<range.lowerBound + value.upperBound
    }

    /// Takes what is no field of an enqueue out of a task: its trace, which is sent in fields of the header.
    private mutating func readFields(_ line: Range<Int>, _ value: Range<Int>) throws(CommandFailure) {
        takesKey = true
        trace = TaskBatch.Trace()
        let buffer = reader.buffer
        let bytes = buffer.span
        /// A range of the line in the buffer.
        func inBuffer(_ range: Range<Int>) -> Range<Int> {
            line.lowerBound + range.lowerBound..<line.lowerBound + range.upperBound
        }
        var isWhole = true
        for index in 0..<scanner.entryCount {
            let entry = scanner.entry(index)
            let name = bytes.extracting(inBuffer(entry.name))
            if name.equals("request_id") {
                trace.requestID = try traceField("request_id", buffer[inBuffer(entry.value)])
                isWhole = false
            } else if name.equals("traceparent") {
                trace.traceparent = try traceField("traceparent", buffer[inBuffer(entry.value)])
                isWhole = false
            } else if entry.nameHasEscapes || name.equals("key") || name.equals("unique_for")
                || name.equals("on_conflict")
            {
                // A name with escapes may be any of these.
                takesKey = false
            }
        }
        if isWhole { return task.append(bytes.extracting(value)) }
        for index in 0..<scanner.entryCount {
            let entry = scanner.entry(index)
            let name = bytes.extracting(inBuffer(entry.name))
            if name.equals("request_id") || name.equals("traceparent") { continue }
            task.append(UInt8(ascii: task.isEmpty ? "{" : ","))
            task.append(UInt8(ascii: "\""))
            task.append(name)
            task += Array("\":".utf8)
            task.append(bytes.extracting(inBuffer(entry.value)))
        }
        if task.isEmpty { task.append(UInt8(ascii: "{")) }
        task.append(UInt8(ascii: "}"))
    }

    /// The value of a field of the header.
    private func traceField(_ name: String, _ value: ArraySlice<UInt8>) throws(CommandFailure) -> String {
        var decoded: [UInt8] = []
        guard value.count > 2, value.first == UInt8(ascii: "\""),
            JSONValue.decodeString(value.span, into: &decoded), decoded.count <= 128,
            decoded.allSatisfy({ 0x20 < $0 && $0 < 0x7F })
        else { throw failure("has a \(name) that is no text of up to 128 visible ASCII characters") }
        return String(decoding: decoded, as: UTF8.self)
    }

    private func failure(_ reason: String) -> CommandFailure {
        CommandFailure(.usage, "line \(reader.position.line) \(reason)")
    }
}
