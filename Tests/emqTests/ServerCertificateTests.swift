// When the server reads its certificate again, and what it logs about it, in virtual time.

import Foundation
import Net
import Support
import Testing

@testable import emq

@Suite(.blocking, .enabled(if: Certificates.isAvailable, "skipped: the openssl tool is missing"))
struct ServerCertificateTests {
    private static let second: Int64 = 1000
    private static let day: Int64 = 86_400_000

    /// The files of a server in a temporary directory, and what it has logged.
    private final class Files {
        let pair = TLSFiles(
            certificate: NSTemporaryDirectory() + "emq-\(UUID().uuidString).pem",
            key: NSTemporaryDirectory() + "emq-\(UUID().uuidString).key")
        private let testLog = TestLog()

        init(_ kind: Certificates.Kind) throws { try write(Certificates.shared.pair(kind)) }

        deinit {
            for path in [pair.certificate, pair.key] { try? FileManager.default.removeItem(atPath: path) }
        }

        func write(_ source: Certificates.Pair) throws {
            try writeCertificate(source)
            try writeKey(source)
        }

        func writeCertificate(_ source: Certificates.Pair) throws { try copy(source.chain, to: pair.certificate) }

        func writeKey(_ source: Certificates.Pair) throws { try copy(source.key, to: pair.key) }

        private func copy(_ source: String, to path: String) throws {
            try Data(contentsOf: URL(fileURLWithPath: source)).write(to: URL(fileURLWithPath: path), options: .atomic)
        }

        func load() throws -> ServerCertificate {
            try ServerCertificate(pair, log: testLog.log)
        }

        /// The lines logged since the last call.
        func log() -> [String] { testLog.take() }
    }

