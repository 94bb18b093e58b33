"""What the tests of the worker share: an app in a module of its own, and `python -m emq work` as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

APP = """
    import asyncio, os, signal, sys, threading, time
    from pathlib import Path
    import emq

    app = emq.App()
    here = Path(__file__).parent

    def note(text):
        with open(here / "notes", "a") as file:
            file.write(f"{text}\\n")

    @app.task(name="add", keep=600)
    def add(a, b):
        return a + b

    @app.task(name="slow", keep=600)
    def slow(name, seconds=60.0):
        note(f"begun {name}")
        end = time.monotonic() + seconds
        while time.monotonic() < end and not (here / name).exists():
            time.sleep(0.01)
        note(f"ended {name}")
        return name

    @app.task(name="aslow", keep=600)
    async def aslow(name, seconds=60.0):
        note(f"begun {name}")
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end and not (here / name).exists():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            note(f"cancelled {name}")
            raise
        note(f"ended {name}")
        return name

    @app.task(name="obey", keep=600)
    def obey(name):
        note(f"begun {name}")
        while not emq.current_task().lost:
            time.sleep(0.01)

    @app.task(name="aobey", keep=600)
    async def aobey(name):
        note(f"begun {name}")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            note(f"cancelled {name}")

    @app.task(name="fail", max_retries=0)
    def fail(kind):
        if kind == "error":
            raise ValueError("no such person")
        if kind == "dead":
            raise emq.Dead("never")
        if kind == "retry":
            raise emq.Retry("later", after=1000)
        if kind == "release":
            raise emq.Release(after=1000)
        if kind == "exit":
            sys.exit(3)
        if kind == "result":
            return {1, 2}
        if kind == "nan":
            return float("nan")
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    @app.task(name="where")
    def where():
        return [os.getpid(), threading.current_thread().name]

    @app.task(name="awhere")
    async def awhere():
        return [os.getpid(), threading.current_thread().name]

    @app.task(name="current")
    def current():
        task = emq.current_task()
        return [task.id, task.queue, task.attempt, task.metadata]

    @app.task(name="acurrent")
    async def acurrent():
        await asyncio.sleep(0)
        return [emq.current_task().id]

    @app.task(name="wait_for_loss", lease=0.6)
    def wait_for_loss():
        note("begun loss")
        task = emq.current_task()
        while not task.lost:
            time.sleep(0.01)
        note("lost")
"""


def write_app(folder: Path, text: str = APP) -> None:
    """Writes the module `tasks`."""
    (folder / "tasks.py").write_text(textwrap.dedent(text))


def call(name: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The content of a call, as programs in other languages write it."""
    return {"task": name, "args": list(args), "kwargs": kwargs}


def notes(folder: Path) -> list[str]:
    """What the functions have noted."""
    try:
        return (folder / "notes").read_text().splitlines()
    except FileNotFoundError:
        return []


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Waits until something becomes true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class WorkerProcess:
    """`python -m emq work tasks:app …` in a folder."""

    def __init__(self, folder: Path, *arguments: str, target: str = "tasks:app", url: str | None = None) -> None:
        environment = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        if url is not None:
            environment["EMQ_URL"] = url
        self.log_path = folder / "log"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "emq", "work", target, *arguments],
                cwd=folder, env=environment, stdout=log, stderr=log,
            )  # fmt: skip

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        """What it has logged."""
        return self.log_path.read_text()

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Waits for its end, and returns its exit status."""
        try:
            return self.process.wait(120)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker does not end:\n{self.log}") from None


def work(folder: Path, *arguments: str, target: str = "tasks:app") -> str:
    """Runs a worker until its queues are empty, and returns its log."""
    with WorkerProcess(folder, "--exit-when-empty", *arguments, target=target) as worker:
        assert worker.end() == 0, worker.log
        return worker.log
