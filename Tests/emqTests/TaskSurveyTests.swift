// How those who look at all tasks share looks, memory and time: in virtual time, with answers that are as slow as a
// test wants.

import Support
import Testing

@testable import Net
@testable import Queues
@testable import emq

@Suite(.blocking) struct TaskSurveyTests {
    /// An answer that takes some slices, and much memory between the first and the last.
    private final class SlowReport: SurveyReport {
        var sliceCount = 0
        var isLong = false
        private(set) var deadCount: Int?
        private var isBegun = false

        override var mayTakeLong: Bool { isLong }
        override var draftByteCount: Int { isBegun ? 1_000_000 : 0 }

        override func extend(_ census: TaskCensus, asOf time: Int64, steps: inout Int) -> Bool {
            guard steps > 0 else { return false }
            isBegun = true
            sliceCount -= 1
            if sliceCount >= 0 {
                steps = 0
                return false
            }
            deadCount = census.groups.reduce(0) { $0 + $1.count }
            text = Array("{}".utf8)
            return true
        }
    }

    /// A server with tasks, and a survey of its own.
    private final class World {
        let server: VirtualServer
        private let http: HTTPServer
        private let survey: TaskSurvey
        private let ids: [String]
        private var kickedCount = 0

        /// Makes dead tasks.
        init(deadCount: Int, leadMilliseconds: Int64 = 10_000) throws {
            (server, http) = (try VirtualServer(), HTTPServer(loop: try EventLoop()))
            survey = TaskSurvey(leadMilliseconds: leadMilliseconds)
            var ids: [String] = []
            while ids.count < deadCount {
                let count = min(1000, deadCount - ids.count)
                let tasks = Array(repeating: "{}", count: count).joined(separator: ",")
                _ = try server.send("POST", "/enqueue/q", "[\(tasks)]", service: 0)
                let taken = try server.send("POST", "/wait/", "{\"queues\": [\"q\"], \"max\": \(count)}", service: 0)
                let new = try taken.tasks.compactMap { $0?["id"] as? String }
                let list = new.map { "\"\($0)\"" }.joined(separator: ",")
                _ = try server.send("POST", "/nak/", "{\"ids\": [\(list)], \"dead\": true}", service: 0)
                ids += new
            }
            self.ids = ids
        }

        /// Makes an answer for a request with this target.
        func make<Report>(_ target: String, _ body: (borrowing Request) -> Report) throws -> Report {
            var buffer = Buffer()
            buffer.append(Array("GET \(target) HTTP/1.1\r\nHost: emq.test\r\n\r\n".utf8).span)
            var parser = RequestParser(limits: RequestLimits())
            var heads = HeadCache()
            #expect(try parser.parse(&buffer, &heads))
            let source = Array(copying: buffer.span)
            return withUnsafePointer(to: parser.head) { head in
                body(
                    Request(
                        bytes: source.span, head: head, service: 0, ticket: Ticket(connection: 0, serial: 0),
                        bodyObserver: nil))
            }
        }

        /// Asks for an answer; those with the same target share it. If nothing is under way, this wakes the server.
        func ask(_ target: String, sliceCount: Int = 0, isLong: Bool = false) throws -> SlowReport {
            if !survey.isUnderWay { step() }
            return try askInSameTurn(target, sliceCount: sliceCount, isLong: isLong)
        }

        /// Asks as `ask` does, in the turn in which others have asked.
        func askInSameTurn(_ target: String, sliceCount: Int = 0, isLong: Bool = false) throws -> SlowReport {
            let report = try make(target) { SlowReport(of: $0, by: .anyone) }
            (report.sliceCount, report.isLong) = (sliceCount, isLong)
            // The calling thread is the broker's isolation, here and below.
            nonisolated(unsafe) let (survey, asking) = (survey, report)
            let (http, now) = (http, server.now)
            server.withBroker { broker in
                var responses = ResponseStream(dates: DateField())
                _ = try? survey.begin(asking, for: &responses, of: http, now: now, on: broker)
            }
            return report
        }

        /// Does one turn.
        func step() {
            nonisolated(unsafe) let survey = survey
            let (http, now) = (http, server.now)
            server.withBroker { survey.turn(http, now: now, on: $0) }
        }

        func finish() {
            for _ in 0..<10_000 where survey.isUnderWay { step() }
            #expect(!survey.isUnderWay)
        }

        /// A complete census of the tasks.
        func census() -> TaskCensus {
            let census = TaskCensus()
            nonisolated(unsafe) let made = census
            let now = server.now
            server.withBroker { broker in
                var steps = Int.max
                _ = broker.extend(made, now: now, steps: &steps)
            }
            return census
        }

