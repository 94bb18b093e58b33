// Why a JSON number cannot be read as what is asked for.

/// Why a value is not the number that was asked for.
public enum JSONNumberError: Error, Equatable, CustomStringConvertible {
    /// The value is no number.
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
