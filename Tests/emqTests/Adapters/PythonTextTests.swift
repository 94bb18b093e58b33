// Python's texts of JSON values; Python 3 printed those here.

import Bytes
import JSON
import Support
import Testing

@testable import emq

@Suite(.blocking) struct PythonTextTests {
    static let texts: [(json: String, text: String)] = [
        (#""plain""#, #"plain"#),
        (#""""#, #""#),
        (#""é\n\u20ac""#, "é\n€"),
        (#"1"#, #"1"#),
        (#"-1"#, #"-1"#),
        (#"0"#, #"0"#),
        (#"-0"#, #"0"#),
        (#"123456789012345678901234567890"#, #"123456789012345678901234567890"#),
        (#"1.5"#, #"1.5"#),
        (#"-0.0"#, #"-0.0"#),
        (#"1e5"#, #"100000.0"#),
        (#"1E+5"#, #"100000.0"#),
        (#"1e16"#, #"1e+16"#),
        (#"9999999999999998.0"#, #"9999999999999998.0"#),
        (#"12345678901234567.0"#, #"1.2345678901234568e+16"#),
        (#"1e22"#, #"1e+22"#),
        (#"0.0001"#, #"0.0001"#),
        (#"0.00001"#, #"1e-05"#),
        (#"1.50"#, #"1.5"#),
        (#"1e-7"#, #"1e-07"#),
        (#"1.25e-10"#, #"1.25e-10"#),
        (#"5e-324"#, #"5e-324"#),
        (#"1.7976931348623157e308"#, #"1.7976931348623157e+308"#),
        (#"1e400"#, #"inf"#),
        (#"-1e400"#, #"-inf"#),
        (#"0.1"#, #"0.1"#),
        (#"100.0"#, #"100.0"#),
        (#"123456.789"#, #"123456.789"#),
        (#"true"#, #"True"#),
        (#"false"#, #"False"#),
        (#"[]"#, #"[]"#),
        (#"{}"#, #"{}"#),
        (#"[1, 2,[3 ,null]]"#, #"[1, 2, [3, None]]"#),
        (#"{"a": 1}"#, #"{'a': 1}"#),
        (#"{"a":{"b":[true,false]},"c":"d"}"#, #"{'a': {'b': [True, False]}, 'c': 'd'}"#),
        (#"{"it's": "a"}"#, #"{"it's": 'a'}"#),
        (#"["it's", "\"it's\"", "say \"x\""]"#, #"["it's", '"it\'s"', 'say "x"']"#),
        (#"["\\ \t\r\n\u0000\u001f\u007f"]"#, #"['\\ \t\r\n\x00\x1f\x7f']"#),
        (#"["é ü € 😀 \u00a0\u00ad\u200b\u2028\ud83d\ude00 \ue000"]"#, #"['é ü € 😀 \xa0\xad\u200b\u2028😀 \ue000']"#),
        (#"{"a":1,"b":2,"a":3}"#, #"{'a': 3, 'b': 2}"#),
        (#"{"x":{"a":1,"a":[2]},"y":{"b":1}}"#, #"{'x': {'a': [2]}, 'y': {'b': 1}}"#),
        (#"{"\u0061": 1, "a": 2}"#, #"{'a': 2}"#),
        (#" { "a" : [ 1 , { } ] } "#, #"{'a': [1, {}]}"#),
        (#"["\/"]"#, #"['/']"#),
        (#"{"a": 1e2, "b": -2.50}"#, #"{'a': 100.0, 'b': -2.5}"#),
        (#"[""]"#, #"['']"#),
        (#"{"": ""}"#, #"{'': ''}"#),
    ]

    @Test(arguments: texts.indices)
    func aValueHasItsTextInPython(index: Int) {
        let (json, text) = Self.texts[index]
        let bytes = Array(json.utf8)
        let found = PythonText.str(bytes.span)
        #expect(found == Array(text.utf8), "\(String(decoding: found ?? [], as: UTF8.self))")
    }

    @Test func halfASurrogatePairHasNoText() {
        for json in [#""\ud800""#, #"["\ud800"]"#, #"{"a": {"\udc00": 1}}"#] {
            let bytes = Array(json.utf8)
            #expect(PythonText.str(bytes.span) == nil)
        }
    }

    @Test func whatIsNotJSONHasNoText() {
        for text in ["[", "{", #"{"a""#, #"{"a":"#, "[1", #"["a"#, "[,", "{1}", "]", "-.", #"["\"#] {
            let bytes = Array(text.utf8)
            #expect(PythonText.str(bytes.span) == nil, "\(text)")
        }
    }

    @Test func anObjectKeepsTheLastValueOfANameThatItRepeatsManyTimes() {
        let nested = String(repeating: #"{"a": 1, "a": "#, count: 200) + "1" + String(repeating: "}", count: 200)
        let flat = "[\(nested), {" + (0..<100_000).map { #""a": \#($0)"# }.joined(separator: ",") + "}]"
        let bytes = Array(flat.utf8)
        let found = PythonText.str(bytes.span) ?? []
        let objects = String(repeating: "{'a': ", count: 200) + "1" + String(repeating: "}", count: 200)
        #expect(String(decoding: found, as: UTF8.self) == "[\(objects), {'a': 99999}]")
    }

    @Test func emptyValuesAndZeroAreFalse() {
        let kinds: [(String, JSONKind, Bool)] = [
            ("null", .null, false), ("false", .false, false), ("true", .true, true), ("0", .number, false),
            ("-0.0e5", .number, false), ("0.1", .number, true), (#""""#, .string, false), (#"" ""#, .string, true),
            ("[ ]", .array, false), ("[0]", .array, true), ("{\n}", .object, false), (#"{"": 0}"#, .object, true),
        ]
        for (json, kind, isTrue) in kinds {
            let bytes = Array(json.utf8)
            #expect(PythonText.isTrue(bytes.span, kind) == isTrue, "\(json)")
        }
    }
}

@Suite(.blocking) struct TextEncodingTests {
    static let bodies: [(bytes: [UInt8], type: String, text: String)] = [
        ([0x62, 0xFC, 0x80], "text/plain; charset=ISO-8859-1", "bü\u{80}"),
        ([0x62, 0xFC], "text/plain;charset=\"latin1\"", "bü"),
        ([0x80, 0x81, 0x93, 0xFC], "application/x; a=b; Charset=Windows-1252", "€\u{FFFD}“ü"),
        ([0x9F], "text/html; charset=cp1252", "Ÿ"),
        ([0x61, 0xFC], "text/plain; charset=US-ASCII", "a\u{FFFD}"),
        ([0xC3, 0xBC, 0xFC], "text/plain; charset=utf-8", "ü\u{FFFD}"),
        ([0xC3, 0xBC], "text/plain; charset=unknown", "ü"),
        ([0xFF, 0xFE, 0x61, 0x00, 0x3D, 0xD8, 0x00, 0xDE, 0x61], "text/plain; charset=utf-16", "a😀\u{FFFD}"),
        ([0xFE, 0xFF, 0x00, 0x61], "text/plain; charset=UTF-16", "a"),
        ([0x61, 0x00], "text/plain; charset=utf-16", "a"),
        ([0x00, 0x61, 0xD8, 0x00], "text/plain; charset=utf-16be", "a\u{FFFD}"),
        ([], "text/plain; charset=utf-16", ""), ([0x61], "text/plain; charset=utf-16le", "\u{FFFD}"),
        ([0xC3, 0xBC], "text/plain", "ü"), ([0x62, 0xFC], "Text/HTML", "bü"),
        ([0x62, 0xFC], "text/plain; charset", "bü"),
        ([0x62, 0xFC], "application/json", "b\u{FFFD}"), ([0xC3, 0xBC], "", "ü"), ([], "", ""),
    ]

    @Test(arguments: bodies.indices)
    func aBodyIsDecodedInTheCharsetThatItNames(index: Int) {
        let (bytes, type, text) = Self.bodies[index]
        #expect(TextEncoding.text(of: bytes.span, contentType: type, isTruncated: false) == text)
    }

    @Test func aTruncatedBodyMayEndWithinACharacter() {
        let bytes = Array("ü€".utf8).dropLast()
        let whole = Array(bytes)
        #expect(TextEncoding.text(of: whole.span, contentType: "text/plain", isTruncated: true) == "ü")
        #expect(TextEncoding.text(of: whole.span, contentType: "text/plain", isTruncated: false).hasPrefix("Ã¼"))
    }
}
