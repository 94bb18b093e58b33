// The metrics of the server, for `GET /metrics`. Their number does not depend on the number of queues.

import Delivery
import Net
import Queues

extension Exposition {
    /// Adds all metrics of the server that do not need the broker, so they are there during recovery too.
    ///
    /// - Parameters:
    ///   - metrics: the server's own counts.
    ///   - gate: the parts of the server.
    ///   - certificate: the server's certificate; nil if there is none.
    ///   - hasTokens: whether senders need tokens.
    ///   - isReady: whether the server takes and dispatches tasks.
    mutating func addServer(
        _ metrics: Metrics, _ gate: Gate, _ certificate: ServerCertificate?, hasTokens: Bool, isReady: Bool
    ) {
        begin("emq_build_info", .gauge, "The version of emq, as a label; always 1.")
        add(1, ("version", Options.version))
        add(
            "emq_ready", .gauge, "1 if the server takes and dispatches tasks; 0 while it recovers or stops.",
            isReady ? 1 : 0)
        addRequests(metrics, gate.server.statistics)
        add("emq_connections", .gauge, "Open connections of clients.", gate.server.connectionCount)
        begin(
            "emq_loop_lag_seconds", .histogram,
            "Duration of each turn of the event loop; what arrives meanwhile waits for its end.")
        add(gate.server.loop.turnMicroseconds, in: .micro, exponents: stride(from: 4, through: 24, by: 1))
        add(
            "emq_memory_limit_bytes", .gauge, "Memory that tasks and requests may take (--max-memory).",
            gate.maximumMemoryBytes)
        begin("emq_enqueue_rejected", .counter, "Requests to add tasks that were refused, by reason.")
        for rejection in Rejection.allCases { add(metrics.count(of: rejection), ("reason", rejection.rawValue)) }
        if hasTokens {
            begin("emq_auth_failures", .counter, "Requests without a valid token, or whose token does not allow them.")
            for reason in Caller.Reason.allCases { add(metrics.count(of: reason), ("reason", "\(reason)")) }
            add(metrics.forbiddenCount, ("reason", "forbidden"))
        }
        if let push = gate.push {
            begin("emq_push_requests", .counter, "Requests that sent tasks, by the class of the response.")
            for ending in RequestCounts.Class.allCases { add(push.requestCounts[ending], ("class", ending.rawValue)) }
            add("emq_push_in_flight", .gauge, "Tasks that are being sent.", push.inFlightCount)
        }
        add(
            "emq_log_lines_dropped", .counter, "Lines of the log that were dropped because it was not read in time.",
            LineWriter.standardError.droppedLineCount)
        if let certificate {
            add(
                "emq_tls_certificate_expiry_time_seconds", .gauge, "When the server's certificate ends, in Unix time.",
                certificate.endMilliseconds, in: .milli)
        }
        addProcess(metrics)
    }

    /// Adds the metrics of tasks, queues, memory, journal and sources.
    ///
    /// - Parameters:
    ///   - gate: the parts of the server.
    ///   - oldestReady: since when the oldest ready task has been ready; nil if no task is ready.
    ///   - broker: the broker.
    ///   - now: the time.
    mutating func addTasks(_ gate: Gate, oldestReady: Int64?, on broker: isolated Broker, now: Int64) {
        begin("emq_tasks", .gauge, "Tasks, by state.")
        for state in TaskState.allCases { add(broker.taskCount(in: state), ("state", "\(state.name)")) }
        add(
            "emq_queues", .gauge, "Queues with tasks, waits or a configuration, or that are paused.",
            broker.usedQueueCount)
        add("emq_queues_paused", .gauge, "Paused queues.", broker.pausedQueueCount)
        add(
            "emq_oldest_ready_seconds", .gauge,
            "Time for which the oldest of the next tasks of all queues has been ready, without paused queues.",
            oldestReady.map { max(0, now - $0) } ?? 0, in: .milli)
        add("emq_waiters", .gauge, "Waits for tasks or results that have not ended.", broker.counts.waiters)
        add(
            "emq_event_streams", .gauge, "Clients with a stream of events, such as open dashboards.", gate.streams.count
        )
        addEvents(broker.activity)
        begin("emq_memory_bytes", .gauge, "Memory that counts against the limit, by what holds it.")
        add(broker.memoryBytes, ("kind", "tasks"))
        add(gate.server.bufferBytes, ("kind", "connections"))
        add(gate.push?.bufferBytes ?? 0, ("kind", "push"))
        add(gate.sources.waitingByteCount, ("kind", "sources"))
        add(gate.views.byteCount + gate.survey.byteCount + gate.streams.byteCount, ("kind", "lists"))
        add(gate.durability?.pendingByteCount ?? 0, ("kind", "journal"))
        if let durability = gate.durability { addJournal(durability.metrics) }
        if !gate.sources.isEmpty { addSources(gate.sources) }
    }

