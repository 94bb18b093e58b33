// Events of a worker's descriptors. The loop's sources may only take notes, so these are handled after its turn.

import Net

/// The sources that have something to handle.
final class WorkEvents {
    fileprivate var noted: [WorkSource] = []

    /// Handles what the loop's turns have noted.
    func handle() {
        while !noted.isEmpty {
            let sources = noted
            noted = []
            for source in sources {
                source.isNoted = false
                source.handle()
            }
        }
    }
}

/// A descriptor of a worker's.
class WorkSource: EventSource {
    fileprivate var isNoted = false
    private let events: WorkEvents

    init(_ events: WorkEvents) { self.events = events }

    override final func ready(events bits: UInt32) {
        if isNoted { return }
        isNoted = true
        events.noted.append(self)
    }

    /// Does what the descriptor is ready for. Its events are level-triggered: what is left is reported again. It may
    /// have been closed since.
    func handle() {}
}
