// Checks that bytes are JSON while they arrive, and notes where the parts of the outermost container are.
//
// The scanner is a state machine that can stop after any byte. `consume` passes the rest of a piece to the method for
// the current state, which goes as far as it can. An error depends on the state and the offending byte, never on where
// a piece begins or ends. Before it begins, `scanUsual` scans what is written as most documents are.
//
// Inlining the marked methods makes scanning a document of 100 bytes 13 % faster.

import Bytes
import CLinux

/// A strict scanner of JSON (RFC 8259) in UTF-8 (RFC 3629) that takes a document piece by piece.
///
/// One pass validates everything, at any depth, and records an outline of the outermost container: where the name and
/// the value of each member of a root object are, or each element of a root array. To read a nested container, scan its
/// bytes with another scanner. Nothing is normalised: a name given twice is two entries, and an escaped lone surrogate
/// is accepted, as the grammar allows.
///
/// Scanning allocates only if the outline outgrows the storage kept from earlier documents. A scanner takes no more
/// memory than its outline and 72 bytes for nesting, however deep or long a document is.
public struct JSONScanner: ~Copyable {
    /// The maximum number of containers open at once, unless the scanner is told another one.
    public static let maximumDepth = 512
    /// The same for answers of a server, which nest what its clients sent a little deeper.
    public static let maximumAnswerDepth = 576

    /// A member of the outermost object or an element of the outermost array. Ranges are offsets from the document's
    /// first byte.
    public struct Entry: Equatable, Sendable {
        /// The name between its quotes, as it was written; empty for an element of an array.
        public let name: Range<Int>
        /// Whether ``name`` has escapes that have to be decoded.
        public let nameHasEscapes: Bool
        /// The value, with its quotes if it is a string, without the white space around it.
        public let value: Range<Int>
        /// The kind of the value.
        public let kind: JSONKind
    }

    private let pin = Pin()

    private enum State: UInt8 {
        // Between tokens, where white space may stand.
        case value, valueOrBracket, name, nameOrBrace, colon, afterValue
        // In a string: between characters, after a backslash, in a `\u` escape, in a character of several bytes.
        case string, escape, hexadecimal, utf8
        // In a number: after its minus, in its integer part (a leading zero ends that), after the point, and so on.
        case minus, zero, integer, point, fraction, exponentMark, exponentSign, exponent
        // In `true`, `false` or `null`.
        case literal
    }

    private let maximumEntries: Int
    private let depthLimit: Int
    private let checksUTF8: Bool
    private var state = State.value
    private var failure: JSONError?
    /// The number of bytes before the current piece.
    private var consumed = 0

    private var depth = 0
    /// A bit for each of the innermost open containers, the lowest for the innermost: set for an object.
    private var objects: UInt64 = 0
    /// The same for those further out, 64 in each number; with `objects` they make ``maximumAnswerDepth``.
    private var outerObjects = InlineArray<8, UInt64>(repeating: 0)

    private var isName = false
    /// The rest of the token: a number of hexadecimal digits or continuation bytes, or the letters of a literal, lowest
    /// byte first.
    private var rest: UInt32 = 0
    /// The bounds of the next continuation byte. The bounds of the first one exclude overlong forms and surrogates.
    private var continuation: (low: UInt8, high: UInt8) = (0x80, 0xBF)
    private var literal = JSONKind.null

    private var rootStart = 0
    private var nameStart = 0
    private var nameEnd = 0
    private var nameHasEscapes = false
    private var entryStart = 0
    /// The outline, followed by others that will be overwritten.
    private var entries: [Entry] = []

    /// The kind of the document; valid after ``finish()``, and if bytes follow the document: if that is the error, the
    /// scanner expected ``JSONError/Expectation/end``.
    public private(set) var kind = JSONKind.null

    /// The range of the document without the white space around it; valid when ``kind`` is.
    public private(set) var value = 0..<0

