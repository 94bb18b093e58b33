// What sends requests for `Delivery`: the HTTP client of the event loop, and in tests something that needs no network.

import Net

/// Sends requests, and tells what came of them when it is asked.
public protocol RequestSender: AnyObject {
    /// Sends a request. What comes of it is told by `advance` under this key, and never before that is called.
    func send(_ request: consuming ClientRequest, key: UInt64)

    /// Breaks a request off, about which nothing is told then.
    func cancel(_ key: UInt64)

    /// Goes on with all requests for a while, and calls `finished` with what came of those that are over.
    func advance(_ finished: (_ key: UInt64, _ outcome: borrowing ClientOutcome) -> Void)
}

extension HTTPClient: RequestSender {}
