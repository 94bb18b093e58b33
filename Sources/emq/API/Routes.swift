// The table of routes. docs/api.md describes them.

private let namesTasksInBody: StaticString = "name the tasks in the body"

extension Route {
    /// All routes, the most usual ones first, because look-up goes through them in this order.
    static let all = [
        Route(
            "enqueue", .queue, .post(.grows(Cost.taskBytes), body: .kept, admission: .byHandler, API.enqueue)),
        // A wait acknowledges tasks, and holds its answer itself.
        Route(
            "wait", .none, advice: "name the queues in the body",
            .post(.frees, body: .read, admission: .byHandler, hold: .never, API.wait)),
        Route(
            "ack", .none, advice: namesTasksInBody,
            .post(.frees, body: .read, admission: .byHandler, API.acknowledge)),
        Route(
            "nak", alias: "nack", .none, advice: namesTasksInBody,
            .post(.returns, body: .read, admission: .byHandler, API.nak)),
        Route(
            "touch", .none, advice: namesTasksInBody,
            .post(.grows(), body: .read, admission: .byHandler, API.touch)),

        Route("task", .task, .get(API.showTask), .delete(.frees, API.cancelTask)),
        Route("result", .task, query: ["timeout"], .get(API.awaitResult), .delete(.frees, API.deleteResult)),
        Route("key", .queue, query: ["key"], .get(API.showKey), .delete(.frees, API.freeKey)),

        Route("peek", .queue, query: ["n", "state", "after"], .get(API.peek)),
        // Clients do not rely on these answers, so they wait for nothing.
        Route(
            "queues", .none,
            advice: "/stats/NAME shows a queue and /purge/NAME deletes its tasks; an empty queue vanishes by itself",
            .get(hold: .never, API.listQueues)),
        Route("stats", .none, .get(hold: .never, API.showStatistics)),
        Route("stats", .queue, .get(hold: .never, API.showQueueStatistics)),

        // These work while the disk is full too.
        Route("pause", .queue, .post(.returns(Cost.queueBytes), admission: .byHandler, API.pause)),
        Route("resume", .queue, .post(.returns, API.resume)),
        Route("purge", .queue, query: ["state"], .post(.frees, API.purge)),
        Route("kick", .none, query: ["to"], .post(.grows(), body: .read, admission: .byHandler, API.kickTasks)),
        Route("kick", .queue, query: ["n", "state", "to"], .post(.grows(), API.kick)),
        Route("move", .queue, query: ["n", "state", "to"], .post(.grows(), API.move)),

        Route(
            "config", .queue, .get(API.showConfiguration),
            .put(.grows(Cost.queueBytes), admission: .byHandler, API.putConfiguration),
            .patch(.grows(Cost.queueBytes), admission: .byHandler, API.patchConfiguration),
            .delete(.returns, API.dropConfiguration)),
        Route(
            "defaults", .none, .get(API.showDefaults), .put(.grows(Cost.queueBytes), API.putDefaults),
            .patch(.grows(Cost.queueBytes), API.patchDefaults), .delete(.returns, API.dropDefaults)),

        Route("source", .source, suffix: "/pause", .post(.returns, admission: .byHandler, API.pauseSource)),
        Route("source", .source, suffix: "/resume", .post(.returns, admission: .byHandler, API.resumeSource)),
        Route(
            "source", .source, .get(API.showSource), .put(.grows(), admission: .byHandler, API.putSource),
            .delete(.frees, API.dropSource)),
        Route("source", .none, .get(API.showSources)),

        Route("healthz", .none, .get(hold: .never, isOpenDuringRecovery: true, API.showHealth)),
    ]
}
