// A connection to a RabbitMQ, by librabbitmq, that consumes one queue. It belongs to one thread, which may wait in its
// calls: for 10 s in `init` and `consume`, for 1 s in `close`, and in those that send until the broker reads, which
// they give up when it has been silent for 20 s.

import CLibraries
import Glibc
import Net

/// Consumes the messages of a queue. A message comes frame by frame, so that no more is read than there is room for.
@safe final class AMQPSession {
    /// How long the broker may take to answer, and the time after which both sides say that they are alive.
    private static let timeoutSeconds = 10
    /// How long the end waits for the broker's word.
    private static let closeMilliseconds: Int64 = 1000
    /// The numbers of frame types, methods, and results (AMQP 0-9-1 section 1.4; amqp.h).
    private enum Frame { static let (method, header, body, heartbeat): (UInt8, UInt8, UInt8, UInt8) = (1, 2, 3, 8) }
    private enum Method {
        static let connectionClose: UInt32 = 10 << 16 | 50
        static let connectionCloseOk: UInt32 = 10 << 16 | 51
        static let channelClose: UInt32 = 20 << 16 | 40
        static let declare: UInt32 = 50 << 16 | 10
        static let declareOk: UInt32 = 50 << 16 | 11
        static let cancel: UInt32 = 60 << 16 | 30
        static let deliver: UInt32 = 60 << 16 | 60
    }
    private static let basicClass: UInt16 = 60
    private enum Reply { static let (normal, library, server): (Int32, Int32, Int32) = (1, 2, 3) }
    private enum Status {
        static let connectionClosed: Int32 = -0x7
        static let socketError: Int32 = -0x9
        static let timeout: Int32 = -0xD
        static let heartbeatTimeout: Int32 = -0xF
        static let socketClosed: Int32 = -0x11
    }

    private let functions: emq_amqp_functions
    private let connection: OpaquePointer
    private let socket: BrokerSocket
    private let settings: AMQPSettings
    private var channel: UInt16 = 1
    /// Whether the last failure was that the queue does not exist.
    private var isQueueMissing = false
    private var lastTag: UInt64 = 0
    /// The parts of the next message that have arrived.
    private var delivery: AMQPDelivery?
    private var header: AMQPHeader?
    private var body: [UInt8] = []

    /// Logs in, and finds the queue. Nothing is consumed before `consume`.
    ///
    /// - Parameters:
    ///   - library: the library.
    ///   - socket: an open socket to the broker, which belongs to the session from now on.
    ///   - settings: what to consume.
    /// - Throws: `AMQPFailure`.
    init(_ library: RabbitMQ, over socket: BrokerSocket, _ settings: AMQPSettings) throws(AMQPFailure) {
        functions = library.functions
        self.socket = socket
        self.settings = settings
        guard let connection = functions.amqp_new_connection() else {
            _ = Glibc.close(socket.descriptor)
            throw AMQPFailure("there is no memory for a connection")
        }
        unsafe self.connection = connection
        guard let place = unsafe functions.amqp_tcp_socket_new(connection) else {
            _ = Glibc.close(socket.descriptor)
            throw AMQPFailure("there is no memory for a connection")
        }
        // The library closes it together with the connection.
        unsafe functions.amqp_tcp_socket_set_sockfd(place, socket.descriptor)
        var time = timeval(tv_sec: Self.timeoutSeconds, tv_usec: 0)
        _ = unsafe functions.amqp_set_handshake_timeout(connection, &time)
        _ = unsafe functions.amqp_set_rpc_timeout(connection, &time)
        try logIn()
        try openChannel()
    }

    deinit { _ = unsafe functions.amqp_destroy_connection(connection) }

    // MARK: Beginning

    private func logIn() throws(AMQPFailure) {
        let url = settings.url
        let reply = unsafe Self.withProperties(connectionName: settings.name) { properties in
            var (properties, functions) = unsafe (properties, functions)
            return unsafe emq_amqp_login(
                &functions, connection, url.virtualHost, 0, 131_072, Int32(Self.timeoutSeconds), &properties, url.user,
                url.password)
        }
        try unsafe check(reply, .login)
    }

