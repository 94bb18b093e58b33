"""A running emq, sites and receivers for its programs, and a way to it that loses answers."""

import hashlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from recipes_test.checks import Missing, eventually, expect

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Emq:
    """A server that keeps its tasks on disk, and a folder for the programs of one part. Ends with its `with`."""

    def __init__(self, program, *options):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="emq-recipes-"))
        self.folder.chmod(0o755)
        (self.folder / "bin").mkdir()
        # The commands on the page call the program by its name.
        (self.folder / "bin" / "emq").symlink_to(program)
        self.program = program
        self.options = options
        self.port = 0
        self.server = None
        self.started = []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if kind and kind is not Missing:
            for log in sorted(self.folder.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
        if self.server:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        log = (self.folder / "emq.log").open("a+")
        position = log.tell()
        command = [self.program, "--addr", f"127.0.0.1:{self.port}", "--data", str(self.folder / "emq-data"),
                   "--recovery-grace", "1", *self.options]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("EMQ_")}
        self.server = subprocess.Popen(command, stderr=log, env=variables)

        def listening():
            expect("the server's exit status", None, self.server.poll())
            log.seek(position)
            lines = [line for line in log.read().splitlines() if "listening on http://" in line]
            return lines and lines[0]

        line = eventually("the server listens", listening)
        self.port = int(line.split("http://")[1].split(";")[0].rsplit(":", 1)[1])
        self.url = f"http://127.0.0.1:{self.port}"
        eventually("the server is ready", lambda: self.ask("GET", "/healthz", None, None)[0] == 200)
        log.close()

    def require_tokens(self, **tokens):
        """Starts again with tokens: the value of each name is what it allows, and the name is the token itself."""
        path = self.folder / "tokens.json"
        path.write_text(json.dumps({"tokens": [
            {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **more}
            for name, more in tokens.items()]}))
        self.kill()
        self.options += ("--tokens", str(path))
        self.start()

    def kill(self):
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()
        self.server = None

    def ask(self, method, path, body=None, wanted=200, token=None):
        """The status and the body of the answer."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with DIRECT.open(request, timeout=60) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        if wanted:
            expect(f"{method} {path}: {text[:500]!r}", wanted, status)
        return status, json.loads(text) if text else None

    def get(self, path):
        return self.ask("GET", path)[1]

    def post(self, path, body=None):
        return self.ask("POST", path, body)[1]

    def stats(self, queue):
        return self.get(f"/stats/{queue}")

    def task(self, identifier):
        return self.get(f"/task/{identifier}")

    def environment(self, **more):
        """The environment of the page's programs."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EMQ_")}
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return {**kept, "PATH": path, "EMQ_URL": self.url, "HOME": str(self.folder), **more}

    def run(self, command, status=0, **environment):
        """Runs commands of the page in the folder, and returns what they print."""
        done = subprocess.run(
            ["bash", "-c", command] if isinstance(command, str) else command, cwd=self.folder, capture_output=True,
            text=True, env=self.environment(**environment), timeout=300)
        expect(f"the exit status of {command}: {done.stdout}{done.stderr}", status, done.returncode)
        self.errors = done.stderr
        return done.stdout

    def begin(self, command, **environment):
        """Starts commands of the page in a process group of their own, and returns the process."""
        log = (self.folder / f"{len(self.started)}.log").open("w")
        words = ["bash", "-c", command] if isinstance(command, str) else command
        process = subprocess.Popen(
            words, cwd=self.folder, env=self.environment(**environment), stdout=log, stderr=log, start_new_session=True)
        process.log = pathlib.Path(log.name)
        self.started.append(process)
        log.close()
        return process

    def worker(self, command, **environment):
        """Starts one `emq work` of the page, so that signals reach it itself."""
        return self.begin("exec env " + command, **environment)


class Site:
    """Answers 200, or what `statuses` has next for a path, and notes each request. Closes with its `with`."""

    def __init__(self):
        self.requests = []
        self.times = []
        self.statuses = {}
        self.held = {}
        self.lock = threading.Lock()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with site.lock:
                    site.requests.append((self.path, self.headers, body))
                    site.times.append(time.monotonic())
                    statuses = site.statuses.get(self.path, [200])
                    status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
                    held = site.held.get(self.path)
                if held:
                    held.wait(120)
                text = b'"fine"\n' if status == 200 else b'"no"\n'
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = answer

            def log_message(self, *arguments):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                # A client that is killed breaks its connection.
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.address}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for event in self.held.values():
            event.set()
        self.server.shutdown()
        self.server.server_close()

    def hold(self, path):
        """Keeps the requests for a path waiting until the returned event is set."""
        self.held[path] = threading.Event()
        return self.held[path]

    def paths(self):
        with self.lock:
            return [path for path, _, _ in self.requests]


class LossyProxy:
    """Passes connections on to emq, but closes the first `losses` of them in place of the answer."""

    def __init__(self, port, losses):
        self.losses = losses
        self.port = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            lose = self.losses > 0
            self.losses -= lose
            threading.Thread(target=self.copy, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self.copy, args=(server, client, lose), daemon=True).start()

    @staticmethod
    def copy(source, target, lose):
        try:
            while data := source.recv(65536):
                if lose:
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
