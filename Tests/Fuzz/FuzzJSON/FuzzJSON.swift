// libFuzzer's entry to the JSON room. What it checks of any input: that scanning it whole and cut in two gives the same
// outcome, that every entry is itself a document of its kind, and that nothing reads a value's bytes and traps.

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

/// libFuzzer's loop, to be called here because the package manager puts a `main` of its own before libFuzzer's.
@_silgen_name("LLVMFuzzerRunDriver")
private func runFuzzer(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ test: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// The first two bytes of the input say where the rest, the document, is cut.
///
/// libFuzzer's own `main`, though not used, is linked and wants this name.
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
    // Readers are for validated values, but must not trap on anything.
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
    precondition(scan(value, cutAt: 0, with: &scanner) == nil, "an entry is no document")
    precondition(scanner.kind == entry.kind && scanner.value == 0..<value.count, "an entry is another document")
    read(value, as: entry.kind)
    _ = JSONValue.stringEquals(document.extracting(entry.name), hasEscapes: entry.nameHasEscapes, "content")
}

/// Reads a value in every way there is; `kind` is nil for what is no value.
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
