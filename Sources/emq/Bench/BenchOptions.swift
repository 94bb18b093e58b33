// The command line of the load generator.

import Net

/// What `emq bench` was asked to do.
struct BenchOptions {
    /// One thing to measure.
    enum Phase: String, CaseIterable {
        case enqueue, drain, cycle, chain, batch, wakeup
    }

    var address = Address.tcp(host: "localhost", port: 8080)
    var phases = Phase.allCases
    var connections = 32
    var operations = 100_000
    var contentBytes = 100
    var idleWaiters = 0
    var serverProcess: Int?

    static let help = """
        emq bench: a load generator for a running emq

        usage: emq bench [options]

          --addr ADDRESS       the server: localhost:8080 (default), unix:/path
          --phases LIST        what to measure, in this order (default: all of them)
                                 enqueue  one task a request
                                 drain    take a task and acknowledge it
                                 cycle    enqueue, take, acknowledge, on each connection in turn
                                 chain    enqueue, take while acknowledging the task before
                                 batch    100 tasks a request; an operation is a task
                                 wakeup   from an enqueue to its delivery at a waiting worker
          --connections N      how many at once (default 32)
          --operations N       of each phase (default 100000; a wakeup phase has at most 10000)
          --size BYTES         of each task's content (default 100)
          --idle-waiters N     long polls on other queues that stay open meanwhile (default 0)
          --pid N              the server's process, to show its CPU time

        It works on a queue of its own, which is empty again when it has ended well. Each connection has one
        request on its way. Times are in microseconds, of one request; for wakeup, of a delivery.
        """

    /// Reads the command line behind `bench`.
    ///
    /// - Throws: `UsageError` with one line that says what is wrong.
    init(_ arguments: [String]) throws(UsageError) {
        var rest = arguments[...]
        while let flag = rest.popFirst() {
            let known = [
                "--addr", "--phases", "--connections", "--operations", "--size", "--idle-waiters", "--pid", "--help",
            ]
            guard flag.hasPrefix("-") else { throw UsageError("there is nothing to do with '\(flag)'") }
            guard known.contains(flag) else {
                throw UsageError("there is no option '\(flag)'; \(nearestName(to: flag, among: known))")
            }
            guard let value = rest.popFirst() else { throw UsageError("\(flag) needs a value") }
            switch flag {
            case "--addr":
                do throws(AddressError) { address = try Address(value) } catch { throw UsageError("\(error)") }
            case "--phases": phases = try BenchOptions.phases(value)
            case "--connections": connections = try BenchOptions.number(flag, value, 1...100_000)
            case "--operations": operations = try BenchOptions.number(flag, value, 1...3_000_000)
            case "--size": contentBytes = try BenchOptions.number(flag, value, 0...1_000_000)
            case "--idle-waiters": idleWaiters = try BenchOptions.number(flag, value, 0...100_000)
            default: serverProcess = try BenchOptions.number(flag, value, 1...Int(Int32.max))
            }
        }
    }

    private static func phases(_ list: String) throws(UsageError) -> [Phase] {
        var phases: [Phase] = []
        for name in list.split(separator: ",") {
            guard let phase = Phase(rawValue: String(name)) else {
                let known = Phase.allCases.map(\.rawValue).joined(separator: ", ")
                throw UsageError("--phases is a list of \(known), not '\(name)'")
            }
            phases.append(phase)
        }
        if phases.isEmpty { throw UsageError("--phases names at least one phase") }
        return phases
    }

    private static func number(
        _ flag: String, _ value: String, _ range: ClosedRange<Int>
    ) throws(UsageError) -> Int {
        guard let number = Int(value), range.contains(number) else {
            throw UsageError(
                "\(flag) is a whole number from \(range.lowerBound) to \(range.upperBound), not '\(value)'")
        }
        return number
    }
}
