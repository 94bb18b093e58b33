"""What all parts of the test share: certificates, a running emq, and clients for it."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

passed = 0
failed = 0
emq = None
work = None
running = []


def begin(path):
    global emq, work
    emq, work = path, tempfile.mkdtemp()


def end():
    for process in running:
        process.kill()
        process.wait()
    shutil.rmtree(work, ignore_errors=True)


def check(name, wanted, got):
    """Checks that `got` contains `wanted`, or that `wanted` is true if it is no text."""
    global passed, failed
    if wanted in str(got) if isinstance(wanted, str) else wanted:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}\n  wanted: {wanted}\n  got:    {str(got)[:1000]}", file=sys.stderr, flush=True)


def part(name):
    print(f"- {name}", flush=True)


def eventually(question, seconds=10):
    """The first true answer, or the last one after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(0.02)


def pem(kind):
    """The path of a certificate, which is made if need be."""
    path = f"{work}/certificates/{kind}.pem"
    if not os.path.exists(path):
        maker = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "certificates")
        kinds = [] if kind in ("authority", "intermediate") else ["unknown-issuer" if kind == "foreign" else kind]
        subprocess.run([maker, f"{work}/certificates", *kinds], check=True)
    return path


def key(kind):
    return pem(kind).removesuffix(".pem") + ".key"


def client_context(trusted="authority", certificate=None, **attributes):
    """A context that checks the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(pem(trusted))
    if certificate:
        context.load_cert_chain(pem(certificate), key(certificate))
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


def server_context(certificate, **attributes):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem(certificate), key(certificate))
    for name, value in attributes.items():
        setattr(context, name, value)
    return context


def exchange(client, method, path, body=None):
    """One request on a new connection, which is closed after it: the status, and the JSON of the answer."""
    fields = {} if body is None else {"Content-Type": "application/json"}
    client.request(method, path, None if body is None else json.dumps(body), fields)
    answer = client.getresponse()
    text = answer.read()
    client.close()
    return answer.status, json.loads(text) if text else None


class Emq:
    """A running emq. Unless options say something else, it listens at one port, with the certificate `good`."""

    def __init__(self, *options, certificate="good", addresses=("127.0.0.1:0",)):
        command = [emq]
        for address in addresses:
            command += ["--addr", address]
        if certificate:
            command += ["--tls-cert", pem(certificate), "--tls-key", key(certificate)]
        self.log_path = tempfile.mktemp(dir=work)
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen([*command, *options], stderr=log)
        running.append(self.process)
        self.urls = eventually(lambda: self.process.poll() is None and re.findall(r"https?://[^ ;,]+", self.log()))
        if not self.urls:
            raise RuntimeError(f"emq did not start: {self.log()}")
        self.url = self.urls[0]
        self.port = int(self.url.rsplit(":", 1)[1])

    def log(self):
        with open(self.log_path) as file:
            return file.read()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def connect(self, context=None, host="localhost", timeout=30):
        """A TLS connection."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout)
        return (context or client_context()).wrap_socket(raw, server_hostname=host, suppress_ragged_eofs=False)

    def raw(self, timeout=30):
        """A TCP connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def call(self, method, path, body=None, context=None):
        """One request on a connection of its own: the status, and the JSON of the answer."""
        kind = http.client.HTTPSConnection if self.url.startswith("https") else http.client.HTTPConnection
        more = {"context": context or client_context()} if self.url.startswith("https") else {}
        return exchange(kind("localhost", self.port, timeout=60, **more), method, path, body)

    def enqueue(self, queue, task):
        status, answer = self.call("POST", f"/enqueue/{queue}", task)
        if status != 200:
            raise RuntimeError(f"/enqueue/{queue} was answered {status}: {answer}")
        return answer["id"]

    def works(self):
        """Whether it answers a request now."""
        try:
            return self.call("GET", "/healthz")[0] == 200
        except OSError as error:
            return f"no: {error}" and False

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(30)
        running.remove(self.process)
        check("emq ends in good order", status == 0, f"{status}: {self.log()}")


def get(path="/healthz", fields=""):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode()


def post(path, body, fields=""):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{fields}"
    return f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text


def read_answers(connection, count=1):
    """Reads so many answers, and returns their bodies."""
    stream = connection.makefile("rb")
    bodies = []
    for _ in range(count):
        status = stream.readline()
        if not status:
            break
        length = 0
        while (line := stream.readline().strip()):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        bodies.append(stream.read(length).decode())
    return bodies


def attempt(action):
    """What an action returns, or the text of its error."""
    try:
        return action()
    except (OSError, ssl.SSLError, http.client.HTTPException, EOFError) as error:
        return f"{type(error).__name__}: {error}"


def tool(*command, text="", seconds=60):
    """What a program prints."""
    result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds, errors="replace")
    return f"{result.stdout}{result.stderr}\nstatus {result.returncode}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
