// The documents that the scanner accepts, its errors for all others, and its outlines.

import Support
import Testing

@testable import JSON

/// Valid documents, with every form of every production of RFC 8259.
private let validDocuments = [
    // Values, with and without white space around them.
    "null", "true", "false", "0", "\"\"", "{}", "[]", " \t\r\n null \t\r\n ", "\n[\n]\n", "\r{\t}",
    // Numbers, with each part absent and present, short and long.
    "-0", "1", "-1", "9", "10", "1234567890", "-1234567890123456789012345678901234567890", "0.0", "-0.5", "10.01",
    "0e0", "0E0", "1e1", "1E+1", "1e-1", "1.5e300", "1.5E-007", "[0]", "[-0]", "[0.1]", "[1e5]", "[1,2]", "[1 , 2]",
    "{\"a\":-1.5e-5}",
    // As most programs write them, with something unusual at each place.
    #"{"a": 1, "b": [2, {"c": "d"}, [], {}], "e": true, "f": null}"#, "[[[[1]], 0], [false, -1]]\n",
    #"{"a":{"b":[0]}}"#,
    #"{"a": "b", "é": "ü\n", "c": [1, 2.5, "\u0041"]}"#, #"{"a":[1 ,2],"b":{"c" :3}}"#, "{\"a\":1}\n", "[1, 2,  3]",
    // Strings: every escape; runs longer than the eight bytes that are scanned at once; and every position in such a
    // run.
    #""\"\\\/\b\f\n\r\t""#, #""\u0000\u001f\u0041\uABCD\uabcd\uFfFf""#, #""\ud83d\ude00""#, #""\ud83d""#,
    #""\ude00\ud83d""#,
    "\"1234567\"", "\"12345678\"", "\"123456789\"", "\"1234567890123456789012345678901234567890\"", "\"\u{7F}\"",
    #""123456\"8901234567890""#, #""12345678901234\\""#, "\"'/<>&{}[],:\"",
    // UTF-8: the first and the last character of each length, and on each side of the surrogates.
    "\"\u{80}\u{7FF}\u{800}\u{FFF}\u{1000}\u{CFFF}\u{D000}\u{D7FF}\u{E000}\u{FFFF}\"",
    "\"\u{10000}\u{3FFFF}\u{40000}\u{FFFFF}\u{100000}\u{10FFFF}\"", "\"1234567é日本語😀1234567890\"",
    "{\"é😀\":\"\u{FEFF}\"}",
    // Containers.
    "[[]]", "[{}]", "{\"\":{}}", "[1,\"a\",null,true,false,{},[]]", "{\"a\":1,\"b\":[2,{\"c\":3}],\"a\":4}",
    " { \"a\" : [ 1 , 2 ] , \"b\\n\" : { \"c\" : \"d\" } } ", "[[[[[[[[[[\"x\"]]]]]]]]]]", "[[],[[]],[[[]]]]",
]

