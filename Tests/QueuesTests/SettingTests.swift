// Settings: their limits, and that they survive restarts.

import Support
import Testing

@testable import Queues

@Suite(.blocking) struct SettingTests {
    private func name(_ text: String) -> [UInt8] { Array(text.utf8) }

    private func settings(of broker: isolated Broker) -> [String] {
        var found: [String] = []
        broker.forEachSetting { found.append(String(decoding: $0 + [61] + $1, as: UTF8.self)) }
        return found
    }

    @Test func settingsAreKeptByNameAndListedInTheOrderOfNames() throws {
        try withBroker { broker in
            #expect(broker.setting(named: name("b")) == nil)
            for setting in ["b", "a", "ab"] { try broker.setSetting(name(setting), to: name("1")) }
            try broker.setSetting(name("b"), to: name("2"))
            #expect(broker.setting(named: name("b")) == name("2"))
            #expect(settings(of: broker) == ["a=1", "ab=1", "b=2"])
            try broker.setSetting(name("a"), to: nil)
            try broker.setSetting(name("not there"), to: nil)
            #expect(settings(of: broker) == ["ab=1", "b=2"])
        }
    }

    @Test func settingsAreBoundedAndCountAsMemory() throws {
        try withBroker { broker in
            let before = broker.memoryBytes
            let (long, large) = ([UInt8](repeating: 1, count: 300), [UInt8](repeating: 2, count: 65_536))
            try broker.setSetting(long, to: large)
            #expect(broker.memoryBytes - before >= 65_836)
            for (name, value) in [([], [1]), (long + [1], [1]), ([1], []), ([1], large + [1])] as [([UInt8], [UInt8])] {
                #expect(throws: BrokerError.unsupportedSetting) { try broker.setSetting(name, to: value) }
            }
            for number in 1..<1000 { try broker.setSetting(name("\(number)"), to: [1]) }
            #expect(throws: BrokerError.tooManySettings) { try broker.setSetting(name("one more"), to: [1]) }
            try broker.setSetting(long, to: [3])
            try broker.setSetting(name("7"), to: nil)
            try broker.setSetting(name("one more"), to: [1])
            for setting in ["one more"] + (1..<1000).map({ "\($0)" }) { try broker.setSetting(name(setting), to: nil) }
            try broker.setSetting(long, to: nil)
            #expect(broker.memoryBytes == before)
        }
    }

    /// What a client was told of must be in a frame; what came and went, or stayed the same, needs none.
    @Test func changesAreAwaitedAndSurvive() throws {
        try withLives(4) { broker, life in
            let frame = broker.lastFrameSequence
            switch life {
            case 0:
                for setting in ["a", "b", "c"] { try broker.setSetting(name(setting), to: name("1")) }
                #expect(broker.changeSequence == frame + 1)
            case 1:
                #expect(settings(of: broker) == ["a=1", "b=1", "c=1"])
                try broker.setSetting(name("a"), to: name("1"))
                #expect(broker.changeSequence == frame)
                try broker.setSetting(name("b"), to: name("2"))
                try broker.setSetting(name("c"), to: nil)
                #expect(broker.changeSequence == frame + 1)
            case 2:
                #expect(settings(of: broker) == ["a=1", "b=2"])
                try broker.setSetting(name("a"), to: nil)
                try broker.setSetting(name("a"), to: name("3"))
                try broker.setSetting(name("d"), to: name("4"))
                try broker.setSetting(name("d"), to: nil)
            default: #expect(settings(of: broker) == ["a=3", "b=2"])
            }
        }
    }

    @Test func aSettingKeepsItsFrameUntilItIsWrittenAgain() throws {
        try restarting { broker in
            try broker.setSetting(name("a"), to: name("1"))
            try broker.setSetting(name("b"), to: name("1"))
            #expect(broker.oldestNeededSequence() == nil)
            broker.writeChanges { _, _ in }
            #expect(broker.oldestNeededSequence() == 1 && broker.liveImageBytes > 0)
            // Neither a change nor a removal frees the frame before it is written itself.
            try broker.setSetting(name("a"), to: name("2"))
            try broker.setSetting(name("b"), to: nil)
            #expect(broker.oldestNeededSequence() == 1)
            broker.writeChanges { _, _ in }
            #expect(broker.oldestNeededSequence() == 2 && broker.oldestRenewedSequence() == 1)
            #expect(broker.renewImages(byteCount: 100, before: 2) == 0)
            #expect(broker.renewImages(byteCount: 100, before: 3) > 0)
            // No client waits for a renewal.
            #expect(broker.changeSequence == 2)
            broker.writeChanges { _, _ in }
            #expect(broker.oldestNeededSequence() == 3)
            try broker.setSetting(name("a"), to: nil)
            broker.writeChanges { _, _ in }
            #expect(broker.oldestNeededSequence() == nil && broker.liveImageBytes == 0)
        } after: { broker, _ in
            #expect(settings(of: broker).isEmpty)
        }
    }

    @Test func theImageOfASettingIsAsDocumented() throws {
        nonisolated(unsafe) var frames: [[UInt8]] = []
        try withLives(1) { broker, _ in
            try broker.setSetting(name("hue"), to: name("red"))
            broker.writeChanges { payload, _ in frames.append(Array(copying: payload)) }
        }
        #expect(frames.first == name("V\u{1}\u{3}hue\u{2}\u{3}red\u{0}"))
    }

    @Test func noFrameCanHaveASettingThatCannotBe() throws {
        func restore(_ payload: [UInt8]) throws {
            try withBroker { broker in
                broker.beginRestoring()
                try broker.restore(payload.span, sequence: 1)
                while !broker.finishRestoring(nextSequence: 2, now: 0, graceMilliseconds: 0) {}
            }
        }
        try restore(name("V\u{1}\u{3}hue\u{2}\u{3}red\u{0}V\u{1}\u{3}hue\u{0}V\u{1}\u{3}new\u{0}"))
        let tooMany = (0...1000).flatMap { name("V\u{1}\u{4}\(1000 + $0)\u{2}\u{1}1\u{0}") }
        for payload in [name("V\u{0}"), name("V\u{2}\u{3}red\u{0}"), name("V\u{1}\u{3}hue"), tooMany] {
            let error = #expect(throws: ImageError.self) { try restore(payload) }
            #expect(error?.isNewer == false)
        }
        let error = #expect(throws: ImageError.self) { try restore(name("V\u{1}\u{3}hue\u{3}\u{1}x\u{0}")) }
        #expect(error?.isNewer == true)
    }
}
