// Journals that earlier versions have written (Golden/make). Every later version must read each of them and restore
// every field.

import Foundation
import Support
import Testing
import UID

@testable import Journal
@testable import Queues

@Suite(.blocking) struct GoldenTests {
    /// The versions of the journal, and the time at which to read each: right after it was made, in milliseconds.
    static let versions: [(version: UInt32, now: Int64)] = [(2, 1_795_876_557_174), (4, 1_795_882_142_517)]

    private static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden")

    /// A disk with the golden log of a version.
    private static func bytes(version: UInt32) throws -> [UInt8] {
        let bytes = try [UInt8](Data(contentsOf: folder.appending(path: "version\(version).log")))
        return bytes + [UInt8](repeating: 0, count: (1 << 20) - bytes.count)
    }

    /// Runs `body` in a broker with the contents of a directory, and closes the journal.
    private func open(
        _ directory: String, now: Int64, _ body: (isolated Broker, Journal) throws -> Void
    ) throws {
        let broker = Broker(executor: InlineExecutor(), firstToken: 1, now: now)
        nonisolated(unsafe) let body = body
        try broker.assumeIsolated { broker in
            broker.beginSending()
            let journal = try Journal(
                directory: directory, syncMode: .never, graceMilliseconds: 0, lockWaitMilliseconds: 3000, now: now)
            while try !journal.recover(broker, now: now) {}
            broker.checkInvariants()
            try body(broker, journal)
            while !journal.isSettled(broker) {
                journal.endTurn(of: broker, now: now)
                var state = pollfd(fd: journal.descriptor, events: Int16(POLLIN), revents: 0)
                _ = poll(&state, 1, 20)
                try journal.collect()
            }
            try journal.close()
        }
    }

