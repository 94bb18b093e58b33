// The gate that every request passes before it changes anything. It compares what a request may cost with the free
// memory, the free disk space, and the answers that clients have not read yet.
//
// A route states its cost in its entry of the table of routes (`Operation.cost`). A legacy system's front end states
// the cost of each of its requests (`FrontEnd.cost`).

import Net
import Queues

/// What a request may cost for each task or queue that it names, and how it affects the server's resources.
struct Cost {
    enum Effect {
        /// It changes nothing that is stored.
        case reads
        /// It adds to memory or disk, and is refused when there is no room.
        case grows
        /// It makes room in the end. A shortage of memory never prevents it, and a full disk has a reserve for it.
        case frees
        /// It gives work back. It makes no room, but lets work continue. A shortage of memory never prevents it, and a
        /// full disk has some of its reserve for it, but keeps as much for requests that make room.
        case returns
    }

    let effect: Effect
    /// The memory that each task or queue takes, not including texts, in bytes.
    var memoryBytes = 0
    /// The most that the journal writes for each of them, not including texts, in bytes.
    var journalBytes = 0

    static var reads: Cost { Cost(effect: .reads) }

    /// Keeps `memoryBytes` for each task or queue.
    static func grows(_ memoryBytes: Int = 0) -> Cost {
        Cost(effect: .grows, memoryBytes: memoryBytes, journalBytes: imageBytes)
    }

    /// Names a queue that may not exist yet. The journal does not store such names.
    static var names: Cost { Cost(effect: .reads, memoryBytes: queueBytes) }

    /// Waits for something in memory.
    static var waits: Cost { Cost(effect: .reads, memoryBytes: extrasBytes) }

    static var frees: Cost { Cost(effect: .frees, journalBytes: imageBytes) }

    static var returns: Cost { .returns(0) }

    /// Gives work back and keeps `memoryBytes` for each queue.
    static func returns(_ memoryBytes: Int) -> Cost {
        Cost(effect: .returns, memoryBytes: memoryBytes, journalBytes: imageBytes)
    }

    /// The most that the journal writes for a changed task or queue, not including content and texts, in bytes.
    private static let imageBytes = 800
    /// The approximate memory of a task, of a queue, and of a task's optional parts, in bytes.
    static let taskBytes = 160
    static let queueBytes = 1024
    static let extrasBytes = 400
    /// The most that the journal writes more for a task because of an attempt that has failed, in bytes.
    static let attemptBytes = 480
}

/// Decides whether there is room for a request or an answer.
struct Gate {
    /// An answer with more bytes than this is large.
    static let largeAnswerBytes = 65_536
    /// Texts up to this size may use the disk space that is reserved for requests that make room, in bytes.
    private static let reserveTextBytes = 1024

    let server: HTTPServer
    /// Keeps changes on disk; nil if tasks live in memory only.
    let durability: (any Durability)?
    /// Sends tasks; nil if the server sends none.
    let push: Push?
    /// The sources of tasks, whose messages wait in memory.
    let sources: Sources
    /// The listings of queues that are being made.
    let views = QueueViews()
    /// Looks at all tasks for those who ask.
    let survey = TaskSurvey()
    /// Looks for finished tasks by their keys.
    let searches = Searches()
    /// The clients that watch the server.
    let streams = EventStreams()
    /// What is wrong, for those who ask.
    let alerts = Alerts()
    /// The memory that tasks and buffers may take before the server accepts no more tasks, in bytes.
    let maximumMemoryBytes: Int
    /// Watches how much memory the program has from the system; nil if that is not watched.
    var resident: ResidentMemory?
    /// The memory of push, of messages from sources, of listings, censuses and streams when the turn began, in bytes.
    private(set) var bufferBytesOfTurn = 0

    // MARK: Requests

    /// Admits a request before it changes anything. O(1).
    ///
    /// - Parameters:
    ///   - cost: what it costs for each task or queue.
    ///   - count: how many tasks or queues it names.
    ///   - keptBytes: the size of all texts to be kept in memory and on disk.
    ///   - writtenBytes: the size of all existing texts that are written to disk again.
    ///   - broker: the broker.
    /// - Throws: 503 if there is no room now, 413 if there never will be, and `Problem.awaitsSpace` while the journal
    ///   makes room.
    func admit(
        _ cost: Cost, count: Int = 1, keptBytes: Int = 0, writtenBytes: Int = 0, on broker: isolated Broker
    ) throws(Problem) {
        let memoryBytes = count * cost.memoryBytes + keptBytes
        if memoryBytes > 0, !hasMemory(for: memoryBytes, on: broker) {
            throw shortage(used: usedMemoryBytes(of: broker))
        }
        guard let durability, cost.effect != .reads else { return }
        try durability.admit(
            count * cost.journalBytes + keptBytes + writtenBytes,
            usesReserve: cost.effect != .grows && keptBytes <= Gate.reserveTextBytes,
            isSparing: cost.effect == .returns, on: broker)
    }

