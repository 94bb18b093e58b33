#!/usr/bin/env python3
"""Moves what is still queued in a legacy system to emq that stands in for it. Python's standard library only.

    migrate.py httpqueue   redis://:PASSWORD@HOST:6379/3   http://EMQ:2356
    migrate.py htq         redis://HOST:6379/0             http://EMQ:5000
    migrate.py delay-tasks DIRECTORY                       http://EMQ:7080

Stop the legacy system first. Nothing is deleted there; running this twice adds everything twice (but for delay-tasks,
where the same task replaces itself). What emq refuses, such as a URL with https, is listed, and the exit status is 1.
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
    """As much of a Redis client as it takes to read (https://redis.io/docs/latest/develop/reference/protocol-spec/)."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "redis":
            sys.exit(f"'{url}' is no address such as redis://:PASSWORD@HOST:6379/0")
        self.file = socket.create_connection((parts.hostname or "localhost", parts.port or 6379)).makefile("rwb")
        if parts.password:
            name = [parts.username] if parts.username not in (None, "", "root") else []
            self.ask("AUTH", *name, urllib.parse.unquote(parts.password))
        self.database = parts.path.strip("/") or "0"
        self.ask("SELECT", self.database)

    def must_have(self, *names):
        """Ends the program if none of these keys is there: it would be the wrong place."""
        if not any(self.ask("EXISTS", name) == "1" for name in names):
            sys.exit(f"database {self.database} has none of {', '.join(names)}: nothing is queued there, or it is another one")

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
    for bucket in buckets:
        entries = redis.ask("ZRANGE", bucket, 0, -1, "WITHSCORES")
        for name, score in zip(entries[::2], entries[1::2]):
            text = redis.ask("GET", name)
            if text is None:
                continue  # Its day is over.
            task = json.loads(text)
            due = float(score) if bucket == "later_delay" else now
            yield "/create", {
                "topic": task["Topic"], "callback": task["Callback"], "content": task["Content"],
                "delay": max(0, round(due - now)), "retry": max(0, task["MaxRetry"] - task["HasRetry"])}


def htq(source):
    redis = Redis(source)
    redis.must_have("htq:send")
    # The next one is the last of the list.
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
        for category, those in (slot or {}).get("Tasks", {}).items():
            for key, task in those.items():
                # What should have run while the system was stopped runs now.
                yield "/task/" + urllib.parse.quote(category, safe=""), {
                    "timestamp": max(task["TimeToRun"], int(time.time())), "key": int(key),
                    "params": task["Params"], "handler": task["Handler"]}


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """htq answers with a redirect to the request, which nobody needs here."""

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
                    print(f"refused ({answer.code} {reason}): {json.dumps(body)}", file=sys.stderr)
                    continue
            moved += 1
    except KeyboardInterrupt:
        sys.exit(f"broken off; {moved} were moved before, {refused} refused")
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"{type(error).__name__}: {error}; {moved} were moved before, {refused} refused")
    print(f"moved {moved}, refused {refused}")
    sys.exit(1 if refused else 0)


if __name__ == "__main__":
    main()
