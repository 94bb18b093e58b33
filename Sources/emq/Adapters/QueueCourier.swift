// The outbound half of an adapter: how the tasks of a legacy system's queues reach its receivers.

import Delivery
import Net
import Queues

/// A courier that owns queues.
protocol QueueCourier: Courier {
    /// Whether it sends the tasks of a queue.
    func owns(_ queueName: Span<UInt8>) -> Bool

    /// Whether its queues accept tasks from `/enqueue`, not only from the clients of its system.
    var acceptsEnqueue: Bool { get }

    /// Completes a configuration of one of its queues with the system's defaults.
    func complete(_ configuration: inout QueueConfiguration, of queueName: Span<UInt8>)

    /// Prepares its queues. The server calls this after all tasks of an earlier process have been recovered, and again
    /// in each turn until it succeeds.
    ///
    /// - Returns: whether it succeeded.
    func begin(on broker: isolated Broker) -> Bool
}

extension QueueCourier {
    var acceptsEnqueue: Bool { false }

    func complete(_ configuration: inout QueueConfiguration, of queueName: Span<UInt8>) {}

    func begin(on broker: isolated Broker) -> Bool { true }
}

extension PushOptions {
    /// A task's request to a URL, in the form in which it is stored. Without a URL, the courier has to know it.
    static func request(to url: HTTPURL?, timeoutMilliseconds: Int64? = nil) -> [UInt8] {
        var options = PushOptions()
        options.url = url
        options.timeoutMilliseconds = timeoutMilliseconds
        var stored: [UInt8] = []
        options.write(isMasked: false, to: &stored)
        return stored
    }
}

extension ClientRequest {
    /// The number of redirects that Go's HTTP client follows: it stops after ten requests.
    static let redirectsOfGo = 9

    /// A POST of JSON, as Go's HTTP client sends it. The legacy systems that send with this are written in Go.
    init(
        posting json: [UInt8], to url: HTTPURL, contentType: String = "application/json", timeoutMilliseconds: Int64
    ) {
        var fields = Array("User-Agent: Go-http-client/1.1\r\nContent-Type: \(contentType)\r\n".utf8)
        if ClientRequest.canDecodeContent { fields += "Accept-Encoding: gzip\r\n".utf8 }
        self.init(url: url, method: Array("POST".utf8), fields: fields, body: json)
        decodesContent = true
        self.timeoutMilliseconds = timeoutMilliseconds
        redirects.limit = ClientRequest.redirectsOfGo
        redirects.failsBeyondLimit = true
        redirects.encodesTargets = true
    }
}
