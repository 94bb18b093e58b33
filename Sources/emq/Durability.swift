// What the program needs from the home of its tasks. A server that keeps tasks in memory only has none (nil).

import Bytes
import Net
import Queues

/// Keeps what a broker holds across restarts, and belongs to the broker's thread.
///
/// The event loop calls `beginTurn` and `endTurn` around each turn. A request asks `admit` before it changes anything.
/// Until `isReady`, tasks are being recovered and the broker must not be used.
protocol Durability: AnyObject {
    /// The place where tasks are kept, for log lines.
    var location: String { get }

    // MARK: Turns

    /// Whether recovery is complete.
    var isReady: Bool { get }

    /// Continues recovery, or collects what has become safe and releases the responses that waited for it.
    ///
    /// - Returns: whether the broker may be used.
    func beginTurn(_ server: HTTPServer, on broker: isolated Broker, now: Int64) -> Bool

    /// Writes what the turn has changed. After the last turn, closes the home.
    ///
    /// - Returns: when the next turn must begin at the latest; nil for no such time.
    func endTurn(_ server: HTTPServer, on broker: isolated Broker, now: Int64, isLast: Bool) -> Int64?

    /// Whether all changes are safe.
    func isSettled(_ broker: isolated Broker) -> Bool

    // MARK: Admission

    /// Whether so much data waits to become safe that nothing more should change.
    func isBusy(_ broker: isolated Broker) -> Bool

    /// Whether the home has a problem at the moment.
    var hasProblem: Bool { get }

    /// Checks that there is space for a request's changes.
    ///
    /// - Parameters:
    ///   - byteCount: the size of the changes, in bytes.
    ///   - usesReserve: whether the request makes room later, and so may use the reserve.
    ///   - isSparing: whether it must leave half of the reserve.
    ///   - broker: the broker.
    /// - Throws: 503 or 413 if there is no space, `Problem.awaitsSpace` while space is being made.
    func admit(
        _ byteCount: Int, usesReserve: Bool, isSparing: Bool, on broker: isolated Broker
    ) throws(Problem)

    /// Whether there is space for an attempt's outcome. If not, another turn begins when that may have changed.
    func hasSpace(for byteCount: Int, on broker: isolated Broker) -> Bool

    /// The sequence of the last frame that is safe.
    var safeSequence: UInt64 { get }

    // MARK: Inspection

    /// The response to requests during recovery.
    var problem: Problem { get }

    /// What problem the home has at the moment, in words; nil for none.
    var problemText: String? { get }

    /// How far recovery has come, in words.
    var progressText: String { get }

    /// Writes the response to `/healthz` during recovery.
    func writeHealth(to responses: inout ResponseStream)

    /// The size of the changes that are not safe yet, in bytes.
    var pendingByteCount: Int { get }

    /// The home's statistics for `/metrics`. Call this only if it is ready.
    var metrics: DurabilityMetrics { get }

    /// Writes the home's statistics for `/stats/`, as a member behind others.
    func writeStatistics(of broker: isolated Broker, to responses: inout ResponseStream)
}

/// The statistics of a home.
struct DurabilityMetrics {
    /// The size of its files, in bytes.
    var byteCount = 0
    /// How much of that is needed, in bytes.
    var liveByteCount = 0
    /// How much space is left for it, in bytes; nil if that is unknown.
    var freeByteCount: Int?
    /// Whether it has a problem at the moment.
    var hasProblem = false
    /// How long syncs took, in microseconds.
    var syncMicroseconds = Histogram()
}