    /// What the broker shows about the connection, and what it may send: a word when the queue is deleted.
    private static func withProperties<Result>(connectionName: String, _ body: (emq_amqp_table) -> Result) -> Result {
        func text(_ text: StaticString) -> emq_amqp_bytes {
            unsafe emq_amqp_bytes(len: text.utf8CodeUnitCount, bytes: UnsafeMutableRawPointer(mutating: text.utf8Start))
        }
        var cancels = unsafe emq_amqp_table_entry(key: text("consumer_cancel_notify"), value: emq_amqp_field())
        unsafe cancels.value.kind = UInt8(ascii: "t")
        unsafe cancels.value.value.boolean = 1
        var product = unsafe emq_amqp_table_entry(key: text("product"), value: emq_amqp_field())
        unsafe product.value.kind = UInt8(ascii: "S")
        unsafe product.value.value.bytes = text("emq")
        var name = unsafe emq_amqp_table_entry(key: text("connection_name"), value: emq_amqp_field())
        unsafe name.value.kind = UInt8(ascii: "S")
        var capabilities = unsafe emq_amqp_table_entry(key: text("capabilities"), value: emq_amqp_field())
        unsafe capabilities.value.kind = UInt8(ascii: "F")
        var nameBytes = Array(connectionName.utf8)
        return unsafe nameBytes.withUnsafeMutableBytes { bytes in
            unsafe name.value.value.bytes = emq_amqp_bytes(len: bytes.count, bytes: bytes.baseAddress)
            return unsafe withUnsafeMutablePointer(to: &cancels) { cancels in
                unsafe capabilities.value.value.table = emq_amqp_table(num_entries: 1, entries: cancels)
                var entries = unsafe [product, name, capabilities]
                return unsafe entries.withUnsafeMutableBufferPointer { entries in
                    unsafe body(emq_amqp_table(num_entries: Int32(entries.count), entries: entries.baseAddress))
                }
            }
        }
    }

    private func openChannel() throws(AMQPFailure) {
        _ = unsafe functions.amqp_channel_open(connection, channel)
        try unsafe check(functions.amqp_get_rpc_reply(connection), .channel)
    }

    /// Calls `body` with the queue's name.
    private func withQueue<Result>(_ body: (emq_amqp_bytes) -> Result) -> Result {
        var name = settings.queue
        return unsafe name.withUnsafeMutableBytes { bytes in
            unsafe body(emq_amqp_bytes(len: bytes.count, bytes: bytes.baseAddress))
        }
    }

    /// Declares the queue.
    ///
    /// - Parameter isPassive: whether it must exist, with whatever arguments.
    /// - Returns: how many messages are ready in it.
    /// - Throws: `AMQPFailure`, after which the channel is closed.
    private func declare(isPassive: Bool) throws(AMQPFailure) -> Int {
        var count = 0
        unsafe withQueue { queue in
            let result = unsafe functions.amqp_queue_declare(
                connection, channel, queue, isPassive ? 1 : 0, 1, 0, 0, emq_amqp_table())
            if let result = unsafe result { count = unsafe Int(result.pointee.message_count) }
        }
        try unsafe check(functions.amqp_get_rpc_reply(connection), .queue)
        return count
    }

    /// Starts to consume. A queue that exists is taken as it is. A missing one is declared if the settings say so.
    ///
    /// - Returns: how many messages were ready in the queue.
    func consume() throws(AMQPFailure) -> Int {
        let ready: Int
        do throws(AMQPFailure) { ready = try declare(isPassive: true) } catch {
            guard settings.declaresQueue, isQueueMissing else { throw error }
            // The error has closed the first channel.
            channel += 1
            try openChannel()
            ready = try declare(isPassive: false)
        }
        _ = unsafe functions.amqp_basic_qos(connection, channel, 0, settings.prefetch, 0)
        try unsafe check(functions.amqp_get_rpc_reply(connection), .queue)
        unsafe withQueue { queue in
            _ = unsafe functions.amqp_basic_consume(
                connection, channel, queue, emq_amqp_bytes(), 0, 0, 0, emq_amqp_table())
        }
        try unsafe check(functions.amqp_get_rpc_reply(connection), .queue)
        return ready
    }

    // MARK: Messages

    /// About how much memory the message that is arriving will take, in bytes: its body, and its content as JSON. 0 if
    /// its header has not arrived.
    var arrivingByteCount: Int { header.map { 1024 + 2 * $0.bodyByteCount } ?? 0 }

    /// Asks how many messages are ready in the queue; `receive` gets the answer. It does not wait for it, because the
    /// library would keep all messages that come before the answer in memory.
    ///
    /// - Throws: `AMQPFailure`.
    func requestReadyCount() throws(AMQPFailure) {
        let status = unsafe withQueue { queue in
            var declare = unsafe emq_amqp_declare()
            unsafe (declare.queue, declare.passive) = (queue, 1)
            return unsafe functions.amqp_send_method(connection, channel, Method.declare, &declare)
        }
        guard status == 0 else { throw failure(status: status) }
    }

