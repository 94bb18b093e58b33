// A library of the system that emq loads at run time, so that the program builds and starts without it.

import Glibc

/// A loaded library. It stays loaded, so its functions stay valid.
@safe public struct SystemLibrary {
    private let handle: UnsafeMutableRawPointer

    /// Loads a library by the name of its file, such as `libssl.so.3`; nil if the system has none.
    public init?(_ name: String) {
        guard let handle = unsafe dlopen(name, RTLD_NOW | RTLD_LOCAL) else { return nil }
        unsafe self.handle = handle
    }

    /// Looks up functions. O(functions).
    ///
    /// - Parameters:
    ///   - functions: A structure of pointers to functions only, whose types are those of the library.
    ///   - names: The name of each pointer in order, followed by a zero; one more zero at the end.
    /// - Returns: False if the library lacks one.
    public func load<Functions, Names>(_ functions: inout Functions, _ names: Names) -> Bool {
        unsafe withUnsafeMutableBytes(of: &functions) { places in
            unsafe withUnsafeBytes(of: names) { names in
                let words = unsafe names.split(separator: 0)
                guard unsafe words.count * MemoryLayout<UnsafeRawPointer>.size == places.count else { return false }
                for unsafe(index, word) in unsafe words.enumerated() {
                    let name = unsafe String(decoding: word, as: UTF8.self)
                    guard let function = unsafe dlsym(handle, name) else { return false }
                    unsafe places.storeBytes(
                        of: function, toByteOffset: index * MemoryLayout<UnsafeRawPointer>.size,
                        as: UnsafeMutableRawPointer.self)
                }
                return true
            }
        }
    }
}
