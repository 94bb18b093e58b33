// A strict reader of what Prometheus reads: its text format 0.0.4, and OpenMetrics 1.0.0.

import Foundation
import Support
import Testing

/// A text of metrics. Making one checks it as a whole.
struct MetricsText {
    /// A sample by its name and its labels as in the text, sorted: `a_total{b="c",d="e"}`.
    private(set) var samples: [String: Double] = [:]
    /// The kind of each family, by its name.
    private(set) var kinds: [String: String] = [:]

    /// The value of a sample; nil if there is none.
    subscript(sample: String) -> Double? { samples[sample] }

    /// The number of samples of a family, by the beginning of their names.
    func count(of prefix: String) -> Int { samples.keys.count { $0.hasPrefix(prefix) } }

    private struct Sample {
        var name: String
        var labels: [(name: String, value: String)]
        var value: Double

        func key(without label: String = "") -> String {
            let labels = labels.filter { $0.name != label }.map { "\($0.name)=\"\($0.value)\"" }.sorted()
            return labels.isEmpty ? name : "\(name){\(labels.joined(separator: ","))}"
        }
    }

    init(_ text: String, isOpenMetrics: Bool = false) throws {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        try check(lines.popLast() == "", "the last line does not end")
        if isOpenMetrics { try check(lines.popLast() == "# EOF", "no # EOF at the end") }
        var family = ""
        var helped: Set<String> = []
        var ofFamily: [Sample] = []
        for line in lines {
            if line.hasPrefix("#") {
                let words = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false).map(String.init)
                try check(words.count == 4 && words[0] == "#" && !words[3].isEmpty, line)
                try check(isName(words[2], colons: true), line)
                if words[1] == "HELP" {
                    try checkFamily(family, ofFamily, isOpenMetrics)
                    (family, ofFamily) = (words[2], [])
                    try check(helped.insert(family).inserted, "\(family) is there twice")
                } else {
                    try check(words[1] == "TYPE" && words[2] == family && kinds[family] == nil, line)
                    try check(["counter", "gauge", "histogram"].contains(words[3]), line)
                    kinds[family] = words[3]
                }
                continue
            }
            try check(kinds[family] != nil, "a sample without a type: \(line)")
            let sample = try Self.sample(line)
            try check(samples.updateValue(sample.value, forKey: sample.key()) == nil, "twice: \(line)")
            ofFamily.append(sample)
        }
        try checkFamily(family, ofFamily, isOpenMetrics)
    }

    /// Reads `name{label="value",…} value`.
    private static func sample(_ line: Substring) throws -> Sample {
        var rest = line
        let name = String(rest.prefix { $0 != "{" && $0 != " " })
        try check(isName(name, colons: true), line)
        rest.removeFirst(name.count)
        var labels: [(name: String, value: String)] = []
        if rest.first == "{" {
            rest.removeFirst()
            while true {
                let label = String(rest.prefix { $0 != "=" })
                try check(isName(label, colons: false), line)
                rest.removeFirst(label.count)
                try check(rest.hasPrefix("=\""), line)
                rest.removeFirst(2)
                var value = ""
                while let character = rest.popFirst(), character != "\"" {
                    value.append(character)
                    guard character == "\\" else { continue }
                    let escaped = rest.popFirst()
                    try check(escaped.map { "\\\"n".contains($0) } ?? false, line)
                    value += escaped.map { String($0) } ?? ""
                }
                labels.append((label, value))
                guard let next = rest.popFirst(), next == "," else {
                    try check(line.dropLast(rest.count).hasSuffix("\"}"), line)
                    break
                }
            }
        }
        try check(Set(labels.map(\.name)).count == labels.count, line)
        try check(rest.first == " ", line)
        let value = String(rest.dropFirst())
        try check(value.allSatisfy { "-.0123456789".contains($0) }, line)
        guard let number = Double(value) else { throw Failure(description: "no number: \(line)") }
        return Sample(name: name, labels: labels, value: number)
    }

    private func checkFamily(_ family: String, _ samples: [Sample], _ isOpenMetrics: Bool) throws {
        if family.isEmpty { return try check(samples.isEmpty, "samples before any family") }
        switch kinds[family] {
        case "counter":
            try check(isOpenMetrics != family.hasSuffix("_total"), family)
            let name = isOpenMetrics ? family + "_total" : family
            for sample in samples { try check(sample.name == name && sample.value >= 0, sample.key()) }
        case "gauge":
            for sample in samples { try check(sample.name == family, sample.key()) }
            try check(!family.hasSuffix("_total"), family)
        case "histogram": try checkHistograms(family, samples)
        default: throw Failure(description: "\(family) has no type")
        }
    }

    /// Checks that the samples of each histogram follow each other in order: its buckets, its sum, its count.
    private func checkHistograms(_ family: String, _ samples: [Sample]) throws {
        var (last, count): (Double, Double) = (-1, 0)
        var stage = "_count"
        var labels = ""
        for sample in samples {
            let suffix = String(sample.name.dropFirst(family.count))
            let ownLabels = String(sample.key(without: "le").dropFirst(sample.name.count))
            switch (stage, suffix) {
            case ("_count", "_bucket"): (last, count, labels) = (-1, 0, ownLabels)
            case ("_bucket", "_bucket"), ("_bucket", "_sum"), ("_sum", "_count"): break
            default: throw Failure(description: "\(sample.key()) after \(stage)")
            }
            try check(sample.name.hasPrefix(family) && ownLabels == labels, sample.key())
            stage = suffix
            if suffix == "_bucket" {
                let le = sample.labels.first { $0.name == "le" }?.value ?? ""
                let limit = le == "+Inf" ? Double.infinity : try #require(Double(le))
                try check(limit > last && sample.value >= count, sample.key())
                (last, count) = (limit, sample.value)
            } else {
                try check(last == .infinity, "\(family) has no bucket without a limit")
                if suffix == "_count" { try check(sample.value == count, sample.key()) }
            }
        }
        try check(stage == "_count", "\(family) is incomplete")
    }
}

private func check(_ condition: Bool, _ line: some StringProtocol) throws {
    if !condition { throw Failure(description: String(line)) }
}

private func isName(_ text: String, colons: Bool) -> Bool {
    guard let first = text.unicodeScalars.first, !("0"..."9").contains(first) else { return false }
    return text.unicodeScalars.allSatisfy {
        ("a"..."z").contains($0) || ("A"..."Z").contains($0) || ("0"..."9").contains($0) || $0 == "_"
            || colons && $0 == ":"
    }
}
