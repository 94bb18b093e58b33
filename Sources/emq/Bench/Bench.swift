// `emq bench`: a load generator for a running emq, as redis-benchmark is for Redis. It is a closed loop: each
// connection sends its next request when it has the response to the last one.

import Bytes
import Glibc
import Net
import UID

/// Measures a running server.
final class Bench {
    /// The number of tasks in one request of the batch phase.
    private static let batchSize = 100
    /// A phase without any response for this long has failed.
    private static let stallMilliseconds: Int64 = 30_000

    private let options: BenchOptions
    /// The issuers whose certificates are accepted; nil for plain connections.
    private let trust: TLSTrust?
    private let loop: EventLoop
    private let queue: String
    private lazy var enqueueRequest = request("/enqueue/\(queue)", task)
    private lazy var batchRequest = request(
        "/enqueue/\(queue)", "[\(Array(repeating: task, count: Bench.batchSize).joined(separator: ","))]")
    private lazy var takeRequest = request("/wait/", "{\"queues\":[\"\(queue)\"],\"timeout\":10000}")
    private var connections: [BenchConnection] = []
    /// The reason why the first connection was lost.
    private var failure: BenchFailure?
    private var failures = 0

    /// Runs the command.
    static func run(_ invocation: Invocation) throws -> ExitCode {
        let bench = try Bench(try BenchOptions(invocation))
        try bench.measure()
        return bench.failures == 0 ? .done : .failed
    }

    private init(_ options: BenchOptions) throws {
        self.options = options
        trust =
            options.endpoint.isSecure == true ? try TLSTrust(additionalFile: options.issuersPath, option: "--ca") : nil
        loop = try EventLoop()
        var random = KernelRandom()
        queue = "bench-\(String(random.next(), radix: 36))"
    }

    private var task: String { "{\"content\":\"\(String(repeating: "x", count: options.contentBytes))\"}" }

