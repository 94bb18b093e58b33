"""Runs what docs/python.md and the package's README show of the clients."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest
from core import eventually
from test_docs import PAGE, blocks

import emq

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="docs/python.md is not there: not in the repository")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_clients(emq_client: emq.Client) -> None:
    blocking, asynchronous, watching = blocks("The clients")
    assert run(blocking) == "delayed 2\n"
    assert emq_client.config("mail")["max_retries"] == 3
    assert run(asynchronous) == "{'state': 'ready'}\n"
    lines = run("import emq\n" + watching).splitlines()
    assert lines[0].startswith("0 200 {'queue': 'mail'") and lines[1].startswith("1 200 [{")


@pytest.mark.parametrize("page", ["docs", "README"])
def test_working_on_tasks(emq_client: emq.Client, emq_server: emq.testing.Server, page: str) -> None:
    (code,) = blocks("Working on tasks")
    if page == "README":
        text = (PAGE.parents[1] / "clients/python/README.md").read_text()
        (code,) = re.findall("```python\n(.*?)```", text, re.DOTALL)
        code = code.replace("http://localhost:8080", emq_server.url)
    else:
        emq_client.enqueue("mail", keep=60)
    worker = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    eventually(lambda: emq_client.stats("mail")["totals"]["acked"])
    worker.send_signal(signal.SIGINT)
    assert worker.communicate(timeout=60)[1].rstrip().endswith("KeyboardInterrupt")
    if page == "docs":
        [task] = emq_client.peek("mail", state="done")
        assert emq_client.result(task["id"]) == {"state": "done", "result": {"status": 250}}


def test_errors(emq_client: emq.Client) -> None:
    (code,) = blocks("Errors")
    assert run("import emq\n" + code) == "that is done already\n"


def test_the_page_names_all_methods() -> None:
    section = PAGE.read_text().partition("## The clients\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", section))
    methods = {name for name in dir(emq.Client) if not name.startswith("_")}
    methods -= {"closed", "url", "timeout"}
    for prefix in ("put", "patch", "delete"):
        methods -= {f"{prefix}_config", f"{prefix}_defaults"}
    assert methods <= named


def test_the_page_names_all_errors() -> None:
    text = PAGE.read_text().partition("## When connections break\n")[2]
    kinds = [value for value in vars(emq).values() if isinstance(value, type) and issubclass(value, emq.Error)]
    assert [kind.__name__ for kind in kinds if f"{kind.__name__}`" not in text] == []
