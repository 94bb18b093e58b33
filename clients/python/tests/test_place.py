"""Where the server is: URLs, tokens, sockets and certificates."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from core import PATIENCE, closing, eventually

import emq
from emq._place import Place
from emq.testing import Server

CERTIFICATES = Path(__file__).parents[3] / "Tests" / "Clients" / "certificates"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMQ_URL", "EMQ_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "name", "host", "port", "path"),
    [
        (None, "http://localhost:8080", "localhost", 8080, ""),
        ("example.org:81", "http://example.org:81", "example.org", 81, ""),
        ("http://example.org", "http://example.org", "example.org", 80, ""),
        ("https://example.org/", "https://example.org", "example.org", 443, ""),
        ("HTTP://[::1]:9/emq//", "http://[::1]:9/emq", "::1", 9, "/emq"),
        ("http://user@example.org:81", "http://example.org:81", "example.org", 81, ""),
    ],
)
def test_reads_urls(url: str | None, name: str, host: str, port: int, path: str) -> None:
    place = Place(url, None, None)
    assert (place.name, place.host, place.port, place.base_path) == (name, host, port, path)


@pytest.mark.parametrize(
    "url",
    ["", "ftp://x", "http://", "http://x:99999", "http://x:abc", "http://x?a=b", "http://x/#y", "http://x y",
     "http://ü", "unix:", "unix:relative", "unix:///a\0b", "http://x/a\r\nB: c"],
)  # fmt: skip
def test_refuses_malformed_urls(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not url:
        # An empty variable is as none, an empty argument is a mistake.
        monkeypatch.setenv("EMQ_URL", "")
        assert Place(None, None, None).port == 8080
    with pytest.raises(ValueError):
        emq.Client(url)
    with pytest.raises(ValueError):
        emq.AsyncClient(url)


def test_prefers_arguments_to_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMQ_URL", "http://from%2Durl@there:1")
    assert (Place(None, None, None).port, "Bearer from-url\r\n" in Place(None, None, None).head.decode()) == (1, True)
    assert "Authorization" not in Place("http://here", None, None).head.decode()
    monkeypatch.setenv("EMQ_TOKEN", "variable")
    assert "Bearer variable\r\n" in Place(None, None, None).head.decode()
    assert "Bearer variable\r\n" in Place("http://here", None, None).head.decode()
    assert "Bearer user\r\n" in Place("http://user@here", None, None).head.decode()
    assert "Bearer argument\r\n" in Place("http://user@here", "argument", None).head.decode()
    assert Place("http://here:2", None, None).port == 2


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "\0", "ü"])
def test_refuses_malformed_tokens(token: str) -> None:
    with pytest.raises(ValueError) as raised:
        emq.Client(token=token)
    assert not token or token not in str(raised.value)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"tries": 0}, {"connections": 0}, {"timeout": float("nan")}])
def test_refuses_limits_that_allow_nothing(options: dict[str, Any]) -> None:
    for kind in (emq.Client, emq.AsyncClient):
        with pytest.raises(ValueError):
            kind(**options)


def test_talks_through_a_unix_domain_socket(make: Any, tmp_path: Path, queue: str) -> None:
    path = tmp_path / "emq.sock"
    with Server(arguments=["--addr", f"unix:{path}"]):
        eventually(path.exists)
        for url in (f"unix://{path}", f"unix:{path}"):
            client = make(url)
            client.enqueue(queue)
            assert client.stats(queue)["ready"] >= 1 and client.url == f"unix:{path}"
        assert client.wait(queue, 10)
    with pytest.raises(emq.ConnectionFailed):
        make(f"unix://{tmp_path}/none", tries=1).stats(queue)
    with pytest.raises(ValueError):
        make(f"unix://{path}", ca="x")


def test_sends_its_token(make: Any, tmp_path: Path, queue: str) -> None:
    command = [os.environ.get("EMQ", "emq"), "token", "new", "--name", "me", "--allow", "enqueue,work"]
    token, description = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:2]
    (tmp_path / "tokens.json").write_text(f'{{"tokens": [{description}]}}')
    (tmp_path / "tokens.json").chmod(0o600)
    with Server(arguments=["--tokens", str(tmp_path / "tokens.json")]) as server:
        make(server.url, token=token).enqueue(queue)
        with pytest.raises(emq.Unauthorized) as raised:
            make(server.url).enqueue(queue)
        assert raised.value.type == "authentication-required"
        with pytest.raises(emq.Forbidden):
            make(server.url, token=token).purge(queue)


def test_talks_over_tls(make: Any, tmp_path: Path, queue: str) -> None:
    if not CERTIFICATES.exists() or shutil.which("openssl") is None:
        pytest.skip("no openssl, or not in the repository")
    subprocess.run([CERTIFICATES, tmp_path, "good", "wrong-host"], check=True, capture_output=True)
    arguments = ["--tls-cert", f"{tmp_path}/good.pem", "--tls-key", f"{tmp_path}/good.key"]
    with Server(arguments=arguments) as server:
        assert server.url.startswith("https:")
        with pytest.raises(emq.ConnectionFailed) as raised:
            make(server.url).enqueue(queue)
        assert "certificate" in str(raised.value)
        client = make(server.url, ca=tmp_path / "authority.pem")
        for index in range(20):
            added = client.enqueue(queue, index)
            with client.working(client.wait(queue, 10)[0]) as task:
                assert (task.id, task.content) == (added.id, index)
        # Tickets and other messages of TLS do not count as answers: there was one connection for all this.
        assert client.all_stats()["connections"] == 1
        assert client.wait(queue, 0.05) == []
        found: list[emq.Task] = []
        wait = threading.Thread(target=lambda: closing(lambda: found.extend(client.wait(queue, 3000))), daemon=True)
        wait.start()
        observer = make(server.url, ca=tmp_path / "authority.pem")
        eventually(lambda: observer.stats(queue)["waiters"])
        client.close()
        wait.join(PATIENCE)
        assert not wait.is_alive() and found == []
    with pytest.raises(OSError):
        make("https://x", ca=tmp_path / "none")
    with pytest.raises(ValueError):
        make("http://x", ca=tmp_path / "authority.pem")


@pytest.mark.parametrize(
    "url",
    ["http://se\u2100cret@host", "http://x:secret/y@host", "http://[secret@host", "http://se\ncret@host",
     "ftp://secret@h"],
)  # fmt: skip
def test_errors_of_malformed_urls_do_not_show_tokens(url: str) -> None:
    with pytest.raises(ValueError) as raised:
        emq.Client(url)
    assert "cret" not in str(raised.value) and raised.value.__cause__ is None
