// The gate that every request passes before it changes anything. What a request may cost stands in the table of routes
// (`Verb.cost`); legacy systems say it of theirs (`AdapterService.cost`). Here it is held against the memory, against the disk,
// and against the answers that wait for clients to read them.

import Journal
import Net
import Queues

/// What a request may cost, and what it does to what the server holds.
struct Cost {
    enum Effect {
        /// It changes nothing that is kept.
        case looks
        /// It adds to what is in memory or on disk: it is refused where there is no room.
        case grows
        /// It makes room in the end. Memory never keeps it from that, and a full disk has some space for it.
        case frees
        /// It gives work back: it makes no room, but work goes on by it. Memory never keeps it from that, and a full disk has
        /// some space for it, but leaves as much to what makes room.
        case returns
    }

    let effect: Effect
    /// What each task or queue that it names takes in memory, beside the texts that are kept, in bytes.
    var memoryBytes = 0
    /// What the journal writes for each of them, beside texts, at most, in bytes.
    var journalBytes = 0

    static var looks: Cost { Cost(effect: .looks) }

    /// It keeps `memoryBytes` for each task or queue.
    static func grows(_ memoryBytes: Int = 0) -> Cost {
        Cost(effect: .grows, memoryBytes: memoryBytes, journalBytes: imageBytes)
    }

    /// A name whose queue may not be there yet. The disk has nothing of it.
    static var names: Cost { Cost(effect: .looks, memoryBytes: queueBytes) }

    static var frees: Cost { Cost(effect: .frees, journalBytes: imageBytes) }

    static var returns: Cost { .returns() }

    /// Beside that, it keeps `memoryBytes` for each queue.
    static func returns(_ memoryBytes: Int = 0) -> Cost {
        Cost(effect: .returns, memoryBytes: memoryBytes, journalBytes: imageBytes)
    }

    /// What the journal writes for a task or queue that has changed, beside its content and texts, at most.
    private static let imageBytes = 800
    /// About what a task, a queue, and what few tasks have take in memory.
    static let taskBytes = 160
    static let queueBytes = 1024
    static let extrasBytes = 400
}

extension API {
    /// Texts up to this size that are kept may use the space on disk that is for what makes room, in bytes.
    private static let textBytesFromReserve = 1024

    /// Lets a request pass that costs so much, before it has changed anything. O(1).
    ///
    /// - Parameters:
    ///   - cost: what it costs for each task or queue.
    ///   - count: of how many.
    ///   - keptBytes: how many bytes of texts it wants kept in all, in memory and on disk.
    ///   - writtenBytes: how many bytes of texts are there already and are written again.
    ///   - broker: the broker.
    /// - Throws: 503 if there is no room, 413 if there never is, and `Problem.awaitsSpace` while the journal makes some.
    func admit(
        _ cost: Cost, count: Int = 1, keptBytes: Int = 0, writtenBytes: Int = 0, on broker: isolated Broker
    ) throws(Problem) {
        let memoryBytes = count * cost.memoryBytes + keptBytes
        if memoryBytes > 0, !hasMemory(for: memoryBytes, on: broker) {
            throw shortage(used: usedMemoryBytes(of: broker))
        }
        guard let journal, cost.effect != .looks else { return }
        try journal.admit(
            count * cost.journalBytes + keptBytes + writtenBytes,
            usesReserve: cost.effect != .grows && keptBytes <= API.textBytesFromReserve,
            isSparing: cost.effect == .returns, on: broker)
    }

    /// How many bytes of texts the journal writes again for the tasks that a request names.
    func writtenBytes(of references: [Reference], on broker: isolated Broker) -> Int {
        journal == nil ? 0 : references.reduce(0) { $0 + broker.imageTextBytes(of: $1.task) }
    }

    /// Whether there is memory for so many bytes. O(1).
    func hasMemory(for byteCount: Int, on broker: isolated Broker) -> Bool {
        usedMemoryBytes(of: broker) + byteCount <= maximumMemoryBytes && resident?.exceeds(maximumMemoryBytes) != true
    }

    /// How much of the memory for tasks is used, in bytes: by them, by what is on its way to and from clients and receivers,
    /// and by what is on its way to the disk.
    func usedMemoryBytes(of broker: isolated Broker) -> Int {
        broker.memoryBytes + bufferBytes + (journal?.pendingByteCount ?? 0)
    }

    /// How much memory requests and answers take that are on their way, in bytes.
    var bufferBytes: Int { server.bufferBytes + (push?.bufferBytes ?? 0) }

    private func shortage(used: Int) -> Problem {
        if let resident, resident.exceeds(maximumMemoryBytes) {
            return Problem(
                503,
                "the server has \(resident.byteCount) bytes of memory from the system, too much for its limit of "
                    + "\(maximumMemoryBytes): tasks that are gone have left small gaps; workers go on, and when they have "
                    + "finished more there is room again")
        }
        return Problem(
            503,
            "the server's memory for tasks is used up (\(used) of \(maximumMemoryBytes) bytes); workers go on, "
                + "and when they have finished some there is room again")
    }

    // MARK: Answers

    /// What makes an answer a large one, in bytes.
    static let largeBytes = 65_536

    static let crowd = Problem(503, "too many answers wait for clients that do not read them; try again")

    static let tooLarge = Problem(
        503, "the answer needs more memory than there is for answers now; ask for fewer tasks, or try again")

    /// Whether an answer that is being written may have `byteCount` more bytes. O(1).
    func mayAnswer(_ responses: borrowing ResponseStream, adding byteCount: Int = 0) -> Bool {
        server.mayAnswer(responses, adding: byteCount)
    }

    /// Makes sure that an answer that shows one task, and has been written, is not too large.
    ///
    /// - Throws: 503.
    func admitAnswer(_ responses: borrowing ResponseStream) throws(Problem) {
        if server.isShortOfMemory, responses.answerByteCount > API.largeBytes { throw API.crowd }
    }
}

extension HTTPServer {
    /// Whether an answer that is being written may have `byteCount` more bytes: a large one has to find room among those that
    /// wait to be read. What alone makes it a large one passes as long as these do not take too much already, so that every
    /// task can be shown and given out. O(1).
    func mayAnswer(_ responses: borrowing ResponseStream, adding byteCount: Int) -> Bool {
        let before = responses.answerByteCount
        if before + byteCount <= API.largeBytes { return true }
        if isShortOfMemory { return false }
        return before <= API.largeBytes || hasBuffers(for: before + byteCount)
    }
}
