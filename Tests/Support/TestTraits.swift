// How tests share the machine: those that block or compute have threads of their own, those that suspend take turns.

// Only builds of tests find the library.
#if canImport(Testing)

    import Foundation
    import Testing

    extension Trait where Self == BlockingTests {
        /// The tests of the suite keep their thread from beginning to end: they block it to wait for a program or a
        /// socket, or compute.
        ///
        /// Swift has as many threads for asynchronous code as the machine has cores. A test that keeps one of them
        /// holds up every test that suspends, and a thousand such tests are in line. So tests of these suites run on
        /// other threads.
        public static var blocking: Self { BlockingTests() }
    }

    extension Trait where Self == TestsByTurns {
        /// A bounded number of the tests of such suites are under way at once, because each has programs and
        /// connections.
        public static var byTurns: Self { TestsByTurns() }
    }

    /// See `Trait.blocking`.
    public struct BlockingTests: SuiteTrait, TestTrait, TestScoping {
        /// The trait of a suite is that of its tests.
        public var isRecursive: Bool { true }

        /// Runs a test.
        public func provideScope(
            for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
        ) async throws {
            try await withTaskExecutorPreference(TestThreads.shared) { try await function() }
        }
    }

    /// Threads that run jobs in the order of their arrival.
    private final class TestThreads: TaskExecutor, @unchecked Sendable {
        // @unchecked: the condition guards the jobs.

        /// Such tests wait more than they compute, so there are more threads than cores.
        static let shared = TestThreads(count: 2 * ProcessInfo.processInfo.activeProcessorCount)

        private let condition = NSCondition()
        private var jobs: [UnownedJob] = []

        init(count: Int) {
            for _ in 0..<count {
                let thread = Thread { [self] in while true { next().runSynchronously(on: asUnownedTaskExecutor()) } }
                thread.stackSize = 8 << 20
                thread.start()
            }
        }

        func enqueue(_ job: consuming ExecutorJob) {
            let job = UnownedJob(job)
            condition.withLock {
                jobs.append(job)
                condition.signal()
            }
        }

        private func next() -> UnownedJob {
            condition.withLock {
                while jobs.isEmpty { condition.wait() }
                return jobs.removeFirst()
            }
        }
    }

    /// See `Trait.byTurns`.
    public struct TestsByTurns: SuiteTrait, TestTrait, TestScoping {
        /// The trait of a suite is that of its tests.
        public var isRecursive: Bool { true }

        /// Runs a test.
        public func provideScope(
            for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
        ) async throws {
            await turns.begin()
            do { try await function() } catch {
                await turns.end()
                throw error
            }
            await turns.end()
        }
    }

    private let turns = Turns(count: 16)

    /// Lets those who begin wait until it is their turn.
    private actor Turns {
        private var free: Int
        private var waiters: [CheckedContinuation<Void, Never>] = []

        init(count: Int) { free = count }

        func begin() async {
            if free > 0 { free -= 1 } else { await withCheckedContinuation { waiters.append($0) } }
        }

        func end() {
            if waiters.isEmpty { free += 1 } else { waiters.removeFirst().resume() }
        }
    }

#endif
