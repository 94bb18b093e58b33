// Opening a connection to a RabbitMQ, and what it carries, plain and through the relay that encrypts.

import Foundation
import Net
import Support
import Synchronization
import Testing

@testable import AMQP

/// Stands for a RabbitMQ: a listener, and the connections that a test accepts from it.
private struct Broker {
    let listener: TestSocket
    let url: String

    /// With a certificate, it speaks TLS.
    init(_ certificate: Certificates.Kind? = nil) throws {
        listener = try TestSocket(listeningAt: .ipv4(port: 0), tls: certificate.map { try TestTLS.server($0) })
        url = "\(certificate == nil ? "amqp" : "amqps")://127.0.0.1:\(listener.localPort)"
    }

    /// Opens a connection, and returns both sides of it.
    func connect() throws -> (BrokerSocket, peer: TestSocket) {
        let peer = Later { [listener] in
            let peer = listener.accept()
            return peer?.shakeHands() == true ? peer : nil
        }
        let socket = try open(url)
        return (socket, try #require(peer.value))
    }
}

/// What a thread computes.
private final class Later<Value: Sendable>: Sendable {
    private let result = Mutex<Value?>(nil)
    private let condition = NSCondition()

    init(_ body: @escaping @Sendable () -> Value) {
        Thread.detachNewThread { [self] in
            let value = body()
            condition.withLock {
                result.withLock { $0 = value }
                condition.broadcast()
            }
        }
    }

    /// Waits for it.
    var value: Value {
        condition.withLock {
            while true {
                if let value = result.withLock({ $0 }) { return value }
                condition.wait()
            }
        }
    }
}

private func url(_ text: String) throws -> AMQPURL { try AMQPURL(Array(text.utf8).span) }

private func open(
    _ text: String, timeoutMilliseconds: Int64 = 100_000, isCancelled: () -> Bool = { false },
    refusal: (IPAddress, UInt16, String) -> String? = { _, _, _ in nil }
) throws -> BrokerSocket {
    let path = try? Certificates.shared.authorityFile
    let trust = try path.map { try TLSTrust(authorities: Array(Data(contentsOf: URL(fileURLWithPath: $0)))) }
    return try BrokerSocket(
        to: url(text), trust: trust, refusal: refusal, timeoutMilliseconds: timeoutMilliseconds,
        isCancelled: isCancelled)
}

/// Why a connection cannot be opened.
private func failure(
    _ text: String, timeoutMilliseconds: Int64 = 100_000, isCancelled: () -> Bool = { false },
    refusal: (IPAddress, UInt16, String) -> String? = { _, _, _ in nil }
) throws -> AMQPFailure {
    try #require(throws: AMQPFailure.self) {
        _ = try open(text, timeoutMilliseconds: timeoutMilliseconds, isCancelled: isCancelled, refusal: refusal)
    }
}

/// After how many milliseconds without an acknowledgement by TCP this process' connections to a port fail.
private func userTimeouts(ofConnectionsTo port: UInt16) -> [Int32] {
    (0..<Int32(4096)).compactMap { descriptor in
        var address = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &size) }
        }
        guard result == 0, address.sin_family == AF_INET, address.sin_port == port.bigEndian else { return nil }
        var timeout: Int32 = -1
        size = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, &timeout, &size)
        return timeout
    }
}

/// Only heartbeats may be sent for a long time, which a network that drops packets does not answer.
private func expectAUserTimeout(_ broker: Broker) throws {
    let (socket, peer) = try broker.connect()
    let library = Library(socket)
    withExtendedLifetime((socket, peer, library)) {
        let timeouts = userTimeouts(ofConnectionsTo: broker.listener.localPort)
        #expect(!timeouts.isEmpty && timeouts.allSatisfy { $0 == 20_000 }, "\(timeouts)")
    }
}

private func randomBytes(_ count: Int) -> [UInt8] {
    var random = SeededRandom()
    return (0..<count / 8).flatMap { _ in withUnsafeBytes(of: random.next(), Array.init) }
}

/// The library's side of a connection: a descriptor, used with blocking calls and closed at the end.
private final class Library: Sendable {
    let descriptor: Int32

    init(_ socket: BrokerSocket) { descriptor = socket.descriptor }
    deinit { close(descriptor) }

    private func wait(for events: Int32) -> Bool {
        var state = pollfd(fd: descriptor, events: Int16(events), revents: 0)
        return uninterrupted { poll(&state, 1, Int32(TestSocket.timeoutSeconds * 1000)) } > 0
    }

