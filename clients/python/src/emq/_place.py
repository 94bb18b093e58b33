"""Where the server is, and what shows that the client may talk to it: the URL, the token, and the issuers to trust."""

import os
import ssl
from urllib.parse import SplitResult, unquote, urlsplit

from ._version import VERSION

_DEFAULT_URL = "http://localhost:8080"


class Place:
    """A server, as clients reach it.

    Raises `ValueError` if the URL or the token is malformed, and `OSError` if the file of issuers cannot be read.
    """

    __slots__ = ("base_path", "head", "host", "name", "port", "socket_path", "tls")

    def __init__(self, url: str | None, token: str | None, ca: str | os.PathLike[str] | None) -> None:
        text = url if url is not None else os.environ.get("EMQ_URL") or _DEFAULT_URL
        if token is None:
            # A token in a URL that the program gives is meant for that server, whatever the environment says.
            token = _token_in(text) if url is not None else None
            token = token or os.environ.get("EMQ_TOKEN") or _token_in(text)
        if token is not None and (not token or not all("!" <= letter <= "~" for letter in token)):
            raise ValueError("the token is empty, or has blanks, control characters or letters outside ASCII")
        self.socket_path: str | None = None
        self.tls: ssl.SSLContext | None = None
        self.host, self.port, self.base_path = "localhost", 0, ""
        if text.startswith("unix:"):
            path = text[len("unix:") :]
            path = path[2:] if path.startswith("//") else path
            if not path.startswith("/") or "\0" in path:
                raise ValueError(f"'{text}' is not a Unix-domain socket; write unix:///path")
            if ca is not None:
                raise ValueError("ca requires an https URL")
            self.socket_path, self.name = path, "unix:" + path
            host_field = "localhost"
        else:
            host_field = self._read_url(text, ca)
        # All that follows the path of a request; each request appends what describes its body.
        head = f" HTTP/1.1\r\nHost: {host_field}\r\nUser-Agent: emq-python/{VERSION}\r\n"
        if token is not None:
            head += f"Authorization: Bearer {token}\r\n"
        self.head = head.encode("ascii")

    def _read_url(self, text: str, ca: str | os.PathLike[str] | None) -> str:
        """Takes a URL apart, and returns the value for the field Host."""
        url = _split(text)
        if url.scheme not in ("http", "https"):
            raise ValueError(f"the server's URL begins with '{url.scheme}:'; use http, https or unix")
        host, port = url.hostname, url.port
        if not host or any(not "!" <= letter <= "~" for letter in host + url.path):
            raise ValueError("the server's URL has no host, or characters that are not percent-encoded")
        if url.query or url.fragment:
            raise ValueError("the server's URL has a query or a fragment; leave it out")
        secure = url.scheme == "https"
        if secure:
            # With a file, only its issuers count.
            self.tls = ssl.create_default_context(cafile=os.fspath(ca) if ca is not None else None)
        elif ca is not None:
            raise ValueError("ca requires an https URL")
        self.host, self.port = host, port if port is not None else 443 if secure else 80
        self.base_path = url.path.rstrip("/")
        shown = f"[{host}]" if ":" in host else host
        host_field = shown if port is None else f"{shown}:{port}"
        self.name = f"{url.scheme}://{host_field}{self.base_path}"
        return host_field


def _token_in(url: str) -> str | None:
    """The user part of a URL, which is a token."""
    if url.startswith("unix:"):
        return None
    user = _split(url).username
    return unquote(user) if user else None


def _split(text: str) -> SplitResult:
    """The parts of a URL. Raises `ValueError`, whose text has no part of the URL: any part may be a token."""
    if any(letter <= " " or letter == "\x7f" for letter in text):
        raise ValueError("the server's URL has blanks or control characters")
    try:
        url = urlsplit(text if "://" in text else "http://" + text)
        # It is read here for the error that it may raise.
        _ = url.port
        return url
    except ValueError:
        raise ValueError("the server's URL is malformed, perhaps its host or its port") from None
