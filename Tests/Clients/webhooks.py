"""A receiver that checks pushed tasks with the library of Standard Webhooks. `run` calls this.

usage: webhooks.py PORT NAME=SECRET...

A request to /NAME gets 200 if the library accepts it with that secret, and 401 if not. To /NAME/again, the first
accepted request with each id gets 503. Each accepted request prints its path, its id and its attempt.
"""

import http.server
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

hooks = {name: Webhook(secret) for name, _, secret in (word.partition("=") for word in sys.argv[2:])}
seen = set()  # ids of accepted requests


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name, _, again = self.path[1:].partition("/")
        try:
            hooks[name].verify(body, dict(self.headers))
        except WebhookVerificationError as error:
            return self.answer(401, str(error))
        identifier = self.headers["webhook-id"]
        print(self.path, identifier, self.headers["Emq-Attempt"], flush=True)
        status = 503 if again and identifier not in seen else 200
        seen.add(identifier)
        self.answer(status, "accepted")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
