"""Limits of time and memory for HTTP peers that hold for a whole request, however slowly or however much a peer sends.

httpx2 limits the time without a byte. A peer that sends one byte at a time, or interim responses (103) without end,
never exceeds that limit. httpx2 keeps a body that is not streamed in memory, whatever its length.
"""

import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2

MIN_BYTES_PER_SECOND = 5_000
"""The slowest accepted transfer of a body, measured over RATE_SECONDS of waiting."""
RATE_SECONDS = 120.0
"""Longer than the pauses that the clients accept."""
STREAMED = "antidote_ci.streamed"
"""The extension of a request whose body the caller reads in pieces."""
EVENT_STREAM = "text/event-stream"
"""Such a body is as slow as its events."""
MAX_BODY_BYTES = 32 << 20
"""Of a response that is not streamed, decompressed: the description of a repository with 100,000 files."""
QUERY = re.compile(r"(https?://[^\s?]+)\?\S+")
"""An address with a query, which is not logged: a signed one grants access to its file."""
KEEP_ALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""A machine that is gone is noticed after a minute."""


class _Budget:
    """Seconds that a request may still wait for its peer."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


_SOCKETS: set[socket.socket] = set()
"""Of the open connections."""
_BUDGET: ContextVar[_Budget | None] = ContextVar("budget", default=None)


@contextmanager
def limit_waiting(seconds: float) -> Iterator[None]:
    """Raise a timeout of httpx2 when requests in the block wait longer for their peers, connecting included.

    Sending does not count: it must reach MIN_BYTES_PER_SECOND. Applies to clients of `create_client` in this thread.
    """
    token = _BUDGET.set(_Budget(seconds))
    try:
        yield
    finally:
        _BUDGET.reset(token)


def create_client(seconds: float | None = None, **options: Any) -> "httpx2.Client":  # noqa: ANN401 - of httpx2.Client
    """An `httpx2.Client` with `limit_waiting(seconds)` around each request, unless `seconds` is None.

    The body of a streamed response must arrive with MIN_BYTES_PER_SECOND instead. Any other body raises DecodingError
    beyond MAX_BODY_BYTES.
    """
    from http.cookiejar import DefaultCookiePolicy

    import httpx2

    class LimitedClient(httpx2.Client):
        def send(self, request: httpx2.Request, **arguments: Any) -> httpx2.Response:  # noqa: ANN401 - of the base class
            request.extensions[STREAMED] = bool(arguments.get("stream"))
            if seconds is None:
                return super().send(request, **arguments)
            with limit_waiting(seconds):
                response = super().send(request, **arguments)
            stream = response.extensions.get("network_stream")
            if isinstance(stream, _LimitedStream):
                stream.is_slow = response.headers.get("Content-Type", "").startswith(EVENT_STREAM)
            return response

    client = LimitedClient(**options)
    # No server needs its cookies back, and one could make every later request longer.
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
    hooks = client.event_hooks
    client.event_hooks = {**hooks, "response": [_limit_body, *hooks["response"]]}
    # httpx2 has no public option for the network backend of its connections.
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx2.HTTPTransport):
            pool: Any = transport._pool
            pool._network_backend = _LimitedBackend(pool._network_backend)
    return client


def _limit_body(response: "httpx2.Response") -> None:
    """Bound what `response.read` collects: httpx2 also reads the body of a redirect, and the client of the Hub of an
    error."""
    import httpx2

    if response.request.extensions.get(STREAMED) and response.is_success:
        return
    pieces = response.iter_bytes

    def iterate(chunk_size: int | None = None) -> Iterator[bytes]:
        size = 0
        for piece in pieces(chunk_size):
            size += len(piece)
            if size > MAX_BODY_BYTES:
                raise httpx2.DecodingError(f"the body has more than {MAX_BODY_BYTES:,} bytes", request=response.request)
            yield piece

    response.iter_bytes = iterate  # type: ignore[method-assign]


