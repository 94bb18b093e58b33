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

    /// A context as the file has it. It may be one that emq cannot use.
    struct Entry {
        let name: String
        /// Its value, as JSON.
        let source: String

        /// The value; nil only if the source is no JSON.
        var value: JSONPart? { JSONPart(Array(source.utf8)[...]) }
        /// Its URL; nil if it has none.
        var url: String? { value?["url"]?.text }
    }

    /// Where the file is; nil if the user has no home folder.
    let path: String?
    var all: [Entry] = []
    var currentName: String?
    /// The file's members besides these, and their values as JSON. They stay when it is written.
    private(set) var others: [(name: String, source: String)] = []

    /// Reads the contexts. Without a file there are none.
    ///
    /// - Throws: `UsageError` if the file cannot be read, or is not what it should be.
    init(_ environment: (String) -> String?) throws(UsageError) {
        path = Self.path(environment)
        guard let path, unsafe access(path, F_OK) == 0 else { return }
        let text: String
        do throws(FileError) { text = try TaskqueueFile.contents(of: path) } catch {
            throw UsageError("cannot read '\(path)': \(error)")
        }
        guard let file = JSONPart(Array(text.utf8)[...]), file.kind == .object else {
            throw UsageError("\(path) is not a JSON object; mend it, or delete it")
        }
        currentName = file["current"]?.text
        if let contexts = file["contexts"] {
            guard contexts.kind == .object else {
                throw UsageError("\(path): 'contexts' is not an object; mend it, or delete the file")
            }
            all = contexts.members.map { Entry(name: $0.name, source: $0.value.source) }
        }
        for (name, value) in file.members where name != "current" && name != "contexts" {
            others.append((name, value.source))
        }
    }

    /// Where the file of an environment is; nil if the user has no home folder.
    static func path(_ environment: (String) -> String?) -> String? {
        UserFiles.path(of: "contexts.json", "XDG_CONFIG_HOME", orInHome: ".config", environment)
    }

    /// The context that is used if nothing else is said; nil if there is none.
    var current: Context? {
        get throws(UsageError) {
            guard let currentName, all.contains(where: { $0.name == currentName }) else { return nil }
            return try named(currentName)
        }
    }

    /// A context by its name.
    ///
    /// - Throws: `UsageError` if there is none, or if it has no URL.
    func named(_ name: String) throws(UsageError) -> Context {
        if let entry = all.first(where: { $0.name == name }) {
            guard let value = entry.value, let url = entry.url else {
                throw UsageError("\(path ?? ""): the context '\(name)' has no url")
            }
            return Context(
                name: name, url: url, token: value["token"]?.text, tokenPath: value["token_file"]?.text,
                issuersPath: value["ca"]?.text)
        }
        let hint =
            all.isEmpty
            ? "there are none; `emq context add \(name) URL` adds it" : nearestName(to: name, among: all.map(\.name))
        throw UsageError("there is no context '\(name)'; \(hint)")
    }
}
