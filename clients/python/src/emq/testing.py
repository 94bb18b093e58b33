"""Runs tests against the real server: `Server` starts the program `emq` on a free port.

With pytest, the fixtures `emq_server` and `emq_client` are there as soon as this package is installed. With unittest,
derive from `ServerTestCase`. A server is ready in about 10 ms, so each test can have its own.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import AsyncClient, Client

__all__ = ["Server", "ServerEnvironment", "ServerFailed", "ServerTestCase"]

_LISTENING = re.compile(r"listening on (https?)://[^ ;,]*:(\d+)")
_MAXIMUM_LOG_BYTES = 1 << 20


class ServerFailed(RuntimeError):
    """The program is missing, or it does not start or stop as it should. The message ends with the server's log."""


class Server:
    """A server of its own for a test, on a free port of 127.0.0.1. Use it in a `with` statement, or call `start` and
    `stop`.

    - `program`: the path of emq. By default it is in the variable `EMQ`, or else a program `emq` on `PATH`.
    - `data`: a directory to keep the tasks in, so that they survive `restart`. Without it, they live in memory.
    - `arguments`: further options of `emq serve`, such as `["--max-memory", "64M"]`.
    - `timeout`: how many seconds the server may take to start or to stop.

    The server ends with the process that has started it, also after a `kill -9`. If the `with` statement ends with an
    exception, the server's log goes to standard error.
    """

    def __init__(
        self,
        *,
        program: str | os.PathLike[str] | None = None,
        data: str | os.PathLike[str] | None = None,
        arguments: Sequence[str] = (),
        timeout: float = 30.0,
    ) -> None:
        if isinstance(arguments, str):
            raise TypeError("arguments must be a list of strings, such as ['--max-memory', '64M']")
        self._program = None if program is None else os.fspath(program)
        self._data = None if data is None else os.fspath(data)
        self._arguments = list(arguments)
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._scheme = "http"
        self._port = 0
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as this object
        weakref.finalize(self, self._log.close)
        self._log_start = 0

    # MARK: Addresses

    @property
    def url(self) -> str:
        """The server's address, such as `http://127.0.0.1:39073`. It stays the same after a restart."""
        if not self._port:
            raise ServerFailed("the server has not been started; use `with Server() as server:`, or call start()")
        return f"{self._scheme}://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """The port of `url`."""
        self.url  # noqa: B018 - raises if there is none
        return self._port

    @property
    def pid(self) -> int | None:
        """The process id of the server; None while it does not run."""
        return self._process.pid if self.is_running and self._process else None

    @property
    def is_running(self) -> bool:
        """Whether the server runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the server has logged since this object exists; of a long log, the last MiB."""
        descriptor = self._log.fileno()
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, _MAXIMUM_LOG_BYTES, max(0, size - _MAXIMUM_LOG_BYTES)).decode(errors="replace")

    def client(self, **options: Any) -> Client:
        """A new `emq.Client` for this server, with further arguments of the class. Close it when you are done."""
        from . import Client

        return Client(self.url, **options)

    def async_client(self, **options: Any) -> AsyncClient:
        """A new `emq.AsyncClient` for this server, with further arguments of the class. Close it when you are done."""
        from . import AsyncClient

        return AsyncClient(self.url, **options)

    # MARK: Starting and stopping

    def start(self) -> Server:
        """Starts the server, and waits until it responds. Raises ServerFailed if it does not."""
        if self.is_running:
            raise ServerFailed("the server runs already")
        program = self._find_program()
        self._reap()
        command = [program, "serve", "--addr", f"127.0.0.1:{self._port}"]
        if self._data is not None:
            command += ["--data", self._data]
        # The variables of this process are not meant for this server.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EMQ_")}
        self._log_start = os.fstat(self._log.fileno()).st_size
        try:
            # In a session of its own, Ctrl-C does not stop it before the test has ended.
            self._process = subprocess.Popen(
                [*command, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise ServerFailed(f"cannot run {program}: {error.strerror}") from error
        try:
            # Kills the server when this process ends, however it ends, because its end closes the pipe.
            self._watcher = subprocess.Popen(
                ["/bin/sh", "-c", 'read -r _; kill -9 "$1"', "sh", str(self._process.pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._await_start(program)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Stops the server in good order, with SIGTERM, as an operator does. If it does not run, nothing happens.

        Raises ServerFailed if it does not end with status 0.
        """
        if not self.is_running or self._process is None:
            return self._reap()
        self._process.terminate()
        try:
            status = self._process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._error(f"the server did not stop within {self._timeout:g} s") from None
        self._reap()
        if status != 0:
            raise self._error(f"the server ended with status {status}")

    def kill(self) -> None:
        """Kills the server with SIGKILL, as a crash does. If it does not run, nothing happens."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._reap()

    def restart(self) -> None:
        """Kills the server if it runs, and starts it again at the same address. Only with `data` are its tasks still
        there."""
        self.kill()
        self.start()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What is in memory is lost in any case, and what is in `data` survives this.
        self.kill()
        if error is not None and isinstance(error, Exception):
            sys.stderr.write(f"--- log of {self.url} ---\n{self.log}")
            sys.stderr.flush()

    # MARK: Details

    def _find_program(self) -> str:
        program = self._program or os.environ.get("EMQ")
        if program:
            if not os.access(program, os.X_OK) or os.path.isdir(program):
                source = "" if self._program else ", as EMQ names it,"
                raise ServerFailed(f"{program}{source} is not a program that can be run")
            return os.path.abspath(program)
        found = shutil.which("emq")
        if found is None:
            raise ServerFailed(
                "there is no program emq on PATH; set EMQ to its path, such as EMQ=/usr/local/bin/emq"
            )
        return found

    def _await_start(self, program: str) -> None:
        process = self._process
        assert process is not None
        deadline = time.monotonic() + self._timeout
        is_listening = False
        while True:
            if process.poll() is not None:
                raise self._error(f"{program} ended with status {process.returncode} instead of starting")
            if not is_listening:
                descriptor = self._log.fileno()
                match = _LISTENING.search(os.pread(descriptor, 1 << 16, self._log_start).decode(errors="replace"))
                if match:
                    self._scheme, self._port = match[1], int(match[2])
                    is_listening = True
            # A journal is read after the server has begun to listen.
            if is_listening and (self._data is None or self._is_ready()):
                return
            if time.monotonic() >= deadline:
                raise self._error(f"{program} did not start within {self._timeout:g} s")
            time.sleep(0.001)

    def _is_ready(self) -> bool:
        if self._scheme != "http":
            return True
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"{self.url}/healthz", timeout=self._timeout):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def _reap(self) -> None:
        """Ends the process that watches, before the id of the server's process can be another's."""
        if self._watcher is not None:
            self._watcher.send_signal(signal.SIGKILL)
            self._watcher.communicate()
            self._watcher = None
        self._process = None

    def _error(self, text: str) -> ServerFailed:
        log = self.log.strip()
        return ServerFailed(f"{text}\n--- its log ---\n{log or '(empty)'}")


class ServerTestCase(unittest.TestCase):
    """A test case of unittest whose tests each have a server of their own, `self.server`. During a test, `EMQ_URL` is
    its address. When a test fails, the server's log goes to standard error."""

    server: Server

    #: The arguments of `Server`; override it to pass others.
    server_options: dict[str, Any] = {}

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Runs a test with a server of its own."""
        outcome = self.defaultTestResult() if result is None else result
        before = _failures(outcome)
        with Server(**self.server_options) as server, ServerEnvironment(server):
            self.server = server
            super().run(outcome)
            if _failures(outcome) > before:
                sys.stderr.write(f"--- log of {server.url} ---\n{server.log}")
        return outcome


def _failures(outcome: Any) -> int:
    """How many tests have failed so far. The result that pytest passes has a list of its own, if any."""
    return sum(len(getattr(outcome, name, None) or ()) for name in ("failures", "errors", "_excinfo"))


class ServerEnvironment:
    """Makes a server the one that `EMQ_URL` names, for as long as a `with` statement lasts."""

    def __init__(self, server: Server) -> None:
        self._values = {"EMQ_URL": server.url}
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in ("EMQ_URL", "EMQ_TOKEN")}
        os.environ.pop("EMQ_TOKEN", None)
        os.environ.update(self._values)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