    /// What one call of `receive` found.
    enum Received {
        case message(AMQPMessage)
        /// The answer to `requestReadyCount`.
        case readyCount(Int)
        /// A part of a message.
        case part
        case nothing
    }

    /// Takes one frame, without waiting for one.
    ///
    /// - Throws: `AMQPFailure` if the broker has closed the channel or the connection, has been silent for too long, or
    ///   sends a message that is larger than the settings allow.
    func receive() throws(AMQPFailure) -> Received {
        // What was decoded before has been copied.
        unsafe functions.amqp_maybe_release_buffers(connection)
        var frame = unsafe emq_amqp_frame()
        var atOnce = timeval()
        let status = unsafe functions.amqp_simple_wait_frame_noblock(connection, &frame, &atOnce)
        if status == Status.timeout { return .nothing }
        guard status == 0 else { throw failure(status: status) }
        guard unsafe frame.channel == channel || frame.channel == 0 else { throw Self.disorder }
        switch unsafe frame.frame_type {
        case Frame.method:
            let method = unsafe frame.payload.method
            if unsafe method.id == Method.declareOk, let decoded = unsafe method.decoded {
                let answer = unsafe decoded.assumingMemoryBound(to: emq_amqp_declare_ok.self).pointee
                return .readyCount(unsafe Int(answer.message_count))
            }
            try unsafe take(method)
        case Frame.header:
            // The properties of other classes are other structures.
            guard let delivery, header == nil, unsafe frame.payload.properties.class_id == Self.basicClass,
                let decoded = unsafe frame.payload.properties.decoded
            else { throw Self.disorder }
            let count = unsafe frame.payload.properties.body_size
            guard count <= UInt64(settings.maximumContentByteCount) else { throw tooLarge }
            header = unsafe AMQPHeader(
                of: delivery, from: settings.queue,
                copying: UnsafePointer(decoded.assumingMemoryBound(to: emq_amqp_basic_properties.self)),
                bodyByteCount: Int(count))
        case Frame.body:
            let fragment = unsafe frame.payload.body_fragment
            guard let header, unsafe fragment.len <= header.bodyByteCount - body.count else { throw Self.disorder }
            if body.isEmpty { body.reserveCapacity(header.bodyByteCount) }
            if let start = unsafe fragment.bytes {
                unsafe body.append(contentsOf: UnsafeRawBufferPointer(start: start, count: fragment.len))
            }
        default: return .part
        }
        guard let header, body.count == header.bodyByteCount else { return .part }
        defer { (delivery, self.header, body) = (nil, nil, []) }
        guard let message = header.message(body, maximumContentByteCount: settings.maximumContentByteCount) else {
            throw tooLarge
        }
        return .message(message)
    }

    private var tooLarge: AMQPFailure {
        AMQPFailure(
            "a message in queue '\(settings.queueText)' is too large: as JSON, a message may have "
                + "\(settings.maximumContentByteCount) bytes here (an eighth of --max-memory, and at most 128 MiB); take "
                + "it out with another program, or raise --max-memory",
            isFinal: true)
    }

    private static var disorder: AMQPFailure { AMQPFailure("RabbitMQ sent frames that do not follow each other") }

    /// Takes a method that the broker sent by itself.
    private func take(_ method: emq_amqp_method) throws(AMQPFailure) {
        switch unsafe method.id {
        case Method.deliver:
            guard delivery == nil, let decoded = unsafe method.decoded else { throw Self.disorder }
            let deliver = unsafe decoded.assumingMemoryBound(to: emq_amqp_deliver.self).pointee
            // RabbitMQ counts the deliveries of a channel. Acknowledgements rely on it.
            guard unsafe deliver.delivery_tag == lastTag + 1 else { throw Self.disorder }
            lastTag += 1
            delivery = unsafe AMQPDelivery(
                tag: deliver.delivery_tag, isRedelivered: deliver.redelivered != 0,
                exchange: [UInt8](copying: deliver.exchange), routingKey: [UInt8](copying: deliver.routing_key))
        case Method.channelClose, Method.connectionClose: throw unsafe failure(closing: method, .queue)
        case Method.cancel:
            throw AMQPFailure("RabbitMQ ended the consumer, as it does when queue '\(settings.queueText)' is deleted")
        // Such as the end of a block, which only concerns producers.
        default: break
        }
    }

    /// Acknowledges all messages up to a delivery.
    func acknowledge(through deliveryTag: UInt64) throws(AMQPFailure) {
        let status = unsafe functions.amqp_basic_ack(connection, channel, deliveryTag, 1)
        guard status == 0 else { throw failure(status: status) }
    }