    /// Makes a scanner for a first document.
    ///
    /// - Parameters:
    ///   - maximumEntries: The maximum number of members or elements of the outermost container; at least 1.
    ///   - maximumDepth: The maximum number of containers open at once; 1 to ``maximumAnswerDepth``.
    ///   - checksUTF8: Whether strings must be valid UTF-8. Otherwise, any bytes over 0x7F are valid in them.
    public init(maximumEntries: Int = 10_000, maximumDepth: Int = maximumDepth, checksUTF8: Bool = true) {
        precondition(maximumEntries > 0, "an outline needs room for at least one entry")
        precondition((1...Self.maximumAnswerDepth).contains(maximumDepth), "a scanner cannot go so deep")
        depthLimit = maximumDepth
        self.maximumEntries = maximumEntries
        self.checksUTF8 = checksUTF8
        // Most requests have no more entries, and are scanned without an allocation.
        entries = Array(repeating: .placeholder, count: min(maximumEntries, 16))
    }

    /// Forgets the document and any error in it, to begin another one. The outline's storage is kept.
    public mutating func reset() {
        state = .value
        failure = nil
        consumed = 0
        depth = 0
        nameStart = 0
        nameEnd = 0
        nameHasEscapes = false
        entryCount = 0
        kind = .null
        value = 0..<0
    }

    /// The number of members or elements of the outermost container seen so far; 0 if the document is no container.
    public private(set) var entryCount = 0

    /// A member or an element of the outermost container, in the order they were written.
    ///
    /// - Parameter index: Less than ``entryCount``.
    /// - Returns: The ranges of its name and its value.
    /// - Complexity: O(1)
    public func entry(_ index: Int) -> Entry {
        precondition(index < entryCount, "there is no such entry")
        return entries[index]
    }

    /// Forgets the entries seen so far, so that a document may have any number of them. The document goes on.
    public mutating func forgetEntries() { entryCount = 0 }

    /// Scans the next piece of the document.
    ///
    /// - Parameter bytes: The bytes after the earlier pieces. A piece may begin and end anywhere, and may be empty.
    /// - Throws: The first error of the document, again on every later call until ``reset()``.
    /// - Complexity: O(*n*), where *n* is the number of bytes.
    public mutating func consume(_ bytes: Span<UInt8>) throws(JSONError) {
        if let failure { throw failure }
        var index = consumed == 0 && state == .value ? scanUsual(bytes) : 0
        while index < bytes.count {
            // In the usual order of tokens. The processor predicts each of these branches by itself; a switch would be
            // a single jump with many targets.
            if state == .afterValue { index = try scanAfterValue(bytes, index) }
            if index < bytes.count, state == .name || state == .nameOrBrace { index = try scanName(bytes, index) }
            if index < bytes.count, state == .string { index = try scanString(bytes, index) }
            if index < bytes.count, state == .colon { index = try scanColon(bytes, index) }
            if index < bytes.count, state == .value || state == .valueOrBracket { index = try scanValue(bytes, index) }
            if index < bytes.count, state == .string { index = try scanString(bytes, index) }
            if index < bytes.count, state == .integer { index = try scanDigits(bytes, index) }
            guard index < bytes.count else { break }
            switch state {
            case .escape: index = try scanEscape(bytes, index)
            case .hexadecimal: index = try scanHexadecimal(bytes, index)
            case .utf8: index = try scanContinuation(bytes, index)
            case .minus, .zero, .integer, .point, .fraction, .exponentMark, .exponentSign, .exponent:
                index = try scanNumber(bytes, index)
            case .literal: index = try scanLiteral(bytes, index)
            default: break
            }
        }
        consumed += bytes.count
    }

