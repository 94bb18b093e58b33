#!/usr/bin/env python3
"""A worker for emq in Python's standard library: runs a command for each task.

    examples/worker.py [--url URL] [--max N] [--name NAME] QUEUE... -- COMMAND [ARGUMENT...]

The command gets the task's content, as JSON, on its standard input, and the task's id and attempt in EMQ_ID and
EMQ_ATTEMPT. If it ends with status 0, the task is acknowledged, with what it printed as the result if that is JSON.
Otherwise the task is refused, with the last line of its standard error as the error: it is tried again, or is dead.

Earlier queues go first. On SIGTERM and SIGINT the worker finishes the task in hand, gives back those that it has not begun,
and exits.
"""

import argparse, http.client, json, os, signal, socket, subprocess, sys, threading, time, urllib.parse

separator = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--url", default="http://localhost:8080")
parser.add_argument("--max", type=int, default=10, help="how many tasks to take at once (10)")
parser.add_argument("--name", default=f"{socket.gethostname()}-{os.getpid()}", help="shown with the tasks in hand")
parser.add_argument("queues", nargs="+", metavar="QUEUE")
options = parser.parse_args(sys.argv[1:separator])
command = sys.argv[separator + 1 :]
if not command:
    parser.error("a command follows the queues, behind --")
address = urllib.parse.urlsplit(options.url).netloc


class Client:
    """One connection to the server, made anew when it was lost."""

    def __init__(self):
        self.connection = http.client.HTTPConnection(address, timeout=60)

    def post(self, path, body):
        """Sends a request, and again after a pause as long as the server is not there or has no room. A server that has no
        room for a result takes the acknowledgement without: work that is done makes room."""
        while True:
            try:
                self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
                answer = self.connection.getresponse()
                text = answer.read()
                if answer.status == 200:
                    return json.loads(text)
                problem = f"{answer.status}: {text.decode(errors='replace')}"
                if answer.status != 503:
                    sys.exit(f"{path} was answered {problem}")
                body.pop("result", None)
            except (OSError, http.client.HTTPException) as error:
                problem = error
            self.connection.close()
            if stopping.is_set():
                return None
            print(f"{path}: {problem}; again in a second", file=sys.stderr)
            time.sleep(1)

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
    # What is done meanwhile is missing in the answer, and nothing else.
    while not ended.wait(min((task["retry"] for task in list(held)), default=60) / 2):
        client.post("/touch/", {"ids": [task["receipt"] for task in list(held)]})


def work(task):
    """Runs the command: what to say of the task, and where."""
    environment = {**os.environ, "EMQ_ID": task["id"], "EMQ_ATTEMPT": str(task["attempt"])}
    # In a group of its own, so that Ctrl-C stops the worker and not the work.
    done = subprocess.run(
        command, input=json.dumps(task["content"]).encode(), capture_output=True, env=environment, start_new_session=True
    )
    body = {"ids": [task["receipt"]]}
    if done.returncode == 0:
        try:
            body["result"] = json.loads(done.stdout)
        except ValueError:
            pass
        return "/ack/", body
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
    return "/nak/", {**body, "error": lines[-1][:1000]}


client = Client()
while not stopping.is_set():
    polling = client
    tasks = client.post(
        "/wait/", {"queues": options.queues, "max": options.max, "timeout": 30000, "worker": options.name}
    )
    polling = None
    if not tasks:
        continue
    held, ended = list(tasks), threading.Event()
    keeper = threading.Thread(target=keep, args=(held, ended))
    keeper.start()
    while held and not stopping.is_set():
        path, body = work(held[0])
        # The other connection of a stopping worker may have ended with its last poll.
        client.post(path, body)
        held.pop(0)
    ended.set()
    keeper.join()
    if held:
        Client().post("/nak/", {"ids": [task["receipt"] for task in held], "release": True})
