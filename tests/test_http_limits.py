"""Total time limits of HTTP requests, against peers on loopback that never stop sending."""

import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import httpx2
import pytest
from huggingface_hub import close_session

from antidote_ci import http_limits
from antidote_ci.errors import InfrastructureError
from antidote_ci.http_limits import create_client, limit_waiting
from antidote_ci.hub import client as hub_client
from antidote_ci.hub.access import require_hub
from tests.hub.hub_samples import NO_RETRY

Talk = Callable[[socket.socket], None]
START = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n"


def send_endless_103(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        time.sleep(0.001)


def send_slow_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Padding: ")
    drip(connection)


def send_slow_body(connection: socket.socket) -> None:
    connection.sendall(START + b"\r\n")
    drip(connection)


def send_slow_events(connection: socket.socket) -> None:
    connection.sendall(START + b"Content-Type: text/event-stream\r\n\r\n")
    drip(connection)


def send_slow_handshake(connection: socket.socket) -> None:
    """A TLS record of 16 kB, one byte at a time."""
    connection.sendall(b"\x16\x03\x03\x3f\xff")
    drip(connection)


def drip(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"a")
        time.sleep(0.02)


@contextmanager
def serve(talk: Talk) -> Iterator[str]:
    """Yield HOST:PORT of a server that calls `talk` for each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(connection: socket.socket) -> None:
            with closing(connection), suppress(OSError):
                connection.recv(10_000)
                talk(connection)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def took_less_than(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@pytest.mark.parametrize("talk", [send_endless_103, send_slow_headers, send_slow_body])
def test_a_request_ends_at_its_limit(talk: Talk) -> None:
    with serve(talk) as address, create_client(0.5, timeout=10) as client, took_less_than(2):
        with pytest.raises(httpx2.TimeoutException):
            client.get(f"http://{address}/")
        with pytest.raises(httpx2.TimeoutException), limit_waiting(0.2):
            client.get(f"http://{address}/")


def test_a_handshake_ends_at_its_limit() -> None:
    with (
        serve(send_slow_handshake) as address,
        create_client(0.5, timeout=10, verify=ssl.create_default_context()) as client,
        took_less_than(2),
        pytest.raises(httpx2.TimeoutException),
    ):
        client.get(f"https://{address}/")


def test_a_connection_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver has no time limit of its own."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(5))
    with create_client(0.3, timeout=10) as client, took_less_than(2), pytest.raises(httpx2.ConnectTimeout):
        client.get("http://service.example/")


def test_redirects_share_the_limit() -> None:
    def redirect(connection: socket.socket) -> None:
        time.sleep(0.1)
        connection.sendall(
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )

    with (
        serve(redirect) as address,
        create_client(0.5, timeout=10, follow_redirects=True) as client,
        took_less_than(1.5),
        pytest.raises(httpx2.TimeoutException),
    ):
        client.get(f"http://{address}/")


@pytest.mark.parametrize("status", ["200 OK", "307 Temporary Redirect\r\nLocation: /", "500 Error"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_body_that_is_not_streamed_has_a_limit(status: str, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also compressed, and where the client reads the body of an answer that its caller streams."""
    monkeypatch.setattr(http_limits, "MAX_BODY_BYTES", 100_000)
    body, encoding = b" " * 1_000_000, ""
    if packed:
        body, encoding = gzip.compress(gzip.compress(body)), "Content-Encoding: gzip, gzip\r\n"

    def answer(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 {status}\r\n{encoding}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    with serve(answer) as address, create_client(5, timeout=10, follow_redirects=True) as client:
        with pytest.raises(httpx2.DecodingError, match="more than 100,000 bytes"):
            client.get(f"http://{address}/")
        if status == "200 OK":
            with client.stream("GET", f"http://{address}/") as response:
                assert sum(map(len, response.iter_bytes())) == 1_000_000
        else:
            with (
                pytest.raises(httpx2.DecodingError, match="more than 100,000 bytes"),
                client.stream("GET", f"http://{address}/") as response,
            ):
                response.read()


def test_cookies_are_not_sent_back() -> None:
    """A server could make every later request longer."""
    received = []

    def answer(connection: socket.socket) -> None:
        for _ in range(2):
            connection.sendall(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
            received.append(connection.recv(10_000))

    with serve(answer) as address, create_client(5) as client:
        for _ in range(2):
            assert client.get(f"http://{address}/").status_code == 200
    assert b"GET / " in received[0]
    assert b"cookie" not in received[0].lower()


def test_a_download_needs_a_minimum_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of events does not."""
    monkeypatch.setattr(http_limits, "RATE_SECONDS", 0.3)
    with (
        serve(send_slow_body) as address,
        create_client(5, timeout=10) as client,
        took_less_than(3),
        pytest.raises(httpx2.ReadTimeout, match="too slowly"),
        client.stream("GET", f"http://{address}/") as answer,
    ):
        for _ in answer.iter_bytes():
            pass
    with (
        serve(send_slow_events) as address,
        create_client(5, timeout=10) as client,
        client.stream("GET", f"http://{address}/") as answer,
    ):
        started = time.monotonic()
        for _ in answer.iter_bytes():
            if time.monotonic() > started + 1:
                break
        else:
            pytest.fail("the stream of events ended")


def test_a_fast_download_may_take_longer_than_the_limit() -> None:
    def send_for_a_second(connection: socket.socket) -> None:
        connection.sendall(START + b"\r\n")
        for _ in range(10):
            time.sleep(0.1)
            connection.sendall(b"a" * 100_000)

    with (
        serve(send_for_a_second) as address,
        create_client(0.5, timeout=10) as client,
        client.stream("GET", f"http://{address}/") as answer,
    ):
        assert sum(map(len, answer.iter_bytes())) == 1_000_000


def test_an_upload_may_take_longer_than_the_limit() -> None:
    def receive(connection: socket.socket) -> None:
        for _ in range(10):
            time.sleep(0.1)
            connection.recv(1_000_000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        while connection.recv(1_000_000):
            pass

    with serve(receive) as address, create_client(0.8, timeout=10) as client:
        body = iter([b"a" * 100_000] * 100)
        assert client.post(f"http://{address}/", content=body).status_code == 200


def test_connections_notice_a_machine_that_is_gone() -> None:
    with (
        serve(lambda connection: connection.sendall(START + b"\r\n")) as address,
        create_client(5) as client,
        client.stream("GET", f"http://{address}/") as answer,
    ):
        connection = answer.extensions["network_stream"].get_extra_info("socket")
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A client of the Hub with a short limit, which the next test does not use."""
    monkeypatch.setattr(hub_client, "REQUEST_SECONDS", 0.5)
    hub_client.configure_client()
    close_session()
    yield
    close_session()


@pytest.mark.usefixtures("short_limit")
@pytest.mark.parametrize("talk", [send_endless_103, send_slow_headers, send_slow_body])
def test_the_hub_has_a_total_limit(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(talk) as address, took_less_than(5):
        monkeypatch.setenv("HF_ENDPOINT", f"http://{address}")
        with pytest.raises(InfrastructureError):
            NO_RETRY.request("the Hub", require_hub)


def test_a_proxy_of_the_environment_is_used_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(send_endless_103) as address, took_less_than(2):
        monkeypatch.setenv("http_proxy", f"http://{address}")
        with create_client(0.5, timeout=10) as client, pytest.raises(httpx2.TimeoutException):
            client.get("http://service.example/")
