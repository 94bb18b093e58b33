// `for try await event in client.events(of: ["/stats/mail"])`.

import Bytes
import Net

/// The answer to one of the requests that a stream of events repeats.
public struct ServerEvent: Sendable {
    /// The position of the request among those of the stream, from 0.
    public let index: Int
    /// The status of the answer.
    public let status: Int
    /// The answer.
    public let body: RawJSON

    /// Reads the answer.
    ///
    /// - Parameter type: The type of the answer.
    /// - Returns: The value.
    /// - Throws: `DecodingError`.
    public func decode<Value: Decodable>(_ type: Value.Type = Value.self) throws -> Value {
        try JSONDecoding.decode(type, from: body.bytes, style: .interface)
    }
}

extension EMQClient {
    /// Watches the server: the answers to other requests, again whenever they change.
    ///
    /// If you read slowly, you miss intermediate answers, and get the last one of each request. The sequence ends when
    /// the server stops; it throws if the connection breaks. Begin again after a pause then.
    ///
    /// - Parameters:
    ///   - targets: 1 to 16 paths with queries, as in `/stats/mail` or `/peek/mail?state=dead`, percent-encoded.
    ///   - interval: How long to wait between two rounds, 1 to 60 s; nil for a second.
    /// - Returns: The answers.
    public nonisolated func events(of targets: [String], interval: Duration? = nil) -> ServerEvents {
        var query: [(String, String?)] = targets.map { ("get", $0) }
        query.append(("interval", interval.map { "\(max(1, $0.milliseconds / 1000))" }))
        return ServerEvents(client: self, target: Call.target("/events", query: query), count: targets.count)
    }
}

/// A stream of events. Each iteration has a connection of its own.
public struct ServerEvents: AsyncSequence, Sendable {
    /// An answer.
    public typealias Element = ServerEvent

    let client: EMQClient
    let target: String
    let count: Int

    /// Begins to watch.
    public func makeAsyncIterator() -> Iterator { Iterator(inbox: EventInbox(client, target, count)) }

    /// Receives answers. When it goes away, the connection closes.
    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let inbox: EventInbox

        /// The next answer; nil when the server has stopped.
        ///
        /// - Throws: ``EMQError``, or `CancellationError`.
        public mutating func next() async throws -> ServerEvent? { try await inbox.next() }

        /// The next answer; nil when the server has stopped.
        ///
        /// - Parameter actor: The actor of the caller.
        /// - Returns: The answer.
        /// - Throws: ``EMQError``, or `CancellationError`.
        public mutating func next(isolation actor: isolated (any Actor)?) async throws -> ServerEvent? {
            try await inbox.next(isolation: actor)
        }
    }
}

/// The events that have arrived and not been read: at most one for each request.
private final class EventInbox: Sendable {
    private struct State {
        var events: [ServerEvent] = []
        var end: Result<Void, any Error>?
        var waiter: CheckedContinuation<Void, Never>?
        var isStopping = false

        mutating func takeWaiter() -> CheckedContinuation<Void, Never>? {
            defer { waiter = nil }
            return waiter
        }
    }

    private let client: EMQClient
    /// How many requests the stream repeats.
    private let count: Int
    private let state = Locked(State())
    private let receiver = Locked<EventStreamReceiver?>(nil)

    init(_ client: EMQClient, _ target: String, _ count: Int) {
        (self.client, self.count) = (client, count)
        let receiver = EventStreamReceiver(
            Call("GET", target), onEvent: { [weak self] in self?.received($0) },
            onEnd: { [weak self] result in self?.ended(result.map { _ in }) })
        self.receiver.with { $0 = receiver }
        client.loop.async { $0.start(receiver) }
    }

    deinit { stop() }

    private func stop() {
        guard let receiver = receiver.with({ $0 }) else { return }
        client.loop.async { $0.cancel(receiver) }
    }

    private func received(_ event: EventReader.Event) {
        let waiter = state.with { state -> CheckedContinuation<Void, Never>? in
            if event.name == "stopping" {
                state.isStopping = true
                return nil
            }
            let parts = event.name.split(separator: "/")
            guard let index = parts.first.flatMap({ Int($0) }), 0..<count ~= index,
                (try? JSONTape(event.data)) != nil
            else { return nil }
            let status = parts.count > 1 ? Int(parts[1]) ?? 0 : 200
            state.events.removeAll { $0.index == index }
            state.events.append(ServerEvent(index: index, status: status, body: RawJSON(checked: event.data)))
            return state.takeWaiter()
        }
        waiter?.resume()
    }

    private func ended(_ result: Result<Void, any Error>) {
        let waiter = state.with { state in
            // A server that stops closes the connection without ceremony.
            if state.end == nil { state.end = state.isStopping ? .success(()) : result }
            return state.takeWaiter()
        }
        waiter?.resume()
    }

    func next(isolation actor: isolated (any Actor)? = #isolation) async throws -> ServerEvent? {
        while true {
            try Task.checkCancellation()
            let (event, end) = state.with { state in
                (state.events.isEmpty ? nil : state.events.removeFirst(), state.end)
            }
            if let event { return event }
            if let end {
                try end.get()
                return nil
            }
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let isReady = state.with { state in
                        if !state.events.isEmpty || state.end != nil { return true }
                        state.waiter = continuation
                        return false
                    }
                    if isReady { continuation.resume() }
                }
            } onCancel: {
                self.ended(.failure(CancellationError()))
                self.stop()
            }
        }
    }
}