/// Documents that are not JSON, with their errors.
private let invalidDocuments: [(document: String, error: String)] = [
    ("", "at byte 0: expected a value, got the end"),
    ("  ", "at byte 2: expected a value, got the end"),
    ("x", "at byte 0: expected a value, got 'x'"),
    ("\u{FEFF}1", "at byte 0: expected a value, got the byte 0xEF"),
    ("1 2", "at byte 2: expected the end, got '2'"),
    ("{},", "at byte 2: expected the end, got ','"),
    ("[]]", "at byte 2: expected the end, got ']'"),
    ("null\0", "at byte 4: expected the end, got the byte 0x00"),
    ("\u{0B}1", "at byte 0: expected a value, got the byte 0x0B"),
    ("\u{A0}1", "at byte 0: expected a value, got the byte 0xC2"),
    ("// 1", "at byte 0: expected a value, got '/'"),
    // Literals.
    ("nul", "at byte 3: expected 'null', got the end"),
    ("nulL", "at byte 3: expected 'null', got 'L'"),
    ("True", "at byte 0: expected a value, got 'T'"),
    ("tru ", "at byte 3: expected 'true', got the byte 0x20"),
    ("falsey", "at byte 5: expected the end, got 'y'"),
    ("NaN", "at byte 0: expected a value, got 'N'"),
    ("Infinity", "at byte 0: expected a value, got 'I'"),
    // Numbers.
    ("-", "at byte 1: expected a digit, got the end"),
    ("-a", "at byte 1: expected a digit, got 'a'"),
    ("--1", "at byte 1: expected a digit, got '-'"),
    ("-Infinity", "at byte 1: expected a digit, got 'I'"),
    ("+1", "at byte 0: expected a value, got '+'"),
    (".5", "at byte 0: expected a value, got '.'"),
    ("01", "at byte 1: expected the end, got '1'"),
    ("-012", "at byte 2: expected the end, got '1'"),
    ("[00]", "at byte 2: expected ',' or ']', got '0'"),
    ("1.", "at byte 2: expected a digit, got the end"),
    ("[1.]", "at byte 3: expected a digit, got ']'"),
    ("1.e5", "at byte 2: expected a digit, got 'e'"),
    ("1.5.5", "at byte 3: expected the end, got '.'"),
    ("1e", "at byte 2: expected a digit, got the end"),
    ("1e+", "at byte 3: expected a digit, got the end"),
    ("1e+-1", "at byte 3: expected a digit, got '-'"),
    ("1e5.5", "at byte 3: expected the end, got '.'"),
    ("1e5e5", "at byte 3: expected the end, got 'e'"),
    ("0x10", "at byte 1: expected the end, got 'x'"),
    ("1_000", "at byte 1: expected the end, got '_'"),
    // Strings.
    ("\"", "at byte 1: expected the closing '\"', got the end"),
    ("\"abc", "at byte 4: expected the closing '\"', got the end"),
    ("\"abc\\\"", "at byte 6: expected the closing '\"', got the end"),
    ("'a'", "at byte 0: expected a value, got '''"),
    ("\"a\nb\"", "at byte 2: expected control characters to be escaped, got the byte 0x0A"),
    ("\"123456789\0\"", "at byte 10: expected control characters to be escaped, got the byte 0x00"),
    ("\"\u{1F}\"", "at byte 1: expected control characters to be escaped, got the byte 0x1F"),
    ("\"\\", "at byte 2: expected one of \"\\/bfnrtu after the backslash, got the end"),
    ("\"\\a\"", "at byte 2: expected one of \"\\/bfnrtu after the backslash, got 'a'"),
    ("\"\\U0041\"", "at byte 2: expected one of \"\\/bfnrtu after the backslash, got 'U'"),
    ("\"\\u004\"", "at byte 6: expected a hexadecimal digit, got '\"'"),
    ("\"\\u00g0\"", "at byte 5: expected a hexadecimal digit, got 'g'"),
    ("\"\\u+041\"", "at byte 3: expected a hexadecimal digit, got '+'"),
    ("\"\\u00", "at byte 5: expected a hexadecimal digit, got the end"),
    // Containers.
    ("[", "at byte 1: expected a value or ']', got the end"),
    ("[,1]", "at byte 1: expected a value or ']', got ','"),
    ("[}", "at byte 1: expected a value or ']', got '}'"),
    ("[1", "at byte 2: expected ',' or ']', got the end"),
    ("[1}", "at byte 2: expected ',' or ']', got '}'"),
    ("[1 2]", "at byte 3: expected ',' or ']', got '2'"),
    ("[1,", "at byte 3: expected a value, got the end"),
    ("[1,]", "at byte 3: expected a value, got ']'"),
    ("[1,,2]", "at byte 3: expected a value, got ','"),
    ("[1:2]", "at byte 2: expected ',' or ']', got ':'"),
    ("{", "at byte 1: expected a name in double quotes or '}', got the end"),
    ("{,}", "at byte 1: expected a name in double quotes or '}', got ','"),
    ("{a:1}", "at byte 1: expected a name in double quotes or '}', got 'a'"),
    ("{1:1}", "at byte 1: expected a name in double quotes or '}', got '1'"),
    ("{]", "at byte 1: expected a name in double quotes or '}', got ']'"),
    ("{\"a\"", "at byte 4: expected ':', got the end"),
    ("{\"a\"}", "at byte 4: expected ':', got '}'"),
    ("{\"a\" 1}", "at byte 5: expected ':', got '1'"),
    ("{\"a\"::1}", "at byte 5: expected a value, got ':'"),
    ("{\"a\":", "at byte 5: expected a value, got the end"),
    ("{\"a\":}", "at byte 5: expected a value, got '}'"),
    ("{\"a\":1", "at byte 6: expected ',' or '}', got the end"),
    ("{\"a\":1]", "at byte 6: expected ',' or '}', got ']'"),
    ("{\"a\":1 \"b\":2}", "at byte 7: expected ',' or '}', got '\"'"),
    ("{\"a\":1,", "at byte 7: expected a name in double quotes, got the end"),
    ("{\"a\":1,}", "at byte 7: expected a name in double quotes, got '}'"),
    ("{\"a\":1,2}", "at byte 7: expected a name in double quotes, got '2'"),
    ("[{\"a\":[1}]]", "at byte 8: expected ',' or ']', got '}'"),
    ("[[1]", "at byte 4: expected ',' or ']', got the end"),
]

