// The server's certificate while the server runs: when its files are read again, and what the log says about it.

import JSON
import Net

/// Takes up renewed certificates, and warns before the certificate ends or if it has not begun.
final class ServerCertificate {
    private static let dayMilliseconds: Int64 = 86_400_000
    /// How long before the certificate's end the warnings begin, one a day.
    private static let warningMilliseconds = 14 * dayMilliseconds

    /// What the listeners use. It stays the same object when the files are read again.
    let identity: TLSIdentity
    private let path: String
    private let log: Log
    private var look = FileLook()
    private var nextWarning = Int64.min

    /// Reads the files.
    ///
    /// - Parameters:
    ///   - files: the files.
    ///   - log: the log.
    /// - Throws: `TLSError` if there is no OpenSSL, or the files cannot be used.
    init(_ files: TLSFiles, log: Log = .standard) throws(TLSError) {
        identity = try TLSIdentity(files)
        path = files.certificate
        self.log = log
    }

    /// When the certificate ends, in milliseconds since the Unix epoch.
    var endMilliseconds: Int64 { identity.certificateEndMilliseconds }

    /// What the log says about the certificate when the server starts; nil if the first turn logs a warning.
    func startEvent(now: Int64) -> LogEvent? { warning(now: now) == nil ? .info(endText) : nil }

    private var endText: String { "the certificate '\(path)' ends on \(identity.certificateEnd)" }

    /// Writes when the certificate ends, as a member behind others.
    func writeEnd(to responses: inout ResponseStream) {
        responses.append(",\"certificate_end\":")
        JSONWriter.writeSeconds(milliseconds: endMilliseconds, to: &responses)
    }

    /// Reads the files again if they have changed, and warns if the certificate ends soon. Looks at the files once a
    /// minute.
    ///
    /// - Parameters:
    ///   - isAsked: whether a signal asks to read the files now, whether they have changed or not.
    ///   - now: the time.
    /// - Returns: when the next turn must begin at the latest.
    func endTurn(isAsked: Bool, now: Int64) -> Int64 {
        guard look.isDue(isAsked: isAsked, now: now) else { return look.next }
        if isAsked || identity.filesHaveChanged { reload() }
        if now >= nextWarning, let warning = warning(now: now) {
            nextWarning = now + Self.dayMilliseconds
            log.write(.warning(warning).repeated)
        }
        return look.next
    }

    private func reload() {
        do throws(TLSError) {
            try identity.reload()
            nextWarning = .min
            log.info("read the certificate '\(path)' again; it ends on \(identity.certificateEnd)")
        } catch {
            log.write(
                .warning("the certificate that ends on \(identity.certificateEnd) stays in use: \(error)").repeated)
        }
    }

    private func warning(now: Int64) -> String? {
        if now < identity.certificateStartMilliseconds {
            return
                "the certificate '\(path)' begins on \(identity.certificateStart), so clients refuse it until then"
        }
        let left = endMilliseconds - now
        if left >= Self.warningMilliseconds { return nil }
        if left <= 0 {
            return "the certificate '\(path)' ended on \(identity.certificateEnd), so clients refuse it; renew it"
        }
        let days = left / Self.dayMilliseconds
        let time = days == 0 ? "less than a day" : days == 1 ? "1 day" : "\(days) days"
        return "\(endText), in \(time); renew it"
    }
}
