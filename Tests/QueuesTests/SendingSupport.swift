// Short calls for a broker that pushes tasks.

import Testing
import UID

@testable import Queues

extension Broker {
    /// Adds a task with a request of its own.
    @discardableResult
    func addSent(
        _ number: UInt64, to name: String, due: Int64? = nil, expiry: Expiry = .unsaid, priority: Int8? = nil,
        now: Int64 = 0, _ says: (TaskOptions) -> Void = { _ in }
    ) throws -> Enqueued {
        try add(number, to: name, due: due, expiry: expiry, priority: priority, now: now) { options in
            options.request = [7]
            says(options)
        }
    }

    /// Configures a queue so that all of its tasks are pushed.
    func configurePushed(_ name: String, _ change: (inout QueueConfiguration) -> Void = { _ in }) throws {
        try configure(name) { configuration in
            configuration.push = [8]
            configuration.isPushed = true
            change(&configuration)
        }
    }

    /// Sends the next task of a queue; nil if there is none.
    func send(_ name: String, lease: Int64 = 1000, now: Int64 = 0) throws -> DispatchKey? {
        guard case .task(let key) = send(from: try queue(name), now: now, leaseMilliseconds: { _ in lease }) else {
            return nil
        }
        return key
    }

    /// Sends the next task of a queue; throws if there is none.
    func sendOne(_ name: String, lease: Int64 = 1000, now: Int64 = 0) throws -> DispatchKey {
        let key = try send(name, lease: lease, now: now)
        return try #require(key)
    }

    /// Sends all tasks of a queue, and returns their numbers.
    func sendAll(_ name: String, now: Int64 = 0) throws -> [UInt64] {
        var numbers: [UInt64] = []
        while let key = try send(name, now: now) { numbers.append(show(TaskHandle(key: key)).number) }
        return numbers
    }

    func finish(_ key: DispatchKey, result: [UInt8] = [], now: Int64 = 0) -> Bool {
        finishSending(key, result: result.span, now: now)
    }

    func fail(
        _ key: DispatchKey, _ action: NakAction = .failed, result: [UInt8] = [], now: Int64 = 0
    ) -> NakOutcome {
        failSending(key, action, error: [69].span, result: result.span, now: now)
    }

    func sendableQueues() -> [String] {
        var names: [String] = []
        takeSendableQueues { names.append(text(name(of: $0).span)) }
        return names
    }

    func endedSends() -> [DispatchKey] {
        var keys: [DispatchKey] = []
        takeEndedSends { keys.append($0) }
        return keys
    }

    func deadTasks() -> [String] {
        var deadTasks: [String] = []
        takeDeadTasks {
            deadTasks.append("\($0.task.high) in \(text(name(of: $0.queue).span))")
            return true
        }
        return deadTasks
    }

    /// A task's retries, the pause before its next one, and its error.
    func retry(_ number: UInt64, now: Int64) -> (retries: UInt32, pause: Int64, error: [UInt8])? {
        withTask(id: UID(high: number, low: number), now: now) { ($0.retries, ($0.due ?? now) - now, $0.error) }
    }

    func result(_ number: UInt64, now: Int64 = 0) -> [UInt8]? {
        withTask(id: UID(high: number, low: number), now: now) { $0.result }
    }
}

func withSendingBroker(
    maximumTasks: Int = 10_000, _ body: @Sendable (isolated Broker) throws -> Void
) throws {
    try withBroker(maximumTasks: maximumTasks) { broker in
        broker.beginSending()
        try body(broker)
    }
}

/// A broker's answer that a test cannot go on from.
struct Unexpected: Error {}
