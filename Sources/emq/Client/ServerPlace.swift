// Which server a command talks to, and what shows that it may: options, variables, and contexts of the user's.

import Bytes
import Glibc
import JSON
import Net

/// A server, as a client reaches it.
struct ServerPlace {
    /// The URL that all paths follow, without a slash at its end.
    let base: String
    /// The Unix-domain socket to connect to; nil to connect to the URL's host.
    let socketPath: String?
    /// The token to send; nil to send none.
    let token: String?
    /// The path of issuers that are trusted beside the system's; nil for none.
    let issuersPath: String?

    /// How people call the server: its socket, or its URL.
    var name: String { socketPath.map { "unix:\($0)" } ?? base }

    static let url = CommandOption(
        "--url", "URL", "the server: http://localhost:8080 (default, or EMQ_URL), https://… or unix:/path")
    static let issuers = CommandOption(
        "--ca", "FILE", completion: .file, "trust these issuers too (PEM), for an https URL (or EMQ_CA)")
    static let context = CommandOption(
        "--context", "NAME", "use this context, of `emq context` (or EMQ_CONTEXT)")

    /// The options with which commands say where the server is.
    static let options = [url, issuers, context]

    /// The server of a command line. Options win over variables, and these over the context. A token comes from
    /// the context, from EMQ_TOKEN, or from the file EMQ_TOKEN_FILE.
    ///
    /// - Throws: `UsageError` if something is wrong with them.
    init(_ invocation: Invocation) throws(UsageError) {
        if let name = invocation.value(of: Self.context), invocation.has(Self.url) {
            throw UsageError("give --url or --context '\(name)', not both")
        }
        // A context's token must not reach another server, so a context counts only without the option.
        var context: Contexts.Context?
        if invocation.has(Self.url) {
            // Nothing is wrong with a context that is not asked for.
        } else if let name = invocation.value(of: Self.context) ?? invocation.variable("EMQ_CONTEXT") {
            context = try Contexts(invocation.environment).named(name)
        } else if invocation.variable("EMQ_URL") == nil {
            context = try Contexts(invocation.environment).current
        }
        let url = invocation.value(of: Self.url) ?? context?.url ?? invocation.variable("EMQ_URL")
        let source = invocation.has(Self.url) ? Self.url.flag : context.map { "the context '\($0.name)'" } ?? "EMQ_URL"
        // The variable and the context may be there for other servers; the option is a mistake with plain HTTP.
        let isSecure = url.flatMap(Endpoint.scheme) == true
        let issuersPath = isSecure ? context?.issuersPath ?? invocation.variable("EMQ_CA") : nil
        try self.init(
            url: url ?? "http://localhost:8080", from: source, token: Self.token(context, invocation),
            issuersPath: invocation.value(of: Self.issuers) ?? issuersPath)
    }

    /// A server by its URL, which comes from `source`.
    ///
    /// - Throws: `UsageError` if the URL or the token is malformed.
    init(
        url text: String, from source: String, token: String? = nil, issuersPath: String? = nil
    ) throws(UsageError) {
        if let token, !token.utf8.allSatisfy({ 0x20 < $0 && $0 < 0x7F }) || token.isEmpty {
            throw UsageError("the token has blanks, control characters or none at all; check EMQ_TOKEN or its file")
        }
        (self.token, self.issuersPath) = (token, issuersPath)
        let url: ServerURL
        do throws(HTTPURLError) { url = try ServerURL(text) } catch { throw UsageError("\(source): \(error)") }
        if issuersPath != nil, !url.isSecure, url.socketPath == nil { throw UsageError("--ca requires an https URL") }
        (base, socketPath) = (url.base, url.socketPath)
    }

    private static func token(
        _ context: Contexts.Context?, _ invocation: Invocation
    ) throws(UsageError) -> String? {
        // The context's own token first: the variables may be for another server.
        if let token = context?.token { return token }
        if let path = context?.tokenPath { return try read(path, "the context's token_file") }
        if let token = invocation.variable("EMQ_TOKEN") { return token }
        return try invocation.variable("EMQ_TOKEN_FILE").map { path throws(UsageError) in
            try read(path, "EMQ_TOKEN_FILE")
        }
    }

    /// The token in a file: its first line.
    private static func read(_ path: String, _ source: String) throws(UsageError) -> String {
        do throws(FileError) {
            let text = try TaskqueueFile.contents(of: path)
            return String(text.prefix { !$0.isNewline })
        } catch {
            throw UsageError("\(source): cannot read '\(path)': \(error)")
        }
    }
}
