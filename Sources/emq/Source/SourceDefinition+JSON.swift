// A source as JSON: reading it from a request or a setting, and writing it.

import AMQP
import JSON
import Queues

extension SourceDefinition {
    /// The members of a request, in the order in which they are shown.
    static let members: [StaticString] = ["amqp", "queue", "into", "prefetch", "unique_for"]

    /// Reads a definition.
    ///
    /// - Parameters:
    ///   - bytes: a JSON object.
    ///   - members: has scanned it.
    ///   - prefetch: the prefetch, if it does not say one.
    ///   - isStored: whether it was written by `stored`, so that it may say `paused`.
    /// - Throws: 400 for a member that is missing, unknown or invalid.
    init(
        _ bytes: Span<UInt8>, scannedBy members: borrowing Members, prefetch: Int, isStored: Bool = false
    ) throws(Problem) {
        var (url, queue, into): (AMQPURL?, [UInt8]?, [UInt8]?)
        var (prefetch, uniqueFor, isPaused) = (prefetch, Self.usualUniqueForMilliseconds, false)
        try members.forEach(in: bytes, known: Self.members + (isStored ? ["paused"] : [])) {
            (place, value) throws(Problem) in
            switch place {
            case 0: url = try value.amqpURL()
            case 1: queue = try value.string(maximumBytes: 255)
            case 2: into = try FieldType.queueName.read(value, 0)
            case 3: prefetch = Int(try value.integer(Self.prefetches))
            case 4: uniqueFor = try value.duration()
            default: isPaused = try value.boolean()
            }
        }
        guard let url else {
            throw Problem(
                .missingField,
                "amqp is missing: the URL of the RabbitMQ, such as amqp://user:password@rabbit.example.com/",
                field: "amqp")
        }
        guard let queue else { throw Problem(.missingField, "queue is missing: the queue in RabbitMQ", field: "queue") }
        // The names of RabbitMQ's queues are almost as free as those of emq's.
        if into == nil, let flaw = QueueName.flaw(in: queue.span) {
            throw Problem(.missingField, "into is missing, and cannot be the same as queue: \(flaw)", field: "into")
        }
        self.init(
            url: url, queue: queue, into: into ?? queue, prefetch: prefetch, uniqueForMilliseconds: uniqueFor,
            isPaused: isPaused)
    }

    /// Takes the password from the definition before if it is masked. A password stays with its user, host and port:
    /// otherwise somebody who can define sources but not see the password could have it sent elsewhere.
    ///
    /// - Throws: 400.
    mutating func keepMaskedPassword(of before: SourceDefinition?) throws(Problem) {
        guard url.password == AMQPURL.mask else { return }
        guard let before else {
            throw Problem(
                .maskedSecret, "*** keeps the current password, but there is no such source yet", field: "amqp")
        }
        let (old, new) = (before.url, url)
        guard
            old.host == new.host, old.port == new.port, old.isSecure == new.isSecure, old.user == new.user
        else {
            throw Problem(
                .maskedSecret,
                "*** does not keep the password for another user, host or port, nor for another scheme; give the "
                    + "password again", field: "amqp")
        }
        url.password = old.password
    }

    /// The definition as it is stored: JSON with the password.
    var stored: [UInt8] {
        var json: [UInt8] = [UInt8(ascii: "{")]
        writeMembers(isMasked: false, to: &json)
        json += (isPaused ? ",\"paused\":true}" : "}").utf8
        return json
    }

    /// Reads what `stored` wrote; nil if that is impossible.
    init?(stored json: [UInt8]) {
        var members = Members()
        do throws(Problem) {
            try members.read(json.span, kind: .object)
            try self.init(json.span, scannedBy: members, prefetch: Self.usualPrefetch, isStored: true)
        } catch {
            return nil
        }
    }

    /// Appends the members of an object, without its braces. O(size).
    ///
    /// - Parameters:
    ///   - isMasked: whether to write `***` in place of the password.
    ///   - output: receives them.
    func writeMembers(isMasked: Bool, to output: inout (some JSONOutput & ~Copyable)) {
        output.append("\"amqp\":")
        JSONWriter.writeString(Array((isMasked ? url.masked : url.stored).utf8).span, to: &output)
        output.append(",\"queue\":")
        JSONWriter.writeString(queue.span, to: &output)
        output.append(",\"into\":")
        JSONWriter.writeString(into.span, to: &output)
        output.append(",\"prefetch\":")
        JSONWriter.writeInteger(Int64(prefetch), to: &output)
        output.append(",\"unique_for\":")
        JSONWriter.writeSeconds(milliseconds: uniqueForMilliseconds, to: &output)
    }
}

extension FieldValue {
    /// The URL of a RabbitMQ.
    fileprivate func amqpURL() throws(Problem) -> AMQPURL {
        let text = try string(maximumBytes: AMQPURL.maximumLength)
        let url: AMQPURL
        do throws(AMQPURLError) { url = try AMQPURL(text.span) } catch {
            throw Problem(.invalidField, "\(name): \(error)", field: "\(name)")
        }
        // It must be possible to read it again.
        guard url.stored.utf8.count <= AMQPURL.maximumLength else {
            throw Problem(
                .invalidField, "\(name) is longer than \(AMQPURL.maximumLength) bytes when it is percent-encoded",
                field: "\(name)")
        }
        return url
    }
}

extension SourceStatus {
    /// Appends the members of an object, without its braces.
    func writeMembers(to output: inout (some JSONOutput & ~Copyable)) {
        output.append("\"state\":\"")
        output.append(Array(state.rawValue.utf8).span)
        output.append("\",\"lag\":")
        if let lag { JSONWriter.writeInteger(Int64(lag), to: &output) } else { output.append("null") }
        output.append(",\"unacknowledged\":")
        JSONWriter.writeInteger(Int64(unacknowledged), to: &output)
        output.append(",\"messages\":")
        JSONWriter.writeInteger(Int64(clamping: messages), to: &output)
        output.append(",\"duplicates\":")
        JSONWriter.writeInteger(Int64(clamping: duplicates), to: &output)
        output.append(",\"last_error\":")
        if let lastError { JSONWriter.write(lastError, to: &output) } else { output.append("null") }
        output.append(",\"last_error_at\":")
        if let lastErrorTime {
            JSONWriter.writeSeconds(milliseconds: lastErrorTime, to: &output)
        } else {
            output.append("null")
        }
    }
}
