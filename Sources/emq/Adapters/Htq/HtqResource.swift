// The resources of htq: their paths, and the links between them.

import Bytes
import JSON
import Net
import UID

/// The resource that a path names.
enum HtqResource {
    /// `/`: all requests that wait to be sent.
    case all
    /// `/UUID/`
    case request(UID)
    /// `/UUID/status/`
    case status(UID)
    /// `/UUID/response/`
    case response(UID)

    /// Reads a path, which should end with a slash.
    ///
    /// - Throws: 404 for a path that names no resource.
    static func read(_ path: Span<UInt8>) throws(Problem) -> (resource: HtqResource, hasSlash: Bool) {
        var parts = text(path).split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        if parts.elementsEqual([""]) { return (.all, true) }
        let hasSlash = parts.last == ""
        if hasSlash { parts.removeLast() }
        let name = parts.popFirst() ?? ""
        // No request has the id that stands for a name that is no UUID.
        let id = (name.utf8.count == UID.uuidTextLength ? UID(String(name)) : nil) ?? UID(high: 0, low: 0)
        switch (name, Array(parts)) {
        case ("", _): break
        case (_, []): return (.request(id), hasSlash)
        case (_, ["status"]): return (.status(id), hasSlash)
        case (_, ["response"]): return (.response(id), hasSlash)
        default: break
        }
        throw Problem(.noSuchPath, "there is nothing at this path; use /, /UUID/, /UUID/status/ or /UUID/response/")
    }

    var path: String {
        switch self {
        case .all: "/"
        case .request(let id): "/\(id.uuidString)/"
        case .status(let id): "/\(id.uuidString)/status/"
        case .response(let id): "/\(id.uuidString)/response/"
        }
    }

    /// The methods that it supports, as the Allow field lists them.
    var allowedMethods: String {
        switch self {
        case .all: "GET, HEAD, OPTIONS, POST"
        case .request, .response: "GET, HEAD, OPTIONS, DELETE"
        case .status: "GET, HEAD, OPTIONS"
        }
    }
}

/// The URLs that link resources.
struct HtqLinks {
    /// The scheme and host before the path; empty if the client sent no Host.
    private let prefix: String

    /// Links for a request that was sent to this host and port, over TLS or not.
    init(authority: Span<UInt8>, isSecure: Bool) {
        prefix = authority.isEmpty ? "" : (isSecure ? "https://" : "http://") + text(authority)
    }

    func url(of resource: HtqResource) -> [UInt8] { url(of: resource.path) }

    func url(of path: String) -> [UInt8] { Array((prefix + path).utf8) }

    /// The value of a Link field (RFC 8288 section 3).
    func field(_ relations: [(name: String, target: HtqResource)]) -> [UInt8] {
        let links = relations.map { "<\(prefix)\($0.target.path)>; rel=\"\($0.name)\"" }
        return Array(links.joined(separator: ", ").utf8)
    }

    /// Writes the links of a request in a listing.
    func write(of id: UID, to output: inout some JSONOutput & ~Copyable) {
        var start = "{"
        for (name, target) in [
            ("self", HtqResource.request(id)), ("status", .status(id)), ("response", .response(id)),
        ] {
            let opening = Array("\(start)\"\(name)\": ".utf8)
            output.append(opening.span)
            let url = url(of: target)
            JSONWriter.writeString(url.span, to: &output)
            start = ", "
        }
        output.append(UInt8(ascii: "}"))
    }
}

extension UID {
    /// The 36 characters of `uuidText`.
    var uuidString: String {
        let characters = uuidText
        return String(decoding: characters.span)
    }
}
