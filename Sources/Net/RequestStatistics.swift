// What an HTTP server counts: its answers, and how long it worked on requests. Every request passes here, so there is
// no look-up by name: the handler labels a request with a small number.

import Bytes

/// The counts of an HTTP server since it was made.
///
/// A handler labels the current request (`ResponseStream.label`). Label 0 is for requests that it has not labelled,
/// such as those that are invalid.
@safe public final class RequestStatistics {
    /// Labels are below this. Larger ones count as 0.
    public static let labelCount = 64
    /// The status codes that are counted. Others count as 0, the first.
    public static let statuses = [
        0, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408, 409, 410, 413, 414,
        415, 417, 422, 429, 431, 500, 501, 502, 503, 504, 505,
    ]
    private static let statusLimit = 600

    // Unchecked and behind pointers, because each request changes them: an array would be checked for other owners, and
    // a variable of a class for overlapping accesses. They are used on the loop's thread only. `place` and
    // `noteHandled` keep the places within their bounds.

    /// How many answers with each label had each status, by label first.
    private let counts: UnsafeMutablePointer<UInt64>
    /// How long the server worked on requests with each label, in microseconds.
    private let durations: UnsafeMutablePointer<Histogram>
    /// The labels of the requests that the current visit to a connection has handled, and how many these are.
    @exclusivity(unchecked) private var handled = InlineArray<64, UInt8>(repeating: 0)
    @exclusivity(unchecked) private var handledCount = 0
    /// The index of each status among those that are counted.
    private let places: [UInt8]

    init() {
        var places = [UInt8](repeating: 0, count: Self.statusLimit)
        for (place, status) in Self.statuses.enumerated() { places[status] = UInt8(place) }
        self.places = places
        unsafe counts = .allocate(capacity: Self.labelCount * Self.statuses.count)
        unsafe counts.initialize(repeating: 0, count: Self.labelCount * Self.statuses.count)
        unsafe durations = .allocate(capacity: Self.labelCount)
        unsafe durations.initialize(repeating: Histogram(), count: Self.labelCount)
    }

    deinit {
        unsafe counts.deallocate()
        unsafe durations.deallocate()
    }

    /// How many answers with a label had a status, which is one of `statuses`.
    public func count(label: Int, status: Int) -> UInt64 { unsafe counts[place(label: UInt8(label), status: status)] }

    /// How long the server worked on each request with a label, in microseconds: from the beginning of the visit that
    /// read it until it was answered, or until its handler promised an answer for later. Of several requests that a
    /// visit handles, each counts an equal part.
    public func durations(label: Int) -> Histogram {
        precondition(label >= 0 && label < Self.labelCount, "no such label")
        return unsafe durations[label]
    }

    private func place(label: UInt8, status: Int) -> Int {
        let label = Int(label) < Self.labelCount ? Int(label) : 0
        return label * Self.statuses.count + Int(status >= 0 && status < Self.statusLimit ? places[status] : 0)
    }

    /// Notes that the last answer was written. O(1).
    func noteAnswer(in responses: borrowing ResponseStream) {
        unsafe counts[place(label: responses.label, status: responses.status)] += 1
    }

    /// Notes that a request was handled in the current visit. O(1).
    func noteHandled(label: UInt8) {
        let count = unsafe handledCount
        // A visit handles at most as many requests as there is room for.
        guard count < 64 else { return }
        unsafe handled[count] = Int(label) < Self.labelCount ? label : 0
        unsafe handledCount = count + 1
    }

    /// Notes the end of a visit. O(requests handled).
    func endVisit(microseconds: Int64) {
        let count = unsafe handledCount
        if count == 0 { return }
        let part = count == 1 ? microseconds : microseconds / Int64(count)
        for place in 0..<count { unsafe durations[Int(handled[place])].record(part) }
        unsafe handledCount = 0
    }
}
