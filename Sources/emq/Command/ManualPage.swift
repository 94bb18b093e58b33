// The manual page, in the language of man(7), from the same descriptions as the help.

enum ManualPage {
    /// The page emq(1) about all commands.
    static func text(of commands: [Command]) -> String {
        let shown = commands.filter { $0.section != .hidden }
        var lines = [
            #".TH EMQ 1 "" "emq \#(escaped(Options.version))" "User Commands""#, ".SH NAME",
            #"emq \- a work-queue server over HTTP, and its client"#, ".SH SYNOPSIS", ".B emq",
            #"[\fICOMMAND\fR] [\fIOPTIONS\fR]"#, ".SH DESCRIPTION",
            "Producers add tasks to queues over HTTP; workers wait for them, then acknowledge or refuse them.",
            "Without a command, emq runs the server.", ".SH COMMANDS",
        ]
        for command in shown { lines += section(command) }
        lines += [
            ".SH EXIT STATUS", "Except for \\fBcheck\\fR, which has those of Nagios:",
            ".TP", "0", "It is done.",
            ".TP", "1", "It failed; or the task whose result was awaited died, expired or was cancelled.",
            ".TP", "2", "The command line, or the request, is wrong.",
            ".TP", "3", "There is no such task or queue, or nothing came in time.",
            ".TP", "4", "The server does not allow it.",
            ".TP", "5", "The server cannot be reached.",
            ".TP", "6", "The server refuses it for now; try again later.",
            ".SH ENVIRONMENT",
            ".TP", "EMQ_URL", "The server that the client's commands use.",
            ".TP", "EMQ_TOKEN, EMQ_TOKEN_FILE", "The token to send, or the file whose first line it is.",
            ".TP", "EMQ_CONTEXT", "The context to use.",
            ".TP", "EMQ_CA", "Issuers to trust beside the system's, for an https URL.",
            ".TP", "NO_COLOR", "If it is set, there are no colours.",
            ".TP", "VISUAL, EDITOR", "The editor of \\fBconfig edit\\fR; vi if neither is set.",
            ".SH FILES",
            ".TP", "~/.config/emq/contexts.json",
            "The contexts. It is below XDG_CONFIG_HOME if that is set. Only you can read it.",
            ".TP", "~/.local/state/emq/",
            "How far files of tasks have been added, while that goes on. It is below XDG_STATE_HOME if that is set.",
        ]
        return lines.joined(separator: "\n")
    }

    private static func section(_ command: Command) -> [String] {
        let operands = command.operands.isEmpty ? "" : " \(escaped(command.operands))"
        var lines = [".SS emq \(escaped(command.name))\(operands)", escaped(sentence(command.summary))]
        for text in command.text {
            // Lines that begin with a blank are tables.
            lines += text.first == " " ? [".br", escaped(text)] : [".PP", escaped(text)]
        }
        for option in command.options {
            lines += [".TP", ".B \(escaped(option.usage))", escaped(sentence(option.text))]
        }
        for example in command.examples {
            lines += [
                ".PP", escaped("\(sentence(example.text).dropLast()):"), ".PP", ".EX", escaped(example.line), ".EE",
            ]
        }
        return lines
    }

    private static func sentence(_ phrase: String) -> String {
        "\(phrase.prefix(1).uppercased())\(phrase.dropFirst())."
    }

    /// A text without meaning for the formatter.
    static func escaped(_ text: String) -> String {
        var escaped = ""
        for character in text {
            switch character {
            case "\\": escaped += #"\e"#
            case "-": escaped += #"\-"#
            case "'": escaped += #"\(aq"#
            case "\"": escaped += #"\(dq"#
            case "^": escaped += #"\(ha"#
            case "`": escaped += #"\(ga"#
            case "~": escaped += #"\(ti"#
            case _ where !character.isASCII:
                for scalar in character.unicodeScalars {
                    let digits = String(scalar.value, radix: 16, uppercase: true)
                    escaped += #"\[u"# + String(repeating: "0", count: max(0, 4 - digits.count)) + digits + "]"
                }
            default: escaped.append(character)
            }
        }
        return escaped.hasPrefix(".") ? #"\&"# + escaped : escaped
    }
}