    @Test func changedFilesAreReadWithinAMinute() throws {
        let files = try Files(.good)
        let certificate = try files.load()
        var now = certificate.endMilliseconds - 20 * Self.day
        #expect(certificate.endTurn(isAsked: false, now: now) == now + 60 * Self.second)
        let end = certificate.endMilliseconds
        try files.write(Certificates.shared.pair(.endingSoon))
        now += 59 * Self.second
        #expect(certificate.endTurn(isAsked: false, now: now) == now + Self.second)
        #expect(certificate.endMilliseconds == end && files.log().isEmpty)
        now += Self.second
        #expect(certificate.endTurn(isAsked: false, now: now) == now + 60 * Self.second)
        #expect(certificate.endMilliseconds < end)
        let lines = files.log()
        #expect(
            lines.first == "info read the certificate '\(files.pair.certificate)' again; it ends on "
                + "\(certificate.identity.certificateEnd)")
        // Files that stay as they are, are not read again.
        now += 60 * Self.second
        _ = certificate.endTurn(isAsked: false, now: now)
        #expect(files.log().isEmpty)
    }

    @Test func aSignalReadsTheFilesAtOnce() throws {
        let files = try Files(.good)
        let certificate = try files.load()
        let now = certificate.endMilliseconds - 20 * Self.day
        _ = certificate.endTurn(isAsked: false, now: now)
        _ = certificate.endTurn(isAsked: true, now: now + 1)
        #expect(files.log().map { $0.contains("again; it ends on ") } == [true])
    }

    @Test func aHalfWrittenPairKeepsTheOldOneUntilTheOtherHalfIsThere() throws {
        let files = try Files(.good)
        let certificate = try files.load()
        var now = certificate.endMilliseconds - 25 * Self.day
        _ = certificate.endTurn(isAsked: false, now: now)
        let renewed = try Certificates.shared.pair(.renewed)
        let kept = "warning the certificate that ends on \(certificate.identity.certificateEnd) stays in use: "
        try files.writeCertificate(renewed)
        now += 60 * Self.second
        _ = certificate.endTurn(isAsked: false, now: now)
        var lines = files.log()
        #expect(lines.count == 1 && lines[0].hasPrefix(kept), "\(lines)")
        // It says so once, and again if it is asked.
        now += 60 * Self.second
        _ = certificate.endTurn(isAsked: false, now: now)
        #expect(files.log().isEmpty)
        _ = certificate.endTurn(isAsked: true, now: now)
        lines = files.log()
        #expect(lines.count == 1 && lines[0].hasPrefix(kept), "\(lines)")
        try files.writeKey(renewed)
        now += 60 * Self.second
        _ = certificate.endTurn(isAsked: false, now: now)
        lines = files.log()
        #expect(lines.count == 1 && lines[0].contains("again; it ends on "), "\(lines)")
    }

    @Test(arguments: [true, false])
    func missingFilesKeepTheOldOnes(isKey: Bool) throws {
        let files = try Files(.good)
        let certificate = try files.load()
        let now = certificate.endMilliseconds - 20 * Self.day
        _ = certificate.endTurn(isAsked: false, now: now)
        let path = isKey ? files.pair.key : files.pair.certificate
        try FileManager.default.removeItem(atPath: path)
        _ = certificate.endTurn(isAsked: false, now: now + 60 * Self.second)
        let lines = files.log()
        #expect(
            lines.count == 1 && lines[0].hasSuffix("stays in use: cannot read '\(path)': No such file or directory"))
    }

    @Test func theLogWarnsOnceADayBeforeAndAfterTheEnd() throws {
        let files = try Files(.good)
        let certificate = try files.load()
        let end = certificate.endMilliseconds
        let name = "the certificate '\(files.pair.certificate)'"
        let date = certificate.identity.certificateEnd
        #expect(certificate.startEvent(now: end - 14 * Self.day)?.message == "\(name) ends on \(date)")
        func lines(at now: Int64) -> [String] {
            _ = certificate.endTurn(isAsked: false, now: now)
            return files.log()
        }
        #expect(lines(at: end - 14 * Self.day).isEmpty)
        #expect(
            lines(at: end - 14 * Self.day + 60 * Self.second)
                == ["warning \(name) ends on \(date), in 13 days; renew it"])
        #expect(lines(at: end - 13 * Self.day).isEmpty)
        #expect(lines(at: end - 2 * Self.day + 1) == ["warning \(name) ends on \(date), in 1 day; renew it"])
        #expect(lines(at: end - Self.second) == ["warning \(name) ends on \(date), in less than a day; renew it"])
        let ended = ["warning \(name) ended on \(date), so clients refuse it; renew it"]
        #expect(lines(at: end + Self.day) == ended)
        #expect(lines(at: end + 2 * Self.day - 1).isEmpty)
        #expect(lines(at: end + 2 * Self.day + 60 * Self.second) == ended)
    }

    @Test func aServerStartsWithACertificateThatClientsRefuseOrSoonWillAndSaysSo() throws {
        for (kind, words) in [
            (Certificates.Kind.endingSoon, ", in 4 days"), (.expired, "ended on "), (.notYetValid, "begins on "),
        ] {
            // Making a certificate takes time. It ends five days after that.
            let files = try Files(kind)
            let now = Int64(Date().timeIntervalSince1970 * 1000)
            let certificate = try files.load()
            #expect(certificate.startEvent(now: now) == nil)
            _ = certificate.endTurn(isAsked: false, now: now)
            let lines = files.log()
            #expect(lines.count == 1 && lines[0].contains(words), "\(lines)")
        }
    }

    /// The next certificate may end soon as well.
    @Test func aRenewedCertificateIsWarnedAboutAnew() throws {
        let files = try Files(.expired)
        let next = try Certificates.shared.pair(.endingSoon)
        let certificate = try files.load()
        let now = Int64(Date().timeIntervalSince1970 * 1000)
        _ = certificate.endTurn(isAsked: false, now: now)
        #expect(files.log().count == 1)
        try files.write(next)
        _ = certificate.endTurn(isAsked: true, now: now)
        let lines = files.log()
        #expect(lines.count == 2 && lines[1].hasSuffix("in 4 days; renew it"), "\(lines)")
    }
}
