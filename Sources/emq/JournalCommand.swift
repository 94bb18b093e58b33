// `emq journal check` and `emq journal repair`: what an operator does with a damaged journal.

import Glibc
import Journal
import Queues

enum JournalCommand {
    private static let usage = "usage: emq journal check DIR, or emq journal repair DIR NEWDIR"

    /// Runs the command.
    ///
    /// - Returns: what to exit with: 0 if all is well, 1 if not, 2 if the command line makes no sense.
    static func run(_ arguments: [String]) -> Int32 {
        do throws(LogError) {
            switch (arguments.first, arguments.count) {
            case ("check", 2): return try check(arguments[1])
            case ("repair", 3): return try repair(arguments[1], into: arguments[2])
            default:
                Emq.write(usage, to: STDERR_FILENO)
                return 2
            }
        } catch {
            Emq.write("emq: \(error)", to: STDERR_FILENO)
            return 1
        }
    }

    private static func check(_ directory: String) throws(LogError) -> Int32 {
        0
    }

    private static func repair(_ directory: String, into newDirectory: String) throws(LogError) -> Int32 {
        0
    }
}
