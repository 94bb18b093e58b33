// The servers that a user has given names, in a file of the user's: contexts.json.

import Bytes
import Glibc
import JSON

/// The user's contexts.
///
/// The file is an object: `{"current": "home", "contexts": {"home": {"url": "…", "token_file": "…"}}}`. It is in the
/// folder `emq` of XDG_CONFIG_HOME, or of `.config` in the home folder (XDG Base Directory Specification 0.8).
struct Contexts {
    /// A server with a name.
    struct Context {
        let name: String
        let url: String
        let token: String?
        let tokenPath: String?
        let issuersPath: String?
    }

    /// Where the file is; nil if the user has no home folder.
    let path: String?
    var all: [Context] = []
    var currentName: String?

    /// Reads the contexts. Without a file there are none.
    ///
    /// - Throws: `UsageError` if the file cannot be read, or is not what it should be.
    init(_ environment: (String) -> String?) throws(UsageError) {
        func folder(_ name: String) -> String? { environment(name).flatMap { $0.hasPrefix("/") ? $0 : nil } }
        path = (folder("XDG_CONFIG_HOME") ?? folder("HOME").map { "\($0)/.config" }).map { "\($0)/emq/contexts.json" }
        guard let path, unsafe access(path, F_OK) == 0 else { return }
        let text: String
        do throws(FileError) { text = try TaskqueueFile.contents(of: path) } catch {
            throw UsageError("cannot read '\(path)': \(error)")
        }
        guard let file = JSONPart(Array(text.utf8)[...]), file.kind == .object else {
            throw UsageError("\(path) is not a JSON object; mend it, or delete it")
        }
        currentName = file["current"]?.text
        for (name, value) in file["contexts"]?.members ?? [] {
            guard let url = value["url"]?.text else { throw UsageError("\(path): the context '\(name)' has no url") }
            all.append(
                Context(
                    name: name, url: url, token: value["token"]?.text, tokenPath: value["token_file"]?.text,
                    issuersPath: value["ca"]?.text))
        }
    }

    /// The context that is used if nothing else is said; nil if there is none.
    var current: Context? { all.first { $0.name == currentName } }

    /// A context by its name.
    ///
    /// - Throws: `UsageError` if there is none.
    func named(_ name: String) throws(UsageError) -> Context {
        if let context = all.first(where: { $0.name == name }) { return context }
        let hint =
            all.isEmpty
            ? "there are none; `emq context add \(name) URL` adds it" : nearestName(to: name, among: all.map(\.name))
        throw UsageError("there is no context '\(name)'; \(hint)")
    }
}
