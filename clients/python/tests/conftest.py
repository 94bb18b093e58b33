"""Fixtures of the tests of both clients: a server that they share, and each client in turn."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from core import Blocking, Loop, Threads

from emq.testing import Server

# A shell ignores the signal for what it runs in the background, and the programs that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    """A server for all tests that do not stop it; each test has queues of its own."""
    with Server(arguments=["--push", "loopback"]) as server:
        yield server


@pytest.fixture(scope="session")
def shared_loop() -> Iterator[Loop]:
    """A loop in a thread of its own."""
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(params=["Client", "AsyncClient"])
def make(request: pytest.FixtureRequest, shared_loop: Loop) -> Iterator[Callable[..., Any]]:
    """Makes clients, each kind in turn, and closes them."""
    clients: list[Any] = []

    def make(*arguments: Any, **options: Any) -> Any:
        client = Threads(*arguments, **options)
        if request.param == "AsyncClient":
            client = Blocking(shared_loop, *arguments, **options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(make: Callable[..., Any], shared_server: Server) -> Any:
    """A client of the shared server."""
    return make(shared_server.url)


@pytest.fixture
def queue() -> str:
    """A queue that only this test uses. Its name needs percent-encoding."""
    return f"tests/ä +%?#/{uuid4().hex}"