    @Test(arguments: versions.indices) func whatEarlierVersionsWroteIsThere(index: Int) throws {
        let (version, now) = Self.versions[index]
        let directory = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: directory) }
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
        let first = directory.appending(path: Format.segmentName(1))
        try Data(Self.bytes(version: version)).write(to: first)
        let text = try String(contentsOf: Self.folder.appending(path: "version\(version).txt"), encoding: .utf8)
        nonisolated(unsafe) var expected = text.split(separator: "\n").map(String.init)
        try open(directory.path, now: now) { broker, _ in
            let found = description(of: broker)
            #expect(found == expected, "\(differences(found, expected))")
            // The log continues in this program's version.
            let (name, content) = (Array("new".utf8), Array("1".utf8))
            let id = UID(high: UInt64(now) << 16, low: 1)
            try broker.enqueue(id: id, in: broker.queue(named: name.span), content: content.span, now: now)
            expected = description(of: broker)
        }
        try open(directory.path, now: now) { broker, _ in
            let found = description(of: broker)
            #expect(found == expected, "\(differences(found, expected))")
        }
        let names = try FileManager.default.contentsOfDirectory(atPath: directory.path)
        let versions = try names.filter { Format.segmentNumber(of: $0) != nil }.sorted().compactMap { name in
            let bytes = try Data(contentsOf: directory.appending(path: name))
            let header = [UInt8](bytes.prefix(Format.segmentHeaderByteCount))
            return SegmentHeader(header.span.bytes)?.version
        }
        #expect(versions.first == version && versions.last == Format.version)
    }

    /// All state of queues and tasks that differs from the default. So a new field appears only for journals that have
    /// it.
    private func description(of broker: isolated Broker) -> [String] {
        var lines: [String] = []
        broker.store.queues.forEach { queue in
            var says = broker.store.queues[queue].pause == .paused ? " paused" : ""
            if let configuration = broker.store.queues[queue].configuration?.value {
                says += " \(fields(of: configuration, unlike: QueueConfiguration()))"
            }
            let name = String(decoding: broker.store.queues[queue].name, as: UTF8.self)
            if !says.isEmpty { lines.append("\(name):\(says)") }
            var listed: [Slot] = []
            broker.store.queues[queue].forEachList { list in
                var slot = list.first
                while slot != 0 {
                    listed.append(slot)
                    slot = broker.store.tasks[slot][links: TaskRecord.queueLinks].next
                }
            }
            broker.store.tasks.forEach { slot in
                let isHere = broker.store.tasks[slot].queue == queue
                if isHere, broker.store.tasks[slot].state == .hidden { listed.append(slot) }
            }
            for (place, slot) in listed.enumerated() {
                lines.append("\(name) \(place + 1): " + description(ofTask: slot, on: broker))
            }
        }
        return lines.sorted()
    }

    private func differences(_ found: [String], _ expected: [String]) -> String {
        found.difference(from: expected).map { change in
            switch change {
            case .insert(_, let line, _): "\n+ \(line)"
            case .remove(_, let line, _): "\n- \(line)"
            }
        }.joined()
    }

    private func description(ofTask slot: Slot, on broker: isolated Broker) -> String {
        let record = broker.store.tasks[slot]
        var text = "\(record.state) \(text(record.content)) \(record.id)" + (record.isPushed ? " sent" : "")
        text += fields(of: record, unlike: TaskRecord())
        guard let extras = broker.store.extras(of: slot) else { return text }
        text += fields(of: extras, unlike: TaskExtras(task: 0))
        guard let replacement = extras.replacement else { return text }
        text += " replaced by \(self.text(replacement.content))" + fields(of: replacement, unlike: Replacement())
        if let options = replacement.options { text += fields(of: options, unlike: TaskOptions()) }
        return text
    }

    private func text(_ content: Content) -> String {
        String(decoding: content.span.indices.map { content.span[$0] }, as: UTF8.self)
    }

    /// Fields that are described separately, or that are meaningful only within one process.
    private static let omitted: Set<String> = [
        "idHigh", "idLow", "content", "state", "queue", "chained", "links", "extras", "timerBucketAndPush", "task",
        "keyGroup", "keyGroupLinks", "waiters", "replacement", "options",
    ]

    private func fields<Value>(of value: Value, unlike other: Value) -> String {
        var text = ""
        for (child, plain) in zip(Mirror(reflecting: value).children, Mirror(reflecting: other).children) {
            if let options = child.value as? TaskExtras.Options {
                text += fields(of: options, unlike: TaskExtras.Options())
                continue
            }
            guard let label = child.label, !Self.omitted.contains(label) else { continue }
            let shown = show(child.value)
            if shown != show(plain.value) { text += " \(label)=\(shown)" }
        }
        return text
    }

    private func show(_ value: Any) -> String {
        if let bytes = value as? [UInt8] { return String(decoding: bytes, as: UTF8.self) }
        let mirror = Mirror(reflecting: value)
        if mirror.displayStyle == .optional { return mirror.children.first.map { show($0.value) } ?? "nil" }
        return "\(value)".replacingOccurrences(of: "Queues.", with: "")
    }

    /// Any frame with the right checksum is either refused or restores a valid state.
    @Test(arguments: versions.indices) func nothingInAFrameIsBelieved(index: Int) throws {
        let (version, now) = Self.versions[index]
        var random = SeededRandom()
        let disk = SimulatedDisk(seed: 1)
        disk[Format.segmentName(1)] = try Self.bytes(version: version)
        let payloads = try recover(disk).frames.map(\.payload)
        var refused = 0
        for _ in 0..<max(250, testOperations / 100) {
            var payloads = payloads
            let frame = random.below(payloads.count)
            let count = payloads[frame].count
            switch random.below(5) {
            case 0: payloads[frame].removeLast(1 + random.below(count))
            case 1: payloads[frame][random.below(count)] ^= 1 << UInt8(random.below(8))
            case 2: payloads[frame][random.below(count)] = UInt8(random.below(256))
            case 3: payloads[frame] = (0..<1 + random.below(300)).map { _ in UInt8(random.below(256)) }
            default:
                let start = random.below(count)
                payloads[frame].removeSubrange(start..<min(count, start + 1 + random.below(10)))
            }
            let frames = payloads
            let broker = Broker(executor: InlineExecutor(), firstToken: 1, now: now)
            refused += broker.assumeIsolated { broker in
                broker.beginRestoring()
                for (index, frame) in frames.enumerated() {
                    do throws(ImageError) {
                        try broker.restore(frame.span, sequence: UInt64(index + 1))
                    } catch {
                        return 1
                    }
                }
                let next = UInt64(frames.count + 1)
                while !broker.finishRestoring(nextSequence: next, now: now, graceMilliseconds: 0) {}
                broker.checkInvariants()
                while !broker.advance(to: now) {}
                broker.checkInvariants()
                return 0
            }
        }
        #expect(refused > 25, "\(SeededRandom())")
    }
}