    /// Ends the document, which must be complete.
    ///
    /// - Throws: The first error of the document; an error at its end if something is missing.
    /// - Complexity: O(1)
    public mutating func finish() throws(JSONError) {
        if let failure { throw failure }
        switch state {
        case .zero, .integer, .fraction, .exponent: endValue(.number, at: 0)
        default: break
        }
        guard state == .afterValue, depth == 0 else {
            throw fail(JSONError(offset: consumed, expected: expectation, found: nil))
        }
    }

    // MARK: - Usual values

    /// Scans the beginning of a document as far as it is written as most programs write most requests: containers of
    /// containers, strings without escapes, integers and literals, with no white space but a space after a colon or a
    /// comma. That takes half the instructions of the state machine, since everything about it is in registers. The
    /// state machine goes on with the first value that is written in another way, and reports all errors.
    ///
    /// - Returns: The index of the first byte that was not consumed.
    private mutating func scanUsual(_ bytes: Span<UInt8>) -> Int {
        guard let root = container(at: 0, of: bytes) else { return 0 }
        // As the properties of the state machine, which get these values at the end.
        var (state, kind) = (State.value, JSONKind.null)
        var (objects, depth): (UInt64, Int) = (root == .object ? 1 : 0, 1)
        let (maximumDepth, maximumCount) = (min(depthLimit, UInt64.bitWidth), maximumEntries)
        var (name, start, count) = (0..<0, 0, 0)
        // Where a member or an element begins, or what follows the last one.
        var index = 1
        var isFirst = true
        scan: while true {
            if count == entries.count {
                entries.append(contentsOf: repeatElement(.placeholder, count: min(count, maximumCount - count)))
            }
            // Written through a span, which is known to have no other owner.
            var places = entries.mutableSpan
            while index < bytes.count {
                if depth == 1, count == places.count { continue scan }
                var end = index
                if objects & 1 == 1 {
                    guard let nameEnd = endOfPlainString(from: index, in: bytes), nameEnd < bytes.count,
                        bytes[nameEnd] == UInt8(ascii: ":")
                    else { break }
                    if depth == 1 { name = index + 1..<nameEnd - 1 }
                    end = afterSpace(bytes, nameEnd + 1)
                    if end == bytes.count { break }
                }
                if depth == 1 { start = end }
                if let stringEnd = endOfPlainString(from: end, in: bytes) {
                    (end, kind) = (stringEnd, .string)
                } else if let opened = container(at: end, of: bytes) {
                    guard depth < maximumDepth, end + 1 < bytes.count else { break }
                    if bytes[end + 1] == closing(of: opened) {
                        (end, kind) = (end + 2, opened)
                    } else {
                        objects = objects << 1 | (opened == .object ? 1 : 0)
                        depth += 1
                        index = end + 1
                        isFirst = true
                        continue
                    }
                } else if let number = endOfInteger(from: end, in: bytes) {
                    // What follows may belong to the number, or be missing still.
                    guard number < bytes.count, !isPartOfNumber(bytes[number]) else { break }
                    (end, kind) = (number, .number)
                } else if let token = literalToken(at: end, of: bytes) {
                    (end, kind) = token
                } else {
                    break
                }
                // After a value: the ends of containers, each of which is a value, and a comma or the end of the
                // document.
                isFirst = false
                state = .afterValue
                while true {
                    if depth == 1 {
                        places[count] = Entry(name: name, nameHasEscapes: false, value: start..<end, kind: kind)
                        count += 1
                    }
                    index = end
                    guard end < bytes.count else { break scan }
                    if bytes[end] == UInt8(ascii: ","), depth > 1 || count < maximumCount { break }
                    kind = objects & 1 == 1 ? .object : .array
                    guard bytes[end] == closing(of: kind) else { break scan }
                    end += 1
                    objects >>= 1
                    depth -= 1
                    if depth == 0 {
                        index = end
                        break scan
                    }
                }
                state = objects & 1 == 1 ? .name : .value
                index = afterSpace(bytes, end + 1)
            }
            break
        }
        if isFirst { state = objects & 1 == 1 ? .nameOrBrace : .valueOrBracket }
        if depth == 0 { (value, self.kind) = (0..<index, kind) }
        (self.state, self.objects, self.depth, entryCount, rootStart) = (state, objects, depth, count, 0)
        (nameStart, nameEnd, entryStart) = (name.lowerBound, name.upperBound, start)
        return index
    }

