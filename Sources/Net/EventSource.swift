// The event loop watches sources: a file descriptor, a deadline, or both.

/// Something with a descriptor or a deadline that an `EventLoop` watches.
///
/// It is a base class and not a protocol because the kernel returns one pointer, from which a class is recovered at no
/// cost. These calls only take notes; the work follows once everything the kernel reported has been noted.
open class EventSource {
    /// The position of this source in the loop's timers; -1 if it has no timer.
    final var timerPosition = -1
    /// When its timer fires, in the loop's milliseconds.
    final var timerDeadline: Int64 = 0

    /// Creates a source that no loop watches yet.
    public init() {}

    /// The descriptor is ready: `events` are epoll's bits.
    ///
    /// The loop does not retain the source for this call. A source that unwatches itself here needs another owner until
    /// the call returns. It must not unwatch another source, whose event may follow.
    open func ready(events: UInt32) {}

    /// The deadline that was set has passed.
    open func timerFired() {}
}
