// taskqueue's ini file: what emq takes from it, and what it says about mistakes.

import Foundation
import Support
import Testing

@testable import Delivery
@testable import emq

@Suite(.blocking) struct TaskqueueFileTests {
    @Test func readsEveryKey() throws {
        let text = """
            ; a comment
            server = "amqp://guest:gu;est@localhost:5672/"   # another
            base_url=http://app.test/base/

            [default]
            [mail]\r
            concurrency = 7 ; more
            rate = '21.5/m'
            retry_limit = 4
            min_backoff_seconds = 1
              max_backoff_seconds = 100\t
            max_doublings=3
            """
        let file = try TaskqueueFile(text, path: "x.ini")
        #expect(file.server?.masked == "amqp://guest:***@localhost" && file.server?.password == "gu;est")
        #expect(file.baseURL == "http://app.test/base")
        #expect(Set(file.sections.keys.map { String(decoding: $0, as: UTF8.self) }) == ["default", "mail"])
        let usual = try #require(file.sections[Array("default".utf8)])
        #expect(usual == TaskqueueFile.Section())
        #expect(usual.concurrency == 1 && usual.rate?.description == "1/s" && usual.retryLimit == nil)
        let mail = try #require(file.sections[Array("mail".utf8)])
        #expect(mail.concurrency == 7 && mail.rate?.description == "21.5/m" && mail.retryLimit == 4)
        #expect(mail.backoff.minimumMilliseconds == 1000 && mail.backoff.maximumMilliseconds == 100_000)
        #expect(mail.backoff.maximumDoublings == 3)
    }

    /// The settings that taskqueue's sample file has, in other words.
    @Test func theSampleFileIsRead() throws {
        let text = """
            ; where the broker is
            server = "amqp://guest:guest@localhost:5672/"

            [Queue1]
            concurrency = 1

            ; how often:
            ; 1/s
            rate = 1/s
            retry_limit = 10
            min_backoff_seconds = 10
            max_backoff_seconds = 200
            max_doublings = 3

            [Queue2]
            concurrency = 3
            rate = 21.5/m

            [Queue3]
            concurrency = 2
            rate = 10000000000/s

            """
        let file = try TaskqueueFile(text, path: "x.ini")
        #expect(file.server?.stored == "amqp://guest:guest@localhost" && file.warnings.isEmpty)
        let first = try section("Queue1", of: file)
        #expect(first.retryLimit == 10 && first.maximumDoublings == 3 && first.rate?.description == "1/s")
        #expect(first.backoff.minimumMilliseconds == 10_000 && first.backoff.maximumMilliseconds == 200_000)
        #expect(try section("Queue2", of: file).rate?.description == "21.5/m")
        let third = try section("Queue3", of: file)
        #expect(third.concurrency == 2 && third.rate == nil)
    }

    private func section(_ name: String, of file: TaskqueueFile) throws -> TaskqueueFile.Section {
        try #require(file.sections[Array(name.utf8)])
    }

    /// The value of the first key of a text.
    private func value(_ text: String) throws -> String? { try IniFile(text).sections[0].entries.first?.value }

    /// The section [q] of a file that has nothing to warn of.
    private func section(_ lines: String) throws -> TaskqueueFile.Section {
        let file = try TaskqueueFile(lines, path: "t.ini")
        #expect(file.warnings.isEmpty, "\(file.warnings)")
        return try section("q", of: file)
    }

    @Test(arguments: [
        (".5/s", "0.500000/s"), ("5./s", "5.000000/s"), ("10/sec", "10.000000/s"), ("1/minute", "1.000000/m"),
        ("2/hour", "2.000000/h"), ("3/day", "3.000000/d"), ("21.5/m", "21.5/m"), ("0.33333333333/s", "0.333333/s"),
        ("at most 7/s, please", "7.000000/s"), ("10/ms", "10.000000/m"), ("0.0000001/s", "0.008640/d"),
        ("0.0000000000000001/s", "0.000001/d"), ("1000000/s", "1000000/s"), ("1000001/s", nil), ("1e9/s", "9.000000/s"),
        ("99999999999999999999999999/d", nil), ("", "1/s"), ("2000000000/d", "23148.148148/s"),
        ("3600000000/h", "1000000.000000/s"), ("3600000001/h", nil), ("60000001/m", nil),
        ("99999999999/d", nil),
    ])
    func aRateIsTheFirstOneInAText(text: String, rate: String?) throws {
        #expect(try section("[q]\nrate = \(text)\n").rate?.description == rate)
    }