    /// Waits for bytes; empty at the end, nil on a failure.
    func receive(_ maximum: Int = 65536) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: maximum)
        let count = wait(for: POLLIN) ? recv(descriptor, &bytes, maximum, 0) : -1
        return count < 0 ? nil : Array(bytes[..<count])
    }

    /// Receives until the end or a failure.
    func receiveAll(_ maximum: Int = 65536) -> [UInt8] {
        var all: [UInt8] = []
        while let bytes = receive(maximum), !bytes.isEmpty { all += bytes }
        return all
    }

    /// Sends all bytes; false if that fails.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count < 0, errno != EAGAIN { return false }
            rest = rest.dropFirst(max(0, count))
            if count < 0, !wait(for: POLLOUT) { return false }
        }
        return true
    }

    func halfClose() { shutdown(descriptor, Int32(SHUT_WR)) }
}

extension TestSocket {
    /// Receives until the end.
    fileprivate func receiveAll() throws -> [UInt8] {
        var all: [UInt8] = []
        while true {
            let bytes = try receive()
            if bytes.isEmpty { return all }
            all += bytes
        }
    }
}

@Suite(.blocking) struct BrokerSocketTests {
    @Test func aPlainConnectionCarriesBytesUntilBothOwnersHaveClosedIt() throws {
        let (socket, peer) = try Broker().connect()
        #expect(fcntl(socket.descriptor, F_GETFL) & O_NONBLOCK != 0)
        #expect(fcntl(socket.descriptor, F_GETFD) & FD_CLOEXEC != 0)
        var library: Library? = Library(socket)
        library?.send(Array("AMQP".utf8))
        #expect(try peer.receive() == Array("AMQP".utf8))
        peer.send([1, 2])
        #expect(library?.receive() == [1, 2])
        library = nil
        withExtendedLifetime(socket) { #expect(peer.receiveNow() == nil) }
    }

    @Test func itEndsWithItsOwners() throws {
        let peer = try {
            let (socket, peer) = try Broker().connect()
            _ = Library(socket)
            return peer
        }()
        #expect(try peer.receiveAll() == [])
    }

    @Test func itFailsWhenTheNetworkDropsPackets() throws { try expectAUserTimeout(Broker()) }

    @Test func aRefusedAddressIsNotConnectedTo() throws {
        let broker = try Broker()
        let port = broker.listener.localPort
        var asked: [String] = []
        let failure = try failure(
            "amqp://localhost:\(port)",
            refusal: { address, port, host in
                asked.append("\(address) \(port) \(host)")
                return "it is \(address)"
            })
        #expect(asked.contains("127.0.0.1 \(port) localhost"), "\(asked)")
        #expect(failure.description.hasPrefix("localhost at "), "\(failure)")
        #expect(failure.description.contains(" may not be reached: it is "), "\(failure)")
        #expect(!broker.listener.isReadable(withinMilliseconds: 0))
    }

    /// localhost may have the address ::1 too, where nothing listens.
    @Test func theAddressesOfAHostAreTriedInTurn() throws {
        let broker = try Broker()
        let socket = try open(
            "amqp://localhost:\(broker.listener.localPort)",
            refusal: { address, _, _ in address.isIPv4 ? nil : "it is not IPv4" })
        #expect(broker.listener.accept() != nil)
        _ = Library(socket)
    }

    @Test(arguments: ["amqp", "amqps"])
    func aClosedPortIsNamed(_ scheme: String) throws {
        let port = try unusedPort()
        let failure = try failure("\(scheme)://127.0.0.1:\(port)")
        #expect(failure.description == "cannot connect to 127.0.0.1:\(port): Connection refused")
    }

    @Test func anUnknownHostIsNamed() throws {
        let failure = try failure("amqp://nobody.invalid")
        #expect(failure.description.hasPrefix("the host 'nobody.invalid' cannot be found: "), "\(failure)")
    }

    @Test func aBrokerThatDoesNotAnswerTimesOut() throws {
        let silent = try SilentPort()
        let failure = try failure("amqp://127.0.0.1:\(silent.port)", timeoutMilliseconds: 50)
        #expect(failure == AMQPFailure("no connection to 127.0.0.1:\(silent.port) within 50 ms"))
    }

    @Test func aCancelledAttemptEnds() throws {
        let silent = try SilentPort()
        var count = 0
        let failure = try failure(
            "amqp://127.0.0.1:\(silent.port)",
            isCancelled: {
                count += 1
                return count > 2
            })
        #expect(failure == AMQPFailure("connecting to 127.0.0.1:\(silent.port) was cancelled"))
    }

    @Test func aConnectionThatIsResetHasNoTLSToBlame() throws {
        let (socket, peer) = try Broker().connect()
        let library = Library(socket)
        peer.resetOnClose()
        peer.close()
        #expect(library.receive() == nil)
        #expect(socket.relayFailure == nil)
    }
}

/// What needs TLS or works through the relay.
@Suite(.blocking, .enabled(if: TestTLS.isAvailable, "skipped: there is no OpenSSL 3 here"))
struct SecureBrokerSocketTests {
    @Test func itFailsWhenTheNetworkDropsPackets() throws { try expectAUserTimeout(Broker(.good)) }

