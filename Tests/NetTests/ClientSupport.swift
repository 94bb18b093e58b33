// What the tests of the client share.

import Foundation

@testable import Net

let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/// An address where connecting neither succeeds nor fails: its queue of connections is full.
final class DeadEnd {
    private let origin: TestOrigin
    private var fillers: [Int32] = []

    var port: UInt16 { origin.port }
    var url: String { origin.url }

    init(port: UInt16 = 0) throws {
        origin = try TestOrigin("127.0.0.2", port: port, backlog: 0)
        guard let address = IPAddress("127.0.0.2") else { return }
        let name = SocketAddress(address, port: origin.port)
        for _ in 0..<4 {
            let filler = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
            _ = name.withPointer { connect(filler, $0, $1) }
            fillers.append(filler)
        }
        guard origin.waitForConnection() else { throw Failure(description: "nothing connects to \(url)") }
    }

    deinit { for filler in fillers { close(filler) } }
}
