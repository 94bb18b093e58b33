// Runs the real program to its end.

import Foundation
import Support

extension Server {
    /// Runs the program to its end, which needs short outputs.
    static func run(
        _ arguments: [String], environment: [String: String] = [:]
    ) throws -> (status: Int32, output: String, error: String) {
        let process = Process()
        process.executableURL = executable
        process.arguments = arguments
        process.environment = programEnvironment.merging(environment) { $1 }
        let (output, error) = (Pipe(), Pipe())
        process.standardOutput = output
        process.standardError = error
        try process.start()
        let status: Int32 = try eventually("the end of emq \(arguments)") {
            process.isRunning ? nil : process.terminationStatus
        }
        func text(_ pipe: Pipe) -> String {
            String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        }
        return (status, text(output), text(error))
    }
}
