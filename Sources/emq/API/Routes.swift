// The table of routes. docs/api.md describes them.

private let namesTasksInBody: StaticString = "name the tasks in the body"

extension Route {
    /// All routes, the most usual ones first, because look-up goes through them in this order.
    static let all = [
        Route(
            "enqueue", .queue,
            .post(.grows(Cost.taskBytes), needs: .enqueue, body: .kept, admission: .byHandler, API.enqueue)),
        // A wait acknowledges tasks, and holds its answer itself.
        Route(
            "wait", .none, advice: "name the queues in the body",
            .post(.frees, needs: .work, body: .read, admission: .byHandler, hold: .never, API.wait)),
        Route(
            "ack", .none, advice: namesTasksInBody,
            .post(.frees, needs: .work, body: .read, admission: .byHandler, API.acknowledge)),
        Route(
            "nak", alias: "nack", .none, advice: namesTasksInBody,
            .post(.returns, needs: .work, body: .read, admission: .byHandler, API.nak)),
        Route(
            "touch", .none, advice: namesTasksInBody,
            .post(.grows(), needs: .work, body: .read, admission: .byHandler, API.touch)),

        Route(
            "task", .task, query: [.contentLimit], .get(needs: .read, API.showTask),
            .delete(.frees, needs: .manage, API.cancelTask)),
        Route(
            "result", .task, query: [.timeout], .get(needs: .read, isWatchable: false, API.awaitResult),
            .delete(.frees, needs: .manage, API.deleteResult)),
        Route(
            "key", .queue, query: [.key, .contentLimit], .get(needs: .read, API.showKey),
            .delete(.frees, needs: .manage, API.freeKey)),

        Route("peek", .queue, query: QueryParameter.peek, .get(needs: .read, API.peek)),
        // Clients do not rely on these answers, so they wait for nothing.
        Route(
            "queues", .none,
            advice: "/stats/NAME shows a queue and /purge/NAME deletes its tasks; an empty queue vanishes by itself",
            query: QueryParameter.queues, .get(needs: .read, hold: .never, API.listQueues)),
        Route(
            "stats", .none, query: QueryParameter.statistics,
            .get(needs: .read, hold: .never, API.showStatistics)),
        Route("stats", .queue, query: [.history], .get(needs: .read, hold: .never, API.showQueueStatistics)),
        Route("search", .none, query: QueryParameter.search, .get(needs: .read, API.search)),
        Route("errors", .none, query: QueryParameter.errors, .get(needs: .read, hold: .never, API.showErrors)),
        Route(
            "errors", .queue, query: [QueryParameter.groupCount],
            .get(needs: .read, hold: .never, API.showQueueErrors)),
        Route("workers", .none, query: QueryParameter.workers, .get(needs: .read, hold: .never, API.showWorkers)),

        Route(
            "alerts", .none, advice: "/stats/NAME shows a queue", .get(needs: .read, hold: .never, API.showAlerts)),
        Route("operations", .none, .get(needs: .read, hold: .never, API.listOperations)),
        Route("operations", .operation, .delete(.returns, needs: .manage, API.stopOperation)),

        // These work while the disk is full too.
        Route(
            "pause", .queue, .post(.returns(Cost.queueBytes), needs: .manage, admission: .byHandler, API.pause)),
        Route("resume", .queue, .post(.returns, needs: .manage, API.resume)),
        Route("purge", .queue, query: QueryParameter.purge, .post(.frees, needs: .manage, API.purge)),
        Route(
            "kick", .none, query: [.kickToOrigin],
            .post(.grows(), needs: .manage, body: .read, admission: .byHandler, API.kickTasks)),
        Route("kick", .queue, query: QueryParameter.kick, .post(.grows(), needs: .manage, API.kick)),
        Route(
            "move", .none, query: [.moveTarget],
            .post(.grows(), needs: .manage, body: .read, admission: .byHandler, API.moveTasks)),
        Route("move", .queue, query: QueryParameter.move, .post(.grows(), needs: .manage, API.move)),

        Route(
            "config", .queue, query: [.dryRun], .get(needs: .admin, API.showConfiguration),
            .put(.grows(Cost.queueBytes), needs: .admin, admission: .byHandler, API.putConfiguration),
            .patch(.grows(Cost.queueBytes), needs: .admin, admission: .byHandler, API.patchConfiguration),
            .delete(.returns, needs: .admin, API.dropConfiguration)),
        Route(
            "defaults", .none, query: [.dryRun], .get(needs: .admin, API.showDefaults),
            .put(.grows(Cost.queueBytes), needs: .adminOfAllQueues, API.putDefaults),
            .patch(.grows(Cost.queueBytes), needs: .adminOfAllQueues, API.patchDefaults),
            .delete(.returns, needs: .adminOfAllQueues, API.dropDefaults)),

        // A source also needs a sender who may concern itself with the queue into which it puts tasks.
        Route(
            "source", .source, suffix: "/pause",
            .post(.returns, needs: .admin, admission: .byHandler, API.pauseSource)),
        Route(
            "source", .source, suffix: "/resume",
            .post(.returns, needs: .admin, admission: .byHandler, API.resumeSource)),
        Route(
            "source", .source, .get(needs: .admin, API.showSource),
            .put(.grows(), needs: .admin, admission: .byHandler, API.putSource),
            .delete(.frees, needs: .admin, API.dropSource)),
        Route("source", .none, .get(needs: .admin, API.showSources)),

        Route(
            "metrics", .none, advice: "/metrics/queues has the metrics of each queue",
            .get(needs: .metrics, hold: .never, isOpenDuringRecovery: true, isWatchable: false, API.showMetrics)),
        Route(
            "metrics", .none, suffix: "/queues", query: QueryParameter.metrics,
            .get(needs: .metrics, hold: .never, isWatchable: false, API.showQueueMetrics)),
        Route("healthz", .none, .get(needs: .nothing, hold: .never, isOpenDuringRecovery: true, API.showHealth)),
        Route(
            "openapi.json", .none, advice: "it is one document",
            .get(needs: .nothing, hold: .never, isOpenDuringRecovery: true, API.showContract)),
        Route(
            "access", .none, advice: "it is about the sender of the request",
            .get(needs: .anyToken, hold: .never, isOpenDuringRecovery: true, API.showAccess)),
        Route(
            "events", .none, advice: "name what to watch in get", query: QueryParameter.events,
            .get(needs: .anyToken, hold: .never, isOpenDuringRecovery: true, isWatchable: false, API.streamEvents)),

        Route(
            "", .none,
            .get(needs: .nothing, hold: .never, isOpenDuringRecovery: true, isWatchable: false, API.showDashboard)),
        Route(
            "dashboard", .file,
            .get(
                needs: .nothing, hold: .never, isOpenDuringRecovery: true, isWatchable: false, API.showDashboardFile)),
    ]
}
