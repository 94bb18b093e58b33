// The text that Prometheus reads: its own format (version 0.0.4) and OpenMetrics (1.0.0).

import Bytes
import JSON

/// A text of metrics. Call `begin` for each family, then add its samples.
struct Exposition {
    enum Kind {
        case counter
        case gauge
        case histogram

        fileprivate var name: StaticString {
            switch self {
            case .counter: "counter"
            case .gauge: "gauge"
            case .histogram: "histogram"
            }
        }
    }

    /// A unit in which emq counts, as a part of the base unit.
    enum Unit: UInt64 {
        case whole = 1
        case milli = 1000
        case micro = 1_000_000
    }

    /// A label: its name, and its value, which is escaped.
    typealias Label = (name: StaticString, value: String)

    let isOpenMetrics: Bool
    /// The text so far. Call `end` before you send it.
    private(set) var text: [UInt8] = []
    private var name: StaticString = ""
    private var kind = Kind.gauge

    init(isOpenMetrics: Bool) { self.isOpenMetrics = isOpenMetrics }

    /// The type of the text.
    static func contentType(isOpenMetrics: Bool) -> StaticString {
        isOpenMetrics
            ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain; version=0.0.4; charset=utf-8"
    }

    /// Begins a family of metrics.
    ///
    /// - Parameters:
    ///   - name: the name; that of a counter is without its `_total`.
    ///   - kind: the kind.
    ///   - help: a sentence, without backslashes, quotation marks and line feeds.
    mutating func begin(_ name: StaticString, _ kind: Kind, _ help: StaticString) {
        (self.name, self.kind) = (name, kind)
        for (keyword, value) in [("# HELP " as StaticString, help), ("# TYPE ", kind.name)] {
            append(keyword)
            append(name)
            // In OpenMetrics, a counter's family has the name without the suffix.
            if kind == .counter, !isOpenMetrics { append("_total") }
            append(" ")
            append(value)
            append("\n")
        }
    }

    /// Adds a sample to the family.
    ///
    /// - Parameters:
    ///   - value: the value, in parts of the base unit.
    ///   - unit: how many of these parts are one base unit.
    ///   - labels: the labels.
    mutating func add(_ value: some BinaryInteger, in unit: Unit = .whole, _ labels: Label...) {
        beginSample(kind == .counter ? "_total" : "", labels)
        append(" ")
        append(value, in: unit)
        append("\n")
    }

    /// Adds a family with one sample.
    mutating func add(
        _ name: StaticString, _ kind: Kind, _ help: StaticString, _ value: some BinaryInteger, in unit: Unit = .whole
    ) {
        begin(name, kind, help)
        add(value, in: unit)
    }

    /// Adds a histogram to the family. The limits of its buckets are powers of two of the unit.
    ///
    /// - Parameters:
    ///   - histogram: the values, in parts of the base unit.
    ///   - unit: how many of these parts are one base unit.
    ///   - exponents: the exponents of the limits. All larger values are in the bucket without a limit.
    ///   - labels: the labels.
    mutating func add(
        _ histogram: Histogram, in unit: Unit, exponents: StrideThrough<Int>, _ labels: Label...
    ) {
        var (count, place): (UInt64, Int) = (0, 0)
        for exponent in exponents {
            while place <= exponent {
                count += histogram.count(in: place)
                place += 1
            }
            beginSample("_bucket", labels, limit: { $0.append(UInt64(1) << UInt64(exponent), in: unit) })
            append(" ")
            append(count, in: .whole)
            append("\n")
        }
        beginSample("_bucket", labels, limit: { $0.append("+Inf") })
        append(" ")
        append(histogram.count, in: .whole)
        append("\n")
        beginSample("_sum", labels)
        append(" ")
        append(histogram.sum, in: unit)
        append("\n")
        beginSample("_count", labels)
        append(" ")
        append(histogram.count, in: .whole)
        append("\n")
    }

    /// Ends the text.
    mutating func end() {
        if isOpenMetrics { append("# EOF\n") }
    }

    // MARK: Parts

    private mutating func beginSample(
        _ suffix: StaticString, _ labels: [Label], limit: ((inout Exposition) -> Void)? = nil
    ) {
        append(name)
        append(suffix)
        if labels.isEmpty, limit == nil { return }
        var separator: StaticString = "{"
        for label in labels {
            append(separator)
            append(label.name)
            append("=\"")
            appendEscaped(label.value)
            append("\"")
            separator = ","
        }
        if let limit {
            append(separator)
            append("le=\"")
            limit(&self)
            append("\"")
        }
        append("}")
    }

    private mutating func append(_ literal: StaticString) { text.append(literal) }

    private mutating func appendEscaped(_ value: String) {
        for byte in value.utf8 {
            switch byte {
            case UInt8(ascii: "\\"): append(#"\\"#)
            case UInt8(ascii: "\""): append(#"\""#)
            case UInt8(ascii: "\n"): append(#"\n"#)
            default: text.append(byte)
            }
        }
    }

    /// Appends a number without needless zeros.
    private mutating func append(_ value: some BinaryInteger, in unit: Unit) {
        if value < 0 { append("-") }
        let magnitude = UInt64(clamping: value.magnitude)
        JSONWriter.writeInteger(magnitude / unit.rawValue, to: &text)
        var rest = magnitude % unit.rawValue
        if rest > 0 { append(".") }
        var place = unit.rawValue
        while rest > 0 {
            place /= 10
            text.append(UInt8(ascii: "0") + UInt8(rest / place))
            rest %= place
        }
    }
}
