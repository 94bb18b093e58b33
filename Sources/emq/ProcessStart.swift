// The program's arguments and environment.

import CLinux
import Glibc

enum ProcessStart {
    /// The command line; the program's name is first.
    static let arguments: [String] = {
        // Swift reads them from /proc, which may be missing.
        let known = CommandLine.arguments
        return known.isEmpty ? onStack() : known
    }()

    /// The environment's variables. If a name occurs several times, the first one counts, as for getenv(3).
    static let environment: [String: String] = {
        var variables: [String: String] = [:]
        guard var next = unsafe emq_environment() else { return variables }
        while let text = unsafe next.pointee {
            let parts = unsafe String(cString: text).split(
                separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts[0])
            if variables[name] == nil { variables[name] = parts.count > 1 ? String(parts[1]) : "" }
            unsafe next += 1
        }
        return variables
    }()

    /// The variables whose names are wanted, each `NAME=VALUE`, as they are: they need not be UTF-8.
    static func variables(_ isWanted: (String) -> Bool) -> [[UInt8]] {
        var variables: [[UInt8]] = []
        guard var next = unsafe emq_environment() else { return variables }
        while let text = unsafe next.pointee {
            let bytes = unsafe UnsafeBufferPointer(start: text, count: strlen(text)).map { UInt8(bitPattern: $0) }
            if isWanted(String(decoding: bytes.prefix { $0 != UInt8(ascii: "=") }, as: UTF8.self)) {
                variables.append(bytes)
            }
            unsafe next += 1
        }
        return variables
    }

    /// Overwrites the values of a variable where the kernel shows them in /proc to other processes of this user.
    /// `environment` keeps them.
    static func erase(_ name: String) {
        _ = environment
        guard var next = unsafe emq_environment() else { return }
        let start = name + "="
        while let text = unsafe next.pointee {
            let length = start.utf8.count
            if unsafe strncmp(text, start, length) == 0 {
                unsafe memset(text + length, Int32(UInt8(ascii: "x")), strlen(text + length))
            }
            unsafe next += 1
        }
    }

    /// Whether all arguments are UTF-8. What is not has been replaced in `arguments`.
    static var areArgumentsUTF8: Bool {
        let words = unsafe CommandLine.unsafeArgv
        return (0..<Int(CommandLine.argc)).allSatisfy { place in
            unsafe words[place].map { unsafe String(validatingCString: $0) != nil } ?? true
        }
    }

    /// Undoes what this process may have inherited and no command expects. Call this first.
    ///
    /// A file or connection that gets the number of a closed standard descriptor would receive what is printed; so
    /// writing to these goes on failing. The statuses of processes are lost while SIGCHLD is ignored. A signal
    /// that is blocked would not end a command.
    static func prepare() {
        while case let descriptor = unsafe open("/dev/null", O_RDONLY), descriptor >= 0 {
            if descriptor > STDERR_FILENO {
                close(descriptor)
                break
            }
        }
        _ = signal(SIGCHLD, SIG_DFL)
        var none = sigset_t()
        unsafe sigemptyset(&none)
        unsafe sigprocmask(SIG_SETMASK, &none, nil)
    }

    /// Reads the arguments where the kernel has put them: their number, the pointers, a null, and then the environment
    /// (System V ABI, section 3.4.1). The environment has not moved, because nothing has changed it yet.
    private static func onStack() -> [String] {
        guard let environment = unsafe emq_environment() else { return [] }
        let words = unsafe UnsafeRawPointer(environment).assumingMemoryBound(to: Int.self)
        guard unsafe words[-1] == 0 else { return [] }
        var count = 0
        // A pointer is never as small as the number of arguments.
        while unsafe words[-2 - count] != count { count += 1 }
        return (0..<count).compactMap { place in
            unsafe environment[place - count - 1].map { unsafe String(cString: $0) }
        }
    }
}
