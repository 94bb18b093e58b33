// Patterns with `*`.

import Bytes
import Support
import Testing

@Suite struct GlobPatternTests {
    private func matches(_ pattern: String, _ name: String) -> Bool? {
        let (pattern, name) = (Array(pattern.utf8), Array(name.utf8))
        return GlobPattern(pattern.span)?.matches(name.span)
    }

    @Test(arguments: [
        ("mail", "mail", true), ("mail", "mails", false), ("mail", "mai", false), ("", "", true), ("", "a", false),
        ("*", "", true), ("*", "anything/at all", true), ("mail*", "mail", true), ("mail*", "mail/eu", true),
        ("mail*", "email", false), ("*mail", "email", true), ("*mail", "mails", false), ("m*l", "mail", true),
        ("m*l", "ml", true), ("m*l", "mall and more", false), ("*a*b*", "xxaxxbxx", true), ("*a*b*", "ba", false),
        ("a*ab", "aaab", true), ("a**b", "ab", true), ("**", "", true), ("a?c", "abc", false), ("[a]", "a", false),
        ("ü*", "über", true), ("orders/*", "orders", false), ("orders/*", "orders/a/b", true), ("?", "?", true),
    ])
    func matching(pattern: String, name: String, expected: Bool) {
        #expect(matches(pattern, name) == expected)
    }

    @Test func patternsAreBounded() {
        #expect(matches(String(repeating: "a", count: 255), String(repeating: "a", count: 255)) == true)
        #expect(matches(String(repeating: "*", count: 256), "a") == nil)
        // Backtracking over several stars would take forever here.
        let pattern = String(repeating: "*a", count: 127)
        #expect(matches(pattern + "b", String(repeating: "a", count: 255)) == false)
    }

    /// Random patterns over a small alphabet, compared with the definition.
    @Test func agreesWithTheDefinition() {
        func naive(_ pattern: Substring, _ name: Substring) -> Bool {
            guard let first = pattern.first else { return name.isEmpty }
            if first == "*" {
                return naive(pattern.dropFirst(), name) || !name.isEmpty && naive(pattern, name.dropFirst())
            }
            return name.first == first && naive(pattern.dropFirst(), name.dropFirst())
        }
        var random = SeededRandom()
        for _ in 0..<5000 {
            let pattern = String(
                (0..<Int.random(in: 0...6, using: &random)).map { _ in "ab*".randomElement(using: &random) ?? "a" })
            let name = String(
                (0..<Int.random(in: 0...8, using: &random)).map { _ in "ab".randomElement(using: &random) ?? "a" })
            #expect(matches(pattern, name) == naive(pattern[...], name[...]), "\(pattern) and \(name), \(random)")
        }
    }
}
