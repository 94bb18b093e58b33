// Keeps large structs from being copied to be read.

import Synchronization

/// A part that makes a struct one that the compiler passes by its address only.
///
/// A call that does not mutate a struct may get a copy of it, even if it cannot be copied in the source: of a struct of
/// a kilobyte, twelve such copies took a tenth of an enqueue. An atomic has a fixed address, so that whatever contains
/// one is borrowed where it is. The atomic itself is never used.
public struct Pin: ~Copyable, Sendable {
    private let place = Atomic<Bool>(false)

    /// Makes a pin. It takes a byte.
    public init() {}
}
