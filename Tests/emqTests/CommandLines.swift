// Command lines for tests of the options of commands.

@testable import emq

extension Options {
    init(_ arguments: [String], environment: @escaping (String) -> String?) throws(UsageError) {
        try self.init(Invocation(.serve, arguments, environment: environment))
    }
}

extension CheckOptions {
    init(_ arguments: [String], environment: @escaping (String) -> String?) throws(UsageError) {
        try self.init(Invocation(CheckOptions.command, arguments, environment: environment))
    }
}

extension BenchOptions {
    init(_ arguments: [String]) throws(UsageError) {
        try self.init(Invocation(BenchOptions.command, arguments) { _ in nil })
    }
}
