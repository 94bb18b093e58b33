#!/usr/bin/env python3
"""A receiver of pushed tasks that uses only the standard library. It checks signatures and ignores duplicates.

usage: SECRET=... receiver.py [PORT]

Start emq with permission to reach the receiver, and push a queue to it:

    emq --push loopback
    curl -X PUT --json '{"push": {"url": "http://localhost:9000/hook", "secret": "..."}}' localhost:8080/config/hooks
    curl --json '{"content": {"hello": "world"}}' localhost:8080/enqueue/hooks
"""

import hashlib
import hmac
import http.server
import os
import sys
import time

SECRET = os.environ.get("SECRET", "").encode()
OLDEST_SECONDS = 300

done = set()  # ids of finished tasks; a real receiver stores them together with the results of its work


def is_genuine(signature, body):
    """Whether the header `Emq-Signature: t=<unix>,v1=<hex>` matches the body and is recent."""
    parts = dict(part.partition("=")[::2] for part in signature.split(","))
    expected = hmac.new(SECRET, parts.get("t", "").encode() + b"." + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(parts.get("v1", "").encode(), expected.encode()):
        return False
    return abs(time.time() - int(parts["t"])) <= OLDEST_SECONDS


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        task = self.headers.get("Emq-Task-Id")
        if SECRET and not is_genuine(self.headers.get("Emq-Signature", ""), body):
            return self.answer(401, b"the signature does not match")
        if task not in done:
            print(self.headers.get("Emq-Queue"), task, body.decode(), flush=True)
            done.add(task)
        self.answer(200, b"done")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return
    if len(sys.argv) > 2 or not all(word.isdecimal() and int(word) < 65536 for word in sys.argv[1:]):
        sys.exit(__doc__)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    try:
        server = http.server.ThreadingHTTPServer(("localhost", port), Receiver)
    except OSError as error:
        sys.exit(f"cannot listen on localhost:{port}: {error.strerror}")
    print(f"waiting for tasks at http://localhost:{server.server_port}", file=sys.stderr)
    server.serve_forever()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
