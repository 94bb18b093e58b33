// What a program notes of each request until the answer has been sent, for a log of all requests.

/// A record of one request, which the program makes (`RequestHandler.record`).
open class RequestRecord {
    /// A record of nothing.
    public init() {}

    /// Notes that the answer was handed to the kernel, or that it never will be. It is called once.
    ///
    /// - Parameters:
    ///   - status: The status of the answer; nil if the client left before there was one.
    ///   - byteCount: The size of the answer with its head.
    ///   - isSent: Whether all of it was handed to the kernel.
    open func end(status: Int?, byteCount: Int, isSent: Bool) {}
}
