// The push options in requests: checking them, and showing them.

import Delivery
import JSON
import Net
import Queues

extension PushOptions {
    /// Reads a member of a request.
    ///
    /// - Throws: 400.
    init(_ value: borrowing FieldValue, of kind: Kind) throws(Problem) {
        guard value.kind == .object else { throw value.flaw("an object") }
        do throws(PushOptionsError) {
            try self.init(value.bytes, of: kind)
        } catch {
            throw Problem(error).inside("\(value.name)")
        }
        // Only emq itself adds dead-letter notifications.
        isNotice = false
    }
}

extension Problem {
    fileprivate init(_ error: PushOptionsError) {
        let hint = error.unknown.map { "; " + nearestName(to: $0.name, among: $0.known.map { "\($0)" }) } ?? ""
        let type: ProblemType =
            switch error.kind {
            case .invalid: .invalidField
            case .unknown: .unknownField
            case .duplicate: .duplicateField
            case .conflicting: .conflictingFields
            case .missing: .missingField
            case .masked: .maskedSecret
            }
        self.init(type, error.detail + hint, field: error.field.isEmpty ? nil : error.field)
    }

    /// Why a `ca` cannot be used.
    init(ofAuthorities error: TLSError) {
        if error.isLibraryMissing {
            self.init(.libraryMissing, "\(error)", field: "ca")
        } else {
            self.init(.invalidField, "ca: \(error)", field: "ca")
        }
    }
}

extension Context {
    /// Checks that a task's request can be sent, and stores it with the task.
    ///
    /// - Throws: 400, or 403 for a request that must not be sent.
    @inline(__always)
    func checkRequest(
        of fields: inout TaskFields, in name: Span<UInt8>, on broker: isolated Broker
    ) throws(Problem) {
        guard let request = fields.request?.value else { return }
        try check(request, of: fields.options, in: name, on: broker)
    }

    private func check(
        _ asked: PushOptions, of options: TaskOptions, in name: Span<UInt8>, on broker: isolated Broker
    ) throws(Problem) {
        do throws(Problem) { try caller.check(.push, in: name) } catch { throw error.inside("request") }
        var request = asked
        do throws(PushOptionsError) { try request.keepMaskedValues() } catch {
            throw Problem(error).inside("request")
        }
        do throws(Problem) { try checkDestinations(of: request, in: name) } catch { throw error.inside("request") }
        func configuration() -> QueueConfiguration? {
            broker.existingQueue(named: name).flatMap { broker.configuration(of: $0) }
        }
        if request.url == nil, configuration()?.isPushed != true {
            throw Problem(
                .missingField, "request needs a url, because the queue's configuration has none (push.url)",
                field: "request.url")
        }
        if let flaw = request.standardHeaderFlaw, let push = configuration()?.push,
            PushOptions(stored: push, of: .queue).signature == .standard
        {
            throw Problem(flaw).inside("request")
        }
        request.write(isMasked: false, to: &options.request)
    }

    /// Checks a queue's push options, and replaces masked values by the stored ones.
    ///
    /// - Throws: 400, 403 for a destination that is not allowed, or 503 for a `ca` without OpenSSL.
    func checkPush(
        _ push: inout PushOptions, of name: Span<UInt8>, insteadOf before: [UInt8]
    ) throws(Problem) {
        do throws(PushOptionsError) {
            try push.keepMaskedValues(of: PushOptions(stored: before, of: .queue))
            try push.checkSignature()
        } catch {
            throw Problem(error).inside("push")
        }
        // Unchanged options need no new permission.
        if !before.isEmpty, push == PushOptions(stored: before, of: .queue) { return }
        if let ca = push.ca {
            do throws(TLSError) { _ = try TLSTrust(authorities: ca) } catch {
                throw Problem(ofAuthorities: error).inside("push")
            }
        }
        do throws(Problem) { try checkDestinations(of: push, in: name) } catch { throw error.inside("push") }
    }

    /// Checks that this server sends tasks, and that it may reach the addresses of URLs with an IP address as host.
    /// Host names are looked up when a task is sent.
    private func checkDestinations(of options: PushOptions, in name: Span<UInt8>) throws(Problem) {
        if let system = LegacySystem(of: name) {
            throw Problem(.queueReserved, "this queue name is reserved for --\(system.rawValue); use another queue")
        }
        guard let push = gate.push, push.sendsOwn else {
            throw Problem(
                .pushDisabled,
                "this server sends no tasks; start it with --push and the allowed destinations, such as --push public")
        }
        for (field, url) in [("url", options.url), ("on_dead", options.onDead)] {
            guard let url, let address = url.address else { continue }
            if let refusal = push.policy.refusal(of: address, port: url.port, host: url.host) {
                throw Problem(.destinationNotAllowed, refusal, field: field)
            }
        }
    }
}

extension PushOptions {
    /// The options as clients see them: JSON in which secrets are masked.
    ///
    /// - Parameters:
    ///   - stored: the stored options, which were checked before; empty for none.
    ///   - kind: whose options they are.
    /// - Returns: a JSON object; empty if there are no options.
    static func masked(_ stored: [UInt8], of kind: Kind) -> [UInt8] {
        if stored.isEmpty { return [] }
        var json: [UInt8] = []
        PushOptions(stored: stored, of: kind).write(isMasked: true, to: &json)
        return json
    }
}
