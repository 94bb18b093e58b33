// Images: their bytes, that no field is missing, and that fields of newer programs are refused.

import Bytes
import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct ImageTests {
    // MARK: Every field

    /// Compares what was written with what was read, field by field.
    ///
    /// - Parameters:
    ///   - value: what was written; no field has its default value.
    ///   - read: what was read.
    ///   - plain: a value with all the defaults.
    ///   - omitted: the fields that are not written, because they refer to this process's memory, or that the test
    ///     compares itself.
    private func expectAllFields<Value>(of value: Value, in read: Value, unlike plain: Value, but omitted: Set<String>)
    {
        let (others, defaults) = (Mirror(reflecting: read).children, Mirror(reflecting: plain).children)
        for ((child, other), plain) in zip(zip(Mirror(reflecting: value).children, others), defaults) {
            guard let label = child.label, !omitted.contains(label) else { continue }
            let name = "\(Value.self).\(label)"
            #expect("\(child.value)" != "\(plain.value)", "give \(name) a value in this test that is not its default")
            #expect("\(child.value)" == "\(other.value)", "\(name) is not written: have code() in Images.swift do that")
        }
    }

    private let backoff = Backoff(
        minimumMilliseconds: 1, maximumMilliseconds: 2, maximumDoublings: 3, jitter: 0.25)

    /// Writes with the first closure, and reads with the second.
    private func roundTrip(
        _ write: (inout ImageWriter) -> Void, _ read: (inout ImageReader) throws -> Void
    ) throws {
        var writer = ImageWriter()
        writer.beginFields()
        write(&writer)
        writer.endFields(of: "a test")
        var reader = ImageReader(writer.span)
        try reader.beginFields()
        try read(&reader)
        try reader.endFields(of: "a test")
        #expect(reader.readCount == writer.count)
    }

    @Test func everyFieldOfATaskIsWritten() throws {
        var record = TaskRecord()
        (record.idHigh, record.idLow, record.state) = (1, 2, .dispatched)
        record.isPushed = true
        (record.enqueued, record.expires, record.lifetimeMilliseconds) = (3, 4, 5)
        (record.dispatched, record.until, record.leaseMilliseconds) = (6, 7, 8)
        (record.token, record.attempt, record.retries, record.priority) = (.max, 9, 10, -11)
        var (written, read, position) = (record, TaskRecord(), Int64(-12))
        var writer = ImageWriter()
        written.code(&writer, position: &position)
        writer.endFields(of: "a task")
        var reader = ImageReader(writer.span)
        position = 0
        try read.code(&reader, position: &position)
        try reader.endFields(of: "a task")
        #expect(position == -12 && read.isPushed)
        // The content and the extras are written separately, and the queue by its name.
        expectAllFields(
            of: record, in: read, unlike: TaskRecord(),
            but: ["content", "queue", "chained", "links", "extras", "timerBucketAndPush"])
    }

    @Test func everyFieldOfExtrasIsWritten() throws {
        let extras = TaskExtras(task: 0)
        (extras.key, extras.holdsKey, extras.options.uniqueUntil) = ([1], true, 1)
        (extras.options.retryLimit, extras.options.backoff) = (.limited(2), backoff)
        (extras.options.keepMilliseconds, extras.options.metadata, extras.options.request) = (3, [2], [3])
        (extras.leaseMilliseconds, extras.worker, extras.error, extras.progress) = (4, [4], [5], [6])
        (extras.result, extras.origin, extras.died, extras.hasLapsed) = ([7], [8], 9, true)
        (extras.log, extras.options.crashLimit, extras.crashes) = ([10], .limited(11), 12)
        extras.trace = trace("a")
        let attempt = TaskAttempt(number: 1, dispatched: 2, ended: 3, outcome: .released, worker: [4])
        AttemptLog.append(attempt, error: [5, 6].span, to: &extras.attempts)
        let replacement = Replacement()
        var heap = ContentHeap(addressBytes: 1 << 20)
        (replacement.leaseMilliseconds, replacement.priority, replacement.due) = (5, -6, 7)
        (replacement.enqueued, replacement.content) = (8, heap.allocate(copying: [9, 9].span) ?? Content())
        let options = TaskOptions()
        (options.uniqueForMilliseconds, options.retryLimit, options.backoff) = (9, .unlimited, backoff)
        (options.keepMilliseconds, options.metadata, options.request) = (0, [10], [11])
        (options.trace, options.crashLimit) = (trace("b"), .limited(12))
        (replacement.options, extras.replacement) = (options, replacement)
        let read = TaskExtras(task: 0)
        var isSame = false
        try roundTrip({ extras.code(&$0, withMetadata: true) }) {
            try read.code(&$0, withMetadata: true)
            // The content lies in the bytes that are read.
            isSame = read.replacement?.content.span.equals(replacement.content.span) ?? false
        }
        expectAllFields(
            of: extras, in: read, unlike: TaskExtras(task: 0),
            but: ["task", "keyGroup", "keyGroupLinks", "options", "waiters", "replacement", "hasUnreadLog"])
        expectAllFields(of: extras.options, in: read.options, unlike: TaskExtras.Options(), but: [])
        let other = try #require(read.replacement)
        expectAllFields(of: replacement, in: other, unlike: Replacement(), but: ["content", "options"])
        #expect(isSame)
        heap.deallocate(replacement.content)
        // The replacement has the key of the task that it replaces.
        expectAllFields(
            of: options, in: try #require(other.options), unlike: TaskOptions(), but: ["key", "onConflict", "isNotice"])
    }

    /// Programs that do not know this kind of lease find a field that they do not know, and name a newer version.
    @Test func aLeaseWithoutLengthHasAFieldOfItsOwn() throws {
        var record = TaskRecord()
        (record.state, record.leaseMilliseconds) = (.ready, TaskRecord.noLease)
        var (written, read, position) = (record, TaskRecord(), Int64(0))
        var writer = ImageWriter()
        written.code(&writer, position: &position)
        writer.endFields(of: "a task")
        #expect(Array(copying: writer.span).suffix(4) == [13, 1, 1, 0])
        var reader = ImageReader(writer.span)
        try read.code(&reader, position: &position)
        #expect(read.leaseMilliseconds == TaskRecord.noLease)

        let (replacement, other) = (Replacement(), Replacement())
        replacement.leaseMilliseconds = TaskRecord.noLease
        try roundTrip({ replacement.code(&$0) }, { try other.code(&$0) })
        #expect(replacement.leaseMilliseconds == TaskRecord.noLease)
        #expect(other.leaseMilliseconds == TaskRecord.noLease)
        #expect(other.options == nil)
    }

    private func trace(_ requestID: String) -> TraceContext {
        let parent = Array("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".utf8)
        return TraceContext(requestID: Array(requestID.utf8).span, traceparent: parent.span)
    }

    /// Programs that do not know trace contexts find fields that they do not know, and name a newer version. What could
    /// not be sent in a header is not read.
    @Test func aTraceContextHasFieldsOfItsOwn() throws {
        let extras = TaskExtras(task: 0)
        extras.trace = trace("abc")
        var writer = ImageWriter()
        writer.beginFields()
        extras.code(&writer, withMetadata: true)
        writer.endFields(of: "a test")
        let bytes = Array(copying: writer.span)
        #expect(bytes.prefix(7) == [51, 3, 97, 98, 99, 52, 55] && bytes.count == 63)
        var state = ImageWriter()
        extras.code(&state, withMetadata: false)
        #expect(state.count == 0)
        for (place, byte) in [(2, 0x20), (3, 0x0D), (4, 0x22), (7, 0x66), (9, 0x0A), (61, 0x41)] as [(Int, UInt8)] {
            var damaged = bytes
            damaged[place] = byte
            if place == 7 { damaged[8] = byte }
            #expect(throws: ImageError.self, "byte \(place)") {
                var reader = ImageReader(damaged.span)
                try reader.beginFields()
                try TaskExtras(task: 0).code(&reader, withMetadata: true)
            }
        }
    }

    @Test func everyFieldOfAConfigurationIsWritten() throws {
        var configuration = QueueConfiguration()
        (configuration.leaseMilliseconds, configuration.expiry) = (1, .after(milliseconds: 2))
        (configuration.maximumRetries, configuration.backoff, configuration.keepMilliseconds) = (3, backoff, 4)
        (configuration.priority, configuration.maximumLength, configuration.deadLetter) = (-5, 6, [7])
        (configuration.deadExpiryMilliseconds, configuration.isExpiryDeath) = (8, true)
        (configuration.push, configuration.isPushed, configuration.builtIn) = ([9], true, .all)
        (configuration.showsContent, configuration.maximumCrashes) = (true, 10)
        var (written, read) = (configuration, QueueConfiguration())
        try roundTrip({ written.code(&$0) }, { try read.code(&$0) })
        expectAllFields(of: configuration, in: read, unlike: QueueConfiguration(), but: [])
        #expect(read == configuration)
    }

    @Test func everyFieldOfASweepIsWritten() throws {
        var image = SweepImage()
        (image.queue, image.action, image.target, image.states) = ([1], 3, [2], 255)
        (image.rest, image.begun, image.firstPosition, image.endPosition) = (4, 5, -6, 7)
        var filter = TaskFilter(time: 8)
        (filter.error, filter.errorPattern) = ([9], GlobPattern([10].span))
        (filter.olderThanMilliseconds, filter.newerThanMilliseconds) = (11, 12)
        image.filter = filter
        var (written, read) = (image, SweepImage())
        var writer = ImageWriter()
        written.code(&writer)
        var reader = ImageReader(writer.span)
        try read.code(&reader)
        expectAllFields(of: image, in: read, unlike: SweepImage(), but: [])
        #expect(read.filter == filter)
    }

    /// An empty error and an empty pattern select something else than none.
    @Test(arguments: [[], nil] as [[UInt8]?], [[], nil] as [[UInt8]?])
    func everyPartOfAFilterIsWrittenAlone(error: [UInt8]?, pattern: [UInt8]?) throws {
        var image = SweepImage()
        (image.queue, image.rest, image.filter) = ([1], 1, TaskFilter(time: 0))
        image.filter?.error = error
        image.filter?.errorPattern = pattern.flatMap { GlobPattern($0.span) }
        var (written, read) = (image, SweepImage())
        var writer = ImageWriter()
        written.code(&writer)
        var reader = ImageReader(writer.span)
        try read.code(&reader)
        #expect(read.filter == image.filter)
    }

    @Test func everyFieldOfASettingIsWritten() throws {
        let image = SettingImage(name: [1], value: [2])
        var (written, read) = (image, SettingImage())
        var writer = ImageWriter()
        written.code(&writer)
        var reader = ImageReader(writer.span)
        try read.code(&reader)
        expectAllFields(of: image, in: read, unlike: SettingImage(), but: [])
    }

    // MARK: Bytes

    private func frames(_ body: (isolated Broker) throws -> Void) throws -> [[UInt8]] {
        nonisolated(unsafe) var frames: [[UInt8]] = []
        nonisolated(unsafe) let body = body
        try withBroker { broker in
            broker.beginRestoring()
            while !broker.finishRestoring(nextSequence: 1, now: 0, graceMilliseconds: 0) {}
            try body(broker)
            broker.writeChanges { payload, _ in frames.append(Array(copying: payload)) }
        }
        return frames
    }

    private func restore(_ payload: [UInt8]) throws {
        try withBroker { broker in
            broker.beginRestoring()
            try broker.restore(payload.span, sequence: 1)
            while !broker.finishRestoring(nextSequence: 2, now: 0, graceMilliseconds: 0) {}
        }
    }

    /// Options that a task does not set take no bytes.
    @Test func theImageOfAUsualTaskIsAsDocumented() throws {
        let id: [UInt8] = [1, 2, 3, 4, 5, 6, 0x77, 8, 9, 10, 11, 12, 13, 14, 15, 16]
        let found = try frames { broker in
            let high = id[..<8].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            let low = id[8...].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            let uid = UID(high: high, low: low)
            let content = Array("true".utf8)
            let task = NewTask(id: uid, content: 0..<4)
            _ = try broker.enqueue(
                task, content: content.span, in: broker.queue("mail"), now: Int64(uid.unixMilliseconds))
        }
        let image = Array("T\u{4}mail".utf8) + id + [1, 1, 1] + [255, 4] + Array("true".utf8) + [0]
        #expect(found == [image])
    }

    @Test func numbersTakeOnlyTheBytesThatTheyNeed() throws {
        let numbers: [Int64] = [1, -1, 127, 128, -128, -129, 32767, 32768, 1 << 39 - 1, 1 << 55, .max, .min]
        for (number, size) in zip(numbers, [1, 1, 1, 2, 1, 2, 2, 3, 5, 8, 8, 8]) {
            var writer = ImageWriter()
            var (written, read) = (number, Int64(0))
            writer.code(5, &written, default: 0)
            writer.endFields(of: "a test")
            #expect(writer.count == 2 + size + 1, "\(number)")
            var reader = ImageReader(writer.span)
            try reader.beginFields()
            try reader.code(5, &read, default: 0)
            #expect(read == number)
            // A number too large for its field is an error; it is not truncated.
            var narrow: Int8 = 0
            var again = ImageReader(writer.span)
            try again.beginFields()
            let isWide = Int8(exactly: number) == nil
            do throws(ImageError) {
                try again.code(5, &narrow, default: 0)
                #expect(!isWide && narrow == Int8(number))
            } catch {
                #expect(isWide)
            }
        }
    }

    /// An unknown field, an unknown kind of image, and a known field in the wrong image.
    @Test func unknownFieldsAreRefusedByNumber() throws {
        let found = try frames { broker in try broker.add(1, to: "a") }
        let payload = try #require(found.first)
        try restore(payload)
        let end = payload.count - 1
        for (field, place) in [(200, end - 3), (14, end - 3), (1, end)] as [(UInt8, Int)] {
            var newer = payload
            newer.insert(contentsOf: [field, 1, 1], at: place)
            let error = #expect(throws: ImageError.self) { try restore(newer) }
            #expect(
                error?.isNewer == true && error?.problem.contains("the field \(field)") == true,
                "\(String(describing: error))")
        }
        let error = #expect(throws: ImageError.self) { try restore(payload + [0x58, 0]) }
        #expect(error?.isNewer == true && error?.problem.contains("88") == true)
    }

    /// A purge in progress, as version 2 of the journal stores it.
    @Test func aSweepOfVersion2Continues() throws {
        func bytes(_ number: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) } }
        let sweep: [UInt8] =
            [5, 1, 1, 0, 0, 0, 97, 0, 0, 0, 0, 0, 0b10] + bytes(10) + bytes(5) + bytes(1) + bytes(3)
        let tasks = try frames { broker in for number: UInt64 in 1...3 { try broker.add(number, to: "a") } }
        try withBroker { broker in
            broker.beginRestoring()
            for payload in tasks { try broker.restore(payload.span, sequence: 1) }
            try broker.restore(sweep.span, sequence: 2)
            while !broker.finishRestoring(nextSequence: 3, now: 0, graceMilliseconds: 0) {}
            broker.advanceFully(to: 0)
            #expect(try broker.peek("a") == [3])
        }
    }
}