    /// A peer that accepts and says nothing. AMQP has no name in ALPN, and HTTP would be the wrong one.
    @Test func aHandshakeWithoutAnswerTimesOutAndOffersNoProtocol() throws {
        let listener = try TestSocket(listeningAt: .ipv4(port: 0))
        let place = "127.0.0.1:\(listener.localPort)"
        let failure = try failure("amqps://\(place)", timeoutMilliseconds: 200)
        #expect(failure == AMQPFailure("no connection to \(place) within 200 ms"))
        let peer = try #require(listener.accept())
        let hello = try peer.receive()
        #expect(hello.first == 0x16 && !String(decoding: hello, as: UTF8.self).contains("http"))
    }

    @Test(arguments: [
        (Certificates.Kind.wrongHost, "is for DNS:elsewhere.test, not for 127.0.0.1"),
        (.unknownIssuer, "whose certificate is neither sent by the host nor one of those that emq trusts"),
        (.selfSigned, "is signed by itself"), (.expired, "expired on"),
    ])
    func aCertificateWithAFlawIsNamed(_ kind: Certificates.Kind, _ words: String) throws {
        let broker = try Broker(kind)
        let peer = Later { [listener = broker.listener] in listener.accept()?.shakeHands() }
        let failure = try failure(broker.url)
        #expect(failure.description.hasPrefix("no secure connection to 127.0.0.1:"), "\(failure)")
        #expect(failure.description.contains(words), "\(failure)")
        _ = peer.value
    }

    /// Without a trust, the issuers are the system's, which do not issue the tests' certificates.
    @Test func theSystemsIssuersAreTheDefault() throws {
        let broker = try Broker(.good)
        let peer = Later { [listener = broker.listener] in listener.accept()?.shakeHands() }
        let failure = try #require(throws: AMQPFailure.self) {
            _ = try BrokerSocket(to: url(broker.url), refusal: { _, _, _ in nil })
        }
        #expect(failure.description.contains("emq trusts"), "\(failure)")
        _ = peer.value
    }

    @Test func aPeerWithoutTLSIsNamed() throws {
        let listener = try TestSocket(listeningAt: .ipv4(port: 0))
        let peer = Later { listener.accept()?.send(Array("AMQP\u{0}\u{0}\u{9}\u{1}".utf8)) }
        let failure = try failure("amqps://127.0.0.1:\(listener.localPort)")
        #expect(failure.description.contains("it does not speak TLS"), "\(failure)")
        _ = peer.value
    }

    @Test func bytesGoBothWaysAtOnceAlsoToASlowReader() throws {
        let (socket, peer) = try Broker(.good).connect()
        let library = Library(socket)
        let (down, up) = (randomBytes(10 << 20), randomBytes(10 << 20))
        let threads = [
            Later {
                library.send(up)
                library.halfClose()
            },
            Later {
                peer.send(down)
                peer.halfClose()
            },
        ]
        let received = Later { (try? peer.receiveAll()) ?? [] }
        // Not more than a few bytes at a time, so that the relay's buffers are full.
        #expect(library.receiveAll(997) == down)
        #expect(received.value == up)
        for thread in threads { thread.value }
        #expect(socket.relayFailure == nil)
    }

    /// While the library reads nothing, the broker cannot send without end.
    @Test func aLibraryThatDoesNotReadHoldsTheBrokerBack() throws {
        let (socket, peer) = try Broker(.good).connect()
        let library = Library(socket)
        let block = [UInt8](repeating: 7, count: 16 << 20)
        let sender = Later {
            var byteCount = 0
            // If there is no room within this time, all buffers are full.
            while byteCount < block.count, peer.isWritable(withinMilliseconds: 300) {
                byteCount += max(0, peer.sendNow(block[byteCount...]))
            }
            return byteCount
        }
        #expect(sender.value < block.count)
        let rest = Later { [count = sender.value] in
            peer.send(Array(block[count...]))
            peer.halfClose()
        }
        #expect(library.receiveAll().count == block.count)
        rest.value
    }

