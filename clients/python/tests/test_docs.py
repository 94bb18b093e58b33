"""Runs what docs/python.md shows of apps, the worker and testing."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import WorkerProcess, call

import emq

PAGE = Path(__file__).parents[3] / "docs" / "python.md"


def blocks(section: str, language: str = "python") -> list[str]:
    """The code of a section of the page."""
    text = PAGE.read_text()
    match = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"docs/python.md has no section {section!r}"
    return re.findall(rf"^```{language}\n(.*?)^```", match[1], re.MULTILINE | re.DOTALL)


def run(folder: Path, *command: str) -> str:
    result = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the module of the page."""
    app, _, endings = blocks("Tasks as functions")
    (tmp_path / "shop.py").write_text(app + "\n\n" + endings)
    return tmp_path


def test_tasks_as_functions(folder: Path, emq_client: emq.Client) -> None:
    _, use, _ = blocks("Tasks as functions")
    (command,) = blocks("The worker", "sh")
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "emq", "work"]
    (folder / "use.py").write_text(f"{use}\nprint(handle.result(timeout=60))\n")
    with WorkerProcess(folder, *words[5:], target=words[4]) as worker:
        assert run(folder, "use.py") == "Hi, Ann\n"
        worker.signal()
        assert worker.end() == 0, worker.log
    # The delayed one is left.
    assert emq_client.stats("mail")["delayed"] == 1


def test_how_functions_end(folder: Path, emq_client: emq.Client) -> None:
    id = emq_client.enqueue("mail", call("shop.fetch", "http://localhost/")).id
    run(folder, "-m", "emq", "work", "shop:app", "--exit-when-empty")
    record = emq_client.task(id)
    assert (record["state"], record["error"]) == ("delayed", "it is busy")


def test_the_content_is_that_of_the_page(folder: Path, emq_client: emq.Client) -> None:
    (content,) = blocks("Tasks as functions", "json")
    run(folder, "-c", "import shop; shop.send.enqueue('Ann', subject='Hi')")
    assert emq_client.wait("mail")[0].content == json.loads(content)


def test_testing(folder: Path) -> None:
    test, program = blocks("Testing")
    (folder / "test_mail.py").write_text(test)
    assert "1 passed" in run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    (folder / "program.py").write_text(program.replace("/tmp/emq-test", str(folder / "data")))
    run(folder, "program.py")


def test_the_options_that_the_page_names_are_there() -> None:
    environment = {**os.environ, "COLUMNS": "200"}
    command = [sys.executable, "-m", "emq", "work", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    page = PAGE.read_text().partition("## The worker")[2].partition("## Testing")[0]
    named = set(re.findall(r"`(--[a-z-]+)", page)) - {"--help"}
    assert len(named) >= 6 and all(option in text for option in named)