        var isUnderWay: Bool { survey.isUnderWay }
        var byteCount: Int { survey.byteCount }

        /// Kicks the oldest dead task, by its id.
        func kickOne() throws {
            defer { kickedCount += 1 }
            #expect(try server.send("POST", "/kick/", "{\"ids\": [\"\(ids[kickedCount])\"]}", service: 0).status == 200)
        }

        /// Deletes the latest dead task, as its page in the dashboard does.
        func deleteLast() throws {
            #expect(try server.send("DELETE", "/task/\(ids[ids.count - 1])", service: 0).status == 204)
        }
    }

    @Test func thoseWhoWaitTakeLittleMemory() throws {
        let world = try World(deadCount: 200)
        let reports = try (0..<100).map { try world.ask("/\($0)", sliceCount: 3) }
        while world.isUnderWay {
            #expect(world.byteCount < 2_000_000)
            world.step()
        }
        #expect(reports.allSatisfy { $0.deadCount == 200 })
        #expect(world.byteCount < 100_000)
    }

    @Test func aLookThatBeganBeforeAKickIsNotForThoseWhoComeAfterIt() throws {
        let world = try World(deadCount: 3000)
        let first = try world.ask("/1")
        #expect(first.deadCount == nil)
        // It has been past these.
        #expect(try world.server.begin("POST", "/kick/q?n=100", service: 0) == [])
        let second = try world.ask("/2")
        world.finish()
        #expect(first.deadCount == 3000 && second.deadCount == 2900)
        #expect(try world.ask("/3").deadCount == 2900)
    }

