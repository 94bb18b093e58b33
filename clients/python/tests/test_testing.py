"""emq.testing: the server of a test, the fixtures for pytest, and the test case for unittest."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
import unittest
from pathlib import Path

import pytest

import emq
from emq.testing import Server, ServerFailed, ServerTestCase

pytest_plugins = ["pytester"]


def is_alive(pid: int) -> bool:
    """Whether a process still runs; one that has ended but whose parent has not looked yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def test_server_runs_as_long_as_the_statement() -> None:
    with Server() as server:
        pid = server.pid
        assert pid is not None and is_alive(pid)
        with server.client() as client:
            client.enqueue("greetings", "hello")
            assert client.wait("greetings")[0].content == "hello"
    assert not server.is_running and not is_alive(pid)


def test_two_servers_have_ports_of_their_own() -> None:
    with Server() as one, Server() as other:
        assert one.url != other.url
        with one.client() as client, other.client() as second:
            client.enqueue("greetings", "hello")
            assert second.wait("greetings") == []


def test_restart_keeps_the_address_and_what_is_in_data(tmp_path: Path) -> None:
    with Server(data=tmp_path / "data") as server, server.client() as client:
        url = server.url
        client.enqueue("greetings", "hello")
        server.restart()
        assert server.url == url
        assert [task.content for task in client.wait("greetings")] == ["hello"]


def test_stop_is_in_good_order() -> None:
    with Server() as server:
        server.stop()
        assert not server.is_running
        assert "stopped" in server.log
        server.stop()


def test_arguments_reach_the_program() -> None:
    with Server(arguments=["--access-log"]) as server, server.client() as client:
        client.enqueue("greetings", "hello")
        wait_until(lambda: "/enqueue/greetings" in server.log)


def test_a_wrong_argument_is_told_with_the_log() -> None:
    with pytest.raises(ServerFailed, match="(?s)instead of starting.*--no-such-option"):
        Server(arguments=["--no-such-option"]).start()
    with pytest.raises(TypeError, match="list of strings"):
        Server(arguments="--access-log")


def test_a_missing_program_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EMQ", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerFailed, match="no program emq on PATH; set EMQ"):
        Server().start()
    monkeypatch.setenv("EMQ", str(tmp_path / "emq"))
    with pytest.raises(ServerFailed, match="as EMQ names it"):
        Server().start()
    with pytest.raises(ServerFailed, match="is not a program that can be run"):
        Server(program=tmp_path).start()


def test_variables_do_not_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMQ_MAX_MEMORY", "nonsense")
    with Server() as server:
        assert server.is_running


def test_before_its_start_a_server_has_no_address() -> None:
    with pytest.raises(ServerFailed, match="has not been started"):
        Server().url  # noqa: B018


def test_an_exception_shows_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), Server():
        1 / 0  # noqa: B018
    assert "listening on" in capfd.readouterr().err
    with Server():
        pass
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_with_its_parent(number: signal.Signals) -> None:
    program = "from emq.testing import Server; s = Server().start(); print(s.pid, flush=True); input()"
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.send_signal(number)
    wait_until(lambda: not is_alive(pid))
    parent.communicate()


class Example(ServerTestCase):
    """Run by the test below, not by itself."""

    __test__ = False

    def test_passes(self) -> None:
        with emq.Client() as client:
            client.enqueue("greetings", "hello")
        assert os.environ["EMQ_URL"] == self.server.url

    def test_fails(self) -> None:
        self.fail("on purpose")


def test_unittest_has_a_server_for_each_test(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMQ_URL", "http://localhost:1")
    passed = unittest.TextTestRunner(stream=io.StringIO()).run(Example("test_passes"))
    assert passed.wasSuccessful() and passed.testsRun == 1
    assert "listening" not in capfd.readouterr().err
    failed = unittest.TextTestRunner(stream=io.StringIO()).run(Example("test_fails"))
    assert len(failed.failures) == 1
    assert "listening on" in capfd.readouterr().err
    assert os.environ["EMQ_URL"] == "http://localhost:1"


def test_pytest_runs_the_test_case(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        textwrap.dedent(
            """
            from emq.testing import ServerTestCase

            class Tests(ServerTestCase):
                def test_passes(self):
                    with self.server.client() as client:
                        client.enqueue("greetings", "hello")

                def test_fails(self):
                    self.fail("on purpose")
            """
        )
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    assert result.stdout.str().count("listening on") == 1


def test_fixtures(emq_server: Server, emq_client: emq.Client) -> None:
    assert os.environ["EMQ_URL"] == emq_server.url == emq_client.url
    emq_client.enqueue("greetings", "hello")
    assert len(emq_client.wait("greetings")) == 1


@pytest.mark.emq_server(arguments=["--access-log"])
def test_the_mark_passes_arguments(emq_server: Server, emq_client: emq.Client) -> None:
    emq_client.enqueue("greetings", "hello")
    wait_until(lambda: "/enqueue/greetings" in emq_server.log)


def test_the_report_of_a_failed_test_has_the_log(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        textwrap.dedent(
            """
            def test_fails(emq_server):
                assert False

            def test_passes(emq_client):
                emq_client.enqueue("greetings", "hello")
            """
        )
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*emq log*", "*listening on http://127.0.0.1:*"])
