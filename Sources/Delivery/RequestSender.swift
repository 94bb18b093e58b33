// Sends requests for `Delivery`. The server uses the event loop's HTTP client; tests use a sender without a network.

import Net

/// Sends requests, and reports on those that have ended when asked.
public protocol RequestSender: AnyObject {
    /// Whether a request can be sent now. It cannot if its host must be looked up while too many other lookups are in
    /// progress, in total or for the request's group.
    func canBegin(_ request: borrowing ClientRequest) -> Bool

    /// The number of lookups that have ended since the last call. Requests that had to wait may be possible now.
    func takeEndedLookUpCount() -> Int

    /// Sends a request. `advance` reports its outcome under this key; nothing is reported before that call.
    func send(_ request: consuming ClientRequest, key: UInt64)

    /// Aborts a request. `advance` does not report on it.
    func cancel(_ key: UInt64)

    /// Works on all requests for a while, and calls `finished` with the outcome of each request that has ended.
    func advance(_ finished: (_ key: UInt64, _ outcome: borrowing ClientOutcome) -> Void)
}

extension HTTPClient: RequestSender {}