    private mutating func addEvents(_ activity: Activity) {
        let totals = activity.totals
        add(
            "emq_tasks_enqueued", .counter, "Tasks added, including replacements and notifications.",
            totals.enqueued + totals.notices)
        begin("emq_tasks_dispatched", .counter, "Dispatches, to a waiting worker or by push.")
        add(totals.dispatched - activity.sends, ("via", "wait"))
        add(activity.sends, ("via", "push"))
        add("emq_tasks_done", .counter, "Dispatches that were acknowledged.", totals.acked)
        begin(
            "emq_tasks_failed", .counter,
            "Dispatches that failed: refused by a worker, lease ran out, or not accepted by push.")
        add(totals.nacked - activity.failedSends, ("reason", "nack"))
        add(totals.timedOut, ("reason", "lease"))
        add(activity.failedSends, ("reason", "push"))
        add(
            "emq_tasks_dead", .counter, "Tasks that died, including those that went to a dead-letter queue.",
            totals.died)
        add("emq_tasks_expired", .counter, "Tasks that expired.", totals.expired)
        add("emq_tasks_cancelled", .counter, "Unfinished tasks that were cancelled or purged.", totals.cancelled)
        add("emq_tasks_released", .counter, "Dispatches that were given back or did not arrive.", totals.released)
        begin("emq_task_ready_seconds", .histogram, "Time from ready to dispatched.")
        add(activity.readyMilliseconds, in: .milli, exponents: stride(from: 0, through: 26, by: 1))
        begin("emq_task_dispatched_seconds", .histogram, "Time from dispatched to done.")
        add(activity.dispatchedMilliseconds, in: .milli, exponents: stride(from: 0, through: 26, by: 1))
    }

    private mutating func addJournal(_ journal: DurabilityMetrics) {
        add("emq_journal_bytes", .gauge, "Size of the journal.", journal.byteCount)
        add("emq_journal_live_bytes", .gauge, "Part of the journal that is needed.", journal.liveByteCount)
        if let free = journal.freeByteCount {
            add("emq_journal_free_bytes", .gauge, "Space that the file system has left for the journal.", free)
        }
        begin(
            "emq_journal_sync_seconds", .histogram,
            "Time to make changes safe on disk; with --fsync always, including their writing.")
        add(journal.syncMicroseconds, in: .micro, exponents: stride(from: 6, through: 24, by: 1))
        add(
            "emq_journal_problem", .gauge, "1 if the journal cannot be written or has no space.",
            journal.hasProblem ? 1 : 0)
    }

    private mutating func addSources(_ sources: Sources) {
        // Samples of one family must follow each other.
        var statuses: [(name: String, status: SourceStatus)] = []
        sources.forEach { statuses.append((String(decoding: $0.name, as: UTF8.self), $0.status)) }
        begin("emq_source_messages", .counter, "Messages that have become tasks, or were duplicates.")
        for (name, status) in statuses { add(status.messages, ("source", name)) }
        begin(
            "emq_source_lag", .gauge, "Messages that are ready in the queue of RabbitMQ; missing while that is unknown."
        )
        for (name, status) in statuses { if let lag = status.lag { add(lag, ("source", name)) } }
        begin("emq_source_up", .gauge, "1 if the source takes messages, or would if there were room for them.")
        for (name, status) in statuses {
            add(status.state == .consuming || status.state == .waiting ? 1 : 0, ("source", name))
        }
    }

    private mutating func addRequests(_ metrics: Metrics, _ statistics: RequestStatistics) {
        begin("emq_http_requests", .counter, "Requests that were answered, by route and status code.")
        for (label, route) in metrics.routes.enumerated() {
            for status in RequestStatistics.statuses {
                let count = statistics.count(label: label, status: status)
                if count > 0 { add(count, ("route", route), ("code", "\(status)")) }
            }
        }
        begin(
            "emq_http_request_duration_seconds", .histogram,
            "Time that the server worked on a request, without sending the answer and without waiting.")
        for (label, route) in metrics.routes.enumerated() {
            let durations = statistics.durations(label: label)
            guard durations.count > 0 else { continue }
            add(durations, in: .micro, exponents: stride(from: 2, through: 22, by: 2), ("route", route))
        }
    }

    private mutating func addProcess(_ metrics: Metrics) {
        add(
            "process_cpu_seconds", .counter, "Processor time used.", ProcessStatistics.cpuMicroseconds, in: .micro)
        add("process_resident_memory_bytes", .gauge, "Resident memory.", Memory.resident)
        add("process_virtual_memory_bytes", .gauge, "Virtual memory, most of it reserved and not used.", Memory.virtual)
        if let count = ProcessStatistics.openDescriptorCount {
            add("process_open_fds", .gauge, "Open file descriptors.", count)
        }
        add("process_max_fds", .gauge, "Limit of open file descriptors.", ProcessStatistics.maximumDescriptorCount)
        add(
            "process_start_time_seconds", .gauge, "When the process began, in Unix time.", metrics.startMilliseconds,
            in: .milli)
    }
}
