// How searches share walks through the finished tasks: in virtual time, turn by turn.

import Support
import Testing

@testable import Net
@testable import Queues
@testable import emq

@Suite(.blocking) struct SearchWalkTests {
    /// A server with tasks, and searches of its own.
    private final class World {
        let server: VirtualServer
        private let http: HTTPServer
        private let searches = Searches()
        /// The tasks that are done, by their keys, from 0.
        private(set) var ids: [String] = []

        init(doneCount: Int) throws {
            (server, http) = (try VirtualServer(), HTTPServer(loop: try EventLoop()))
            while ids.count < doneCount {
                let tasks = (ids.count..<ids.count + 500).map { "{\"key\": \"\($0)\", \"keep\": 1000}" }
                _ = try server.send("POST", "/enqueue/q", "[\(tasks.joined(separator: ","))]", service: 0)
                let taken = try server.send("POST", "/wait/", #"{"queues": ["q"], "max": 500}"#, service: 0)
                let new = try taken.tasks.compactMap { $0?["id"] as? String }
                let list = new.map { "\"\($0)\"" }.joined(separator: ",")
                #expect(try server.send("POST", "/ack/", "{\"ids\": [\(list)]}", service: 0).status == 200)
                ids += new
            }
        }

        /// Begins a search for tasks that had a key.
        func ask(_ key: String) throws -> Search {
            nonisolated(unsafe) var search: Search?
            // The calling thread is the broker's isolation, here and below.
            nonisolated(unsafe) let searches = searches
            let now = server.now
            server.withBroker { broker in
                let new = Search(
                    Array(key.utf8), maximumCount: 10, by: .anyone, ticket: Ticket(connection: 0, serial: 0),
                    on: broker, now: now)
                _ = searches.begin(new, now: now, on: broker)
                search = new
            }
            return try #require(search)
        }

        func withdraw(_ search: Search) {
            nonisolated(unsafe) let search = search
            server.withBroker { search.withdraw(on: $0) }
        }

        /// Does one turn.
        func step() {
            nonisolated(unsafe) let searches = searches
            let (http, now) = (http, server.now)
            server.withBroker { searches.turn(http, now: now, on: $0) }
        }

        /// How many turns it takes until no search is under way.
        func finish() -> Int {
            for count in 0..<1000 {
                if !searches.isUnderWay { return count }
                step()
            }
            return 1000
        }

        /// The answer, as it would be now.
        func answer(_ search: Search) -> String {
            nonisolated(unsafe) let search = search
            nonisolated(unsafe) var text = ""
            let now = server.now
            server.withBroker { broker in
                var responses = ResponseStream(dates: DateField())
                search.write(to: &responses, on: broker, now: now)
                text = String(decoding: Array(copying: responses.buffer.span), as: UTF8.self)
            }
            return text
        }

        var isUnderWay: Bool { searches.isUnderWay }
        var isCrowded: Bool { searches.isCrowded }
    }

    @Test func fewTasksAreLookedAtAtOnce() throws {
        let world = try World(doneCount: 500)
        let search = try world.ask("400")
        #expect(!world.isUnderWay && world.answer(search).contains(world.ids[400]))
    }

    @Test func searchesShareAWalkOfSomeTurns() throws {
        let world = try World(doneCount: 9500)
        let first = try world.ask("9000")
        let alone = world.finish()
        #expect(alone >= 1 && world.answer(first).contains(world.ids[9000]))
        let early = try world.ask("9100")
        let late = try ["0", "17", "9499", "none"].map { try world.ask($0) }
        #expect(world.finish() < 4 * (alone + 1))
        #expect(world.answer(early).contains(world.ids[9100]))
        #expect(zip(late, [0, 17, 9499]).allSatisfy { world.answer($0).contains(world.ids[$1]) })
        #expect(world.answer(late[3]).contains(#"{"tasks":[],"queues":[]}"#))
    }

    @Test func tasksComeAndGoMeanwhile() throws {
        let world = try World(doneCount: 9500)
        let searches = try ["0", "9499"].map { try world.ask($0) }
        #expect(world.isUnderWay)
        // Nothing is left: not of those that the walk has met, nor of the others.
        #expect(try world.server.begin("POST", "/purge/q?state=done", service: 0) == [])
        world.server.turn()
        _ = try world.server.send("POST", "/enqueue/q", #"{"key": "9499"}"#, service: 0)
        #expect(world.finish() < 10)
        #expect(searches.allSatisfy { world.answer($0).contains(#"{"tasks":[],"queues":[]}"#) })
    }

    @Test func aSearchEndsWhenItsClientLeaves() throws {
        let world = try World(doneCount: 9500)
        let left = try (0..<Searches.maximumCount).map { try world.ask("\($0)") }
        #expect(world.isCrowded)
        for search in left { world.withdraw(search) }
        world.step()
        #expect(!world.isUnderWay && !world.isCrowded)
        // Another one waits behind one whose client leaves.
        let (gone, kept) = (try world.ask("9400"), try world.ask("2"))
        world.withdraw(gone)
        _ = world.finish()
        #expect(!world.answer(gone).contains(world.ids[9400]) && world.answer(kept).contains(world.ids[2]))
    }
}
