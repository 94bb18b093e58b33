"""A web application with Flask that leaves slow work to workers, and shows how far they are.

    pip install ./clients/python flask
    cd clients/python/examples
    flask --app flask_app run
    python -m emq work flask_app:tasks --jobs 4

    curl -X POST 'localhost:5000/mail?to=ann@example.org'
    curl 'localhost:5000/mail/ID'
"""

import time

import emq
from flask import Flask, abort, request, url_for

app = Flask(__name__)
tasks = emq.App()


@tasks.task(queue="mail", max_retries=5, keep=3600)
def send(to: str) -> str:
    """Pretends to send mail. A worker runs it, so it has to ask for the application's context if it needs that."""
    with app.app_context():
        time.sleep(0.1)
        return f"sent to {to}"


@app.post("/mail")
def add_mail():
    to = request.args.get("to") or abort(400, "who is the mail for? Add ?to=")
    handle = send.enqueue(to=to)
    return {"id": handle.id}, 202, {"Location": url_for("show_mail", id=handle.id)}


@app.get("/mail/<id>")
def show_mail(id: str):
    task = tasks.client.task(id)
    return {"state": task["state"], "result": task.get("result"), "error": task.get("error")}


@app.errorhandler(emq.NoSuchTask)
@app.errorhandler(emq.InvalidRequest)
def no_such_mail(error: emq.Error):
    return {"error": "there is no such mail"}, 404


@app.errorhandler(emq.ConnectionFailed)
@app.errorhandler(emq.Unavailable)
def try_again_later(error: emq.Error):
    app.logger.warning("%s", error)
    return {"error": "try again later"}, 503, {"Retry-After": "10"}