def interrupt_transfers() -> None:
    """Break all connections, and refuse new ones outside of the main thread, because a signal ends the process.

    Otherwise the threads of the Hub's client would finish their uploads first. Safe in a signal handler.
    """
    _LimitedBackend.is_ending = True
    for connection in list(_SOCKETS):
        with suppress(OSError):
            # SSLSocket.shutdown would let another thread send the rest unencrypted.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _LimitedBackend:
    """A network backend of httpcore2."""

    is_ending = False
    """Whether a signal ends the process."""

    def __init__(self, backend: Any) -> None:  # noqa: ANN401 - httpcore2 is imported when it is needed
        self._backend = backend
        self.sleep = backend.sleep

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> "_LimitedStream":  # noqa: ANN401
        from httpcore2 import ConnectTimeout

        if self.is_ending and threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the process ends")
        with _limited(timeout, ConnectTimeout) as left:
            # The timeout of the backend holds for one address, and the resolver has none.
            stream = _call_within(lambda: self._backend.connect_tcp(host, port, timeout=left, **options), left)
        connection = stream.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE:
            if hasattr(socket, name):  # not on every platform
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return _LimitedStream(stream)


class _LimitedStream:
    """A network stream of httpcore2."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - httpcore2 is imported when it is needed
        self._stream = stream
        self._socket: socket.socket = stream.get_extra_info("socket")
        _SOCKETS.add(self._socket)
        self.get_extra_info = stream.get_extra_info
        self.is_slow = False
        """Whether a body may arrive more slowly than MIN_BYTES_PER_SECOND."""
        self._read_rate, self._write_rate = _Rate(), _Rate()

    def close(self) -> None:
        _SOCKETS.discard(self._socket)
        self._stream.close()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        from httpcore2 import ReadError, ReadTimeout

        started = time.monotonic()
        with _limited(timeout, ReadTimeout) as left:
            try:
                data: bytes = self._stream.read(max_bytes, left)
            except ReadTimeout:
                # The system reports a machine that is gone in the same way.
                if left is None or time.monotonic() - started < left:
                    raise ReadError("the connection was lost") from None
                raise
        if _BUDGET.get() is None and not self.is_slow and self._read_rate.is_too_slow(started, len(data)):
            raise ReadTimeout("the peer sends too slowly")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        from httpcore2 import WriteTimeout

        started = time.monotonic()
        self._stream.write(buffer, timeout)
        if self._write_rate.is_too_slow(started, len(buffer)):
            raise WriteTimeout("the peer receives too slowly")

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "_LimitedStream":
        from httpcore2 import ConnectTimeout

        _SOCKETS.discard(self._socket)  # the encrypted one takes its place
        with _limited(timeout, ConnectTimeout) as left:
            return _LimitedStream(self._stream.start_tls(ssl_context, server_hostname, left))


class _Rate:
    """The bytes and the time of the transfers on one connection, without the time between them."""

    def __init__(self) -> None:
        self._seconds, self._bytes = 0.0, 0

    def is_too_slow(self, started: float, size: int) -> bool:
        """Add a transfer of `size` bytes since `started`, and compare the rate once per RATE_SECONDS."""
        self._seconds += time.monotonic() - started
        self._bytes += size
        if self._seconds < RATE_SECONDS:
            return False
        is_slow = self._bytes < MIN_BYTES_PER_SECOND * self._seconds
        self._seconds, self._bytes = 0.0, 0
        return is_slow


@contextmanager
def _limited(timeout: float | None, error: type[Exception]) -> Iterator[float | None]:
    """Yield `timeout`, or the rest of the budget when it is shorter, and take the time of the block from the budget."""
    budget = _BUDGET.get()
    if budget is None:
        yield timeout
        return
    if budget.seconds <= 0:
        raise error("the total time limit was exceeded")
    started = time.monotonic()
    try:
        yield budget.seconds if timeout is None else min(timeout, budget.seconds)
    finally:
        budget.seconds -= time.monotonic() - started


def _call_within(connect: Callable[[], Any], seconds: float | None) -> Any:  # noqa: ANN401 - the result of `connect`
    """Return `connect()`. Raises ConnectTimeout after `seconds`; the call then ends in its thread."""
    from httpcore2 import ConnectTimeout

    results: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def work() -> None:
        try:
            results.put(connect())
        except Exception as error:  # noqa: BLE001 - raised again in the calling thread
            results.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        result = results.get(timeout=seconds)
    except queue.Empty:
        raise ConnectTimeout("the total time limit was exceeded") from None
    if isinstance(result, Exception):
        raise result
    return result
