// Scans whole documents in any pieces.

@testable import JSON

/// The scanner's result for a document.
enum Outcome: Equatable {
    case document(kind: JSONKind, value: Range<Int>, entries: [JSONScanner.Entry])
    case error(JSONError)

    var error: JSONError? {
        if case .error(let error) = self { error } else { nil }
    }

    var entries: [JSONScanner.Entry] {
        if case .document(_, _, let entries) = self { entries } else { [] }
    }
}

/// Scans `document`, cut before each of the ascending offsets in `cuts`.
func scan(
    _ document: [UInt8], cuts: some Sequence<Int> = [], with scanner: inout JSONScanner
) -> Outcome {
    scanner.reset()
    do throws(JSONError) {
        var start = 0
        for cut in cuts {
            try scanner.consume(document.span.extracting(start..<cut))
            start = cut
        }
        try scanner.consume(document.span.extracting(start..<document.count))
        try scanner.finish()
        return .document(
            kind: scanner.kind, value: scanner.value, entries: (0..<scanner.entryCount).map { scanner.entry($0) })
    } catch {
        return .error(error)
    }
}

func scan(_ document: [UInt8], cuts: some Sequence<Int> = []) -> Outcome {
    var scanner = JSONScanner()
    return scan(document, cuts: cuts, with: &scanner)
}

func scan(_ document: String) -> Outcome { scan(Array(document.utf8)) }

func text(_ range: Range<Int>, of document: String) -> String {
    String(decoding: Array(document.utf8)[range], as: UTF8.self)
}
