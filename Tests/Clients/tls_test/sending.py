"""emq as the client of nginx, and of Python servers whose certificates are not right."""

import http.server
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time

from tls_test import peers
from tls_test.peers import Emq, attempt, check, eventually, free_port, key, part, pem, server_context


def run():
    bad_certificates()
    bad_servers()
    to_nginx()


class Receiver:
    """A Python server with a TLS context; plain if that is None. `behave` replaces what it does with a connection."""

    def __init__(self, context, behave=None):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.context, self.behave = context, behave or self.answer
        self.errors = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while not isinstance(accepted := attempt(self.listener.accept), str):
            threading.Thread(target=self.serve, args=(accepted[0],), daemon=True).start()

    def serve(self, connection):
        try:
            connection.settimeout(30)
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            self.behave(connection)
        except OSError as error:
            self.errors.append(str(error))
        finally:
            connection.close()

    @staticmethod
    def read(connection):
        data = b""
        while b"\r\n\r\n" not in data and (chunk := connection.recv(65536)):
            data += chunk
        return data

    def answer(self, connection):
        if self.read(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
            attempt(connection.unwrap)


def outcome(server, url, fields=None):
    """How a task for a URL ends: its result, or its error."""
    request = {"url": url, "method": "GET", "timeout": 5, **(fields or {})}
    id = server.enqueue("single", {"content": 1, "keep": 60, "max_retries": 0, "request": request})
    status, answer = server.call("GET", f"/result/{id}?timeout=20000")
    return f"{answer.get('state')}: {answer.get('result') or server.call('GET', f'/task/{id}')[1].get('error')}"


def bad_certificates():
    part("servers with each kind of certificate")
    server = Emq("--push", "loopback", "--tls-ca", pem("authority"))
    today = time.strftime("%Y-%m-%d", time.gmtime())
    intermediate = "CN=emq test intermediate"
    cases = [
        ("good", "localhost", ["done", "ok"]),
        ("good", "127.0.0.1", ["done", "ok"]),
        ("good", "LocalHost", ["done", "ok"]),
        ("rsa", "localhost", ["done", "ok"]),
        ("ip-address", "127.0.0.1", ["done", "ok"]),
        ("ip-address", "localhost", ["127.0.0.1", "not for localhost", intermediate]),
        ("wrong-host", "localhost", ["DNS:elsewhere.test", "not for localhost", intermediate]),
        ("wrong-host", "127.0.0.1", ["DNS:elsewhere.test", "not for 127.0.0.1"]),
        ("wildcard", "localhost", ["DNS:*.emq.test", "not for localhost"]),
        ("common-name-only", "localhost", ["names no host"]),
        ("expired", "localhost", ["CN=expired.test", "expired on", today[:4], intermediate]),
        ("not-yet-valid", "localhost", ["CN=not-yet-valid.test", "valid only from", intermediate]),
        ("unknown-issuer", "localhost", ["CN=unknown-issuer.test", "CN=foreign authority"]),
        ("self-signed", "localhost", ["CN=self-signed.test", "signed by itself"]),
        ("missing-intermediate", "localhost", [intermediate, "neither sent by the host"]),
        ("expired-intermediate", "localhost", ["CN=old intermediate", "expired on", "CN=emq test authority"]),
        ("leaf-issued", "localhost", ["CN=good.test"]),
        ("client", "localhost", ["CN=client.test", "purpose"]),
    ]
    for kind, host, wanted in cases:
        receiver = Receiver(server_context(kind))
        got = outcome(server, f"https://{host}:{receiver.port}/hook?token=x")
        if wanted[0] != "done":
            wanted = ["dead: ", f"localhost:{receiver.port}" if host == "localhost" else host, *wanted]
            print(f"  {kind}: {got}")
        for words in wanted:
            check(f"{kind}, asked for {host}", words, got)
        check(f"{kind}: the token stays secret", "token" not in got, got)
    stranger = Emq("--push", "loopback")
    receiver = Receiver(server_context("good"))
    check("without --tls-ca", "CN=emq test", outcome(stranger, f"https://localhost:{receiver.port}/"))
    stranger.stop()
    # A queue's own issuers replace all others.
    with open(pem("foreign")) as file:
        foreign = file.read()
    for kind, wanted in (("unknown-issuer", "done"), ("good", "dead")):
        receiver = Receiver(server_context(kind))
        push = {"url": f"https://localhost:{receiver.port}/", "ca": foreign}
        server.call("PUT", f"/config/own-{kind}", {"keep": 60, "max_retries": 0, "push": push})
        id = server.enqueue(f"own-{kind}", {"content": 1})
        answer = server.call("GET", f"/result/{id}?timeout=20000")[1]
        check(f"a queue with another issuer, {kind}", f"'state': '{wanted}'", answer)
    server.stop()


def bad_servers():
    part("servers that do not speak TLS as they should")
    server = Emq("--push", "loopback", "--tls-ca", pem("authority"))

    def silent(connection):
        connection.recv(1)
        time.sleep(10)

    def plain(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    def cut(connection):
        Receiver.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
        # Ends the socket without close_notify.
        socket.socket(fileno=os.dup(connection.fileno())).shutdown(socket.SHUT_RDWR)

    def whole(connection):
        Receiver.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        attempt(connection.unwrap)

    old = server_context("good")
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    strict = server_context("good")
    strict.load_verify_locations(pem("authority"))
    strict.verify_mode = ssl.CERT_REQUIRED
    strict_old = server_context("good", maximum_version=ssl.TLSVersion.TLSv1_2)
    strict_old.load_verify_locations(pem("authority"))
    strict_old.verify_mode = ssl.CERT_REQUIRED
    cases = [
        ("it speaks plain HTTP", None, plain, ["dead: ", "does not speak TLS"]),
        ("it speaks another protocol", None, lambda c: c.sendall(b"220 mail.example ESMTP\r\n"), ["dead: ", "does not speak TLS"]),
        ("it closes at once", None, lambda c: None, ["dead: ", "during the handshake"]),
        ("it closes during the handshake", None, lambda c: c.recv(10), ["dead: ", "during the handshake"]),
        ("it never answers", None, silent, ["dead: ", "did not finish within 5 s"]),
        ("TLS 1.1 only", old, None, ["dead: ", "neither TLS 1.2 nor TLS 1.3"]),
        ("it requires a certificate", strict, None, ["dead: ", "it requires a certificate of its clients"]),
        ("it requires a certificate, TLS 1.2", strict_old, None, ["dead: ", "handshake failure"]),
        ("its response ends without close_notify", server_context("good"), cut, ["dead: ", "close_notify"]),
        ("its response ends with close_notify", server_context("good"), whole, ["done: ", "all of it"]),
        ("TLS 1.2", server_context("good", maximum_version=ssl.TLSVersion.TLSv1_2), None, ["done: "]),
    ]
    for name, context, behave, wanted in cases:
        receiver = Receiver(context, behave)
        got = outcome(server, f"https://localhost:{receiver.port}/")
        print(f"  {name}: {got}")
        for words in wanted:
            check(name, words, got)
    check("emq still works", server.works(), server.log())
    server.stop()


def to_nginx():
    part("push to nginx over https")
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if not program:
        print("  skipped: there is no nginx here (apt-get install nginx)")
        return
    port, home = free_port(), f"{peers.work}/nginx"
    os.mkdir(home)
    with open(f"{home}/conf", "w") as file:
        file.write(f"""
daemon off; master_process off; pid {home}/pid; error_log {home}/error;
events {{}}
http {{
    log_format push '$connection $request_method $uri $status $http_emq_queue $ssl_protocol $ssl_session_reused';
    access_log {home}/log push;
    client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    keepalive_requests 50;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:sessions:1m;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {pem("good")}; ssl_certificate_key {key("good")};
        location / {{ return 200 "done"; }}
        location /file {{ root {home}; }}
    }}
}}
""")
    process = subprocess.Popen([program, "-e", f"{home}/error", "-c", f"{home}/conf"])
    peers.running.append(process)
    eventually(lambda: not isinstance(attempt(lambda: socket.create_connection(("127.0.0.1", port)).close()), str))
    server = Emq("--push", "loopback", "--tls-ca", pem("authority"))
    server.call("PUT", "/config/hooks", {"keep": 60, "push": {"url": f"https://localhost:{port}/hook"}})
    server.call("POST", "/enqueue/hooks", [{"content": number} for number in range(500)])
    acked = lambda: server.call("GET", "/stats/hooks")[1]["totals"]["acked"]
    check("500 tasks", eventually(lambda: acked() == 500, 30), acked())

    def lines():
        with open(f"{home}/log") as file:
            return [line.split() for line in file]

    eventually(lambda: len(lines()) >= 500)
    check("each once", len(lines()) == 500 and all(line[3] == "200" for line in lines()), len(lines()))
    connections = {line[0] for line in lines()}
    check("connections are used again", len(connections) <= 20, f"{len(connections)} connections")
    check("TLS 1.3", all(line[5] == "TLSv1.3" for line in lines()), lines()[:3])
    resumed = {line[0] for line in lines() if line[6] == "r"}
    print(f"  {len(connections)} connections, {len(resumed)} of them resumed")
    check("later connections are resumed", len(resumed) > 0, lines()[:3])
    with open(f"{home}/file", "wb") as file:
        file.write(b"0123456789abcdef" * 60_000)
    got = outcome(server, f"https://localhost:{port}/file")
    check("a large response", "done: ", got[:200])
    server.stop()
    process.terminate()
    process.wait()
    peers.running.remove(process)