    // MARK: - Between tokens
    //
    // These methods, and those below, take the index of a byte in the piece, and return the index of the first byte
    // that they did not consume.

    private mutating func scanValue(_ bytes: Span<UInt8>, _ index: Int) throws(JSONError) -> Int {
        if depth == 1 {
            entryStart = consumed + index
        } else if depth == 0 {
            rootStart = consumed + index
        }
        switch bytes[index] {
        case UInt8(ascii: "\""):
            state = .string
            isName = false
        case UInt8(ascii: "{"): try open(bytes, index, isObject: true)
        case UInt8(ascii: "["): try open(bytes, index, isObject: false)
        case UInt8(ascii: "1")...UInt8(ascii: "9"): state = .integer
        case UInt8(ascii: "0"): state = .zero
        case UInt8(ascii: "-"): state = .minus
        case UInt8(ascii: "t"): startLiteral(.true, rest: 0x65_75_72)
        case UInt8(ascii: "f"): startLiteral(.false, rest: 0x65_73_6C_61)
        case UInt8(ascii: "n"): startLiteral(.null, rest: 0x6C_6C_75)
        case UInt8(ascii: "]") where state == .valueOrBracket: return close(.array, index)
        default: return try skipWhiteSpace(bytes, index)
        }
        return index + 1
    }

    @inline(__always)
    private mutating func scanName(_ bytes: Span<UInt8>, _ index: Int) throws(JSONError) -> Int {
        if bytes[index] == UInt8(ascii: "\"") {
            isName = true
            if depth == 1 {
                nameStart = consumed + index + 1
                nameHasEscapes = false
            }
            state = .string
            return index + 1
        }
        if bytes[index] == UInt8(ascii: "}"), state == .nameOrBrace { return close(.object, index) }
        return try skipWhiteSpace(bytes, index)
    }

    private mutating func scanColon(_ bytes: Span<UInt8>, _ index: Int) throws(JSONError) -> Int {
        guard bytes[index] == UInt8(ascii: ":") else { return try skipWhiteSpace(bytes, index) }
        state = .value
        return firstNonSpace(bytes, from: index + 1)
    }

    @inline(__always)
    private mutating func scanAfterValue(_ bytes: Span<UInt8>, _ index: Int) throws(JSONError) -> Int {
        if depth > 0 {
            if bytes[index] == UInt8(ascii: ",") {
                if depth == 1, entryCount == maximumEntries {
                    throw fail(bytes, index, expected: .entriesOfAtMost(maximumEntries))
                }
                state = isInObject ? .name : .value
                return firstNonSpace(bytes, from: index + 1)
            }
            if bytes[index] == (isInObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) {
                return close(isInObject ? .object : .array, index)
            }
        }
        return try skipWhiteSpace(bytes, index)
    }

    /// Skips white space. There must be some, because the byte at `index` is not valid otherwise.
    private mutating func skipWhiteSpace(_ bytes: Span<UInt8>, _ index: Int) throws(JSONError) -> Int {
        guard isWhiteSpace(bytes[index]) else { throw fail(bytes, index) }
        return firstNonSpace(bytes, from: index + 1)
    }

    @inline(__always)
    private mutating func open(_ bytes: Span<UInt8>, _ index: Int, isObject: Bool) throws(JSONError) {
        guard depth < depthLimit else {
            throw fail(bytes, index, expected: .depthOfAtMost(depthLimit))
        }
        if depth > 0, depth % 64 == 0 { outerObjects[depth / 64 - 1] = objects }
        objects = objects << 1 | (isObject ? 1 : 0)
        depth += 1
        state = isObject ? .nameOrBrace : .valueOrBracket
    }