/// Byte sequences that are not UTF-8, with the number of their valid bytes.
private let invalidUTF8: [(bytes: [UInt8], right: Int)] = [
    // A continuation byte at the beginning; bytes that never occur in UTF-8.
    ([0x80], 0), ([0xBF], 0), ([0xC0, 0x80], 0), ([0xC1, 0xBF], 0), ([0xF5, 0x80, 0x80, 0x80], 0), ([0xFE], 0),
    ([0xFF], 0),
    // Overlong forms.
    ([0xE0, 0x80, 0x80], 1), ([0xE0, 0x9F, 0xBF], 1), ([0xF0, 0x80, 0x80, 0x80], 1), ([0xF0, 0x8F, 0xBF, 0xBF], 1),
    // Surrogates; over U+10FFFF.
    ([0xED, 0xA0, 0x80], 1), ([0xED, 0xBF, 0xBF], 1), ([0xF4, 0x90, 0x80, 0x80], 1),
    // Too few continuation bytes, before another character and before the quote.
    ([0xC2, 0x41], 1), ([0xC2], 1), ([0xE1, 0x80], 2), ([0xE1, 0x80, 0xC0], 2), ([0xF1, 0x80, 0x80], 3),
    ([0xF1, 0x80, 0x80, 0x41], 3), ([0xF1, 0x41], 1),
    // A continuation byte too many.
    ([0xC2, 0x80, 0x80], 2), ([0xF1, 0x80, 0x80, 0x80, 0x80], 4),
]

@Suite(.blocking) struct JSONScannerTests {
    @Test(arguments: validDocuments) func accepts(_ document: String) {
        #expect(scan(document).error == nil)
        #expect(scan(document) == NaiveParser.parse(Array(document.utf8)))
    }

    @Test(arguments: invalidDocuments) func refuses(_ document: String, error: String) {
        #expect(scan(document).error?.description == error)
        #expect(NaiveParser.parse(Array(document.utf8)) == nil)
    }

