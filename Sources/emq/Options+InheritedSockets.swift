// Sockets that systemd has opened for the server (socket activation, sd_listen_fds(3)).

import Glibc
import Net

extension Options {
    /// The first descriptor that systemd passes.
    private static let firstDescriptor: Int32 = 3
    private static let maximumSocketCount = 1000

    /// Listens on the sockets that systemd has passed, in place of the default address. A socket's name
    /// (`FileDescriptorName=`) may be that of a legacy system, which it then serves, or `http` or `https`, which
    /// decides about TLS as the scheme of an address does.
    mutating func readInheritedSockets(_ environment: (String) -> String?) throws(UsageError) {
        // The variables may be those of a parent.
        guard let text = environment("LISTEN_FDS"), environment("LISTEN_PID") == "\(getpid())" else { return }
        guard let count = Int32(text), (0...Int32(Options.maximumSocketCount)).contains(count) else {
            throw UsageError(
                "LISTEN_FDS must be a number of sockets up to \(Options.maximumSocketCount), not '\(text)'")
        }
        let names = (environment("LISTEN_FDNAMES") ?? "").split(separator: ":", omittingEmptySubsequences: false)
        for index in 0..<count {
            let name = Int(index) < names.count ? String(names[Int(index)]) : ""
            let descriptor = Options.firstDescriptor + index
            let address: Address
            do throws(AddressError) { address = try Address(ofListener: descriptor) } catch {
                throw UsageError("systemd passes socket \(index + 1) ('\(name)'), but \(error)")
            }
            let isSecure = name == "https" ? true : name == "http" ? false : nil
            let endpoint = Endpoint(address, isSecure: isSecure, descriptor: descriptor)
            if isSecure == true, endpoint.isLocal {
                throw UsageError("systemd passes the Unix-domain socket '\(address)' as https, but it has no TLS")
            }
            if let system = LegacySystem(rawValue: name) {
                services.append((system, endpoint))
            } else {
                addresses.append(endpoint)
            }
        }
    }
}
