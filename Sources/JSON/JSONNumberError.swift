// Why a JSON value cannot be read as the number asked for.

/// Why a value is not the number asked for.
public enum JSONNumberError: Error, Equatable, CustomStringConvertible {
    /// The value is not a number.
    case notANumber
    /// The number has a fraction.
    case notAnInteger
    /// The number is too large or too small, or written in more than ``JSONValue/maximumNumberLength`` bytes.
    case outOfRange

    /// What is wrong, such as `not an integer`.
    public var description: String {
        switch self {
        case .notANumber: "not a number"
        case .notAnInteger: "not an integer"
        case .outOfRange: "out of range"
        }
    }
}
