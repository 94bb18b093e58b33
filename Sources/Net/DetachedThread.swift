// Threads that nobody joins.

import Glibc

/// A thread that ends by itself.
public enum DetachedThread {
    /// What the thread is given.
    private final class Context {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
    }

    /// Starts a thread.
    ///
    /// - Parameters:
    ///   - stackByteCount: the size of its stack, in bytes. It is only address space until it is used. The system's own
    ///     size depends on `ulimit -s`.
    ///   - body: runs on the thread, to which all that it captures belongs from now on, unless it is Sendable.
    /// - Throws: `SystemError` if the system has no thread or no memory left.
    public static func start(
        stackByteCount: Int = 1 << 20, _ body: @escaping () -> Void
    ) throws(SystemError) {
        var attributes = pthread_attr_t()
        unsafe pthread_attr_init(&attributes)
        defer { unsafe pthread_attr_destroy(&attributes) }
        unsafe pthread_attr_setstacksize(&attributes, stackByteCount)
        unsafe pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        var thread = pthread_t()
        let context = unsafe Unmanaged.passRetained(Context(body))
        let code = unsafe pthread_create(
            &thread, &attributes,
            { context in
                guard let context = unsafe context else { return nil }
                unsafe Unmanaged<Context>.fromOpaque(context).takeRetainedValue().body()
                return nil
            }, context.toOpaque())
        guard code != 0 else { return }
        unsafe context.release()
        throw SystemError("start a thread", code: code)
    }
}