    @inline(__always)
    private mutating func close(_ kind: JSONKind, _ index: Int) -> Int {
        depth -= 1
        objects >>= 1
        if depth > 0, depth % 64 == 0 { objects = outerObjects[depth / 64 - 1] }
        endValue(kind, at: index + 1)
        return index + 1
    }

    private var isInObject: Bool { objects & 1 == 1 }

    @inline(__always)
    private mutating func endValue(_ kind: JSONKind, at end: Int) {
        state = .afterValue
        if depth == 1 {
            let entry = Entry(
                name: nameStart..<nameEnd, nameHasEscapes: nameHasEscapes, value: entryStart..<consumed + end,
                kind: kind)
            if entryCount < entries.count {
                entries[entryCount] = entry
            } else {
                entries.append(entry)
            }
            entryCount += 1
        } else if depth == 0 {
            value = rootStart..<consumed + end
            self.kind = kind
        }
    }

    // MARK: - Strings

    private mutating func scanString(_ bytes: Span<UInt8>, _ start: Int) throws(JSONError) -> Int {
        var index = start
        repeat {
            index = bytes.firstSpecial(from: index)
            guard index < bytes.count else { return index }
            let byte = bytes[index]
            if byte == UInt8(ascii: "\"") {
                endString(at: index + 1)
                return index + 1
            } else if byte == UInt8(ascii: "\\") {
                state = .escape
                if depth == 1, isName { nameHasEscapes = true }
                index += 1
                if index < bytes.count { index = try scanEscape(bytes, index) }
            } else if byte < 0x20 {
                throw fail(bytes, index, expected: .escapedControlCharacter)
            } else if checksUTF8 {
                try startCharacter(bytes, index)
                index = try scanContinuation(bytes, index + 1)
            } else {
                repeat { index += 1 } while index < bytes.count && bytes[index] >= 0x80
            }
        } while state == .string
        return index
    }

    @inline(__always)
    private mutating func endString(at end: Int) {
        if !isName {
            endValue(.string, at: end)
        } else {
            state = .colon
            if depth == 1 { nameEnd = consumed + end - 1 }
        }
    }

    /// Begins a character of several bytes (RFC 3629, section 4).
    @inline(__always)
    private mutating func startCharacter(_ bytes: Span<UInt8>, _ index: Int) throws(JSONError) {
        switch bytes[index] {
        case 0xC2...0xDF: (rest, continuation) = (1, (0x80, 0xBF))
        case 0xE0: (rest, continuation) = (2, (0xA0, 0xBF))
        case 0xED: (rest, continuation) = (2, (0x80, 0x9F))
        case 0xE1...0xEF: (rest, continuation) = (2, (0x80, 0xBF))
        case 0xF0: (rest, continuation) = (3, (0x90, 0xBF))
        case 0xF1...0xF3: (rest, continuation) = (3, (0x80, 0xBF))
        case 0xF4: (rest, continuation) = (3, (0x80, 0x8F))
        default: throw fail(bytes, index, expected: .utf8)
        }
        state = .utf8
    }

    @inline(__always)
    private mutating func scanContinuation(_ bytes: Span<UInt8>, _ start: Int) throws(JSONError) -> Int {
        var index = start
        var (low, high) = continuation
        while rest > 0, index < bytes.count {
            guard low <= bytes[index], bytes[index] <= high else { throw fail(bytes, index) }
            (low, high) = (0x80, 0xBF)
            rest -= 1
            index += 1
        }
        continuation = (low, high)
        if rest == 0 { state = .string }
        return index
    }

    @inline(__always)
    private mutating func scanEscape(_ bytes: Span<UInt8>, _ index: Int) throws(JSONError) -> Int {
        switch bytes[index] {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
            UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            state = .string
        case UInt8(ascii: "u"):
            state = .hexadecimal
            rest = 4
            return try scanHexadecimal(bytes, index + 1)
        default:
            throw fail(bytes, index)
        }
        return index + 1
    }

