"""emq as the server of curl, openssl and Python."""

import hashlib
import json
import socket
import ssl
import subprocess
import threading
import time

from tls_test import peers
from tls_test.peers import (
    Emq, attempt, check, client_context, eventually, get, key, part, pem, post, read_answers, tool)


def run():
    with_curl()
    with_openssl()
    versions_and_ciphers()
    with_python()
    client_certificates()
    wrong_ports()


def with_curl():
    part("curl")
    server = Emq("--addr", f"unix:{peers.work}/socket")
    curl = lambda *more: tool("curl", "-sS", "--cacert", pem("authority"), *more)
    json_fields = ("-H", "Content-Type: application/json", "-d")
    check("enqueue", '{"id":"', curl(*json_fields, '{"content": "x"}', f"{server.url}/enqueue/q"))
    check("take", '"content":"x"', curl(*json_fields, '{"queues": ["q"]}', f"{server.url}/wait/"))
    for name in ("localhost", "127.0.0.1"):
        check(f"https://{name}", '["q"]', curl(f"https://{name}:{server.port}/queues"))
    check("a Unix-domain socket stays plain", '["q"]', curl("--unix-socket", f"{peers.work}/socket", "http://h/queues"))
    for version in ("1.2", "1.3"):
        said = curl("-v", f"--tlsv{version}", "--tls-max", version, f"{server.url}/healthz")
        check(f"TLS {version}", f"SSL connection using TLSv{version}", said)
        check(f"TLS {version}: ALPN", "http/1.1", next((line for line in said.split("\n") if "accepted" in line), said))
    check("HTTP/2 is not chosen", "status 0", curl("--http2", f"{server.url}/healthz"))
    check("an unknown issuer is refused", "status 60", tool("curl", "-sS", f"{server.url}/healthz"))
    check("one connection for several requests", "1 0 0", curl(
        *["-o", "/dev/null"] * 3, "-w", "%{num_connects} ", *[f"{server.url}/healthz"] * 3))
    large = f"{peers.work}/large"
    with open(large, "w") as file:
        json.dump({"content": "x" * 2_000_000}, file)
    for name, fields in (("100 Continue", "Expect: 100-continue"), ("chunked", "Transfer-Encoding: chunked")):
        check(name, '{"id":"', curl("-H", fields, *json_fields, f"@{large}", f"{server.url}/enqueue/large"))
    server.stop()


