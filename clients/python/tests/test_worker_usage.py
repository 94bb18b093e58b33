"""The command line of the worker: what is wrong is told, with status 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import WorkerProcess, call, work, write_app

import emq
from emq.testing import Server


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emq", *arguments],
        cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["play"], "invalid choice: 'play'"),
        (["work"], "MODULE:APP"),
        (["work", "tasks"], "write the app as MODULE:APP"),
        (["work", "tasks.py:app"], "there is no module 'tasks.py'"),
        (["work", "./tasks.py:app"], "not that of a file"),
        (["work", "tasks:"], "write the app as MODULE:APP"),
        (["work", "nothing:app"], "there is no module 'nothing'"),
        (["work", "tasks.inner:app"], "there is no module 'tasks.inner'"),
        (["work", "tasks:ap"], "the module 'tasks' has no 'ap'; it has app"),
        (["work", "tasks:add"], "tasks:add is TaskFunction, not an emq.App"),
        (["work", "json:app"], "it has no emq.App at all"),
        (["work", "tasks:app", "--jobs", "0"], "from 1 to 1000, not '0'"),
        (["work", "tasks:app", "--jobs", "many"], "from 1 to 1000, not 'many'"),
        (["work", "tasks:app", "--pool", "fibers"], "invalid choice: 'fibers'"),
        (["work", "tasks:app", "--queue", "a=0"], "from 1 to 1000, not '0', in 'a=0'"),
        (["work", "tasks:app", "--queue", "a=x"], "from 1 to 1000, not 'x'"),
        (["work", "tasks:app", "--queue", ""], "is not a queue"),
        (["work", "tasks:app", "-q", "a", "-q", "a=2"], "named twice"),
        (["work", "tasks:app", "--grace", "soon"], "must be a duration, such as 30, 500ms or 1h30m, not 'soon'"),
        (["work", "tasks:app", "--lease", "0"], "must be above 0"),
        (["work", "tasks:app", "--max-tasks", "-1"], "max-tasks"),
        (["work", "tasks:app", "--exit-when-empty=x"], "must be a duration"),
        (["work", "tasks:app", "--worker", "x" * 256], "up to 255 bytes"),
        (["work", "tasks:app", "--reload"], "unrecognized arguments: --reload"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, tmp_path: Path) -> None:
    write_app(tmp_path)
    result = run(tmp_path, *arguments)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_servers_and_tokens(tmp_path: Path) -> None:
    write_app(tmp_path)
    for variables in ({"EMQ_URL": "ftp://localhost"}, {"EMQ_TOKEN": "a\nb"}, {"EMQ_URL": "http://"}):
        result = run(tmp_path, "work", "tasks:app", **variables)
        assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr


def test_an_app_without_tasks(tmp_path: Path) -> None:
    write_app(tmp_path, "import emq\napp = emq.App()")
    result = run(tmp_path, "work", "tasks:app")
    assert result.returncode == 2 and "has no tasks" in result.stderr


def test_a_module_that_fails_shows_its_traceback(tmp_path: Path) -> None:
    write_app(tmp_path, "import no_such_module_here")
    result = run(tmp_path, "work", "tasks:app")
    assert result.returncode == 1
    assert "ModuleNotFoundError: No module named 'no_such_module_here'" in result.stderr
    assert "tasks cannot be imported" in result.stderr


def test_help(tmp_path: Path) -> None:
    result = run(tmp_path, "work", "--help")
    assert result.returncode == 0
    for option in ("jobs", "pool", "queue", "lease", "grace", "exit-when-empty", "max-tasks", "max-time"):
        assert f"--{option}" in result.stdout
    assert "--exit-when-empty [=TIME]" in result.stdout
    assert run(tmp_path, "--version").stdout == f"emq {emq.__version__}\n"


def test_an_app_in_a_package_and_in_an_attribute(emq_server: Server, emq_client: emq.Client, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    write_app(tmp_path / "shop")
    (tmp_path / "shop" / "all.py").write_text("from . import tasks\nclass Shop:\n    app = tasks.app\n")
    id = emq_client.enqueue("default", call("add", 1, 2), keep=60).id
    for pool in ("threads", "processes"):
        work(tmp_path, "--pool", pool, target="shop.all:Shop.app")
    assert emq_client.result(id)["result"] == 3


def test_a_token_that_may_not_work_ends_the_worker(tmp_path: Path) -> None:
    write_app(tmp_path)
    emq_program = os.environ.get("EMQ", "emq")
    command = [emq_program, "token", "new", "--name", "sender", "--allow", "enqueue"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({"tokens": [json.loads(lines[1])]}))
    with Server(arguments=["--tokens", str(tokens)]) as server:
        for token in (None, lines[0]):
            if token:
                os.environ["EMQ_TOKEN"] = token
            try:
                with WorkerProcess(tmp_path, url=server.url) as worker:
                    assert worker.end() == 4
                assert "the server refuses: POST /wait/" in worker.log
                assert token is None or token not in worker.log
            finally:
                os.environ.pop("EMQ_TOKEN", None)
