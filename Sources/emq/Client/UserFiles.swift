// Where a user's files are: those of the command line.

import Glibc

/// The folders of a user (XDG Base Directory Specification 0.8).
enum UserFiles {
    /// The path of a file of emq's.
    ///
    /// - Parameters:
    ///   - name: the file's name.
    ///   - variable: the variable that names the folder, such as XDG_STATE_HOME.
    ///   - folder: the folder in the home folder that counts without the variable.
    ///   - environment: the value of a variable.
    /// - Returns: the path; nil if the user has no home folder.
    static func path(
        of name: String, _ variable: String, orInHome folder: String, _ environment: (String) -> String?
    ) -> String? {
        func absolute(_ name: String) -> String? { environment(name).flatMap { $0.hasPrefix("/") ? $0 : nil } }
        let base = absolute(variable) ?? absolute("HOME").map { "\($0)/\(folder)" }
        return base.map { "\($0)/emq/\(name)" }
    }

    /// Makes the folders of a path, as far as they are missing. Whether that worked is seen when the file is opened.
    static func makeFolders(of path: String) {
        for (index, byte) in path.utf8.enumerated() where byte == UInt8(ascii: "/") && index > 0 {
            unsafe mkdir(String(decoding: path.utf8.prefix(index), as: UTF8.self), 0o700)
        }
    }
}
