// The dashboard: a page made of a few files, which are a part of the program. It has no data, and gets what it shows
// through the rest of this interface. So everybody may have it, at any time.

import Bytes
import CFiles
import Net
import Queues

/// A file of the dashboard.
struct DashboardFile: Sendable {
    let name: String
    let contentType: StaticString
    let bytes: [UInt8]
    /// Names this version of it, for `If-None-Match`; with its quotes.
    let entityTag: String

    /// All files. They are copied when they are first read.
    static let all: [DashboardFile] = {
        var files: [DashboardFile] = []
        while let file = unsafe emq_dashboard_file(UInt32(files.count)) {
            // Constants of the program, which end with a null byte.
            files.append(
                unsafe DashboardFile(String(cString: file.pointee.name), Array(String(cString: file.pointee.text).utf8))
            )
        }
        return files
    }()

    private init(_ name: String, _ bytes: [UInt8]) {
        self.name = name
        self.bytes = bytes
        contentType = DashboardFile.contentType(of: name)
        entityTag = "\"\(String(bytes.span.hashFNV1a(), radix: 16))\""
    }

    /// The types of files by the ends of their names.
    static let contentTypes: [(suffix: String, type: StaticString)] = [
        (".html", "text/html; charset=utf-8"), (".css", "text/css; charset=utf-8"),
        (".js", "text/javascript; charset=utf-8"), (".svg", "image/svg+xml"),
    ]

    private static func contentType(of name: String) -> StaticString {
        contentTypes.first { name.hasSuffix($0.suffix) }?.type ?? "text/plain; charset=utf-8"
    }

    /// The fields of every answer with a file. The page may load nothing from elsewhere, run no script but its own, and
    /// be in no frame.
    private static let fields: [(name: StaticString, value: StaticString)] = [
        (
            "Content-Security-Policy",
            """
            default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
            base-uri 'none'; form-action 'none'; frame-ancestors 'none'
            """
        ),
        ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Opener-Policy", "same-origin"), ("Cache-Control", "no-cache"),
    ]

    /// Answers with the file, or with 304 if the client has this version.
    fileprivate func answer(_ request: borrowing Request, _ responses: inout ResponseStream) {
        let isKnown = isKnown(to: request)
        responses.begin(status: isKnown ? 304 : 200, contentType: isKnown ? nil : contentType)
        for (name, value) in DashboardFile.fields { responses.field(name, value) }
        responses.field("ETag", entityTag.utf8Span.span)
        if isKnown { return responses.endWithoutBody() }
        responses.beginBody(estimatedCount: bytes.count)
        responses.append(bytes.span)
        responses.end()
    }

    /// Whether the client has this version (RFC 9110 section 13.1.2).
    private func isKnown(to request: borrowing Request) -> Bool {
        var isKnown = false
        request.forEachField { name, value in
            guard name.count == 13, name.equalsIgnoringCase("If-None-Match") else { return }
            for tag in text(value).split(whereSeparator: { ", ".contains($0) }) {
                isKnown = isKnown || tag == "*" || (tag.hasPrefix("W/") ? tag.dropFirst(2) : tag) == entityTag
            }
        }
        return isKnown
    }
}

extension API {
    /// `GET /`
    static func showDashboard(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try showDashboardFile(named: "index.html", request, &responses, context)
    }

    /// `GET /dashboard/FILE`
    static func showDashboardFile(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try showDashboardFile(named: text(api.name.span), request, &responses, context)
    }

    private static func showDashboardFile(
        named name: String, _ request: borrowing Request, _ responses: inout ResponseStream,
        _ context: borrowing Context
    ) throws(Problem) -> Outcome {
        guard let file = DashboardFile.all.first(where: { $0.name == name }) else {
            throw Problem(.noSuchPath, "the dashboard has no such file; its page is /")
        }
        guard context.gate.mayAnswer(responses, adding: file.bytes.count) else { throw .tooManyUnreadAnswers }
        file.answer(request, &responses)
        return .answered
    }
}
