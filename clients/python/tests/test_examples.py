"""The examples for Flask and FastAPI: each is called as a browser would, with a worker beside it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import WorkerProcess, wait_until

from emq.testing import Server

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Imports an example, afresh for each test."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module
    for name in ("flask_app", "fastapi_app"):
        sys.modules.pop(name, None)


@pytest.fixture
def worker_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a worker's log, from which it finds the examples."""
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES))
    return tmp_path


def test_flask(emq_server: Server, worker_folder: Path, load: Callable[[str], Any]) -> None:
    pytest.importorskip("flask", reason="Flask is not installed")
    browser = load("flask_app").app.test_client()
    assert browser.post("/mail").status_code == 400
    answer = browser.post("/mail?to=ann@example.org")
    assert answer.status_code == 202
    place = answer.headers["Location"]
    assert place == f"/mail/{answer.json['id']}"
    assert browser.get(place).json == {"state": "ready", "result": None, "error": None}
    with WorkerProcess(worker_folder, target="flask_app:tasks") as worker:
        wait_until(lambda: browser.get(place).json["state"] == "done")
        assert browser.get(place).json["result"] == "sent to ann@example.org"
        worker.signal()
        assert worker.end() == 0
    for place in ("/mail/nonsense", "/mail/AaH8ekX5cACuES467dOuXw"):
        assert browser.get(place).status_code == 404
    emq_server.kill()
    answer = browser.post("/mail?to=ann@example.org")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")


def test_fastapi(emq_server: Server, worker_folder: Path, load: Callable[[str], Any]) -> None:
    pytest.importorskip("fastapi", reason="FastAPI is not installed")
    pytest.importorskip("httpx", reason="httpx is not installed")
    from fastapi.testclient import TestClient

    with TestClient(load("fastapi_app").app, raise_server_exceptions=False) as browser:
        assert browser.post("/shouts", json={}).status_code == 422
        answer = browser.post("/shouts", json={"text": "hello"})
        assert answer.status_code == 202
        place = f"/shouts/{answer.json()['id']}"
        assert browser.get(place).json() == {"state": "ready"}
        with WorkerProcess(worker_folder, "--pool", "asyncio", target="fastapi_app:tasks") as worker:
            wait_until(lambda: browser.get(f"{place}?wait=10").json() == {"state": "done", "result": "HELLO"})
            worker.signal()
            assert worker.end() == 0
        for place in ("/shouts/nonsense", "/shouts/AaH8ekX5cACuES467dOuXw"):
            assert browser.get(place).status_code == 404
        assert browser.get(f"{place}?wait=3600").status_code == 422
        emq_server.kill()
        answer = browser.post("/shouts", json={"text": "hello"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
