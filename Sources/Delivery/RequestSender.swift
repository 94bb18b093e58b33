// What sends requests for `Delivery`: the HTTP client of the event loop, and in tests something that needs no network.

import Net

/// Sends requests, and tells what came of them when it is asked.
public protocol RequestSender: AnyObject {
    /// Whether a request to a URL can be sent now. Not if the host's name has to be looked up, and too many others are being
    /// looked up, in all or for that group.
    func canBegin(_ url: HTTPURL, for group: UInt32) -> Bool

    /// How many look-ups have ended since the last call: what could not be sent before may be now.
    func takeEndedLookUpCount() -> Int

    /// Sends a request. What comes of it is told by `advance` under this key, and never before that is called.
    func send(_ request: consuming ClientRequest, key: UInt64)

    /// Breaks a request off, about which nothing is told then.
    func cancel(_ key: UInt64)

    /// Goes on with all requests for a while, and calls `finished` with what came of those that are over.
    func advance(_ finished: (_ key: UInt64, _ outcome: borrowing ClientOutcome) -> Void)
}

extension HTTPClient: RequestSender {}
