// What the event loop watches: a file descriptor, a deadline, or both.

/// Something with a descriptor or a deadline that an `EventLoop` watches.
///
/// A base class and not a protocol, because the kernel hands back one pointer and a class is recovered from it at no
/// cost. The calls only take note: the work is done after all that the kernel reported has been noted.
open class EventSource {
    /// Where this source stands in the loop's timers; -1 when it is in none.
    final var timerPosition = -1
    /// When its timer fires, in the loop's milliseconds.
    final var timerDeadline: Int64 = 0

    /// A source that nothing watches yet.
    public init() {}

    /// The descriptor is ready: `events` are epoll's bits.
    open func ready(events: UInt32) {}

    /// The deadline that was set has passed.
    open func timerFired() {}
}
