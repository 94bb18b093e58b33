#!/usr/bin/env python3
"""Moves tasks that are still queued in a legacy system to the emq that replaces it. Uses only the standard library.

    migrate.py httpqueue   redis://:PASSWORD@HOST:6379/3   http://EMQ:2356
    migrate.py htq         redis://HOST:6379/0             http://EMQ:5000
    migrate.py delay-tasks DIRECTORY                       http://EMQ:7080

Stop the legacy system first. The script deletes nothing there. If you run it twice, it adds everything twice (except
for delay-tasks, where a task replaces itself). The script lists tasks that it cannot read or that emq rejects, such as
those with an ftp URL, moves the others, and then exits with status 1.
"""

import json
import pathlib
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


class Redis:
    """A minimal Redis client for reading (https://redis.io/docs/latest/develop/reference/protocol-spec/)."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "redis":
            sys.exit(f"'{url}' is not a Redis URL such as redis://:PASSWORD@HOST:6379/0")
        self.place = f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
        try:
            self.file = socket.create_connection((parts.hostname or "localhost", parts.port or 6379)).makefile("rwb")
        except OSError as error:
            sys.exit(f"cannot reach Redis at {self.place}: {error}")
        if parts.password:
            name = [parts.username] if parts.username not in (None, "", "root") else []
            self.ask("AUTH", *name, urllib.parse.unquote(parts.password))
        self.database = parts.path.strip("/") or "0"
        self.ask("SELECT", self.database)

    def must_have(self, *names):
        """Ends the program if none of these keys exists, because the database is probably the wrong one."""
        if not any(self.ask("EXISTS", name) == "1" for name in names):
            sys.exit(f"database {self.database} has none of {', '.join(names)}: nothing is queued, or this is the wrong database")

    def ask(self, *words):
        try:
            self.file.write(b"*%d\r\n" % len(words))
            for word in words:
                word = str(word).encode()
                self.file.write(b"$%d\r\n%s\r\n" % (len(word), word))
            self.file.flush()
            return self.reply()
        except OSError as error:
            sys.exit(f"the connection to Redis at {self.place} broke: {error}")

    def reply(self):
        line = self.file.readline().decode(errors="replace").rstrip("\r\n")
        kind, rest = line[:1], line[1:]
        if kind not in ("-", "$", "*", ":", "+"):
            sys.exit(f"{self.place} does not answer as Redis does")
        if kind == "-":
            sys.exit(f"Redis: {rest}")
        if kind == "$":
            return None if rest == "-1" else self.file.read(int(rest) + 2)[:-2].decode(errors="replace")
        if kind == "*":
            return [self.reply() for _ in range(int(rest))]
        return rest


# Each of these yields the name of an entry, and a function that returns the path and the body of its request to emq.


def httpqueue(source):
    redis = Redis(source)
    now = time.time()
    # A task can be in two of them for a moment; the first one counts.
    buckets = ["later_delay", "later_error", "later_unack"]
    redis.must_have(*buckets)
    seen = set()
    for bucket in buckets:
        entries = redis.ask("ZRANGE", bucket, 0, -1, "WITHSCORES")
        for name, score in zip(entries[::2], entries[1::2]):
            text = redis.ask("GET", name)
            if text is None or name in seen:
                continue  # The task has expired, or was moved already.
            seen.add(name)

            def request():
                task = json.loads(text)
                # The score of a task in later_unack is the time of its last attempt.
                due = now if bucket == "later_unack" else float(score)
                # Producers that write to Redis themselves leave out what is 0.
                retries = task.get("MaxRetry", 0) - task.get("HasRetry", 0)
                return "/create", {
                    "topic": task["Topic"], "callback": task["Callback"], "content": task.get("Content", ""),
                    "delay": max(0, round(due - now)), "retry": max(0, retries)}

            yield f"the task {name}", request


def htq(source):
    redis = Redis(source)
    redis.must_have("htq:send")
    # htq takes the last element of the list first.
    for name in reversed(redis.ask("LRANGE", "htq:send", 0, -1)):
        fields = redis.ask("HGETALL", f"htq:requests:{name}")
        stored = dict(zip(fields[::2], fields[1::2]))
        if stored.get("status") != "queued":
            continue

        def request():
            return "/", {
                "url": stored["url"], "method": stored["method"], "data": stored.get("data"),
                "headers": json.loads(stored["headers"]), "timeout": int(stored["timeout"]),
                "id": None if stored.get("id") in (None, "None") else stored["id"]}

        yield f"the request {name}", request


def delay_tasks(source):
    folder = pathlib.Path(source)
    handlers = folder / "delay-task-handlers.json"
    tasks = folder / "delay-tasks.json"
    if not handlers.exists() and not tasks.exists():
        sys.exit(f"there is neither {handlers.name} nor {tasks.name} in '{folder}'")

    def read(file):
        try:
            return json.loads(file.read_text()) if file.exists() else None
        except (OSError, ValueError) as error:
            sys.exit(f"cannot read {file}: {error}")

    for category, handler in (read(handlers) or {}).items():
        path = "/handler/" + urllib.parse.quote(category, safe="")
        yield f"the handler of {category}", lambda: (path, {"handler": handler})
    for slot in read(tasks) or []:
        for category, entries in ((slot or {}).get("Tasks") or {}).items():
            for key, task in (entries or {}).items():

                def request():
                    # Tasks that came due while the system was stopped run now.
                    return "/task/" + urllib.parse.quote(category, safe=""), {
                        "timestamp": max(task["TimeToRun"], int(time.time())), "key": int(key),
                        "params": task.get("Params"), "handler": task.get("Handler", "")}

                yield f"the task {key} of {category}", request


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """htq responds with a redirect to the request, which this script does not need."""

    def redirect_request(self, *arguments):
        return None


def main():
    systems = {"httpqueue": httpqueue, "htq": htq, "delay-tasks": delay_tasks}
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return
    if len(sys.argv) != 4 or sys.argv[1] not in systems:
        sys.exit(__doc__)
    _, system, source, target = sys.argv
    if not target.startswith(("http://", "https://")) or not urllib.parse.urlsplit(target).netloc:
        sys.exit(f"'{target}' is not the address of emq's {system}, such as http://localhost:8080")
    opener = urllib.request.build_opener(NoRedirect)
    moved, rejected = 0, 0

    def so_far():
        return f"moved {moved}, rejected {rejected}"

    try:
        for name, make in systems[system](source):
            try:
                path, body = make()
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                rejected += 1
                print(f"cannot read {name}: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            request = urllib.request.Request(
                target.rstrip("/") + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
            try:
                opener.open(request, timeout=60).close()
            except urllib.error.HTTPError as answer:
                if answer.code in (404, 405):
                    sys.exit(f"{target} is not the address of emq's {system}; {so_far()}")
                if answer.code != 303:
                    rejected += 1
                    reason = answer.read().decode(errors="replace").strip()
                    print(f"rejected {name} ({answer.code} {reason}): {json.dumps(body)}", file=sys.stderr)
                    continue
            except OSError as error:
                sys.exit(f"cannot reach emq at {target}: {getattr(error, 'reason', error)}; {so_far()}")
            moved += 1
    except KeyboardInterrupt:
        sys.exit(f"interrupted: {so_far()}")
    print(so_far())
    sys.exit(1 if rejected else 0)


if __name__ == "__main__":
    main()
