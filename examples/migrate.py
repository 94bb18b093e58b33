#!/usr/bin/env python3
"""Moves tasks that are still queued in a legacy system to the emq that replaces it. Uses only the standard library.

    migrate.py httpqueue   redis://:PASSWORD@HOST:6379/3   http://EMQ:2356
    migrate.py htq         redis://HOST:6379/0             http://EMQ:5000
    migrate.py delay-tasks DIRECTORY                       http://EMQ:7080

Stop the legacy system first. The script deletes nothing there. If you run it twice, it adds everything twice (except
for delay-tasks, where a task replaces itself). The script lists tasks that emq rejects, such as those with an https
URL, and then exits with status 1.
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
        self.file = socket.create_connection((parts.hostname or "localhost", parts.port or 6379)).makefile("rwb")
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
        self.file.write(b"*%d\r\n" % len(words))
        for word in words:
            word = str(word).encode()
            self.file.write(b"$%d\r\n%s\r\n" % (len(word), word))
        self.file.flush()
        return self.reply()

    def reply(self):
        line = self.file.readline().decode().rstrip("\r\n")
        kind, rest = line[:1], line[1:]
        if kind == "-":
            sys.exit(f"Redis: {rest}")
        if kind == "$":
            return None if rest == "-1" else self.file.read(int(rest) + 2)[:-2].decode()
        if kind == "*":
            return [self.reply() for _ in range(int(rest))]
        return rest


def httpqueue(source):
    redis = Redis(source)
    now = time.time()
    buckets = ["later_delay", "later_unack", "later_error"]
    redis.must_have(*buckets)
    seen = set()
    for bucket in buckets:
        entries = redis.ask("ZRANGE", bucket, 0, -1, "WITHSCORES")
        for name, score in zip(entries[::2], entries[1::2]):
            text = redis.ask("GET", name)
            if text is None or name in seen:
                continue  # The task has expired, or was on its way from one bucket to another.
            seen.add(name)
            task = json.loads(text)
            # The score of a task in later_unack is the time of its last attempt.
            due = now if bucket == "later_unack" else float(score)
            yield "/create", {
                "topic": task["Topic"], "callback": task["Callback"], "content": task.get("Content", ""),
                # Producers that write to Redis themselves leave out what is 0.
                "delay": max(0, round(due - now)), "retry": max(0, task.get("MaxRetry", 0) - task.get("HasRetry", 0))}


def htq(source):
    redis = Redis(source)
    redis.must_have("htq:send")
    # htq takes the last element of the list first.
    for name in reversed(redis.ask("LRANGE", "htq:send", 0, -1)):
        fields = redis.ask("HGETALL", f"htq:requests:{name}")
        request = dict(zip(fields[::2], fields[1::2]))
        if request.get("status") != "queued":
            continue
        yield "/", {
            "url": request["url"], "method": request["method"], "data": request.get("data"),
            "headers": json.loads(request["headers"]), "timeout": int(request["timeout"]),
            "id": None if request.get("id") in (None, "None") else request["id"]}


def delay_tasks(source):
    folder = pathlib.Path(source)
    handlers = folder / "delay-task-handlers.json"
    tasks = folder / "delay-tasks.json"
    if not handlers.exists() and not tasks.exists():
        sys.exit(f"there is neither {handlers.name} nor {tasks.name} in '{folder}'")
    if handlers.exists():
        for category, handler in json.loads(handlers.read_text()).items():
            yield "/handler/" + urllib.parse.quote(category, safe=""), {"handler": handler}
    for slot in json.loads(tasks.read_text()) if tasks.exists() else []:
        for category, entries in (slot or {}).get("Tasks", {}).items():
            for key, task in entries.items():
                # Tasks that came due while the system was stopped run now.
                yield "/task/" + urllib.parse.quote(category, safe=""), {
                    "timestamp": max(task["TimeToRun"], int(time.time())), "key": int(key),
                    "params": task["Params"], "handler": task["Handler"]}


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
    opener = urllib.request.build_opener(NoRedirect)
    moved, refused = 0, 0
    try:
        for path, body in systems[system](source):
            request = urllib.request.Request(
                target.rstrip("/") + path, json.dumps(body).encode(),
                {"Content-Type": "application/json"})
            try:
                opener.open(request, timeout=60).close()
            except urllib.error.HTTPError as answer:
                if answer.code != 303:
                    refused += 1
                    reason = answer.read().decode(errors="replace").strip()
                    print(f"rejected ({answer.code} {reason}): {json.dumps(body)}", file=sys.stderr)
                    continue
            moved += 1
    except KeyboardInterrupt:
        sys.exit(f"interrupted: moved {moved}, rejected {refused}")
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"{type(error).__name__}: {error}; moved {moved}, rejected {refused}")
    print(f"moved {moved}, rejected {refused}")
    sys.exit(1 if refused else 0)


if __name__ == "__main__":
    main()
