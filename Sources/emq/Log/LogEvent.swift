// What happened, as the log is told: how important it is, a message for people, and named values for programs.

/// Something that happened, for the log.
struct LogEvent {
    /// How important an event is. The raw values are the priorities of syslog(3).
    enum Level: Int, CaseIterable {
        /// The server cannot do its work, or a part of it, until somebody does something.
        case error = 3
        /// Something that an operator should know, and may want to change.
        case warning = 4
        case info = 6

        var name: String {
            switch self {
            case .error: "error"
            case .warning: "warning"
            case .info: "info"
            }
        }
    }

    /// A named value.
    struct Field {
        enum Value {
            /// A text, which may come from anybody; nil for none.
            case text([UInt8]?)
            /// A text without spaces, quotation marks and control characters, such as an address.
            case word(String)
            case number(Int64)
            case flag(Bool)
            /// A duration, in microseconds.
            case duration(Int64)
            /// A number of seconds, in milliseconds.
            case seconds(Int64)
        }

        let name: StaticString
        let value: Value

        static func text(_ name: StaticString, _ value: [UInt8]?) -> Field { Field(name: name, value: .text(value)) }

        static func text(_ name: StaticString, _ value: String?) -> Field { text(name, value.map { Array($0.utf8) }) }

        static func word(_ name: StaticString, _ value: String) -> Field { Field(name: name, value: .word(value)) }

        static func number(_ name: StaticString, _ value: some BinaryInteger) -> Field {
            Field(name: name, value: .number(Int64(clamping: value)))
        }

        static func flag(_ name: StaticString, _ value: Bool) -> Field { Field(name: name, value: .flag(value)) }

        static func duration(_ name: StaticString, microseconds: Int64) -> Field {
            Field(name: name, value: .duration(microseconds))
        }

        static func seconds(_ name: StaticString, milliseconds: Int64) -> Field {
            Field(name: name, value: .seconds(milliseconds))
        }

        fileprivate func hasSameText(as other: Field) -> Bool {
            switch (value, other.value) {
            case (.text(let own), .text(let others)): own == others
            case (.word(let own), .word(let others)): own == others
            default: true
            }
        }
    }

    let level: Level
    let message: String
    var fields: [Field]
    /// Whether it is counted, and not repeated, when it comes again soon (`LogRepeats`).
    private(set) var isCounted: Bool
    /// Whose state it is (`about`); nil for nobody's.
    private(set) var subject: String?
    /// Whether the log has it whatever its level.
    private(set) var isAlwaysWritten = false

    static func error(_ message: String, _ fields: Field...) -> LogEvent {
        LogEvent(level: .error, message: message, fields: fields, isCounted: true)
    }

    static func warning(_ message: String, _ fields: Field...) -> LogEvent {
        LogEvent(level: .warning, message: message, fields: fields, isCounted: true)
    }

    static func info(_ message: String, _ fields: Field...) -> LogEvent {
        LogEvent(level: .info, message: message, fields: fields, isCounted: false)
    }

    /// An event that the log has whatever level it is set to, such as a change that an operator made.
    static func record(_ message: String, _ fields: [Field]) -> LogEvent {
        var event = LogEvent(level: .info, message: message, fields: fields, isCounted: false)
        event.isAlwaysWritten = true
        return event
    }

    /// The same event as the state of a subject, such as a source. It is counted like a warning, but only until another
    /// state of the subject is written. So the last line about the subject is true.
    func about(_ subject: String) -> LogEvent {
        var event = self
        event.isCounted = true
        event.subject = subject
        return event
    }

    /// The same warning or error, which is written each time it comes, and not counted, because it comes seldom or
    /// because somebody waits for it.
    var repeated: LogEvent {
        var event = self
        event.isCounted = false
        return event
    }

    /// Whether it says the same as another. Numbers do not count. O(length).
    func saysTheSame(as other: LogEvent) -> Bool {
        level == other.level && message == other.message && fields.count == other.fields.count
            && zip(fields, other.fields).allSatisfy { $0.hasSameText(as: $1) }
    }
}
