// A value that several threads use, one at a time.

import Glibc

/// A value behind a lock.
@safe public final class Locked<Value>: @unchecked Sendable {
    // @unchecked: the lock protects the value. Not `Synchronization.Mutex`: the thread sanitizer does not follow it and
    // reports false races.
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var value: Value

    /// Makes a lock around a value.
    public init(_ value: sending Value) {
        self.value = value
        unsafe pthread_mutex_init(lock, nil)
    }

    deinit {
        unsafe pthread_mutex_destroy(lock)
        unsafe lock.deallocate()
    }

    /// Reads and changes the value. Keep it short: other threads wait. It must not be called from within `body`.
    public func with<Result>(_ body: (inout Value) -> Result) -> Result {
        unsafe pthread_mutex_lock(lock)
        defer { unsafe pthread_mutex_unlock(lock) }
        return body(&value)
    }
}
