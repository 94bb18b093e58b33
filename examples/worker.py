#!/usr/bin/env python3
"""A worker for emq in Python's standard library: runs a command for each task.

    examples/worker.py [--url URL] [--max N] [--name NAME] QUEUE... -- COMMAND [ARGUMENT...]

The command reads the task's content, as JSON, from its standard input. EMQ_ID, EMQ_QUEUE and EMQ_ATTEMPT have the
task's id, queue and attempt. If the command exits with status 0, the worker acknowledges the task; if the output is
JSON, it is the task's result. Otherwise the worker naks the task, with the last line of standard error as the error.
emq then tries the task again, or the task is dead.

If the server requires a token, set EMQ_TOKEN to one that allows work. With an https URL, the worker trusts the system's
issuers; set SSL_CERT_FILE to trust those in a PEM file instead.

The worker takes tasks from earlier queues first. On SIGTERM and SIGINT it finishes the current task, gives back the
tasks that it has not begun, and exits.
"""

import argparse, http.client, json, os, shutil, signal, socket, subprocess, sys, threading, time, urllib.parse

separator = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--url", default="http://localhost:8080")
parser.add_argument("--max", type=int, default=1, help="how many tasks to take at once; raise it for short tasks (default 1)")
parser.add_argument("--name", default=f"{socket.gethostname()}-{os.getpid()}", help="the worker's name, shown with the tasks that it holds")
parser.add_argument("queues", nargs="+", metavar="QUEUE")
options = parser.parse_args(sys.argv[1:separator])
command = sys.argv[separator + 1 :]
if not command:
    parser.error("the command is missing; write it after the queues and --")
if not shutil.which(command[0]):
    parser.error(f"command not found: {command[0]}")
url = urllib.parse.urlsplit(options.url)
if url.scheme not in ("http", "https") or not url.hostname:
    parser.error(f"--url must be http:// or https:// and a host, such as http://localhost:8080, not {options.url}")
headers = {"Content-Type": "application/json"}
if token := os.environ.get("EMQ_TOKEN"):
    headers["Authorization"] = f"Bearer {token}"


def say(text):
    print(text, file=sys.stderr, flush=True)


class Client:
    """A connection to the server, which reconnects when it is lost."""

    def __init__(self):
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(url.netloc, timeout=60)

    def post(self, path, body, seconds=float("inf")):
        """Sends a request, and retries for `seconds` while the server is unreachable or has no memory or disk space.
        Returns None if all tries fail. If the server does not accept a result, the retry leaves it out."""
        begin = time.monotonic()
        while True:
            try:
                self.connection.request("POST", path, json.dumps(body), headers)
                answer = self.connection.getresponse()
                text = answer.read().decode(errors="replace")
                if answer.status == 200:
                    return json.loads(text)
                problem = f"{answer.status} {text}"
                if 400 <= answer.status < 500 and "result" not in body:
                    sys.exit(f"{path} failed: {problem}")
                body.pop("result", None)
            except (OSError, http.client.HTTPException) as error:
                # The server closes connections that are silent for two minutes; the next try reconnects.
                problem = f"{options.url}: {error}"
            self.connection.close()
            if time.monotonic() - begin >= seconds or stopping.is_set() and path == "/wait/":
                return None
            if time.monotonic() - begin >= 1:
                say(f"{path} failed, retrying: {problem}")
            time.sleep(1 if time.monotonic() - begin >= 1 else 0.1)

    def end_input(self):
        """Closes the sending side. The server then answers a long poll at once and takes no tasks for it."""
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
    """Restarts the leases of the held tasks each time half of the shortest is over."""
    client = Client()
    while not ended.wait(min((task["retry"] for task in list(held)), default=60) / 2):
        answer = client.post("/touch/", {"ids": [task["receipt"] for task in list(held)]})
        # Do not begin tasks that were cancelled or that another worker holds now.
        for task in [task for task in held[1:] if task["receipt"] in answer["missing"]]:
            held.remove(task)


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def work(task):
    """Runs the command. Returns the path and the body that report its outcome."""
    environment = {**os.environ, "EMQ_ID": task["id"], "EMQ_QUEUE": task["queue"], "EMQ_ATTEMPT": str(task["attempt"])}
    # The command has its own session, so that Ctrl-C stops the worker but not the command.
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
say(f"waiting for tasks in {', '.join(options.queues)} at {options.url}")
while not stopping.is_set():
    polling = client
    tasks = client.post(
        "/wait/", {"queues": options.queues, "max": options.max, "timeout": 30000, "worker": options.name}
    )
    polling = None
    if not tasks:
        continue
    held, ended = list(tasks), threading.Event()
    # A daemon thread: if the main thread fails, the leases must run out.
    keeper = threading.Thread(target=keep, args=(held, ended), daemon=True)
    keeper.start()
    while held and not stopping.is_set():
        path, body = work(held[0])
        answer = client.post(path, body, seconds=30 if stopping.is_set() else float("inf"))
        if answer is None:
            sys.exit(f"cannot report {held[0]['id']} to the server, so it will run again")
        outcome = "done" if path == "/ack/" else f"nak: {body['error']}"
        say(f"{held[0]['id']} {outcome}" + (", but the server no longer has it dispatched to this worker" if answer["missing"] else ""))
        held.pop(0)
    ended.set()
    if held:
        Client().post("/nak/", {"ids": [task["receipt"] for task in held], "release": True}, seconds=5)
