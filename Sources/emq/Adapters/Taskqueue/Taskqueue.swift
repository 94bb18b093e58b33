// Replaces taskqueue, which posts the payloads of messages to URLs, as an ini file says for each queue. A message is
// the content of a task, added by `POST /enqueue/QUEUE`.

import Bytes
import Delivery
import JSON
import Net
import Queues
import UID

/// Sends the messages in the queues of an ini file to their receivers.
final class Taskqueue: QueueCourier {
    /// How long a request may take.
    static let timeoutMilliseconds: Int64 = 21_600_000
    /// The pause after a refused connection, unless the queue's own is longer. The receiver is probably restarting.
    static let refusedPauseMilliseconds: Int64 = 1000

    let concurrency = 1
    let spreadsStarts = true
    let acceptsEnqueue = true
    private let file: TaskqueueFile

    init(_ file: TaskqueueFile) { self.file = file }

    func owns(_ queueName: Span<UInt8>) -> Bool { file.sections[Array(copying: queueName)] != nil }

    /// Sets the configurations of the queues to what the file says.
    func begin(on broker: isolated Broker) -> Bool {
        for name in file.sections.keys {
            guard let queue = try? broker.queue(named: name.span) else { return false }
            let before = broker.configuration(of: queue)
            var configuration = before ?? QueueConfiguration()
            (configuration.push, configuration.maximumRetries, configuration.backoff) = ([], nil, nil)
            complete(&configuration, of: name.span)
            if configuration == before { continue }
            do throws(BrokerError) { try broker.configure(queue, configuration) } catch { return false }
        }
        return true
    }

    /// Takes missing settings from the file. A message without `expires` does not expire.
    func complete(_ configuration: inout QueueConfiguration, of queueName: Span<UInt8>) {
        guard let section = file.sections[Array(copying: queueName)] else { return }
        var push = PushOptions(stored: configuration.push, of: .queue)
        push.concurrency = push.concurrency ?? section.concurrency
        push.rate = push.rate ?? section.rate
        configuration.push = []
        push.write(isMasked: false, to: &configuration.push)
        configuration.isPushed = true
        configuration.maximumRetries = configuration.maximumRetries ?? section.retryLimit
        configuration.backoff = configuration.backoff ?? section.backoff
        if configuration.expiry == .unsaid { configuration.expiry = .never }
    }

    // MARK: Producers

    /// Applies a message's settings to its task. A task whose content is not a message stays as it is, and is due at
    /// once: the attempt to send it makes it dead, with the reason.
    ///
    /// - Returns: the queue that the message names, if that is another one.
    func prepare(_ task: inout NewTask, content: Span<UInt8>, in queueName: [UInt8], now: Int64) -> [UInt8]? {
        guard let message = try? TaskqueueMessage(content, baseURL: file.baseURL, now: now) else {
            task.due = nil
            return nil
        }
        if let eta = message.eta { task.due = eta }
        if let expires = message.expires {
            let due = min(max(task.due ?? now, now), expires)
            task.due = due
            // A task that expires when it is due is not sent.
            task.expiry = .after(milliseconds: expires - due)
        }
        if let attempts = message.attempts {
            let options = task.options ?? TaskOptions()
            options.retryLimit = .limited(UInt32(clamping: attempts - 1))
            task.options = options
        }
        guard let other = message.queueName, other != queueName, file.sections[other] != nil else { return nil }
        return other
    }

    // MARK: Receivers

    func request(
        for task: borrowing TaskView, of queue: SendingQueue, unixMilliseconds: Int64
    ) throws(TaskRequestError) -> ClientRequest {
        let own = PushOptions(stored: task.request, of: .task)
        if own.isNotice, let url = own.url {
            let payload = Array(copying: task.content)
            return ClientRequest(
                posting: TaskqueueMessage.body(of: payload), to: url, timeoutMilliseconds: Self.timeoutMilliseconds)
        }
        do throws(Problem) {
            let message = try TaskqueueMessage(task.content, baseURL: file.baseURL, now: unixMilliseconds)
            return ClientRequest(
                posting: TaskqueueMessage.body(of: message.payload), to: message.url,
                timeoutMilliseconds: Self.timeoutMilliseconds)
        } catch {
            throw TaskRequestError("its content is not a message: \(error.detail)")
        }
    }

    func outcome(of attempt: Attempt, after clientOutcome: borrowing ClientOutcome) -> Attempt.Outcome {
        if case .failure(let failure) = clientOutcome.result, failure.isRefused {
            let minimum = file.sections[attempt.queue.name]?.backoff.minimumMilliseconds ?? 0
            let pause = max(minimum, Self.refusedPauseMilliseconds)
            return .failed(.releasePausing(milliseconds: pause), error: attempt.error(failure))
        }
        return attempt.outcome(after: clientOutcome) { $0.status == 200 ? nil : "; success is 200" }
    }

    /// The same payload goes to the message's `roll_back`.
    func deadLetterNotification(
        for task: borrowing TaskView, in queueName: [UInt8], push: PushOptions
    ) -> DeadLetterNotification? {
        guard !PushOptions(stored: task.request, of: .task).isNotice,
            let message = try? TaskqueueMessage(task.content, baseURL: file.baseURL, now: task.enqueued),
            let url = message.rollBackURL
        else { return nil }
        let payload = message.payload.isEmpty ? Array("null".utf8) : message.payload
        return DeadLetterNotification(url: url, content: payload, backoff: nil)
    }
}