    @Test func eitherSideCanEndItsOutputAndReadOn() throws {
        let (first, peer) = try Broker(.good).connect()
        let library = Library(first)
        peer.send([1])
        peer.halfClose()
        #expect(library.receiveAll() == [1])
        library.send([2])
        #expect(try peer.receive() == [2])
        library.halfClose()
        #expect(try peer.receiveAll() == [])

        let (second, otherPeer) = try Broker(.good).connect()
        let otherLibrary = Library(second)
        otherLibrary.send([3])
        otherLibrary.halfClose()
        #expect(try otherPeer.receiveAll() == [3])
        otherPeer.send([4])
        otherPeer.halfClose()
        #expect(otherLibrary.receiveAll() == [4])
        #expect(first.relayFailure == nil && second.relayFailure == nil)
    }

    @Test func whatTheLibrarySentBeforeItClosedArrives() throws {
        let bytes = randomBytes(300_000)
        let broker = try Broker(.good)
        let peer = try {
            let (socket, peer) = try broker.connect()
            // What the library does not read any more must not cost what it has sent.
            peer.send([9])
            let received = Later { Library(socket).send(bytes) }
            return (peer, received, Later { (try? peer.receiveAll()) ?? [] })
        }()
        #expect(peer.1.value)
        #expect(peer.2.value == bytes)
    }

    @Test func whatTheBrokerSentBeforeItClosedArrives() throws {
        let (socket, peer) = try Broker(.good).connect()
        let library = Library(socket)
        let bytes = [UInt8](repeating: 3, count: 100_000)
        #expect(peer.send(bytes))
        peer.close()
        #expect(library.receiveAll() == bytes)
        #expect(socket.relayFailure == nil)
    }

    @Test func aResetIsTheEndForTheLibrary() throws {
        let (socket, peer) = try Broker(.good).connect()
        let library = Library(socket)
        let port = peer.localPort
        peer.resetOnClose()
        peer.close()
        #expect(library.receiveAll() == [])
        #expect(socket.relayFailure == "the connection to 127.0.0.1:\(port) was lost")
        #expect(!library.send([1]))
    }

    /// A library that waits for room to send must not wait for ever.
    @Test func aResetEndsASendThatWaits() throws {
        let (socket, peer) = try Broker(.good).connect()
        let library = Library(socket)
        let sent = Later { library.send([UInt8](repeating: 1, count: 64 << 20)) }
        #expect(try !peer.receive().isEmpty)
        peer.resetOnClose()
        peer.close()
        #expect(!sent.value)
        #expect(socket.relayFailure != nil)
    }

    @Test func anEndWithoutGoodbyeIsAFailure() throws {
        let (socket, peer) = try Broker(.good).connect()
        let library = Library(socket)
        peer.send([1])
        peer.shutDown()
        #expect(library.receiveAll() == [1])
        #expect(
            socket.relayFailure?.contains("without the close_notify of TLS") == true, "\(socket.relayFailure ?? "")")
    }

    @Test(arguments: [nil, Certificates.Kind.good])
    func anInterruptEndsABlockedRead(_ certificate: Certificates.Kind?) throws {
        let (socket, peer) = try Broker(certificate).connect()
        let library = Library(socket)
        peer.send([1])
        #expect(library.receive() == [1])
        let received = Later { library.receive() }
        socket.interrupt()
        #expect(received.value == [])
        #expect(!library.send([1]))
        #expect(try peer.receiveAll() == [])
    }

    @Test func severalThreadsCanShareATrust() throws {
        let broker = try Broker(.good)
        let path = try Certificates.shared.authorityFile
        let trust = try TLSTrust(authorities: Array(Data(contentsOf: URL(fileURLWithPath: path))))
        let place = try url(broker.url)
        let threads = (0..<8).map { number in
            Later { () -> Bool in
                guard let socket = try? BrokerSocket(to: place, trust: trust, refusal: { _, _, _ in nil }) else {
                    return false
                }
                let library = Library(socket)
                return library.send([UInt8(number)]) && library.receive() == [UInt8(number)]
            }
        }
        let peers = try (0..<8).map { _ in
            let peer = try #require(broker.listener.accept())
            return Later { (try? peer.receive()).map(peer.send) == true }
        }
        for thread in threads { #expect(thread.value) }
        for peer in peers { #expect(peer.value) }
    }
}

extension TestSocket {
    /// Waits for room to send.
    func isWritable(withinMilliseconds milliseconds: Int32) -> Bool {
        var state = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        return uninterrupted { poll(&state, 1, milliseconds) } > 0
    }
}
