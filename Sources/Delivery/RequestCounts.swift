// How requests ended, by the class of their responses' status codes.

import Net

/// How many requests ended with each class of status codes, or without a response.
public struct RequestCounts: Hashable, Sendable {
    /// How a request ended.
    public enum Class: String, CaseIterable, Sendable {
        case success = "2xx"
        case redirection = "3xx"
        case clientError = "4xx"
        case serverError = "5xx"
        /// A status code from 600 on.
        case other
        /// No response came in time.
        case timeout
        /// There was no response for another reason.
        case error
    }

    private var counts: [Class: UInt64] = [:]

    /// How many requests have ended so.
    public subscript(class: Class) -> UInt64 { counts[`class`, default: 0] }

    mutating func note(_ outcome: borrowing ClientOutcome) {
        let ending: Class =
            switch outcome.result {
            case .success(let response):
                switch response.status / 100 {
                case 2: .success
                case 3: .redirection
                case 4: .clientError
                case 5: .serverError
                default: .other
                }
            case .failure(.timeout): .timeout
            case .failure: .error
            }
        counts[ending, default: 0] += 1
    }
}