    /// How many bytes of existing texts the journal writes again for the tasks that a request names. O(references).
    ///
    /// - Parameters:
    ///   - references: the tasks.
    ///   - hasLog: whether all of them get a log; otherwise, those whose reference has one do.
    ///   - broker: the broker.
    /// - Returns: the bytes.
    func writtenBytes(of references: [Reference], hasLog: Bool = false, on broker: isolated Broker) -> Int {
        if durability == nil { return 0 }
        return references.reduce(0) { $0 + broker.imageTextBytes(of: $1.task, isFull: hasLog || $1.log != nil) }
    }

    /// Whether there is memory for `byteCount` more bytes. O(1).
    func hasMemory(for byteCount: Int, on broker: isolated Broker) -> Bool {
        usedMemoryBytes(of: broker) + byteCount <= maximumMemoryBytes && resident?.exceeds(maximumMemoryBytes) != true
    }

    /// The used part of the memory for tasks, in bytes: by tasks, by requests and answers in transit, and by changes
    /// that are not on disk yet. O(1).
    func usedMemoryBytes(of broker: isolated Broker) -> Int {
        broker.memoryBytes + bufferBytes + (durability?.pendingByteCount ?? 0)
    }

    /// The memory of requests, answers, messages in transit and listings of queues, in bytes. O(1).
    var bufferBytes: Int { server.bufferBytes + bufferBytesOfTurn }

    /// Measures the memory that changes little within a turn, so that requests need not. O(lists of queues).
    mutating func beginTurn() {
        bufferBytesOfTurn =
            (push?.bufferBytes ?? 0) + sources.waitingByteCount + views.byteCount + survey.byteCount + streams.byteCount
    }

    private func shortage(used: Int) -> Problem {
        if let resident, resident.exceeds(maximumMemoryBytes) {
            return Problem(
                .memoryFull,
                "the server uses \(resident.byteCount) bytes of the system's memory, more than its limit of "
                    + "\(maximumMemoryBytes), because finished tasks have left small gaps; workers can continue, and "
                    + "there is room again when they have finished more tasks")
        }
        return Problem(
            .memoryFull,
            "the server's memory for tasks is used up (\(used) of \(maximumMemoryBytes) bytes); workers can continue, "
                + "and there is room again when they have finished some tasks")
    }

    // MARK: Answers

    /// Whether an answer that is being written may have `byteCount` more bytes. O(1).
    func mayAnswer(_ responses: borrowing ResponseStream, adding byteCount: Int = 0) -> Bool {
        server.mayAnswer(responses, adding: byteCount)
    }

    /// Checks that a written answer about one task is not too large.
    ///
    /// - Throws: 503.
    func admitAnswer(_ responses: borrowing ResponseStream) throws(Problem) {
        try server.admitAnswer(byteCount: responses.answerByteCount)
    }
}

extension HTTPServer {
    /// Checks that an answer of `byteCount` bytes about one task is not too large.
    ///
    /// - Throws: 503.
    func admitAnswer(byteCount: Int) throws(Problem) {
        if isShortOfMemory, byteCount > Gate.largeAnswerBytes { throw .tooManyUnreadAnswers }
    }

    /// Whether an answer that is being written may have `byteCount` more bytes. O(1).
    ///
    /// A large answer needs room among those that clients have not read yet. The part that first makes it large passes
    /// unless the others already take too much, so that every task can be shown and dispatched.
    func mayAnswer(_ responses: borrowing ResponseStream, adding byteCount: Int) -> Bool {
        let before = responses.answerByteCount
        if before + byteCount <= Gate.largeAnswerBytes { return true }
        if isShortOfMemory { return false }
        return before <= Gate.largeAnswerBytes || hasBuffers(for: before + byteCount)
    }
}

extension Problem {
    static let tooManyUnreadAnswers = Problem(.buffersFull, "too many answers are unread by clients; try again")

    static let answerTooLarge = Problem(
        .answerTooLarge,
        "the answer needs more memory than is available for answers now; ask for fewer tasks, or try again")
}
