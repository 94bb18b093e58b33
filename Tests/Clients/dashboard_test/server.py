"""A running emq, and a client for it that is fast enough to fill it."""

import json
import mmap
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
emq = None
work = None
running = []


def begin(path):
    global emq, work
    emq, work = os.path.realpath(path), tempfile.mkdtemp()


def end():
    for process in running:
        process.kill()
        process.wait()
    shutil.rmtree(work, ignore_errors=True)


def eventually(question, seconds=10, pause=0.02):
    """The first true answer, or the last one after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(pause)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def quote(name):
    """A name as it is in a path or a query."""
    return urllib.parse.quote(name, safe="")


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body[:500]}")
        self.status = status


class Client:
    """A connection that is kept, and opened again if the server has closed it."""

    def __init__(self, port, token=None):
        self.port, self.file = port, None
        self.fields = f"Authorization: Bearer {token}\r\n" if token else ""

    def send(self, method, path, body=None, fields=""):
        """One request: the status, and the body of the response. `body` is JSON."""
        text = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "" if body is None else "Content-Type: application/json\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{kind}{self.fields}{fields}"
        request = f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text
        while True:
            is_new = self.file is None
            try:
                if is_new:
                    self.socket = socket.create_connection(("127.0.0.1", self.port), 60)
                    self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self.file = self.socket.makefile("rb")
                self.socket.sendall(request)
                return self.receive()
            except OSError:
                # A server whose clock jumps closes silent connections.
                self.close()
                if is_new:
                    raise

    def receive(self):
        line = self.file.readline()
        if not line:
            raise ConnectionResetError
        length = 0
        while (field := self.file.readline().strip()):
            if field[:15].lower() == b"content-length:":
                length = int(field[15:])
        return int(line.split()[1]), self.file.read(length)

    def call(self, method, path, body=None, fields=""):
        """The JSON of a response, which is to be a success."""
        status, text = self.send(method, path, body, fields)
        if status >= 300:
            raise Refused(status, f"{method} {path}: {text.decode(errors='replace')}")
        return json.loads(text) if text else None

    def close(self):
        if self.file:
            self.file.close()
            self.socket.close()
        self.file = None


class Clock:
    """A clock for a server that is late by as many seconds as the test says, so that hours pass in seconds."""

    def __init__(self, seconds):
        compiler = shutil.which("cc") or shutil.which("clang")
        if not compiler:
            raise FileNotFoundError("there is no C compiler")
        library, path = f"{work}/late_clock.so", f"{work}/late_clock"
        subprocess.run([compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library,
                        f"{HERE}/late_clock.c", "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": library, "LATE_CLOCK": path}
        with open(path, "wb") as file:
            file.write(bytes(8))
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 8)
        self.set(seconds)

    def set(self, seconds):
        self.memory[:] = struct.pack("q", int(seconds * 1e9))


class Emq:
    """A running emq. Its port stays the same when it is started again."""

    def __init__(self, *options, clock=None, port=None):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.options = options
        self.environment = {**os.environ, **(clock.environment if clock else {})}
        self.log_path = tempfile.mktemp(dir=work)
        self.client = Client(self.port)
        self.start()

    def start(self):
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen([emq, "--addr", f"127.0.0.1:{self.port}", *self.options], stderr=log,
                                            env=self.environment)
        running.append(self.process)
        if not eventually(self.works, 60):
            raise RuntimeError(f"emq did not start: {self.log()}")

    def works(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"emq has ended: {self.log()}")
        try:
            return self.client.send("GET", "/healthz")[0] == 200
        except OSError:
            return False

    def log(self):
        with open(self.log_path) as file:
            return file.read()

    def call(self, method, path, body=None, fields=""):
        return self.client.call(method, path, body, fields)

    def enqueue(self, queue, **task):
        return self.call("POST", f"/enqueue/{quote(queue)}", task)["id"]

    def enqueue_many(self, queue, tasks):
        return self.call("POST", f"/enqueue/{quote(queue)}", tasks)["ids"]

    def take(self, *queues, count=1, **more):
        """Takes tasks, which are there."""
        wait = {"queues": queues, "max": count, "timeout": 5000, **more}
        return self.call("POST", "/wait/", wait)

    def kill(self):
        """Ends it without a warning."""
        self.finish(signal.SIGKILL)

    def finish(self, number=signal.SIGTERM):
        self.client.close()
        self.process.send_signal(number)
        self.process.wait(60)
        running.remove(self.process)

    def cpu_seconds(self):
        """How long it has used a processor."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = re.sub(r".*\) ", "", file.read()).split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
