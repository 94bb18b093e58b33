"""The connections of a `Client`: blocking sockets, kept and reused, and bounded in number."""

from __future__ import annotations

# Otherwise the first connection imports it, and a fork meanwhile leaves the child with a lock that nobody opens.
import encodings.idna  # pyright: ignore[reportUnusedImport]
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator

from ._call import Failure
from ._errors import ClientClosed, ConnectionFailed, Timeout, UnexpectedAnswer
from ._http import MalformedResponse, Response, ResponseParser
from ._place import Place

LONGEST_IDLE = 60.0
"""How many seconds a connection is kept unused: less than servers and proxies keep it."""

STOP_CHECKS = 0.2
"""How often a wait looks whether it should stop, in seconds."""

GIVE_BACK_SECONDS = 2.0
"""For how long an interrupted wait reads on, to find out whether it has taken tasks."""


def connecting_failed(error: Exception, name: str, place: Place) -> Failure:
    """The failure of an attempt to connect, as both clients tell it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"{name}: the server's certificate is not trusted: {error.verify_message}"
        return Failure(ConnectionFailed(text), False, final=True)
    if isinstance(error, TimeoutError):
        return Failure(Timeout(f"{name}: the server did not accept the connection in time"), False)
    return Failure(ConnectionFailed(f"{name}: cannot connect: {error}"), False)


def all_in_use(name: str, maximum: int, is_wait: bool) -> Failure:
    """The failure of a request that has got no connection in time."""
    kind = " for waits" if is_wait else ""
    error = Timeout(f"{name}: all {maximum} connections of the client{kind} are in use")
    return Failure(error, False, final=True)


class Connection:
    """One connection to the server, for one request at a time."""

    __slots__ = ("half_closed", "idle_since", "received", "_is_stream", "_poll", "_socket", "_timeout")

    def __init__(self, place: Place, timeout: float) -> None:
        """Connects. Raises `OSError`."""
        self.idle_since = 0.0
        self.half_closed = False
        self._is_stream = False
        self.received = bytearray()
        """What `read_on` has to know of the answer."""
        self._timeout = timeout
        if place.socket_path is not None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(timeout)
                connection.connect(place.socket_path)
            except BaseException:
                connection.close()
                raise
        else:
            deadline = time.monotonic() + timeout
            connection = _connect(place, timeout)
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if place.tls is not None:
                    connection.settimeout(max(0.001, deadline - time.monotonic()))
                    connection = place.tls.wrap_socket(connection, server_hostname=place.host)
                    connection.settimeout(timeout)
            except BaseException:
                connection.close()
                raise
        self._socket = connection
        # With poll, a descriptor may have any number; it is missing on Windows.
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(connection, select.POLLIN)

    def is_stale(self) -> bool:
        """Whether the server has closed the unused connection, or has sent something that answers nothing."""
        if not self._has_input(0):
            return False
        if not isinstance(self._socket, ssl.SSLSocket):
            return True
        # TLS has messages of its own, such as tickets.
        try:
            self._timeout = 0.0
            self._socket.settimeout(0.0)
            self._socket.recv(1)
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except OSError:
            pass
        return True

    def exchange(
        self, request: bytes, deadline: float, stop: Callable[[], bool] | None, name: str, keeps: bool = False
    ) -> Response:
        """Sends a request and receives its response. Raises `Failure`.

        With `keeps`, `read_on` knows what was received, wherever an exception interrupts this. If `stop` becomes true,
        the wait ends: the server then answers without tasks at once, or has answered already.
        """
        connection = self._socket
        parser = ResponseParser()
        # A signal's handler may raise an exception when `recv` has its bytes but has not returned them.
        received = self.received = bytearray(16_384 if keeps else 0)
        length = 0
        sent = False
        try:
            self._set_timeout(deadline - time.monotonic())
            connection.sendall(request)
            sent = True
            while True:
                if stop is not None:
                    while not self._readable(min(deadline - time.monotonic(), STOP_CHECKS)):
                        if stop():
                            self.end_wait()
                            deadline, stop = time.monotonic() + GIVE_BACK_SECONDS, None
                            self._set_timeout(GIVE_BACK_SECONDS)
                            break
                        if time.monotonic() >= deadline:
                            raise TimeoutError
                if keeps:
                    if length == len(received):
                        received.extend(bytes(length))
                    with memoryview(received)[length:] as room:
                        count = connection.recv_into(room)
                    data = bytes(received[length : length + count])
                    length += count
                else:
                    data = connection.recv(65_536)
                if not data:
                    return parser.end()
                response = parser.feed(data)
                if response is not None:
                    return response
                if stop is None:
                    self._set_timeout(deadline - time.monotonic())
        except TimeoutError:
            if sent:
                raise Failure(Timeout(f"{name}: no answer in time"), True) from None
            raise Failure(Timeout(f"{name}: the server did not take the request in time"), True) from None
        except MalformedResponse as error:
            if not parser.started:
                raise Failure(ConnectionFailed(f"{name}: the server closed the connection"), True) from None
            text = f"{name}: {error}"
            raise Failure(UnexpectedAnswer(text, status=parser.status, body=bytes(parser.body[:1000])), True) from None
        except OSError as error:
            raise Failure(ConnectionFailed(f"{name}: the connection broke: {error}"), True) from error

    def end(self) -> None:
        """Ends the connection for the thread that uses it."""
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            pass

    def end_wait(self) -> None:
        """Closes the sending side, so that the server answers a wait at once, without tasks."""
        self.half_closed = True
        try:
            # Not SSLSocket's own, after which nothing could be read.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR if self._is_stream else socket.SHUT_WR)
        except OSError:
            pass

    def read_on(self) -> Response | None:
        """What the server answered to a wait that was interrupted; None if nothing whole came in time."""
        self.end_wait()
        parser = ResponseParser()
        deadline = time.monotonic() + GIVE_BACK_SECONDS
        try:
            # The rest of the room has zeros, which JSON and its head never have.
            received = bytes(self.received).rstrip(b"\0")
            response = parser.feed(received) if received else None
            if response is not None:
                return response
            while (left := deadline - time.monotonic()) > 0:
                self._set_timeout(left)
                data = self._socket.recv(65_536)
                response = parser.feed(data) if data else parser.end()
                if response is not None:
                    return response
        except (OSError, MalformedResponse):
            pass
        return None

    def stream(self, request: bytes, deadline: float, silence: float, name: str) -> Generator[bytes, None, Response]:
        """Sends a request, and yields the body of its response piece by piece, if its status is 200.

        `silence` is after how many seconds without a byte the connection counts as broken. Returns the response when it
        has ended; its body is there if the status was another one. Raises `Failure`.
        """
        parser = ResponseParser(streaming=True)
        self._is_stream = True
        try:
            self._set_timeout(deadline - time.monotonic())
            self._socket.sendall(request)
            while True:
                data = self._socket.recv(65_536)
                response = parser.feed(data) if data else parser.end()
                if parser.status == 200 and parser.body:
                    self._set_timeout(silence)
                    piece = bytes(parser.body)
                    parser.body.clear()
                    yield piece
                if response is not None:
                    return response
        except TimeoutError:
            raise Failure(Timeout(f"{name}: nothing came in time"), False) from None
        except MalformedResponse as error:
            raise Failure(ConnectionFailed(f"{name}: {error}"), False) from None
        except OSError as error:
            raise Failure(ConnectionFailed(f"{name}: the connection broke: {error}"), False) from error

    def close(self) -> None:
        """Closes the connection, without a word to the server, which other processes may talk to by it."""
        self._socket.close()

    def _set_timeout(self, timeout: float) -> None:
        if timeout <= 0:
            raise TimeoutError
        # To set it takes a system call, and a little more or less makes no difference.
        if not 0.98 * self._timeout <= timeout <= self._timeout:
            self._timeout = timeout
            self._socket.settimeout(timeout)

    def _readable(self, timeout: float) -> bool:
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        return self._has_input(max(timeout, 0.0))

    def _has_input(self, timeout: float) -> bool:
        if self._poll is not None:
            return bool(self._poll.poll(timeout * 1000))
        return bool(select.select([self._socket], [], [], timeout)[0])


def _connect(place: Place, timeout: float) -> socket.socket:
    """A connection to the first address of the host that answers. All addresses share the time. Raises `OSError`."""
    deadline = time.monotonic() + timeout
    addresses = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    failure: OSError = OSError("the host has no address")
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        left = (deadline - time.monotonic()) / (len(addresses) - index)
        try:
            connection = socket.socket(family, kind, protocol)
        except OSError as error:
            failure = error
            continue
        try:
            connection.settimeout(max(0.001, left))
            connection.connect(address)
            connection.settimeout(timeout)
            return connection
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
    raise failure


class Pool:
    """The connections of a client: those in use and those kept for the next request."""

    def __init__(self, place: Place, maximum: int) -> None:
        self.place = place
        self._maximum = maximum
        # Waits must leave a connection for what ends them: enqueues, and acks for the tasks that they wait for.
        self._maximum_waits = max(1, maximum - max(1, maximum // 4))
        self.reset()

    def reset(self) -> None:
        """Forgets all connections, in a process that has them only because it was forked."""
        # The handler of a signal may close the client while its thread is in here.
        self._lock = threading.RLock()
        # Who is waiting for a connection: waits for tasks or results may not use one that others can use.
        self._free = (threading.Condition(self._lock), threading.Condition(self._lock))
        self._idle: list[Connection] = []
        self._in_use = 0
        self._waits: set[Connection] = set()
        self._reserved_waits = 0
        self.closed = False

    def take(self, deadline: float, name: str, is_wait: bool) -> Connection:
        """A connection that seems to be alive. Raises `Failure` and `ClientClosed`."""
        with self._lock:
            while self._is_full(is_wait) and not (is_wait and self.closed):
                self._queue(deadline, name, is_wait)
            if is_wait and self.closed:
                raise ClientClosed(f"{name}: the client is closed")
            self._in_use += 1
            self._reserved_waits += is_wait
            connection = self._idle.pop() if self._idle else None
        try:
            while connection is not None:
                if time.monotonic() - connection.idle_since < LONGEST_IDLE and not connection.is_stale():
                    break
                connection.close()
                with self._lock:
                    connection = self._idle.pop() if self._idle else None
            if connection is None:
                try:
                    connection = Connection(self.place, max(0.001, deadline - time.monotonic()))
                except (OSError, UnicodeError) as error:
                    raise connecting_failed(error, name, self.place) from error
            if is_wait:
                with self._lock:
                    self._waits.add(connection)
                    closed = self.closed
                if closed:
                    connection.end_wait()
            return connection
        except BaseException:
            self.give(connection, is_wait, False)
            raise

    def give(self, connection: Connection | None, is_wait: bool, reusable: bool) -> None:
        """Takes a connection back."""
        with self._lock:
            self._in_use -= 1
            if is_wait:
                self._reserved_waits -= 1
                if connection is not None:
                    self._waits.discard(connection)
            if reusable and connection is not None and not self.closed and not connection.half_closed:
                connection.idle_since = time.monotonic()
                connection.received = bytearray()
                self._idle.append(connection)
                connection = None
            for free in self._free:
                free.notify()
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Ends all waits, and closes each connection when it is not in use any more."""
        with self._lock:
            self.closed = True
            idle, self._idle = self._idle, []
            waits = list(self._waits)
            for free in self._free:
                free.notify_all()
        for connection in idle:
            connection.close()
        for connection in waits:
            connection.end_wait()
        if waits:
            timer = threading.Timer(GIVE_BACK_SECONDS, self._end_waits)
            timer.daemon = True
            timer.start()

    def close_idle(self) -> None:
        """Closes the connections that nobody uses. The pool goes on."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _end_waits(self) -> None:
        """Ends waits that the server has not answered, though they have ended."""
        with self._lock:
            for connection in self._waits:
                connection.end()

    def _is_full(self, is_wait: bool) -> bool:
        return self._in_use >= self._maximum or (is_wait and self._reserved_waits >= self._maximum_waits)

    def _queue(self, deadline: float, name: str, is_wait: bool) -> None:
        """Waits until a connection may be free."""
        free, left = self._free[is_wait], deadline - time.monotonic()
        try:
            if left <= 0:
                raise all_in_use(name, self._maximum_waits if is_wait else self._maximum, is_wait)
            free.wait(left)
        except BaseException:
            # Whoever was woken for nothing wakes the next one.
            free.notify()
            raise