    @Test func aKeyIsWrittenInManyWays() throws {
        for line in [
            "concurrency=7", "concurrency: 7", "concurrency :7", "Concurrency = 7", "CONCURRENCY\t=\t7\t",
            "concurrency = +7",
            "concurrency = 007", "concurrency = \"7\"", "concurrency = '7' ; why", "concurrency = 7 # why; so",
            "concurrency = `7`", "concurrency = \"\"\"7\"\"\"", "\"concurrency\" = 7", "`concurrency`: 7",
            "concurrency = \\\n  7", "concurrency = \\\r\n7\r", "concurrency = 3\nconcurrency = 7",
            "concurrency = 7\n\n[p]\nrate = 2/s\n[q]\nretry_limit = 2", "; [x]\n  # y\nconcurrency = 7",
        ] {
            #expect(try section("[q]\n\(line)\n").concurrency == 7, "\(line)")
        }
        for header in ["[q]", " [q] ", "[ q ]", "[q] ; the [queue]", "[q] # why", "[q]\r"] {
            #expect(try section("\(header)\nconcurrency = 7\n").concurrency == 7, "\(header)")
        }
    }

    @Test func emptyValuesMeanTheDefaults() throws {
        let keys = [
            "concurrency", "rate", "retry_limit", "min_backoff_seconds", "max_backoff_seconds", "max_doublings",
        ]
        for empty in ["=", ":", "= \"\"", "= ; 5", "= ''"] {
            let lines = keys.map { "\($0) \(empty)\n" }.joined()
            #expect(try section("server \(empty)\nbase_url \(empty)\n[q]\n\(lines)") == TaskqueueFile.Section())
        }
    }

    @Test func valuesMaySpanLines() throws {
        #expect(try value("x = `a\nb`\n") == "a\nb")
        #expect(try section("[q]\nconcurrency = 1\\\n2\\\n3\nrate = 2/s\\\n\n").concurrency == 123)
    }

    @Test func keysOfTheDefaultSectionAreThoseBeforeTheFirst() throws {
        let file = try TaskqueueFile(
            "[q]\n[DEFAULT]\nserver: amqp://x:5\nBASE_URL = http://a/\n[default]\nrate = 2/s\n", path: "t.ini")
        #expect(file.server?.masked == "amqp://guest:***@x:5" && file.baseURL == "http://a" && file.warnings.isEmpty)
        #expect(Set(file.sections.keys.map { String(decoding: $0, as: UTF8.self) }) == ["q", "default"])
    }

    @Test func aSectionInheritsFromTheOneBeforeItsLastDot() throws {
        let text = """
            [mail.low.very]
            rate = 1/h
            [mail.low]
            concurrency = 2
            retry_limit =
            [mail]
            concurrency = 5
            rate = 9/m
            retry_limit = 4
            [other.low]
            """
        let file = try TaskqueueFile(text, path: "t.ini")
        let (mail, low) = (try section("mail", of: file), try section("mail.low", of: file))
        let very = try section("mail.low.very", of: file)
        #expect(mail.concurrency == 5 && mail.retryLimit == 4)
        // An empty value hides the inherited one.
        #expect(low.concurrency == 2 && low.rate?.description == "9/m" && low.retryLimit == nil)
        #expect(very.concurrency == 2 && very.rate?.description == "1/h" && very.retryLimit == nil)
        #expect(try section("other.low", of: file) == TaskqueueFile.Section())
    }

