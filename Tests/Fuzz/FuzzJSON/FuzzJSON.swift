// libFuzzer's entry to the JSON room. For any input, it checks that scanning it whole and in two pieces gives the same
// result; that every entry is itself a document of its kind; and that no reader of values traps.

import Glibc
import JSON

@main
enum FuzzJSON {
    static func main() {
        var count = CommandLine.argc
        var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = unsafe CommandLine.unsafeArgv
        exit(unsafe runFuzzer(&count, &arguments, testOneInput))
    }
}

/// libFuzzer's loop. The program calls it itself, because the package manager's `main` takes the place of libFuzzer's.
@_silgen_name("LLVMFuzzerRunDriver")
private func runFuzzer(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ test: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// The first two bytes of the input say where to cut the document, which is the rest.
///
/// libFuzzer's `main`, which is linked but not used, needs this name.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    guard count >= 2 else { return 0 }
    let input = unsafe Span(_unsafeElements: UnsafeBufferPointer(start: start, count: count))
    let document = input.extracting(2..<count)
    let cut = (Int(input[0]) << 8 | Int(input[1])) % (document.count + 1)

    var whole = JSONScanner(maximumEntries: 100)
    var pieces = JSONScanner(maximumEntries: 100)
    let error = scan(document, cutAt: 0, with: &whole)
    precondition(error == scan(document, cutAt: cut, with: &pieces), "the cut changes the error")
    precondition(whole.entryCount == pieces.entryCount, "the cut changes how many entries there are")
    for index in 0..<whole.entryCount {
        precondition(whole.entry(index) == pieces.entry(index), "the cut changes an entry")
    }
    if error == nil {
        precondition(whole.value == pieces.value && whole.kind == pieces.kind, "the cut changes the root")
        for index in 0..<whole.entryCount { check(whole.entry(index), of: document) }
        read(document.extracting(whole.value), as: whole.kind)
    }
    // Readers expect validated values, but must not trap on any bytes.
    read(document, as: nil)
    return 0
}

private func scan(_ document: Span<UInt8>, cutAt cut: Int, with scanner: inout JSONScanner) -> JSONError? {
    do throws(JSONError) {
        try scanner.consume(document.extracting(0..<cut))
        try scanner.consume(document.extracting(cut..<document.count))
        try scanner.finish()
        return nil
    } catch {
        precondition(0...document.count ~= error.offset && !error.description.isEmpty, "an error is in the document")
        return error
    }
}

private func check(_ entry: JSONScanner.Entry, of document: Span<UInt8>) {
    let value = document.extracting(entry.value)
    var scanner = JSONScanner(maximumEntries: document.count)
    precondition(scan(value, cutAt: 0, with: &scanner) == nil, "an entry is not a document")
    precondition(scanner.kind == entry.kind && scanner.value == 0..<value.count, "an entry is another document")
    read(value, as: entry.kind)
    _ = JSONValue.stringEquals(document.extracting(entry.name), hasEscapes: entry.nameHasEscapes, "content")
}

/// Calls every reader; `kind` is nil if the bytes are not a value.
private func read(_ value: Span<UInt8>, as kind: JSONKind?) {
    let integer = try? JSONValue.integer(value)
    let unsigned = try? JSONValue.unsigned(value)
    if let integer, integer >= 0, kind != nil { precondition(unsigned == UInt64(integer), "two integers from one") }
    _ = try? JSONValue.milliseconds(value)
    _ = JSONValue.stringEquals(value, hasEscapes: true, "content")

    var decoded: [UInt8] = []
    let isDecoded = JSONValue.decodeString(value, into: &decoded)
    guard let kind else { return }
    precondition(!isDecoded || kind == .string, "another value was read as a string")
    if isDecoded {
        var written: [UInt8] = []
        JSONWriter.writeString(decoded.span, to: &written)
        var again: [UInt8] = []
        precondition(
            JSONValue.decodeString(written.span, into: &again) && again == decoded, "a string changes in writing")
    }
}
