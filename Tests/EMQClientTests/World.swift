// What the tests of the client share: the real server with a client, and questions that are asked until answered.

import Bytes
import EMQClient
import Foundation
import Support
import Testing

/// A server of a test's own, and a client of it.
struct World: Sendable {
    let server: RunningServer
    let client: EMQClient

    /// Starts a server, and makes a client. `arguments` come after the address.
    init(_ arguments: [String] = [], _ options: EMQClient.Options = EMQClient.Options()) async throws {
        server = try await onThread { try RunningServer(["--addr", "127.0.0.1:0"] + arguments) }
        client = try EMQClient(server.url, options: trusting(options))
    }

    /// Another client of the same server.
    func other(_ options: EMQClient.Options = EMQClient.Options()) throws -> EMQClient {
        try EMQClient(server.url, options: trusting(options))
    }

    /// Waits until so many waits name a queue.
    func waits(for queue: String, count: Int = 1) async throws {
        try await soon("\(count) waits for \(queue)") {
            try await client.stats(of: queue).waiters == count ? true : nil
        }
    }
}

extension RunningServer {
    var url: String { "\(TestTLS.scheme)://localhost:\(port)" }
}

/// Options with which a client trusts the servers of tests.
func trusting(_ options: EMQClient.Options) throws -> EMQClient.Options {
    guard TestTLS.isOverTLS else { return options }
    var options = options
    options.issuersPath = try Certificates.shared.authorityFile
    return options
}

/// Asks again until there is an answer, for up to two minutes, since the machine may be slow.
@discardableResult
func soon<Value>(_ what: String, _ question: () async throws -> Value?) async throws -> Value {
    let deadline = ContinuousClock.now + .seconds(120)
    while true {
        if let value = try await question() { return value }
        if ContinuousClock.now > deadline { throw Failure(description: "waited in vain for \(what)") }
        try await Task.sleep(for: .milliseconds(3))
    }
}

/// The error of a call; nil, and an issue, if it succeeds or throws anything else.
func refusal(_ location: SourceLocation = #_sourceLocation, of call: () async throws -> Void) async -> EMQError? {
    do {
        try await call()
        Issue.record("it has succeeded", sourceLocation: location)
    } catch let error as EMQError {
        return error
    } catch {
        Issue.record("it throws \(error)", sourceLocation: location)
    }
    return nil
}

/// Something that several Swift tasks write.
final class Notes<Element: Sendable>: Sendable {
    private let values = Locked<[Element]>([])

    func add(_ value: Element) { values.with { $0.append(value) } }

    var all: [Element] { values.with { $0 } }

    /// Waits until it has so many elements.
    @discardableResult
    func reach(_ count: Int) async throws -> [Element] {
        try await soon("\(count) notes, not \(all)") { all.count >= count ? all : nil }
    }
}

/// Lets those pass who wait for it, once it is open.
final class Gate: Sendable {
    private let isOpen = Locked(false)

    func open() { isOpen.with { $0 = true } }

    func pass() async throws { try await soon("the gate") { isOpen.with { $0 } ? true : nil } }
}

/// A folder that goes away with this object.
final class Folder: Sendable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.appending(path: "emq-\(UUID().uuidString.prefix(8))").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Writes a file, and returns its path.
    func file(_ name: String, _ text: String) throws -> String {
        try Data(text.utf8).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
        return "\(path)/\(name)"
    }
}