    @Test(arguments: [
        (
            "[q]\nconcurency = 1",
            "line 2: ignoring the unknown key 'concurency' in a section; did you mean 'concurrency'?"
        ),
        (
            "x = 1\n[q]",
            "line 1: ignoring the unknown key 'x' outside the queues' sections; expected one of: server, base_url, unique_for"
        ),
        (
            "[q]\n[DEFAULT]\nx = 1",
            "line 3: ignoring the unknown key 'x' outside the queues' sections; expected one of: server, base_url, unique_for"
        ),
        ("[q]\nserver = 1", "line 2: ignoring 'server' in a section; it belongs before the first section"),
        (
            "[q]\nconcurrency = 0",
            "line 2: concurrency must be a whole number from 1 to 1000, not '0'; using the default"
        ),
        (
            "[q]\nconcurrency = many",
            "line 2: concurrency must be a whole number from 1 to 1000, not 'many'; using the default"
        ),
        (
            "[q]\nretry_limit = -2",
            "line 2: retry_limit must be a whole number from 0 to 4294967295, or -1 for no limit, not '-2'; using the default"
        ),
        ("[q]\nmin_backoff_seconds = -1", "line 2: min_backoff_seconds must be"),
        ("[q]\nmin_backoff_seconds = 1.5", "line 2: min_backoff_seconds must be"),
        ("[q]\nmax_doublings = 9999999999999999999999", "line 2: max_doublings must be"),
        ("[q]\n[htq]\nrate = 9/s", "line 2: ignoring the section [htq]: this queue name is reserved for htq"),
        ("[q]\n[a\tb]", "line 2: ignoring the section [a\tb]: a queue's name"),
    ])
    func aWarningNamesTheFileAndTheLine(text: String, warning: String) throws {
        let file = try TaskqueueFile(text, path: "t.ini")
        #expect(file.warnings.count == 1)
        #expect(file.warnings.first?.hasPrefix("t.ini, \(warning)") == true, "\(file.warnings)")
        #expect(try section("q", of: file) == TaskqueueFile.Section())
        #expect(file.sections.count == 1)
        #expect(file.startEvents.map(\.message) == ["replacing taskqueue for 1 queue of t.ini"] + file.warnings)
    }