    private func request(_ path: String, _ body: String) -> [UInt8] {
        Array(
            ("POST \(path) HTTP/1.1\r\nHost: \(options.endpoint.authority)\r\nContent-Type: application/json\r\n"
                + options.authorization + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)").utf8)
    }

    private func acknowledgement(of receipt: ArraySlice<UInt8>) -> [UInt8] {
        request("/ack/", "{\"ids\":[\"\(String(decoding: receipt, as: UTF8.self))\"]}")
    }

    private func measure() throws {
        // The program needs a few descriptors for itself.
        let (needed, allowed) = (options.connections + options.idleWaiters + 16, Emq.raiseFileLimit())
        guard needed <= allowed else {
            throw BenchFailure(
                description: "these connections need \(needed) open files; the limit is \(allowed) (ulimit -n)")
        }
        if let process = options.serverProcess, serverCPUMicroseconds() == nil {
            throw BenchFailure(description: "--pid: cannot read /proc/\(process)/stat; is that process running?")
        }
        connections = try (0..<options.connections).map { _ in try connect() }
        for number in 0..<options.idleWaiters {
            let waiter = try connect()
            waiter.send(request("/wait/", "{\"queues\":[\"\(queue)-\(number)\"],\"timeout\":3600000}"))
        }
        Emq.print(
            "phase    operations  seconds    rate/s  failed   p50 µs   p90 µs   p99 µs p99.9 µs   max µs"
                + (options.serverProcess == nil ? "" : "  CPU µs/op"))
        var left = 0
        for phase in options.phases {
            switch phase {
            case .enqueue:
                try run("enqueue", steps: [.enqueue], operations: options.operations)
                left += options.operations
            case .drain:
                // There must be tasks to drain.
                if left == 0 { try run(nil, steps: [.enqueue], operations: options.operations) }
                try run("drain", steps: [.take, .acknowledge], operations: options.operations)
                left = max(0, left - options.operations)
            case .cycle: try run("cycle", steps: [.enqueue, .take, .acknowledge], operations: options.operations)
            case .chain:
                try run("chain", steps: [.enqueue, .takeAcknowledging], operations: options.operations)
                // Each connection still holds its last task.
                try acknowledgeHeld()
            case .batch:
                let requests = (options.operations + Bench.batchSize - 1) / Bench.batchSize
                try run("batch", steps: [.enqueueBatch], operations: requests, tasksPerOperation: Bench.batchSize)
                left += requests * Bench.batchSize
            case .wakeup: try runWakeup(operations: min(options.operations, 10_000), left: &left)
            }
        }
        if left > 0 { try run(nil, steps: [.take, .acknowledge], operations: left) }
    }

    private func connect() throws -> BenchConnection {
        let connection = try BenchConnection(to: options.endpoint, trust: trust)
        try connection.watch(on: loop)
        connection.failed = { [unowned self] in failure = failure ?? $0 }
        return connection
    }

    private enum Step { case enqueue, enqueueBatch, take, takeAcknowledging, acknowledge }

    /// The receipt that the next request of each connection acknowledges.
    private var held: [ObjectIdentifier: ArraySlice<UInt8>] = [:]

    private func takeAcknowledging(_ receipt: ArraySlice<UInt8>?) -> [UInt8] {
        let ids = receipt.map { "\"\(String(decoding: $0, as: UTF8.self))\"" } ?? ""
        return request("/wait/", "{\"queues\":[\"\(queue)\"],\"timeout\":10000,\"ack\":[\(ids)]}")
    }

    private func acknowledgeHeld() throws {
        let count = held.count
        var acknowledged = 0
        for connection in connections {
            connection.answered = { _, _, _ in acknowledged += 1 }
            guard let receipt = held.removeValue(forKey: ObjectIdentifier(connection)) else { continue }
            connection.send(acknowledgement(of: receipt))
        }
        try turn("cleanup") {
            acknowledged == count
        } progress: {
            acknowledged
        }
    }

    /// Runs operations of several requests each on all connections. Reports on them if the run has a name.
    private func run(_ name: String?, steps: [Step], operations: Int, tasksPerOperation: Int = 1) throws {
        var latencies = Latencies(count: operations * steps.count)
        var started = 0
        var finished = 0
        var failed = 0
        var position = [ObjectIdentifier: Int](minimumCapacity: connections.count)
        let send = { (connection: BenchConnection, step: Int, receipt: ArraySlice<UInt8>) in
            position[ObjectIdentifier(connection)] = step
            switch steps[step] {
            case .enqueue: connection.send(self.enqueueRequest)
            case .enqueueBatch: connection.send(self.batchRequest)
            case .take: connection.send(self.takeRequest)
            case .takeAcknowledging:
                connection.send(self.takeAcknowledging(self.held[ObjectIdentifier(connection)]))
            case .acknowledge: connection.send(self.acknowledgement(of: receipt))
            }
        }
        let begin = { (connection: BenchConnection) in
            if started == operations { return }
            started += 1
            send(connection, 0, [])
        }
        for connection in connections {
            connection.answered = { connection, status, body in
                latencies.add(monotonicNanoseconds() - connection.sentAt)
                let next = (position[ObjectIdentifier(connection)] ?? 0) + 1
                let receipt = Bench.receipt(in: body)
                let isTake = steps[next - 1] == .take || steps[next - 1] == .takeAcknowledging
                let isTaken = !isTake || receipt != nil
                if steps[next - 1] == .takeAcknowledging { self.held[ObjectIdentifier(connection)] = receipt }
                if status == 200, isTaken, next < steps.count { return send(connection, next, receipt ?? []) }
                if status != 200 || !isTaken { failed += 1 }
                finished += 1
                begin(connection)
            }
        }
        let (startTime, startCPU) = (monotonicNanoseconds(), serverCPUMicroseconds())
        for connection in connections { begin(connection) }
        try turn(name ?? "cleanup") {
            finished == operations
        } progress: {
            finished
        }
        failures += failed
        guard let name else { return }
        report(name, operations * tasksPerOperation, failed, startTime: startTime, startCPU: startCPU, &latencies)
    }

    /// One worker waits, one producer enqueues; measures the time from each enqueue to its delivery.
    private func runWakeup(operations: Int, left: inout Int) throws {
        // The queue must be empty, or the worker would not have to wait.
        if left > 0 { try run(nil, steps: [.take, .acknowledge], operations: left) }
        left = 0
        let (producer, worker) = (try connect(), try connect())
        var latencies = Latencies(count: operations)
        var finished = 0
        var failed = 0
        var isEnqueued = false
        var isAcknowledged = false
        let goOn = {
            guard isEnqueued, isAcknowledged else { return }
            finished += 1
            if finished < operations { worker.send(self.takeRequest) }
            (isEnqueued, isAcknowledged) = (false, false)
        }
        producer.answered = { _, status, _ in
            if status != 200 { failed += 1 }
            isEnqueued = true
            goOn()
        }
        worker.answered = { worker, status, body in
            guard let receipt = Bench.receipt(in: body) else {
                if status != 200 { failed += 1 }
                isAcknowledged = true
                return goOn()
            }
            latencies.add(monotonicNanoseconds() - producer.sentAt)
            worker.send(self.acknowledgement(of: receipt))
        }
        let (startTime, startCPU) = (monotonicNanoseconds(), serverCPUMicroseconds())
        worker.send(takeRequest)
        var enqueued = 0
        try turn("wakeup") {
            // The worker has sent its request before this one, so it already waits when the server gets this one.
            if enqueued == finished, finished < operations {
                enqueued += 1
                producer.send(enqueueRequest)
            }
            return finished == operations
        } progress: {
            finished
        }
        failures += failed
        report("wakeup", operations, failed, startTime: startTime, startCPU: startCPU, &latencies)
    }

    /// Turns the loop until `isFinished`. Throws if there is no progress.
    private func turn(_ name: String, until isFinished: () -> Bool, progress: () -> Int) throws {
        var seen = -1
        var deadline: Int64 = 0
        while !isFinished() {
            if progress() != seen {
                seen = progress()
                deadline = loop.now + Bench.stallMilliseconds
            }
            loop.turn(until: deadline)
            if let failure { throw failure }
            if loop.now >= deadline {
                throw BenchFailure(description: "\(name) stalled after \(seen) operations")
            }
        }
    }

    /// The receipt in the response to a wait.
    private static func receipt(in body: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        // The receipt is at the end of a task, so this finds it from there without reading the content.
        guard body.count > 60, body.first == UInt8(ascii: "[") else { return nil }
        let end = body.endIndex - 4
        guard body[end...].elementsEqual("\"}]\n".utf8), let quote = body[..<end].lastIndex(of: UInt8(ascii: "\""))
        else {
            return nil
        }
        return body[(quote + 1)..<end]
    }

    private func report(
        _ name: String, _ operations: Int, _ failed: Int, startTime: UInt64, startCPU: Double?,
        _ latencies: inout Latencies
    ) {
        let seconds = Double(monotonicNanoseconds() - startTime) / 1e9
        latencies.sort()
        var line = padded(name, to: -8) + padded("\(operations)", to: 11) + padded(decimal(seconds, digits: 2), to: 9)
        line += padded("\(Int(Double(operations) / seconds))", to: 10) + padded("\(failed)", to: 8)
        for share in [0.5, 0.9, 0.99, 0.999, 1] {
            line += padded(decimal(latencies.microseconds(share: share), digits: 0), to: 9)
        }
        if let startCPU, let cpu = serverCPUMicroseconds() {
            line += padded(decimal((cpu - startCPU) / Double(operations), digits: 1), to: 11)
        }
        Emq.print(line)
    }

    private func padded(_ text: String, to width: Int) -> String {
        let blanks = String(repeating: " ", count: max(0, abs(width) - text.count))
        return width < 0 ? text + blanks : blanks + text
    }

    private func decimal(_ number: Double, digits: Int) -> String {
        let scale = digits == 0 ? 1.0 : 100.0
        let scaled = Int((number * scale).rounded())
        if digits == 0 { return "\(scaled)" }
        return "\(scaled / 100).\(scaled % 100 < 10 ? "0" : "")\(scaled % 100)"
    }

    /// The CPU time of the server's process, from /proc/PID/stat (proc(5)).
    private func serverCPUMicroseconds() -> Double? {
        guard let process = options.serverProcess,
            let bytes = try? File.read("/proc/\(process)/stat", maximumByteCount: 1024)
        else { return nil }
        // The name in parentheses may contain anything. Fields 14 and 15 are user and system time.
        let text = String(decoding: bytes, as: UTF8.self)
        guard let name = text.lastIndex(of: ")") else { return nil }
        let fields = text[name...].split(separator: " ").dropFirst()
        guard fields.count > 13, let user = Double(fields[fields.startIndex + 11]),
            let system = Double(fields[fields.startIndex + 12])
        else { return nil }
        return (user + system) * 1e6 / Double(sysconf(Int32(_SC_CLK_TCK)))
    }
}
