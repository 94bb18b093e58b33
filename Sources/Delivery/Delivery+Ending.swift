// Ending attempts: what their outcomes change, as far as there is room for that change.

import Net
import Queues

extension Delivery {
    /// Roughly the size of a turn's changes, beside the bodies that are kept.
    private static let changeBytesPerTurn = 64 << 10

    /// The maximum size of the outcomes that wait for room. Beyond that, results are kept without their bodies.
    private var maximumWaitingOutcomeBytes: Int { min(32 << 20, maximumBodyBytes / 2) }

    /// Aborts the attempts whose tasks were cancelled, were purged, have expired or took too long.
    func abortEndedSends(on broker: isolated Broker) {
        broker.takeEndedSends { key in
            // The request may have ended at the same time.
            guard let attempt = removeAttempt(key.rawValue) else { return }
            attempt.queue.breaker?.noteAbort(of: key.rawValue)
            sender.cancel(key.rawValue)
        }
    }

    /// Applies the outcomes that wait for room, in order, until there is no room for the next one.
    func applyWaitingOutcomes(on broker: isolated Broker, now: Int64, _ hasRoom: (_ byteCount: Int) -> Bool) {
        while let first = waitingOutcomes.first, hasRoom(Self.changeBytesPerTurn + first.outcome.byteCount) {
            waitingOutcomes.removeFirst()
            waitingOutcomeBytes -= first.outcome.byteCount
            apply(first.outcome, to: first.key, on: broker, now: now)
        }
    }

    /// Ends the attempts whose requests have ended.
    func takeOutcomes(on broker: isolated Broker, now: Int64, _ hasRoom: (_ byteCount: Int) -> Bool) {
        if !attempts.isEmpty, !hasRoom(Self.changeBytesPerTurn) { return }
        sender.advance { key, clientOutcome in
            guard let attempt = removeAttempt(key) else { return }
            end(attempt, DispatchKey(rawValue: key), clientOutcome, on: broker, now: now, hasRoom)
        }
    }

    /// Takes an attempt out of those in flight; nil if it is none of them.
    private func removeAttempt(_ key: UInt64) -> Attempt? {
        guard let attempt = attempts.removeValue(forKey: key) else { return nil }
        let queue = attempt.queue
        queue.inFlightCount -= 1
        bodyBytes -= attempt.bodyByteCount
        let origin = attempt.url.origin
        let count = inFlightCounts[origin, default: 1] - 1
        inFlightCounts[origin] = count == 0 ? nil : count
        if var crowd = crowds.removeValue(forKey: origin) {
            // One queue takes the place. With nothing else in flight to this host, all queues try: if the one no longer
            // needs the place, nothing would wake the others.
            while !crowd.isEmpty {
                activate(crowd.removeFirst())
                if count > 0 { break }
            }
            if !crowd.isEmpty { crowds[origin] = crowd }
        }
        if queue.standing == .full { activate(queue) }
        forgetIfIdle(queue)
        return attempt
    }

    private func end(
        _ attempt: consuming Attempt, _ key: DispatchKey, _ clientOutcome: borrowing ClientOutcome,
        on broker: isolated Broker, now: Int64, _ hasRoom: (_ byteCount: Int) -> Bool
    ) {
        let courier = attempt.queue.courier
        requestCounts.note(clientOutcome)
        attempt.isResultWanted = broker.wantsResult(of: key)
        attempt.keepsBody = !isShortOfMemory
        attempt.endUnixMilliseconds = now + wallClockLeadMilliseconds
        var outcome = courier.outcome(of: attempt, after: clientOutcome)
        attempt.queue.breaker?.noteOutcome(of: key.rawValue, isFailure: outcome.isFailure, now: now)
        // Room for everything small was found at the beginning of the turn.
        if attempt.isResultWanted,
            !waitingOutcomes.isEmpty || !hasRoom(Self.changeBytesPerTurn + outcome.byteCount)
        {
            if waitingOutcomeBytes + outcome.byteCount <= maximumWaitingOutcomeBytes {
                waitingOutcomeBytes += outcome.byteCount
                waitingOutcomes.append(WaitingOutcome(key: key, outcome: outcome))
                return
            }
            attempt.keepsBody = false
            outcome = courier.outcome(of: attempt, after: clientOutcome)
        }
        apply(outcome, to: key, on: broker, now: now)
    }

    private func apply(_ outcome: Attempt.Outcome, to key: DispatchKey, on broker: isolated Broker, now: Int64) {
        func fail(_ action: NakAction, _ error: String, _ result: [UInt8]) {
            let reason = Array(error.utf8)
            broker.failSending(key, action, error: reason.span, result: result.span, now: now)
        }
        switch outcome {
        case .done(let result): _ = broker.finishSending(key, result: result.span, now: now)
        case .unwanted(let error, let result): fail(.dead, error, result)
        case .failed(let action, let error, let result): fail(action, error, result)
        }
    }
}