    @Test(arguments: ["0/s", "0.000/m", "1.2.3/s", "./h"])
    func aRateThatIsNotAboveZeroIsNoLimit(rate: String) throws {
        let file = try TaskqueueFile("[q]\nrate = \(rate)\n", path: "t.ini")
        #expect(try section("q", of: file).rate == nil)
        #expect(
            file.warnings == ["t.ini, line 2: rate must be above zero, not '\(rate)'; using no limit"])
    }

    @Test func onlyTheLastOfSeveralValuesOfAKeyIsRead() throws {
        let text = """
            base_url = nowhere
            BASE_URL = http://a
            [q]
            rate = often
            concurrency = many
            [p]
            [q]
            RATE = 3/s
            concurrency = 7
            """
        let file = try TaskqueueFile(text, path: "t.ini")
        #expect(file.baseURL == "http://a" && file.warnings.isEmpty, "\(file.warnings)")
        let queue = try section("q", of: file)
        #expect(queue.rate?.description == "3/s" && queue.concurrency == 7)
    }

    @Test(arguments: ["\r", "\u{0B}", "\u{0C}", "\u{85}", "\u{2028}", "\u{2029}"])
    func onlyALineFeedEndsALine(other: String) throws {
        #expect(try value("x = a\(other)b\r\n[q]\r\n") == "a\(other)b")
        let file = try TaskqueueFile("base_url =\(other)\r\n[q]\r\nx = 1\r\n", path: "t.ini")
        #expect(file.warnings.count == 1 && file.warnings[0].hasPrefix("t.ini, line 3: "), "\(file.warnings)")
        // Blanks around a value do not belong to it, whatever they are.
        #expect(try section("[q]\(other)\nrate =\(other) 2/s \(other)\n").rate?.description == "2/s")
    }

    @Test func aValueOfSeveralLinesHasNoCarriageReturns() throws {
        #expect(try value("x = `a\r\nb\r\n`\r\n[q]\r\n") == "a\nb\n")
    }

    @Test func aMessageShowsOnlyTheBeginningOfALongText() throws {
        let long = String(repeating: "é", count: 100_000)
        for line in [
            "[\(long)", long, "rate = \(long)", "rate = 0\(String(repeating: "0", count: 9999))/s",
            "retry_limit = \(long)", "\(long) = 1",
            "[\(long)]", "[DEFAULT]\nbase_url = \(long)", "[DEFAULT]\nbase_url = http://\(long)/",
        ] {
            var messages: [String] = []
            do throws(TaskqueueFileError) {
                messages = try TaskqueueFile("[q]\n\(line)\n", path: "t.ini").warnings
            } catch {
                messages = [error.description]
            }
            #expect(messages.count == 1 && messages[0].utf8.count < 300, "\(line.prefix(20)): \(messages)")
        }
    }

    @Test func aNumberThatIsTooLargeCountsAsTheLargest() throws {
        let file = try TaskqueueFile("[q]\nconcurrency = 5000\n", path: "t.ini")
        #expect(try section("q", of: file).concurrency == 1000)
        #expect(
            file.warnings == [
                "t.ini, line 2: concurrency must be a whole number from 1 to 1000, not '5000'; using 1000"
            ])
    }

    @Test func theFirstPauseCountsIfTheLongestIsShorter() throws {
        let file = try TaskqueueFile("[q]\nmin_backoff_seconds = 9\nmax_backoff_seconds = 8\n", path: "t.ini")
        #expect(try section("q", of: file).backoff.maximumMilliseconds == 9000)
        #expect(
            file.warnings == [
                "t.ini, line 1: max_backoff_seconds of [q] is less than min_backoff_seconds, which counts instead"
            ])
    }

    @Test func aFileWithoutSectionsSendsNothing() throws {
        for text in ["", "server = amqp://x\n"] {
            let file = try TaskqueueFile(text, path: "t.ini")
            #expect(file.sections.isEmpty && file.warnings.count == 1)
            #expect(file.warnings[0].hasPrefix("t.ini has no section"))
        }
    }

    @Test(arguments: [
        ("\n[a\n", "line 2: a section must be [name], not '[a'"), ("[]", "line 1: a section needs a name"),
        ("[a]\nrate", "line 2: a line must be [section] or key = value, not 'rate'"),
        ("[a]\nrate = 5", "line 2: a rate must be a number of starts"), ("[a]\nrate = often", "line 2: a rate must be"),
        ("[a]\nrate = 5/w", "line 2: a rate must be"),
        ("[a]\n\"rate = 1/s", "line 2: the closing \" of the key is missing"),
        ("[a]\nrate = `1/s\n\n", "line 2: the closing ` is missing"),
        ("[a]\nrate = \"\"\"1/s\n\"\"", "line 2: the closing \"\"\" is missing"),
        ("base_url = ftp://x/\n[a]", "line 1: base_url: a URL begins with http://"),
        (
            "\nserver = localhost:5672\n[a]",
            "line 2: server: the URL of a RabbitMQ server begins with amqp:// or amqps://"
        ),
        ("server = amqp://u:pass word@h/\n[a]", "line 1: server: byte 0x20 in the URL's password must be"),
        (
            "server = amqp://h\n" + (0...100).map { "[\($0)]\n" }.joined(),
            "but emq takes messages from at most 100 queues of a server"
        ),
    ])
    func saysWhatIsWrongAndWhere(text: String, reason: String) throws {
        let error = #expect(throws: TaskqueueFileError.self) { try TaskqueueFile(text, path: "t.ini") }
        #expect(error?.description.contains(reason) == true, "\(error?.description ?? "")")
        #expect(error?.description.contains("t.ini") == true && error?.description.contains("pass ") == false)
    }

    @Test func aByteOrderMarkIsIgnored() throws {
        #expect(try TaskqueueFile("\u{FEFF}[a]\n", path: "t.ini").sections.count == 1)
    }

    @Test func aMissingFileIsAnError() throws {
        let error = #expect(throws: TaskqueueFileError.self) { try TaskqueueFile(path: "/nowhere/t.ini") }
        #expect(error?.description == "cannot read '/nowhere/t.ini': No such file or directory")
    }
}