    private mutating func scanHexadecimal(_ bytes: Span<UInt8>, _ start: Int) throws(JSONError) -> Int {
        var index = start
        while rest > 0, index < bytes.count {
            guard bytes[index].hexadecimalValue != nil else { throw fail(bytes, index) }
            rest -= 1
            index += 1
        }
        if rest == 0 { state = .string }
        return index
    }

    // MARK: - Numbers and literals

    private mutating func scanNumber(_ bytes: Span<UInt8>, _ start: Int) throws(JSONError) -> Int {
        var index = start
        while index < bytes.count {
            switch state {
            case .minus, .point, .exponentMark, .exponentSign: index = try scanFirstDigit(bytes, index)
            case .zero, .integer, .fraction, .exponent: index = try scanDigits(bytes, index)
            default: return index
            }
        }
        return index
    }

    /// Scans the byte that must follow a minus, a point, an exponent's mark or its sign.
    private mutating func scanFirstDigit(_ bytes: Span<UInt8>, _ index: Int) throws(JSONError) -> Int {
        let byte = bytes[index]
        if state == .exponentMark, byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-") {
            state = .exponentSign
        } else {
            guard byte.isDigit else { throw fail(bytes, index) }
            switch state {
            case .minus: state = byte == UInt8(ascii: "0") ? .zero : .integer
            case .point: state = .fraction
            default: state = .exponent
            }
        }
        return index + 1
    }

    /// Scans further digits of a part of a number, and the byte that ends them.
    @inline(__always)
    private mutating func scanDigits(_ bytes: Span<UInt8>, _ start: Int) throws(JSONError) -> Int {
        var index = start
        if state != .zero {
            while index < bytes.count, bytes[index].isDigit { index += 1 }
            guard index < bytes.count else { return index }
        }
        switch bytes[index] {
        case UInt8(ascii: ".") where state == .integer || state == .zero:
            state = .point
        case UInt8(ascii: "e") where state != .exponent, UInt8(ascii: "E") where state != .exponent:
            state = .exponentMark
        default:
            endValue(.number, at: index)
            return index
        }
        return index + 1
    }

    /// Begins a literal whose further letters are in `rest`, lowest byte first.
    private mutating func startLiteral(_ kind: JSONKind, rest: UInt32) {
        state = .literal
        literal = kind
        self.rest = rest
    }

    private mutating func scanLiteral(_ bytes: Span<UInt8>, _ index: Int) throws(JSONError) -> Int {
        guard bytes[index] == UInt8(truncatingIfNeeded: rest) else { throw fail(bytes, index) }
        rest >>= 8
        if rest == 0 { endValue(literal, at: index + 1) }
        return index + 1
    }

    // MARK: - Errors

    /// What may come next in a document that has been valid so far.
    private var expectation: JSONError.Expectation {
        switch state {
        case .value: .value
        case .valueOrBracket: .valueOrBracket
        case .name: .name
        case .nameOrBrace: .nameOrBrace
        case .colon: .colon
        case .afterValue: depth == 0 ? .end : isInObject ? .commaOrBrace : .commaOrBracket
        case .string: .quote
        case .escape: .escape
        case .hexadecimal: .hexadecimalDigit
        case .utf8: .utf8
        case .minus, .zero, .integer, .point, .fraction, .exponentMark, .exponentSign, .exponent: .digit
        case .literal: .literal(literal)
        }
    }

    @inline(never)
    private mutating func fail(
        _ bytes: Span<UInt8>, _ index: Int, expected: JSONError.Expectation? = nil
    ) -> JSONError {
        fail(JSONError(offset: consumed + index, expected: expected ?? expectation, found: bytes[index]))
    }

    private mutating func fail(_ error: JSONError) -> JSONError {
        failure = error
        return error
    }
}

