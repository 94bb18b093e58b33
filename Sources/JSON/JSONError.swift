// Why a document is not JSON, in words for its author.

import Bytes

/// The first place where a document stops being JSON, or goes beyond a limit of the scanner.
public struct JSONError: Error, Equatable, CustomStringConvertible {
    /// What was expected instead.
    public enum Expectation: Equatable, Sendable, CustomStringConvertible {
        /// Any value.
        case value
        /// The first element of an array, or the end of an empty one.
        case valueOrBracket
        /// The name of a member.
        case name
        /// The name of an object's first member, or the end of an empty one.
        case nameOrBrace
        /// The colon between a name and its value.
        case colon
        /// What may follow a value in an object.
        case commaOrBrace
        /// What may follow a value in an array.
        case commaOrBracket
        /// The end: only white space may follow the document.
        case end
        /// The rest of a string, which has not ended.
        case quote
        /// An escape in place of a control character (below U+0020) in a string.
        case escapedControlCharacter
        /// The letter of an escape.
        case escape
        /// One of the four digits of a `\u` escape.
        case hexadecimalDigit
        /// UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing over U+10FFFF.
        case utf8
        /// A digit of a number.
        case digit
        /// The rest of the word `true`, `false` or `null`.
        case literal(JSONKind)
        /// No deeper nesting, because the scanner's limit is reached.
        case depthOfAtMost(Int)
        /// No further member or element of the outermost container, because the limit of the outline is reached.
        case entriesOfAtMost(Int)

        /// The phrase that follows "expected".
        public var description: String {
            switch self {
            case .value: "a value"
            case .valueOrBracket: "a value or ']'"
            case .name: "a name in double quotes"
            case .nameOrBrace: "a name in double quotes or '}'"
            case .colon: "':'"
            case .commaOrBrace: "',' or '}'"
            case .commaOrBracket: "',' or ']'"
            case .end: "the end"
            case .quote: "the closing '\"'"
            case .escapedControlCharacter: "control characters to be escaped"
            case .escape: "one of \"\\/bfnrtu after the backslash"
            case .hexadecimalDigit: "a hexadecimal digit"
            case .utf8: "valid UTF-8"
            case .digit: "a digit"
            case .literal(let kind): "'\(kind)'"
            case .depthOfAtMost(let depth): "at most \(depth) levels of nesting"
            case .entriesOfAtMost(let count): "at most \(count) members or elements"
            }
        }
    }

    /// The offset of the offending byte from the document's first byte, or the document's length at its end.
    public let offset: Int

    /// What was expected there.
    public let expected: Expectation

    /// The offending byte; nil at the end of the document.
    public let found: UInt8?

    /// A sentence such as `at byte 17: expected ',' or '}', got 'x'`.
    public var description: String {
        "at byte \(offset): expected \(expected), got \(foundDescription)"
    }

    private var foundDescription: String {
        switch found {
        case nil: "the end"
        case .some(let byte) where 0x20 < byte && byte < 0x7F: "'\(Character(Unicode.Scalar(byte)))'"
        case .some(let byte): "the byte \(byte.hexadecimalText)"
        }
    }
}
