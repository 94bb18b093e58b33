// The system's librabbitmq, a client of AMQP 0-9-1, loaded when a source first needs it.

import Bytes
import CLibraries
import Net

/// The functions of librabbitmq. Holding them is safe; only calls can go wrong.
@safe public final class RabbitMQ: @unchecked Sendable {
    // @unchecked: it never changes, and threads may call the functions at once, each for a connection of its own.

    /// None of the pointers is null.
    let functions: emq_amqp_functions

    private static let loaded = Locked<RabbitMQ?>(nil)

    /// The library, or why there is none. Once it is loaded, it stays loaded; until then, each use looks for it, so
    /// that it may be installed while the program runs.
    public static var system: Result<RabbitMQ, AMQPFailure> {
        loaded.with { loaded in
            if let loaded { return .success(loaded) }
            let result = Result { () throws(AMQPFailure) in try RabbitMQ() }
            loaded = try? result.get()
            return result
        }
    }

    private init() throws(AMQPFailure) {
        var functions = emq_amqp_functions()
        guard let library = SystemLibrary("librabbitmq.so.4"), library.load(&functions, emq_amqp_names) else {
            throw AMQPFailure(
                "messages from RabbitMQ need librabbitmq 0.8 or later, which this system does not have; install the "
                    + "package librabbitmq4 (Debian, Ubuntu), librabbitmq (Fedora) or rabbitmq-c (Alpine)")
        }
        self.functions = functions
    }
}
