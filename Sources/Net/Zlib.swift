// The system's zlib, loaded when it is first needed.

import CLibraries
import Glibc

/// The functions of zlib that unpack. Holding them is safe; only calls can go wrong.
@safe struct Zlib {
    // What they return.
    static let ok: Int32 = 0
    static let streamEnd: Int32 = 1
    static let memoryError: Int32 = -4
    static let bufferError: Int32 = -5

    let inflateInit2: emq_zlib_inflateInit2
    let inflate: emq_zlib_inflate
    let inflateReset: emq_zlib_inflateReset
    let inflateEnd: emq_zlib_inflateEnd

    /// The library; nil if the system has none.
    static let system = Zlib()

    private init?() {
        // It stays loaded, so the functions stay valid.
        guard let library = unsafe dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL),
            let initialize: emq_zlib_inflateInit2 = unsafe Zlib.function("inflateInit2_", of: library),
            let inflate: emq_zlib_inflate = unsafe Zlib.function("inflate", of: library),
            let reset: emq_zlib_inflateReset = unsafe Zlib.function("inflateReset", of: library),
            let end: emq_zlib_inflateEnd = unsafe Zlib.function("inflateEnd", of: library)
        else { return nil }
        unsafe inflateInit2 = initialize
        unsafe self.inflate = inflate
        unsafe inflateReset = reset
        unsafe inflateEnd = end
    }

    /// A function by its name; nil if the library has none. `Function` must be its type.
    private static func function<Function>(_ name: String, of library: UnsafeMutableRawPointer) -> Function? {
        unsafe dlsym(library, name).map { unsafe unsafeBitCast($0, to: Function.self) }
    }
}
