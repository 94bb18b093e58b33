// The description of `emq work`: its options and its help.

extension WorkOptions {
    static let jobs = CommandOption("--jobs", "N", letter: "j", "how many commands run at once (default 1)")
    static let lease = CommandOption("--lease", "TIME", "the lease to ask for (default: each task's own)")
    static let timeout = CommandOption(
        "--timeout", "TIME",
        "stop a command that runs longer; the task has failed (default: none; 30s with --http)")
    static let grace = CommandOption(
        "--grace", "TIME", "how long a command has to end after a SIGTERM, before SIGKILL (default 25s)")
    static let persistent = CommandOption(
        "--persistent", "run one process for all tasks: a line of JSON in for each, and one out for each outcome")
    static let http = CommandOption(
        "--http", "URL", "instead of running a command, POST each task to this URL; 2xx acknowledges it")
    static let result = CommandOption(
        "--result", "WHERE", completion: .words(["file", "stdout"]),
        "where the result is: file (default: what the command writes to EMQ_RESULT_FILE) or stdout")
    static let deadOn = CommandOption(
        "--dead-on", "STATUS", "exit statuses after which a task is not tried again, with commas (default 65)")
    static let exitWhenEmpty = CommandOption(
        "--exit-when-empty", takesTruthValue: true,
        "end when there is no task; with =TIME, when there has been none for so long")
    static let maxTasks = CommandOption("--max-tasks", "N", "end after N tasks")
    static let maxTime = CommandOption(
        "--max-time", "TIME", "take no more tasks after this time, and end with the last command")
    static let worker = CommandOption("--worker", "NAME", "the worker's name (default: HOST-PROCESS)")
    static let dryRun = CommandOption("--dry-run", "show what would run for the first tasks, and take none")

    static let command = Command(
        name: "work", section: .tasks, operands: "QUEUE[=WEIGHT]... -- COMMAND [ARGUMENT...]", operandCount: 1...1000,
        operandCompletion: .queue, runsProgram: true, optionInsteadOfProgram: http,
        summary: "run a command for each task",
        text: [
            "The command reads the content from its standard input: a string as its text, other values as JSON. Its "
                + "environment has EMQ_ID, EMQ_QUEUE, EMQ_ATTEMPT, EMQ_KEY, EMQ_LEASE_UNTIL (a Unix time), "
                + "EMQ_META_NAME for each NAME of the metadata, EMQ_RESULT_FILE and TRACEPARENT. In its arguments, {id}, "
                + "{queue}, {attempt}, {.} and {.field.of.the.content} stand for parts of the task; no shell reads them.",
            "The exit status says how the task ended:",
            "  0         it is done",
            "  75        it goes back for 5 s, and this counts as no attempt",
            "  65        it is dead: no retries (--dead-on)",
            "  126, 127  the command cannot be run: the task goes back, and the worker ends as on SIGTERM, with status 1",
            "  others    it has failed, with the last lines of standard error as the reason",
            "The worker extends the lease while the command runs. When the lease is lost or the task is cancelled, it stops "
                + "the command. After ten failures in a row it tries one task at a time, with growing pauses.",
            "SIGTERM, SIGINT or SIGHUP: the worker takes no more tasks, lets commands end for --grace, then stops them and gives "
                + "their tasks back. A second SIGTERM or SIGINT does so at once.",
            "With --persistent, one process does all tasks, up to --jobs of them at once. It reads a line of JSON for each "
                + "task, without the fields that the task lacks:",
            "  {\"id\":…,\"queue\":…,\"attempt\":…,\"key\":…,\"lease_until\":…,\"metadata\":…,\"traceparent\":…,\"content\":…}",
            "It prints a line for each outcome, in any order; all fields but the id may be left out:",
            "  {\"id\":…,\"status\":\"done\",\"result\":…,\"log\":…}",
            "  {\"id\":…,\"status\":\"failed\",\"error\":…,\"delay\":SECONDS,\"log\":…}  (also dead, released)",
            "  {\"id\":…,\"progress\":…}",
            "Without a status, the task is done, or has failed if there is an error. The line {\"id\":…,\"cancel\":true} tells "
                + "the process that a task is no longer wanted: if its outcome does not come within --grace, the worker "
                + "stops the process. A process should end at the end of its standard input.",
            "With --http, the application gets the requests that the server's push would send, without a signature, and "
                + "its responses mean the same. While it cannot be reached, tasks go back, and the worker pauses.",
            "Queues come in the order in which you name them. With weights, as in a=3,b=1, they come in turn, by weight. The "
                + "last equals sign counts: a queue named a=3 is a=3=1.",
        ],
        options: [
            jobs, lease, timeout, grace, persistent, http, result, deadOn, exitWhenEmpty, maxTasks, maxTime, worker,
            dryRun,
        ] + ServerPlace.options,
        examples: [
            CommandExample("emq work mail -- ./send-mail", "run a script for each task"),
            CommandExample(
                "emq work thumbnails -j 4 -- convert {.file} -resize 200 {.target}", "put fields in the command line"),
            CommandExample("emq work mail -j 8 --persistent -- ./mailer", "keep one process for all tasks"),
            CommandExample("emq work mail --http http://localhost:3000/tasks", "let a web application do them"),
        ], run: Worker.run)
}
