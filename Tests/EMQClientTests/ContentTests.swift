// Swift values as contents and results: what goes in comes out, and what cannot be JSON is refused with its place.

import EMQClient
import Support
import Testing

@Suite(.byTurns, .timeLimit(.minutes(10))) struct ContentTests {
    private struct Everything: Codable, Equatable {
        enum Kind: String, Codable { case letter, parcel }
        enum Shape: Codable, Equatable {
            case circle(radius: Double)
            case square(Int)
        }
        struct Inner: Codable, Equatable {
            var list: [[Int?]]
            var names: [String: Bool]
        }

        var text: String
        var flag: Bool
        var small: Int8
        var signed: Int64
        var unsigned: UInt64
        var wide: UInt128
        var negative: Int128
        var fraction: Double
        var short: Float
        var kind: Kind
        var shapes: [Shape]
        var inner: Inner?
        var none: Inner?
        var raw: RawJSON
        var byNumber: [Int: String]
        var bytes: [UInt8]
    }

    private class Base: Codable {
        var id = 1
        init() {}
    }

    private final class Derived: Base {
        var name = "x"
        override init() { super.init() }
        private enum CodingKeys: CodingKey { case name }
        required init(from decoder: any Decoder) throws {
            name = try decoder.container(keyedBy: CodingKeys.self).decode(String.self, forKey: .name)
            try super.init(from: decoder.container(keyedBy: CodingKeys.self).superDecoder())
        }
        override func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(name, forKey: .name)
            try super.encode(to: container.superEncoder())
        }
    }

    /// Lists in lists, so many levels deep.
    private struct Nest: Codable {
        var depth: Int

        init(depth: Int) { self.depth = depth }

        init(from decoder: any Decoder) throws {
            var container = try decoder.unkeyedContainer()
            depth = container.isAtEnd ? 1 : try container.decode(Nest.self).depth + 1
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.unkeyedContainer()
            if depth > 1 { try container.encode(Nest(depth: depth - 1)) }
        }
    }

    private let everything = Everything(
        text: "änn \"\\\n\u{0}\u{1F600}\u{2028}", flag: true, small: -128, signed: .min, unsigned: .max, wide: .max,
        negative: .min, fraction: 0.1, short: 1.5e-30, kind: .parcel, shapes: [.circle(radius: 1e300), .square(-1)],
        inner: Everything.Inner(list: [[1, nil], []], names: ["": true, "b.c": false]), none: nil,
        raw: RawJSON.null, byNumber: [1: "a"], bytes: [0, 255])

    private let world: World
    private var client: EMQClient { world.client }

    init() async throws { world = try await World() }

    private func roundTrip<Value: Codable>(_ value: Value) throws -> Value {
        try RawJSON(RawJSON(encoding: value).bytes).decode()
    }

    @Test func valuesComeOutAsTheyWentIn() async throws {
        #expect(try roundTrip(everything) == everything)
        let id = try await client.enqueue(everything, to: "q", options: TaskOptions(keep: .seconds(60))).id
        let task = try #require(try await client.wait(for: "q", timeout: .seconds(60)).first)
        #expect(try task.decode() == everything)
        try await client.ack(task, result: [everything, everything])
        #expect(try await client.result(of: id).decode([Everything].self) == [everything, everything])
    }

    @Test func scalarsAndEmptyContainersAreValues() throws {
        #expect(try roundTrip("") == "" && roundTrip(true) && roundTrip(-0.0).sign == .minus)
        #expect(try roundTrip([Int]()).isEmpty && roundTrip([String: Int]()).isEmpty)
        #expect(try roundTrip(Int?.none) == nil && roundTrip([Int?.none, 1]) == [nil, 1])
        #expect(try roundTrip(Double.greatestFiniteMagnitude) == .greatestFiniteMagnitude)
        #expect(try roundTrip(Double.leastNonzeroMagnitude) == .leastNonzeroMagnitude)
        #expect(try roundTrip(Duration.milliseconds(1500)) == .milliseconds(1500))
        #expect(try roundTrip(Derived()).id == 1)
    }

    @Test func aContentStaysAsItIsWritten() async throws {
        let text = #"{"b" : 100000000000000000000000000001, "a":[1.0,1E400, "\u0041\/"] }"#
        try await client.enqueue(RawJSON(text), to: "q")
        let task = try #require(try await client.wait(for: "q").first)
        #expect(task.content.description == text)
        struct Part: Decodable { let a: RawJSON }
        #expect(try task.decode(Part.self).a.description == #"[1.0,1E400, "\u0041\/"]"#)
        try await client.enqueue(["outer": task.content], to: "q")
        #expect(try await client.wait(for: "q").first?.content.description == #"{"outer":"# + text + "}")
    }

    @Test(arguments: [
        (#"{"a": [1, 2.5]}"#, "a/Index 1"), (#"{"a": [1, "2"]}"#, "a/Index 1"), (#"{"a": [1, null]}"#, "a/Index 1"),
        (#"{"a": {}}"#, "a"), (#"{"b": []}"#, ""), (#"{"a": [9223372036854775808]}"#, "a/Index 0"), ("[]", ""),
        (#"{"a": [], "a": []}"#, ""), (#"{"a": [true]}"#, "a/Index 0"),
    ])
    func aWrongContentIsRefusedWithItsPlace(_ json: String, _ path: String) throws {
        struct Numbers: Decodable { let a: [Int] }
        let content = try RawJSON(json)
        let error = #expect(throws: DecodingError.self) { try content.decode(Numbers.self) }
        let context: DecodingError.Context? =
            switch error {
            case .typeMismatch(_, let context), .valueNotFound(_, let context), .keyNotFound(_, let context),
                .dataCorrupted(let context):
                context
            default: nil
            }
        #expect(context?.codingPath.map(\.stringValue).joined(separator: "/") == path)
        #expect(context?.debugDescription.isEmpty == false)
    }

    @Test func whatIsNoJSONIsRefusedWithItsPlace() async throws {
        struct Measures: Encodable { let values: [Double] }
        for value in [Double.infinity, -.infinity, .nan] {
            await #expect {
                try await client.enqueue(Measures(values: [1, value]), to: "q")
            } throws: { error in
                guard case EncodingError.invalidValue(_, let context)? = error as? EncodingError else { return false }
                return context.codingPath.map(\.stringValue) == ["values", "Index 1"]
            }
        }
        for text in ["", "{", "[1,]", "nul", "1 2", "\"\u{1}\"", "{\"a\":1,}", "01"] {
            let error = #expect(throws: EMQError.self) { try RawJSON(text) }
            #expect(error?.kind == .invalidArgument)
        }
    }

    @Test func depthHasALimit() async throws {
        // The request itself is a level.
        try await client.enqueue(Nest(depth: 511), to: "q")
        #expect(try await client.wait(for: "q").first?.decode(Nest.self).depth == 511)
        #expect(try roundTrip(Nest(depth: 512)).depth == 512)
        #expect(throws: EncodingError.self) { try RawJSON(encoding: Nest(depth: 513)) }
        let error = await refusal { try await client.enqueue(Nest(depth: 512), to: "q") }
        #expect(error?.type == .jsonTooDeep)
        #expect(throws: EMQError.self) { try RawJSON(String(repeating: "[", count: 100_000)) }
    }
}
