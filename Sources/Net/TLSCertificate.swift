// What a certificate says, in words for whoever has to find out why it is refused.

import Bytes
import CLibraries
import Glibc

/// A certificate that its owner keeps alive.
@safe struct TLSCertificate {
    private let pointer: OpaquePointer
    private let openSSL: OpenSSL

    init(_ pointer: OpaquePointer, _ openSSL: OpenSSL) {
        unsafe self.pointer = pointer
        self.openSSL = openSSL
    }

    /// Who it is for, as RFC 4514 writes it: `CN=example.com,O=Example`.
    var subject: String { unsafe name(openSSL.crypto.X509_get_subject_name(pointer)) }

    /// Who issued it.
    var issuer: String { unsafe name(openSSL.crypto.X509_get_issuer_name(pointer)) }

    /// The hosts that it is for, as in `DNS:example.com, IP Address:192.0.2.1`; empty if it names none.
    var hosts: String {
        let place = unsafe openSSL.crypto.X509_get_ext_by_NID(pointer, Self.subjectAlternativeName, -1)
        guard place >= 0, let hosts = unsafe openSSL.crypto.X509_get_ext(pointer, place) else { return "" }
        return bounded(
            unsafe openSSL.text { _ = unsafe openSSL.crypto.X509V3_EXT_print($0, hosts, 0, 0) })
    }

    /// When it begins and ends, in Unix seconds.
    var startSeconds: Int64 { unsafe seconds(openSSL.crypto.X509_get0_notBefore(pointer)) }
    var endSeconds: Int64 { unsafe seconds(openSSL.crypto.X509_get0_notAfter(pointer)) }

    private func name(_ name: OpaquePointer?) -> String {
        guard let name = unsafe name else { return "" }
        return bounded(
            unsafe openSSL.text { _ = unsafe openSSL.crypto.X509_NAME_print_ex($0, name, 0, Self.nameStyle) })
    }

    private func seconds(_ time: OpaquePointer?) -> Int64 {
        var parts = unsafe tm()
        guard unsafe openSSL.crypto.ASN1_TIME_to_tm(time, &parts) == 1 else { return 0 }
        return Int64(unsafe timegm(&parts))
    }

    /// The text without control characters, and not longer than a line. The peer chose it.
    private func bounded(_ text: String) -> String {
        let line = text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? " " : Character($0) }
        return line.count > 200 ? String(line.prefix(200)) + "…" : String(line)
    }

    /// NID_subject_alt_name.
    private static let subjectAlternativeName: Int32 = 85
    /// XN_FLAG_RFC2253.
    private static let nameStyle: UInt = 0x111_0317

    // MARK: Why it is refused

    /// Why a certificate is refused.
    ///
    /// - Parameters:
    ///   - code: one of `X509_V_ERR_…`.
    ///   - depth: its place in the host's chain: 0 is the host's own.
    ///   - host: the name or address that was asked for.
    ///   - trusted: the issuers that emq trusts, in words.
    /// - Returns: a sentence without an initial capital and a full stop.
    func refusal(code: Int32, depth: Int32, host: String, trusted: String) -> String {
        let name = subject.isEmpty ? "" : " (\(subject))"
        let who =
            depth == 0
            ? "the certificate of \(host)\(name)"
            : "the certificate of \(host) depends on the certificate of an issuer\(name), which"
        let issued = "; it is issued by \(issuer.isEmpty ? "nobody" : issuer)"
        switch code {
        case 9: return "\(who) is valid only from \(UTC.text(ofUnixSeconds: startSeconds)) on\(issued)"
        case 10: return "\(who) expired on \(UTC.text(ofUnixSeconds: endSeconds))\(issued)"
        case 62, 64:
            let names = hosts.isEmpty ? "names no host" : "is for \(hosts), not for \(host)"
            return "\(who) \(names)\(issued)"
        case 18: return "\(who) is signed by itself, and emq trusts only \(trusted)"
        case 19: return "the certificate of \(host) comes from the root \(subject), and emq trusts only \(trusted)"
        case 2, 20, 21:
            return "\(who) is issued by \(issuer), whose certificate is neither sent by the host nor one of those that "
                + "emq trusts: \(trusted)"
        default:
            let reason = openSSL.crypto.X509_verify_cert_error_string(Int(code))
            let words = unsafe reason.map { unsafe String(cString: $0) } ?? "error \(code)"
            return "\(who) is not valid: \(words)\(issued)"
        }
    }
}