extension JSONScanner.Entry {
    /// An element of an array that was found without a scanner.
    public init(value: Range<Int>, kind: JSONKind) {
        self.init(name: 0..<0, nameHasEscapes: false, value: value, kind: kind)
    }

    /// Storage for an entry that has yet to be found.
    fileprivate static let placeholder = Self(value: 0..<0, kind: .null)
}

/// The kind of the container that begins at `index`; nil if none does.
@inline(__always)
private func container(at index: Int, of bytes: Span<UInt8>) -> JSONKind? {
    guard index < bytes.count else { return nil }
    switch bytes[index] {
    case UInt8(ascii: "{"): return .object
    case UInt8(ascii: "["): return .array
    default: return nil
    }
}

@inline(__always)
private func closing(of container: JSONKind) -> UInt8 {
    container == .object ? UInt8(ascii: "}") : UInt8(ascii: "]")
}

/// The end of the string without escapes, and of ASCII only, that begins at `index`; nil if none does.
@inline(__always)
private func endOfPlainString(from index: Int, in bytes: Span<UInt8>) -> Int? {
    guard bytes[index] == UInt8(ascii: "\"") else { return nil }
    let end = bytes.firstSpecial(from: index + 1)
    return end < bytes.count && bytes[end] == UInt8(ascii: "\"") ? end + 1 : nil
}

/// The end of the integer that begins at `index`; nil if none does.
@inline(__always)
private func endOfInteger(from index: Int, in bytes: Span<UInt8>) -> Int? {
    let start = bytes[index] == UInt8(ascii: "-") ? index + 1 : index
    guard start < bytes.count, bytes[start].isDigit else { return nil }
    var end = start + 1
    if bytes[start] == UInt8(ascii: "0") { return end }
    while end < bytes.count, bytes[end].isDigit { end += 1 }
    return end
}

/// Whether a byte after an integer belongs to the number, or to none.
@inline(__always)
private func isPartOfNumber(_ byte: UInt8) -> Bool {
    byte.isDigit || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "e") || byte == UInt8(ascii: "E")
}

/// The end and the kind of the literal that begins at `index`; nil if none does.
@inline(__always)
private func literalToken(at index: Int, of bytes: Span<UInt8>) -> (end: Int, kind: JSONKind)? {
    let rest = bytes.extracting(index...)
    switch bytes[index] {
    case UInt8(ascii: "t") where rest.extracting(first: 4).equals("true"): return (index + 4, .true)
    case UInt8(ascii: "f") where rest.extracting(first: 5).equals("false"): return (index + 5, .false)
    case UInt8(ascii: "n") where rest.extracting(first: 4).equals("null"): return (index + 4, .null)
    default: return nil
    }
}

/// The index after one space, if there is one at `index`.
@inline(__always)
private func afterSpace(_ bytes: Span<UInt8>, _ index: Int) -> Int {
    index < bytes.count && bytes[index] == UInt8(ascii: " ") ? index + 1 : index
}

/// The index of the first byte at or after `start` that is not white space, or the count if there is none.
private func firstNonSpace(_ bytes: Span<UInt8>, from start: Int) -> Int {
    var index = start
    while index < bytes.count, isWhiteSpace(bytes[index]) { index += 1 }
    return index
}

private func isWhiteSpace(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") || byte == UInt8(ascii: "\t")
}

extension Span<UInt8> {
    /// The index of the first byte at or after `start` that is special in a string (a quote, a backslash, a control
    /// character, a byte over 0x7F), or the count if there is none.
    @inline(__always)
    func firstSpecial(from start: Int) -> Int {
        precondition(start >= 0 && start <= count)
        return unsafe withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress else { return start }
            // Swift's own vectors compile to a loop over single bytes.
            return unsafe start + emq_plain_prefix(base + start, buffer.count - start)
        }
    }
}