    /// Tells the broker that this side is alive. `receive` does that by itself.
    func sendHeartbeat() throws(AMQPFailure) {
        var frame = unsafe emq_amqp_frame()
        unsafe frame.frame_type = Frame.heartbeat
        let status = unsafe functions.amqp_send_frame(connection, &frame)
        guard status == 0 else { throw failure(status: status) }
    }

    /// Closes the connection in order, so that the broker logs no error. Messages without an acknowledgement go back to
    /// their queue.
    func close() {
        var close = unsafe emq_amqp_close()
        unsafe close.reply_code = 200
        guard unsafe functions.amqp_send_method(connection, 0, Method.connectionClose, &close) == 0 else { return }
        let clock = EventLoop.steadyClock()
        let deadline = clock() + Self.closeMilliseconds
        // Messages that are under way come before the answer.
        var frame = unsafe emq_amqp_frame()
        repeat {
            unsafe functions.amqp_maybe_release_buffers(connection)
            var time = timeval(tv_sec: 0, tv_usec: 100_000)
            let status = unsafe functions.amqp_simple_wait_frame_noblock(connection, &frame, &time)
            guard status == 0 || status == Status.timeout else { return }
            if status == 0, unsafe frame.frame_type == Frame.method,
                unsafe frame.payload.method.id == Method.connectionCloseOk
            {
                return
            }
        } while clock() < deadline
    }

    // MARK: Failures

    /// What was asked when a failure came.
    private enum Step { case login, channel, queue }

    private func check(_ reply: emq_amqp_reply, _ step: Step) throws(AMQPFailure) {
        switch unsafe reply.reply_type {
        case Reply.normal: return
        case Reply.server: throw unsafe failure(closing: reply.reply, step)
        case Reply.library: throw failure(status: unsafe reply.library_error, during: step)
        default: throw failure(status: Status.connectionClosed, during: step)
        }
    }

    /// The failure of a connection that the broker has closed without a word, or with one that is not read.
    var closedByBroker: AMQPFailure { failure(status: Status.connectionClosed) }

    private func failure(status: Int32, during step: Step = .queue) -> AMQPFailure {
        if let failure = socket.relayFailure { return AMQPFailure(failure) }
        let place = "RabbitMQ at \(settings.url.host):\(settings.url.port)"
        switch status {
        case Status.timeout:
            return AMQPFailure("\(place) did not answer within \(Self.timeoutSeconds) s")
        case Status.heartbeatTimeout:
            return AMQPFailure("\(place) was silent for \(2 * Self.timeoutSeconds) s")
        case Status.connectionClosed, Status.socketError, Status.socketClosed:
            let hint = settings.url.isSecure ? "" : "; if this port speaks TLS, write amqps://"
            return AMQPFailure(
                "\(place) closed the connection\(step == .login ? " before the login was over\(hint)" : "")")
        default:
            let words = unsafe functions.amqp_error_string2(status).map { unsafe String(cString: $0) }
            return AMQPFailure("\(place): \(words ?? "error \(status)")")
        }
    }

    /// The words for a channel.close or connection.close of the broker.
    private func failure(closing method: emq_amqp_method, _ step: Step) -> AMQPFailure {
        guard let decoded = unsafe method.decoded else { return failure(status: Status.connectionClosed) }
        let close = unsafe decoded.assumingMemoryBound(to: emq_amqp_close.self).pointee
        let code = unsafe close.reply_code
        let text = unsafe String(decoding: [UInt8](copying: close.reply_text).prefix(200), as: UTF8.self)
        isQueueMissing = code == 404
        let isOfChannel = unsafe method.id == Method.channelClose
        let (url, queue) = (settings.url, settings.queueText)
        let words =
            switch (code, step) {
            case (403, .login): "RabbitMQ refused user '\(url.user)' or the password"
            case (403, _): "user '\(url.user)' may not consume queue '\(queue)'"
            case (404, _): "virtual host '\(url.virtualHost)' has no queue '\(queue)'"
            case (405, _): "queue '\(queue)' belongs to another connection only"
            case (406, _): "RabbitMQ refused a request about queue '\(queue)'"
            case (530, .login):
                "there is no virtual host '\(url.virtualHost)', or user '\(url.user)' may not use it"
            case (320, _): "RabbitMQ is stopping, or somebody closed the connection"
            default: "RabbitMQ closed the \(isOfChannel ? "channel" : "connection")"
            }
        return AMQPFailure("\(words) (RabbitMQ says: \(code) \(text))")
    }
}