def with_openssl():
    part("openssl s_client")
    server = Emq()
    base = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", pem("authority")]
    request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    said = tool(*base, "-verify_return_error", "-verify_hostname", "localhost", "-servername", "localhost", text="Q\n")
    check("the chain", "Verify return code: 0 (ok)", said)
    check("the intermediate is sent", "s:CN = emq test intermediate", said)
    check("compression", "Compression: NONE", said)
    check("h2 alone", "no application protocol", tool(*base, "-alpn", "h2", text="Q\n"))
    check("h2 and http/1.1", "ALPN protocol: http/1.1", tool(*base, "-alpn", "h2,http/1.1", text="Q\n"))
    for version in ("-tls1_2", "-tls1_3"):
        session = f"{peers.work}/session{version}"
        # The server's close ends s_client, so the ticket has come by then.
        tool(*base, version, "-ign_eof", "-sess_out", session, text=request)
        said = tool(*base, version, "-ign_eof", "-sess_in", session, text=request)
        check(f"a session is resumed with {version}", "Reused, TLSv1", said)
        check(f"a request on it with {version}", "HTTP/1.1 200", said)
        check(f"Connection: close ends in close_notify with {version}", "closed\n", said)

    def command(letter, version):
        """Lets s_client do what a letter stands for, and send a request then."""
        client = subprocess.Popen(
            [*base, version], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in (letter + "\n", request):
            attempt(lambda: (client.stdin.write(line), client.stdin.flush()))
            time.sleep(0.3)
        # The server's close ends it.
        said = client.stdout.read()
        client.wait(30)
        attempt(client.stdin.close)
        return said

    said = command("R", "-tls1_2")
    check("renegotiation is tried", "RENEGOTIATING", said)
    check("renegotiation is refused", "no renegotiation", said)
    said = command("K", "-tls1_3")
    check("a key update", "KEYUPDATE", said)
    check("a request after it", "HTTP/1.1 200", said)
    check("emq still works", server.works(), server.log())
    server.stop()


def versions_and_ciphers():
    part("versions and ciphers that emq accepts, by the kind of its key")
    modern = ("ECDHE", "GCM", "CHACHA20", "TLS_", "CCM")
    for kind in ("good", "rsa"):
        server = Emq(certificate=kind)

        def shake(minimum, maximum, ciphers=None):
            context = client_context()
            context.set_ciphers((ciphers or "ALL:COMPLEMENTOFALL") + ":@SECLEVEL=0")
            try:
                context.minimum_version, context.maximum_version = minimum, maximum
                with server.connect(context) as connection:
                    return connection.cipher()[0]
            except (OSError, ssl.SSLError, ValueError) as error:
                return f"no: {error}"

        version = ssl.TLSVersion
        for name, number in (("TLS 1.0", version.TLSv1), ("TLS 1.1", version.TLSv1_1)):
            got = shake(number, number)
            print(f"  {kind}: {name}: {got}")
            check(f"{kind}: {name} is refused", "no: ", got)
        candidates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        candidates.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
        accepted = [
            cipher["name"] for cipher in candidates.get_ciphers() if not cipher["name"].startswith("TLS_")
            and not shake(version.TLSv1_2, version.TLSv1_2, cipher["name"]).startswith("no: ")]
        print(f"  {kind}: TLS 1.2: {' '.join(accepted)}")
        check(f"{kind}: ciphers of TLS 1.2", bool(accepted), "none")
        for cipher in accepted:
            check(f"{kind}: {cipher} has forward secrecy and authenticates",
                  cipher.startswith("ECDHE") and any(mode in cipher for mode in modern[1:]), cipher)
        for suite in ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"):
            said = tool("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_3", "-ciphersuites", suite,
                        "-CAfile", pem("authority"), text="Q\n")
            print(f"  {kind}: TLS 1.3: {suite}: {'yes' if f'Cipher is {suite}' in said else 'no'}")
            check(f"{kind}: {suite}", f"Cipher is {suite}", said)
        for group in ("X25519", "P-256", "P-384"):
            said = tool("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-groups", group,
                        "-CAfile", pem("authority"), text="Q\n")
            print(f"  {kind}: group {group}: {'yes' if 'Verify return code: 0' in said else 'no'}")
        server.stop()


def with_python():
    part("Python's ssl: a long poll, 64 MiB, pipelining")
    server = Emq()
    waiting = server.connect()
    waiting.sendall(post("/wait/", {"queues": ["late"], "timeout": 30_000}))
    waiting.settimeout(0.3)
    check("a long poll waits", "timed out", attempt(lambda: waiting.recv(1)))
    waiting.settimeout(30)
    server.enqueue("late", {"content": "now"})
    check("a long poll", '"content":"now"', read_answers(waiting))
    # A long poll whose client goes away takes no task.
    for ends in ("close_notify", "without it"):
        gone = server.connect()
        gone.sendall(post("/wait/", {"queues": ["lost"], "timeout": 30_000}))
        eventually(lambda: server.call("GET", "/stats/lost")[1].get("waiters") == 1)
        if ends == "close_notify":
            attempt(gone.unwrap)
        gone.close()
        eventually(lambda: server.call("GET", "/stats/lost")[1].get("waiters") == 0)
        server.enqueue("lost", {"content": 1})
        check(f"a client that is gone ({ends}) takes no task", server.call("GET", "/stats/lost")[1]["ready"] == 1, "")
        server.call("POST", "/purge/lost")

    size = (64 << 20) - len('{"content":""}')
    content = "0123456789abcdef" * (size // 16)
    content += "x" * (size - len(content))
    connection = server.connect(timeout=120)
    begun = time.monotonic()
    connection.sendall(post("/enqueue/large", b'{"content":"%s"}' % content.encode()))
    check("64 MiB in", '{"id":"', read_answers(connection))
    connection.sendall(post("/wait/", {"queues": ["large"]}))
    answer = read_answers(connection)[0]
    print(f"  64 MiB in and out: {time.monotonic() - begun:.2f} s")
    got = json.loads(answer)[0]["content"]
    check("64 MiB out", hashlib.sha256(got.encode()).digest() == hashlib.sha256(content.encode()).digest(), len(got))
    del content, answer, got
    connection = server.connect()
    connection.sendall(b"POST /enqueue/large HTTP/1.1\r\nHost: localhost\r\nContent-Length: 67108865\r\n\r\n")
    check("a body over the limit", "413", connection.recv(1000))

    connection = server.connect()
    sender = threading.Thread(target=lambda: connection.sendall(
        b"".join(post("/enqueue/many", {"content": number}) for number in range(5000))))
    sender.start()
    answers = read_answers(connection, 5000)
    sender.join()
    check("5000 pipelined requests", len(answers) == 5000 and all('"id"' in answer for answer in answers), answers[-1:])
    connection.sendall(post("/wait/", {"queues": ["many"], "max": 1000}))
    order = [task["content"] for task in json.loads(read_answers(connection)[0])]
    check("they came in order", order == list(range(1000)), order[:20])
    # Requests that arrive byte by byte, each in a record of its own.
    connection = server.connect()
    for byte in get():
        connection.sendall(bytes([byte]))
    check("a record for each byte", '"status"', read_answers(connection))
    check("many names", '"status"', attempt(lambda: read_answers(sent(server.connect(host="example.test"), get()))))
    server.stop()


def sent(connection, request):
    connection.sendall(request)
    return connection


def client_certificates():
    part("client certificates")
    server = Emq("--tls-client-ca", pem("authority"))
    ask = lambda context: attempt(lambda: server.call("GET", "/queues", context=context))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        only = {"minimum_version": version, "maximum_version": version}
        check(f"{version.name}: present", "(200, [])", ask(client_context(certificate="client", **only)))
        for name, kind in (("absent", None), ("of another authority", "foreign-client"), ("self-signed", "self-signed"),
                           ("for servers only", "good")):
            got = ask(client_context(certificate=kind, **only))
            check(f"{version.name}: {name}", "Error", got)
            # A client must learn the reason, not only that the connection broke.
            if name != "for servers only":
                check(f"{version.name}: {name}: an alert", "alert", str(got).lower())
    said = tool("curl", "-sS", "--cacert", pem("authority"), "--cert", pem("client"), "--key", key("client"),
                f"{server.url}/queues")
    check("curl with a certificate", "[]", said)
    server.stop()


def wrong_ports():
    part("plain HTTP on a TLS port, and the reverse")
    server = Emq(addresses=("https://127.0.0.1:0", "http://127.0.0.1:0"), )
    (secure, plain) = (int(url.rsplit(":", 1)[1]) for url in server.urls[:2])
    said = tool("curl", "-sS", "-i", f"http://127.0.0.1:{secure}/queues")
    check("plain HTTP on a TLS port", "HTTP/1.1 400 Bad Request", said)
    check("it says so", "https://", said)
    check("in plain text", "text/plain", said.lower())
    said = tool("curl", "-sS", "-i", "-H", "Content-Type: application/json", "-d", "x" * 100_000,
                f"http://127.0.0.1:{secure}/enqueue/q")
    check("a large plain request on a TLS port", "HTTP/1.1 400 Bad Request", said)
    with socket.create_connection(("127.0.0.1", secure)) as raw:
        raw.sendall(get() * 3)
        raw.settimeout(30)
        said = b""
        while (chunk := attempt(lambda: raw.recv(65536))) and isinstance(chunk, bytes):
            said += chunk
    check("the answer is the last", said.count(b"HTTP/1.1") == 1, said)
    before = server.log()
    for _ in range(3):
        said = attempt(lambda: client_context().wrap_socket(
            socket.create_connection(("127.0.0.1", plain), 30), server_hostname="localhost"))
        check("TLS on a plain port is closed", "Error", said)
    new = eventually(lambda: server.log().removeprefix(before))
    check("a log line says so", "TLS", new)
    check("one line a minute", new.count("\n") == 1, new)
    check("the plain port works", '"status"', tool("curl", "-sS", f"http://127.0.0.1:{plain}/healthz"))
    check("the TLS port works", server.works(), server.log())
    server.stop()