    @Test func onlyWhatChangesTasksEndsTheSharing() throws {
        let world = try World(deadCount: 1000)
        #expect(try world.ask("/1").deadCount == 1000)
        let id = try #require(
            try world.server.send("POST", "/enqueue/q", "{}", service: 0).object["id"] as? String)
        #expect(try world.server.send("POST", "/wait/", #"{"queues": ["q"]}"#, service: 0).status == 200)
        #expect(
            try world.server.send("POST", "/nak/", "{\"ids\": [\"\(id)\"], \"dead\": true}", service: 0).status == 200)
        #expect(try world.server.begin("POST", "/purge/q?state=done", service: 0) == [])
        #expect(try world.ask("/2").deadCount == 1000)
        #expect(try world.server.begin("POST", "/purge/q?state=dead&error=x", service: 0) == [])
        #expect(try world.ask("/3").deadCount == 1000)
        try world.kickOne()
        #expect(try world.ask("/4").deadCount == 1000)
        #expect(try world.server.begin("POST", "/kick/q?n=10", service: 0) == [])
        #expect(try world.ask("/5").deadCount == 990)
        try world.deleteLast()
        #expect(try world.ask("/6").deadCount == 989)
    }

    /// A look takes more than half a millisecond here, and so has eleven milliseconds of rest.
    @Test func looksAfterKicksAreFewInTheLongRun() throws {
        let world = try World(deadCount: 1400, leadMilliseconds: 100)
        func countNewLooks(_ round: String) throws -> Int {
            var counts: Set<Int?> = []
            for number in 0..<30 {
                try world.kickOne()
                let report = try world.ask("/\(round)/\(number)")
                world.finish()
                counts.insert(report.deadCount)
            }
            return counts.count
        }
        let first = try countNewLooks("first")
        #expect((5...12).contains(first))
        #expect(try countNewLooks("second") == 1)
        world.server.advance(seconds: 0.06)
        #expect((3...8).contains(try countNewLooks("third")))
    }

    @Test func whoHasALookDoesNotWaitForTheNextOne() throws {
        let world = try World(deadCount: 9000)
        let shared = try world.ask("/shared")
        world.finish()
        #expect(shared.deadCount == 9000)
        let slow = try world.ask("/slow", sliceCount: 3)
        let quick = try world.ask("/quick")
        try world.kickOne()
        let late = try world.ask("/late")
        for _ in 0..<5 { world.step() }
        #expect(slow.deadCount == 9000 && quick.deadCount == 9000 && late.deadCount == nil)
        world.finish()
        #expect(late.deadCount == 8999)
    }

    /// There are always others that wait, but they hold up nobody for long.
    @Test func oneThatMayTakeLongIsAnsweredThoughOthersKeepComing() throws {
        let world = try World(deadCount: 10)
        var quick = try (0..<5).map { try world.ask("/\($0)", sliceCount: 1) }
        let long = try (0..<2).map { try world.ask("/long/\($0)", sliceCount: 5, isLong: true) }
        var turnCount = 0
        while turnCount < 200, !long.allSatisfy({ $0.deadCount == 10 }) {
            world.step()
            turnCount += 1
            let waiting = quick.filter { $0.deadCount == nil }
            #expect(!waiting.isEmpty)
            if waiting.count < quick.count { quick = try waiting + [world.ask("/new/\(turnCount)", sliceCount: 1)] }
        }
        #expect(long.allSatisfy { $0.deadCount == 10 })
        // They take turns.
        #expect((20...60).contains(turnCount))
        world.finish()
        #expect(quick.allSatisfy { $0.deadCount == 10 })
    }

    /// Each of the two looks takes most of a turn.
    @Test func whoAsksInTheSameTurnSharesItsTime() throws {
        let world = try World(deadCount: 1000)
        let first = try world.ask("/1")
        #expect(first.deadCount == 1000)
        try world.kickOne()
        let second = try world.askInSameTurn("/2")
        #expect(second.deadCount == nil)
        world.finish()
        #expect(second.deadCount == 999)
    }

    // MARK: The answers

    /// However small its slices are, an answer is the same, and no slice is much longer than it should be.
    @Test(arguments: [WorkerOrder.oldest, .held, .name, .lastSeen], [1, 7, 1000])
    func anAnswerOfManyWorkersIsMadeInSlices(order: WorkerOrder, count: Int) throws {
        let world = try World(deadCount: 0)
        let name = String(repeating: "a", count: 200)
        for number in 0..<60 {
            let (queue, taken) = ("q\(number % 7)", 1 + number % 3)
            _ = try world.server.send("POST", "/enqueue/\(queue)", "[{}, {}, {}]", service: 0)
            let wait = "{\"queues\": [\"\(queue)\"], \"max\": \(taken), \"worker\": \"\(name)\(number % 40 + 10)\"}"
            _ = try world.server.send("POST", "/wait/", wait, service: 0)
            world.server.advance(seconds: 0.01)
        }
        let census = world.census()
        func answer(slice: Int) throws -> (text: [UInt8], count: Int) {
            let report = try world.make("/workers/") {
                WorkerReport(of: $0, by: .anyone, matching: nil, order: order, count: count)
            }
            var (steps, sliceCount) = (slice, 1)
            while !report.extend(census, asOf: world.server.now, steps: &steps) {
                #expect(steps <= 0 && steps > -2000)
                (steps, sliceCount) = (slice, sliceCount + 1)
            }
            return (report.text, sliceCount)
        }
        let (whole, parts) = (try answer(slice: .max), try answer(slice: 30))
        #expect(whole.text == parts.text && whole.count == 1 && parts.count > 40)
    }

    /// Its oldest tasks are found wherever they are, in slices too.
    @Test func anAnswerOfAWorkerWithManyQueuesIsMadeInSlices() throws {
        let world = try World(deadCount: 0)
        for number in 0..<300 {
            let queue = "q\(299 - number * 7 % 300)"
            _ = try world.server.send("POST", "/enqueue/\(queue)", "[{}, {}]", service: 0)
            let wait = "{\"queues\": [\"\(queue)\"], \"max\": 2, \"worker\": \"w\"}"
            _ = try world.server.send("POST", "/wait/", wait, service: 0)
            world.server.advance(seconds: 0.01)
        }
        let census = world.census()
        #expect(census.holdings.count == 300)
        let report = try world.make("/workers/") {
            WorkerReport(of: $0, by: .anyone, matching: nil, order: .oldest, count: 10)
        }
        var steps = 30
        while !report.extend(census, asOf: world.server.now, steps: &steps) {
            #expect(steps <= 0 && steps > -2000)
            steps = 30
        }
        let text = String(decoding: report.text, as: UTF8.self)
        let queues = text.matches(of: /"queue":"(q\d+)"/).map { String($0.1) }
        #expect(queues == ["q299", "q299", "q292", "q292", "q285", "q285", "q278", "q278", "q271", "q271"])
    }

    @Test func theBestFewOfManyAreFound() {
        var random = SystemRandomNumberGenerator()
        for limit in [1, 2, 7, 100, 1000] {
            let numbers = (0..<500).map { _ in Int.random(in: 0..<300, using: &random) }
            var best = BestFew<Int>(limit: limit)
            var steps = 0
            for number in numbers { best.insert(number, steps: &steps, <) }
            if limit == 1 { #expect(steps < 0 && steps >= -500 * 5) }
            var found: [Int] = []
            while let worst = best.removeWorst(steps: &steps, <) { found.append(worst) }
            #expect(found.reversed() == Array(numbers.sorted().prefix(limit)))
        }
    }
}
