// One stream of events, from the thread of the client to the task that reads it.

import Bytes
import Net

/// Receives the parts of a stream on the client's thread, and hands over the events in them.
final class EventStreamReceiver: @unchecked Sendable {
    // @unchecked: used on the client's thread only, but for the constants.

    /// A server that has said nothing for so long is gone, in milliseconds. It sends a comment every 15 s.
    static let silenceMilliseconds: Int64 = 60_000

    let call: Call
    var key: UInt64 = 0
    private var reader = EventReader()
    private let onEvent: (EventReader.Event) -> Void
    private let onEnd: (Result<Answer, any Error>) -> Void

    init(
        _ call: Call, onEvent: @escaping @Sendable (EventReader.Event) -> Void,
        onEnd: @escaping @Sendable (Result<Answer, any Error>) -> Void
    ) {
        (self.call, self.onEvent, self.onEnd) = (call, onEvent, onEnd)
    }

    func received(_ part: Span<UInt8>) { for event in reader.read(Array(copying: part)) { onEvent(event) } }

    func ended(_ result: Result<Answer, any Error>) { onEnd(result) }
}
