"""A durable emq and a client for it, for `crash` and `fulldisk`."""

import http.client
import json
import signal
import subprocess
import tempfile
import time


class Lost(Exception):
    """The connection ended before the answer came."""


class Broken(Exception):
    """The server did something wrong. The message has the histories of the tasks concerned."""

    def __init__(self, problem, *tasks):
        lines = [problem]
        for task in tasks[:5]:
            lines.append(f"  the history of {task}:")
            lines += [f"    {line}" for line in task.story]
        super().__init__("\n".join(lines))


class Client:
    """A persistent connection. `status` and `fields` are those of the last answer."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __call__(self, method, path, body=None, expected=(200, 204)):
        try:
            text = None if body is None else json.dumps(body)
            self.connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
            answer = self.connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            raise Lost(str(error)) from error
        if answer.status not in expected:
            raise Broken(f"{method} {path} was answered {answer.status}: {text.decode()[:500]}")
        self.status, self.fields = answer.status, answer.headers
        return json.loads(text) if text else None


class Server:
    """A running emq that keeps its tasks in a directory."""

    def __init__(self, emq, directory, *options):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [emq, "--addr", "127.0.0.1:0", "--data", directory, *options], stderr=self.log)
        self.port = None

    def until_ready(self):
        """Waits until it has recovered, and returns a client."""
        deadline = time.time() + 60
        client = None
        while time.time() < deadline and self.process.poll() is None:
            if client is None:
                line = self.messages.split("\n")[0]
                if "listening on http://" in line:
                    self.port = int(line.split("http://")[1].split(";")[0].rsplit(":", 1)[1])
                    client = Client(self.port)
            else:
                try:
                    client("GET", "/healthz", expected=(200, 503))
                except Lost:
                    continue
                if client.status == 200:
                    return client
            time.sleep(0.002)
        raise Broken(f"the server does not become ready:\n{self.messages}")

    @property
    def messages(self):
        """The complete lines of its log."""
        self.log.seek(0)
        return self.log.read().rpartition("\n")[0] + "\n"

    def kill(self):
        """Kills it with SIGKILL if it still runs."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self):
        """Stops it with SIGTERM, and returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)
