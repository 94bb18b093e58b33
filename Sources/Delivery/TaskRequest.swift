// The HTTP request that a task is sent as.

import JSON
import Net
import Queues
import UID

/// What is sent for one attempt at a task, and how long that may take.
struct TaskRequest {
    /// How long a request may take if neither the task nor its queue says.
    static let defaultTimeoutMilliseconds: Int64 = 30_000

    private(set) var request: ClientRequest

    /// Makes the request of a task that is about to be dispatched.
    ///
    /// What the task's own request leaves unsaid, its queue says. Header values of the queue are a secret between it and its
    /// receiver: a task that goes to another one by its own URL does not take them there, nor does the news of a death.
    ///
    /// - Throws: `TaskRequestError` if it cannot be made; it never will be.
    init(
        _ task: borrowing TaskView, queue: SendingQueue, unixSeconds: Int64
    ) throws(TaskRequestError) {
        let own = PushOptions(stored: task.origin.isEmpty ? task.request : [], of: .task)
        let options = queue.options
        guard let url = own.url ?? options.url else {
            throw TaskRequestError(description: "neither the task nor its queue's push has a url")
        }
        let method = own.method ?? options.method ?? Array("POST".utf8)
        var headers = own.headers
        if options.url.map({ $0.authority == url.authority }) ?? !own.isNotice {
            for header in options.headers
            where !headers.contains(where: { $0.name.lowercasedASCII == header.name.lowercasedASCII }) {
                headers.append(header)
            }
        }
        let hasBody = !method.elementsEqual("GET".utf8) && !method.elementsEqual("HEAD".utf8)
        let body = hasBody ? own.body ?? Array(copying: task.content) : nil

        var fields: [UInt8] = []
        fields.reserveCapacity(256)
        var (hasType, hasAgent) = (!hasBody, false)
        for header in headers {
            Self.append(header.name, header.value, to: &fields)
            if header.name.lowercasedASCII.elementsEqual("content-type".utf8) { hasType = true }
            if header.name.lowercasedASCII.elementsEqual("user-agent".utf8) { hasAgent = true }
        }
        if !hasAgent { fields += "User-Agent: emq\r\n".utf8 }
        if !hasType { fields += "Content-Type: application/json\r\n".utf8 }
        let id = task.id.text
        fields += "Emq-Task-Id: ".utf8
        fields.append(id.span)
        fields += "\r\nEmq-Queue: ".utf8
        fields += queue.encodedName
        // It is counted when it is dispatched.
        fields += "\r\nEmq-Attempt: ".utf8
        JSONWriter.writeInteger(Int64(task.attempt) + 1, to: &fields)
        fields += "\r\n".utf8
        if let secret = options.secret {
            let signed = body ?? []
            Self.append(
                Array("Emq-Signature".utf8),
                Signature.value(secret: secret, unixSeconds: unixSeconds, body: signed.span),
                to: &fields)
        }
        request = ClientRequest(url: url, method: method, fields: fields, body: body)
        request.timeoutMilliseconds =
            own.timeoutMilliseconds ?? options.timeoutMilliseconds ?? Self.defaultTimeoutMilliseconds
    }

    private static func append(_ name: [UInt8], _ value: [UInt8], to fields: inout [UInt8]) {
        fields += name
        fields += ": ".utf8
        fields += value
        fields += "\r\n".utf8
    }
}

/// Why a task can never be sent.
struct TaskRequestError: Error {
    let description: String
}
