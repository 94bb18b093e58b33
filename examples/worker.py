#!/usr/bin/env python3
"""A worker for emq in Python's standard library: runs a command for each task.

    examples/worker.py [--url URL] [--max N] [--name NAME] QUEUE... -- COMMAND [ARGUMENT...]

The command gets the task's content, as JSON, on its standard input, and the task's id, queue and attempt in EMQ_ID,
EMQ_QUEUE and EMQ_ATTEMPT. If it ends with status 0, the task is acknowledged, with what it printed as the result if that is
JSON. Otherwise the task is refused, with the last line of its standard error as the error: it is tried again, or is dead.

Earlier queues go first. On SIGTERM and SIGINT the worker finishes the task in hand, gives back those that it has not begun,
and exits.
"""

import argparse, http.client, json, os, shutil, signal, socket, subprocess, sys, threading, time, urllib.parse

separator = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--url", default="http://localhost:8080")
parser.add_argument("--max", type=int, default=1, help="how many tasks to take at once, for short ones (1)")
parser.add_argument("--name", default=f"{socket.gethostname()}-{os.getpid()}", help="shown with the tasks in hand")
parser.add_argument("queues", nargs="+", metavar="QUEUE")
options = parser.parse_args(sys.argv[1:separator])
command = sys.argv[separator + 1 :]
if not command:
    parser.error("a command follows the queues, behind --")
if not shutil.which(command[0]):
    parser.error(f"there is no command {command[0]}")
url = urllib.parse.urlsplit(options.url)
if url.scheme != "http" or not url.hostname:
    parser.error(f"a URL begins with http:// and a host, not {options.url}")


def say(text):
    print(text, file=sys.stderr, flush=True)


class Client:
    """One connection to the server, made anew when it was lost."""

    def __init__(self):
        self.connection = http.client.HTTPConnection(url.netloc, timeout=60)

    def post(self, path, body, seconds=float("inf")):
        """Sends a request, and again after a pause as long as the server is not there or has no room, for so many seconds;
        None if it did not work. A server that does not take a result takes the acknowledgement without."""
        begin = time.monotonic()
        while True:
            try:
                self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
                answer = self.connection.getresponse()
                text = answer.read().decode(errors="replace")
                if answer.status == 200:
                    return json.loads(text)
                problem = f"{answer.status} {text}"
                if 400 <= answer.status < 500 and "result" not in body:
                    sys.exit(f"{path} was answered {problem}")
                body.pop("result", None)
            except (OSError, http.client.HTTPException) as error:
                # The server closes connections that were silent for two minutes: the next one is new.
                problem = f"{options.url}: {error}"
            self.connection.close()
            if time.monotonic() - begin >= seconds or stopping.is_set() and path == "/wait/":
                return None
            if time.monotonic() - begin >= 1:
                say(f"{path} does not work yet: {problem}")
            time.sleep(1 if time.monotonic() - begin >= 1 else 0.1)

    def end_input(self):
        """Says that no more requests will come: a long poll is then answered at once, with nothing taken."""
        if self.connection.sock:
            self.connection.sock.shutdown(socket.SHUT_WR)


stopping = threading.Event()
polling = None


def stop(*_):
    stopping.set()
    if polling:
        polling.end_input()


signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)


def keep(held, ended):
    """Starts the leases of the tasks in hand again when half of the shortest is over."""
    client = Client()
    while not ended.wait(min((task["retry"] for task in list(held)), default=60) / 2):
        answer = client.post("/touch/", {"ids": [task["receipt"] for task in list(held)]})
        # Those that were cancelled, or are somebody else's by now, are not begun.
        for task in [task for task in held[1:] if task["receipt"] in answer["missing"]]:
            held.remove(task)


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def work(task):
    """Runs the command: what to say of the task, and where."""
    environment = {**os.environ, "EMQ_ID": task["id"], "EMQ_QUEUE": task["queue"], "EMQ_ATTEMPT": str(task["attempt"])}
    # In a group of its own, so that Ctrl-C stops the worker and not the work.
    done = subprocess.run(
        command, input=json.dumps(task["content"]).encode() + b"\n", capture_output=True, env=environment, start_new_session=True
    )
    body = {"ids": [task["receipt"]]}
    if done.returncode == 0:
        try:
            body["result"] = json.loads(done.stdout, parse_constant=refuse_constant)
        except ValueError:
            pass
        return "/ack/", body
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
    return "/nak/", {**body, "error": lines[-1][:1000]}


client = Client()
say(f"waiting for tasks of {', '.join(options.queues)} at {options.url}")
while not stopping.is_set():
    polling = client
    tasks = client.post(
        "/wait/", {"queues": options.queues, "max": options.max, "timeout": 30000, "worker": options.name}
    )
    polling = None
    if not tasks:
        continue
    held, ended = list(tasks), threading.Event()
    # A daemon: should this thread fail, the leases must run out.
    keeper = threading.Thread(target=keep, args=(held, ended), daemon=True)
    keeper.start()
    while held and not stopping.is_set():
        path, body = work(held[0])
        answer = client.post(path, body, seconds=30 if stopping.is_set() else float("inf"))
        if answer is None:
            sys.exit(f"the server was not told of {held[0]['id']}: it will be done again")
        outcome = "done" if path == "/ack/" else f"refused: {body['error']}"
        say(f"{held[0]['id']} {outcome}" + (", but the server has it no more" if answer["missing"] else ""))
        held.pop(0)
    ended.set()
    if held:
        Client().post("/nak/", {"ids": [task["receipt"] for task in held], "release": True}, seconds=5)
