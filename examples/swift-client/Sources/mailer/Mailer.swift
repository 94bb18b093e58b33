// Sends letters through a queue. Start some workers, then add letters and see what becomes of them:
//
//     swift run mailer work
//     swift run mailer enqueue ann@example.org ben@example.org
//
// EMQ_URL names the server (http://localhost:8080), and EMQ_TOKEN has its token, if it needs one.

import Dispatch
import EMQClient
import Glibc

/// The content of a task.
struct Letter: Codable {
    var to: String
    var subject: String
}

/// The result of a task.
struct Delivery: Codable {
    var size: Int
    var attempt: Int
}

@main
struct Mailer {
    static func main() async {
        let words = Array(CommandLine.arguments.dropFirst())
        do {
            let client = try EMQClient()
            switch words.first {
            case "enqueue" where words.count > 1: try await enqueue(Array(words.dropFirst()), client)
            case "work" where words.count == 1: try await work(client)
            default:
                print("usage: mailer work | mailer enqueue ADDRESS…")
                exit(2)
            }
            await client.close()
        } catch {
            print("mailer: \(error)")
            exit(1)
        }
    }

    /// Adds a letter for each address, in one request, and prints what becomes of them.
    static func enqueue(_ addresses: [String], _ client: EMQClient) async throws {
        let options = TaskOptions(
            maxRetries: 5, backoff: Backoff(min: .milliseconds(100), max: .seconds(60), jitter: 0.1),
            keep: .seconds(3600))
        let letters = try addresses.map { try NewTask(Letter(to: $0, subject: "Hello"), options: options) }
        for (address, letter) in zip(addresses, try await client.enqueue(letters, to: "mail")) {
            let outcome = try await client.result(of: letter.id, timeout: .seconds(60))
            if outcome.state == .done {
                let delivery = try outcome.decode(Delivery.self)
                print("\(address): \(delivery.size) bytes, attempt \(delivery.attempt)")
            } else {
                print("\(address): \(outcome.state), \(try await client.task(letter.id).error ?? "no error yet")")
            }
        }
    }

    /// Sends letters, eight at a time, until SIGTERM or SIGINT. What is in work may end before the program does.
    static func work(_ client: EMQClient) async throws {
        let worker = Task {
            try await client.work("mail", concurrency: 8, lease: .seconds(30), worker: "mailer") { task in
                try await send(task)
            }
        }
        let signals = [SIGTERM, SIGINT].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { worker.cancel() }
            source.resume()
            return source
        }
        defer { for source in signals { source.cancel() } }
        do { try await worker.value } catch is CancellationError { print("mailer: stopped") }
    }

    /// The work on one task. What it returns is the result; what it throws is shown with the task.
    static func send(_ task: EMQTask) async throws -> Delivery {
        // No retry makes this a letter.
        guard let letter = try? task.decode(Letter.self) else { throw Dead("this is not a letter") }
        guard letter.to.contains("@") else { throw Dead("'\(letter.to)' is not an address") }
        // A mail server that is busy at first.
        if task.attempt == 1 { throw Retry(after: .milliseconds(100), "the mail server is busy") }
        try await Task.sleep(for: .milliseconds(10))
        return Delivery(size: letter.subject.utf8.count, attempt: task.attempt)
    }
}