    @Test func refusesInvalidUTF8() {
        // At different positions, because strings are scanned eight bytes at a time.
        for padding in 0..<10 {
            for (bytes, right) in invalidUTF8 {
                let document =
                    [UInt8](#"[""#.utf8) + Array(repeating: 0x61, count: padding) + bytes + [UInt8](#"a"]"#.utf8)
                let offset = 2 + padding + right
                let expected = JSONError(offset: offset, expected: .utf8, found: document[offset])
                #expect(scan(document) == .error(expected), "\(bytes) after \(padding)")
            }
        }
    }

    @Test func acceptsAllCharacters() {
        let scalars = (0x20...0x10FFFF).lazy.compactMap { Unicode.Scalar($0) }.filter { $0 != "\"" && $0 != "\\" }
        var text = String.UnicodeScalarView()
        text.append(contentsOf: scalars)
        let document = "\"\(String(text))\""
        #expect(scan(document).error == nil)
    }

    @Test func theResultIsTheSameHoweverTheDocumentIsCut() {
        let broken = invalidUTF8.map { [UInt8](#"{"a":"b"#.utf8) + $0.bytes + [UInt8](#"c"}"#.utf8) }
        let documents = (validDocuments + invalidDocuments.map(\.document)).map { Array($0.utf8) } + broken
        // One scanner for all documents: none may affect the next.
        var scanner = JSONScanner()
        for document in documents {
            let whole = scan(document)
            for cut in 0...document.count {
                #expect(scan(document, cuts: [cut], with: &scanner) == whole, "\(document) cut at \(cut)")
            }
            #expect(scan(document, cuts: 0...document.count, with: &scanner) == whole, "\(document) byte by byte")
        }
    }

    @Test func agreesWithTheNaiveParserOnMutatedDocuments() {
        var random = SeededRandom()
        let documents = validDocuments.map { Array($0.utf8) }
        let interesting =
            Array("{}[]\",:\\u0123456789abcdefnrt.+-eE \n".utf8) + [0x00, 0x1F, 0x7F, 0x80, 0xBF, 0xC2, 0xED, 0xF4]
        var scanner = JSONScanner()
        var validCount = 0
        for _ in 0..<testOperations {
            var document = documents.randomElement(using: &random) ?? []
            for _ in 0...Int.random(in: 0...2, using: &random) {
                let place = Int.random(in: 0...document.count, using: &random)
                let byte = interesting.randomElement(using: &random) ?? 0
                switch Int.random(in: 0..<4, using: &random) {
                case 0: document.insert(byte, at: place)
                case 1 where place < document.count: document.remove(at: place)
                case 2 where place < document.count: document[place] = byte
                default:
                    let other = documents.randomElement(using: &random) ?? []
                    document.insert(contentsOf: other, at: place)
                }
            }
            let whole = scan(document, with: &scanner)
            if let expected = NaiveParser.parse(document) {
                #expect(whole == expected, "\(document) \(random)")
                validCount += 1
            } else {
                #expect(whole.error != nil, "\(document) \(random)")
            }
            let cuts = (0..<3).map { _ in Int.random(in: 0...document.count, using: &random) }.sorted()
            #expect(scan(document, cuts: cuts, with: &scanner) == whole, "\(document) cut at \(cuts) \(random)")
        }
        #expect(validCount > testOperations / 10, "the mutations leave enough valid: \(random)")
    }

    // MARK: - Outline

    @Test func outlinesAnObject() {
        let document = #" {"content": {"a": [1, "}"]} , "\u0072etry":5,"":null,"content":"x\"y"} "#
        let outcome = scan(document)
        let entries = outcome.entries
        #expect(entries.map { text($0.name, of: document) } == ["content", #"\u0072etry"#, "", "content"])
        #expect(entries.map(\.nameHasEscapes) == [false, true, false, false])
        #expect(entries.map { text($0.value, of: document) } == [#"{"a": [1, "}"]}"#, "5", "null", #""x\"y""#])
        #expect(entries.map(\.kind) == [.object, .number, .null, .string])
        #expect(outcome == .document(kind: .object, value: 1..<document.utf8.count - 1, entries: entries))
    }

    @Test func outlinesAnArray() {
        let document = #"[1, "two" ,{"three":3},[4,[4]],true,false ]"#
        let entries = scan(document).entries
        #expect(entries.allSatisfy { $0.name.isEmpty && !$0.nameHasEscapes })
        #expect(
            entries.map { text($0.value, of: document) } == [
                "1", #""two""#, #"{"three":3}"#, "[4,[4]]", "true", "false",
            ])
        #expect(entries.map(\.kind) == [.number, .string, .object, .array, .true, .false])
    }

    @Test func aScalarHasNoOutline() {
        #expect(scan(" -12 ") == .document(kind: .number, value: 1..<4, entries: []))
        #expect(scan("12") == .document(kind: .number, value: 0..<2, entries: []))
        #expect(scan(#""[1,2]""#) == .document(kind: .string, value: 0..<7, entries: []))
    }

    @Test func anEntryIsItselfADocument() {
        let document = #"{"tasks":[{"id":"a","result":{"b":[]}},{"id":"c"}]}"#
        let tasks = text(scan(document).entries[0].value, of: document)
        let first = text(scan(tasks).entries[0].value, of: tasks)
        #expect(scan(first).entries.map { text($0.value, of: first) } == [#""a""#, #"{"b":[]}"#])
    }

    // MARK: - Limits and state

    @Test(arguments: [("[", "]"), (#"{"a":"#, "}"), (#"[{"a":"#, "}]")])
    func nestsTo512Levels(_ open: String, close: String) {
        let levels = open.count { $0 == "[" || $0 == "{" }
        let deepest = String(repeating: open, count: 512 / levels)
        let allowed = Array((deepest + "0" + String(repeating: close, count: 512 / levels)).utf8)
        #expect(scan(allowed).error == nil)
        #expect(scan(allowed, cuts: 0..<allowed.count) == scan(allowed))

        let tooDeep = Array((deepest + "[").utf8)
        let error = JSONError(offset: deepest.utf8.count, expected: .depthOfAtMost(512), found: UInt8(ascii: "["))
        #expect(scan(tooDeep) == .error(error))
        #expect(scan(tooDeep, cuts: 0..<tooDeep.count) == .error(error))
        #expect(error.description == "at byte \(deepest.utf8.count): expected at most 512 levels of nesting, got '['")
    }

    @Test func answersMayBeNestedDeeper() {
        var scanner = JSONScanner(maximumDepth: JSONScanner.maximumAnswerDepth)
        let (open, close) = (String(repeating: "[", count: 576), String(repeating: "]", count: 576))
        #expect(scan(Array((open + close).utf8), with: &scanner).error == nil)
        #expect(
            scan(Array("[\(open)\(close)]".utf8), with: &scanner).error
                == JSONError(offset: 576, expected: .depthOfAtMost(576), found: UInt8(ascii: "[")))
    }

    @Test func containersMustCloseAsTheyWereOpenedAtEveryDepth() {
        var random = SeededRandom()
        var scanner = JSONScanner(maximumDepth: JSONScanner.maximumAnswerDepth)
        func scan(_ document: String) -> Outcome { JSONTests.scan(Array(document.utf8), with: &scanner) }
        for depth in [1, 2, 63, 64, 65, 127, 128, 129, 500, 511, 512, 513, 575, 576] {
            let areObjects = (0..<depth).map { _ in Bool.random(using: &random) }
            let open = areObjects.map { $0 ? #"{"a":"# : "[" }.joined() + "1"
            let close = areObjects.reversed().map { $0 ? "}" : "]" }
            #expect(scan(open + close.joined()).error == nil, "\(depth) \(random)")
            let wrong = Int.random(in: 0..<depth, using: &random)
            var swapped = close
            swapped[wrong] = close[wrong] == "]" ? "}" : "]"
            #expect(scan(open + swapped.joined()).error?.offset == open.utf8.count + wrong, "\(depth) \(random)")
        }
    }

    @Test(arguments: ["[1,2,3]", #"{"a":1,"b":2,"c":3}"#]) func boundsTheOutline(_ document: String) {
        let bytes = Array(document.utf8)
        var enough = JSONScanner(maximumEntries: 3)
        #expect(scan(bytes, with: &enough).entries.count == 3)
        var tooFew = JSONScanner(maximumEntries: 2)
        let error = JSONError(
            offset: bytes.lastIndex(of: UInt8(ascii: ",")) ?? 0, expected: .entriesOfAtMost(2), found: UInt8(ascii: ",")
        )
        #expect(scan(bytes, with: &tooFew) == .error(error))
        #expect(scan(bytes, cuts: 0..<bytes.count, with: &tooFew) == .error(error))
        #expect(error.description.contains("expected at most 2 members or elements"))
        // Nested entries do not count.
        #expect(scan(Array("[[1,2,3,4],{}]".utf8), with: &tooFew).error == nil)
    }

    @Test func acceptsTenThousandEntriesByDefault() {
        let elements = Array(repeating: "0", count: 10_000).joined(separator: ",")
        #expect(scan("[\(elements)]").entries.count == 10_000)
        #expect(scan("[\(elements),0]").error?.expected == .entriesOfAtMost(10_000))
    }

    @Test func takesAnyBytesInStringsIfItNeedNotCheckThem() throws {
        for bytes: [UInt8] in [[0xE9], [0xC3, 0x28], [0xC0, 0xAF], [0xFF, 0xFE], [0xF0, 0x9F], Array("é€😀".utf8)] {
            var scanner = JSONScanner(checksUTF8: false)
            for byte in Array(#"{""#.utf8) + bytes + Array(#"":"a"#.utf8) + bytes + Array(#"\n","b":1}"#.utf8) {
                try scanner.consume([byte].span)
            }
            try scanner.finish()
            #expect(scanner.entryCount == 2 && scanner.entry(0).name == 2..<2 + bytes.count)
            scanner.reset()
            #expect(throws: JSONError(offset: 1, expected: .valueOrBracket, found: bytes[0])) {
                try scanner.consume((Array("[".utf8) + bytes).span)
            }
        }
    }

    @Test func theOutlineIsKnownIfOnlyBytesAfterTheDocumentAreWrong() throws {
        for (document, value) in [(#" {"a":[1],"b":2} }"#, 1..<16), ("[1,2]x", 0..<5), ("7{", 0..<1)] {
            var scanner = JSONScanner()
            var error: JSONError?
            let bytes = Array(document.utf8)
            do throws(JSONError) { try scanner.consume(bytes.span) } catch let caught { error = caught }
            #expect(error?.expected == .end)
            #expect(scanner.value == value)
        }
    }

    @Test func anErrorStaysUntilReset() throws {
        var scanner = JSONScanner()
        let expected = JSONError(offset: 1, expected: .valueOrBracket, found: UInt8(ascii: "x"))
        for piece in ["[x", "1]", ""] {
            do throws(JSONError) {
                try scanner.consume(Array(piece.utf8).span)
                Issue.record("no error")
            } catch {
                #expect(error == expected)
            }
        }
        do throws(JSONError) {
            try scanner.finish()
            Issue.record("no error")
        } catch {
            #expect(error == expected)
        }
        scanner.reset()
        try scanner.consume([0x31].span)
        try scanner.finish()
        #expect(scanner.kind == .number)
    }

    /// The outline grows from 16 entries on, also of a scanner that was used before.
    @Test func theOutlineGrowsToItsBound() {
        var used = JSONScanner(maximumEntries: 50)
        for count in [15, 16, 17, 33, 49, 50, 51, 20] {
            let arrayed = (0..<count).map { "\($0)" }
            let named = (0..<count).map { #""n\#($0)":[{"v":\#($0)}]"# }
            for (document, values) in [
                ("[\(arrayed.joined(separator: ","))]", arrayed),
                ("{\(named.joined(separator: ", "))}", (0..<count).map { #"[{"v":\#($0)}]"# }),
            ] {
                let bytes = Array(document.utf8)
                var fresh = JSONScanner(maximumEntries: 50)
                for outcome in [scan(bytes, with: &fresh), scan(bytes, with: &used)] {
                    if count <= 50 {
                        #expect(outcome.entries.map { text($0.value, of: document) } == values)
                    } else {
                        #expect(outcome.error?.expected == .entriesOfAtMost(50))
                    }
                }
            }
        }
    }

    @Test func aDocumentMayHaveAnyNumberOfEntriesIfTheyAreForgotten() throws {
        var scanner = JSONScanner(maximumEntries: 3)
        try scanner.consume(Array(#"{"a":1"#.utf8).span)
        for _ in 0..<100 {
            try scanner.consume(Array(#","b":[2],"c":3"#.utf8).span)
            scanner.forgetEntries()
            #expect(scanner.entryCount == 0)
        }
        try scanner.consume(Array(#","d":4}"#.utf8).span)
        try scanner.finish()
        let document = Array((#"{"a":1"# + String(repeating: #","b":[2],"c":3"#, count: 100) + #","d":4}"#).utf8)
        #expect(scanner.kind == .object && scanner.value == 0..<document.count)
        // The number before the first comma ends with that comma.
        let last = scanner.entry(scanner.entryCount - 1)
        #expect(document[last.name].elementsEqual("d".utf8) && document[last.value].elementsEqual("4".utf8))
    }
}
