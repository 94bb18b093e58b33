"""The plugin for pytest: fixtures that start a server for a test, and its log in the report of a test that fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from . import Client
    from .testing import Server

_KEY = pytest.StashKey["Server"]()


@pytest.fixture
def emq_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of its own for this test, an `emq.testing.Server`. During the test, `EMQ_URL` is its address.

    A mark passes arguments: `@pytest.mark.emq_server(arguments=["--max-memory", "64M"])`.
    """
    # Tests that need no server do not pay for the import.
    from .testing import Server, ServerEnvironment, ServerFailed

    item = cast("pytest.Item", request.node)  # pyright: ignore[reportUnknownMemberType]
    mark = item.get_closest_marker("emq_server")
    try:
        server = Server(**(mark.kwargs if mark else {})).start()
    except ServerFailed as error:
        pytest.fail(str(error), pytrace=False)
    item.stash[_KEY] = server
    try:
        with ServerEnvironment(server):
            yield server
    finally:
        server.kill()


@pytest.fixture
def emq_client(emq_server: Server) -> Iterator[Client]:
    """An `emq.Client` for the server of this test."""
    with emq_server.client() as client:
        yield client


def pytest_configure(config: pytest.Config) -> None:
    """Describes the mark."""
    config.addinivalue_line("markers", "emq_server(**arguments): arguments of emq.testing.Server for this test")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the server's log to the report of a test that has failed."""
    report = yield
    server = item.stash.get(_KEY, None)
    if server is not None and report.failed:
        report.sections.append(("emq log", server.log))
    return report
