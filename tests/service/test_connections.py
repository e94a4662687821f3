"""Connections that send nothing, or slowly, and requests with long headers: deliveries are still accepted."""

import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx2
import pytest

from antidote_ci.service.records import MAX_REASON
from antidote_ci.service.uvicorn_server import MAX_CONNECTIONS, SECONDS_TO_ASK, SECONDS_TO_READ
from tests.service.service_process import HEADER, SECRET, Repository, ServiceProcess, payload

SLOW_STARTS = {
    "idle": b"",
    "slow headers": b"POST /webhook HTTP/1.1\r\nHost: ",
    "slow body": b"POST /webhook HTTP/1.1\r\nHost: service\r\nContent-Length: 1000\r\n\r\n",
    "kept alive": b"GET /health/live HTTP/1.1\r\nHost: service\r\n\r\n",
}


@contextmanager
def open_connections(service: ServiceProcess, count: int, start: bytes) -> Iterator[list[socket.socket]]:
    """Connections that send `start`, and then a byte each second if they have begun a request."""
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=10)) for _ in range(count)
        ]
        for connection in connections:
            with suppress(OSError):  # the service may have closed it already
                connection.sendall(start)
        stopped = threading.Event()

        def drip() -> None:
            while start and not stopped.wait(1):
                for connection in connections:
                    with suppress(OSError):
                        connection.send(b"a")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield connections
        finally:
            stopped.set()
            thread.join()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Allow this process as many connections as the test opens."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("kind", "count"), [*((kind, 300) for kind in SLOW_STARTS), ("idle", 2000)])
@pytest.mark.usefixtures("many_files")
def test_delivery_is_accepted_beside_slow_connections(repository: Repository, kind: str, count: int) -> None:
    assert count > MAX_CONNECTIONS
    first, second = repository.commits(2)
    with open_connections(repository.service, count, SLOW_STARTS[kind]):
        for revision in (first, second):
            started = time.monotonic()
            answer = repository.deliver(revision, revision)
            assert answer.status_code == 202
            assert time.monotonic() - started < 5  # 0.1 on an idle machine


def test_connections_without_a_request_are_closed(running: ServiceProcess) -> None:
    """All at once, because each is closed only after SECONDS_TO_ASK."""
    started = time.monotonic()
    with ExitStack() as stack:
        opened = {
            kind: stack.enter_context(open_connections(running, 1, SLOW_STARTS[kind]))[0]
            for kind in ("idle", "slow headers", "kept alive")
        }
        for kind, connection in opened.items():
            connection.settimeout(SECONDS_TO_ASK + 5)
            with suppress(ConnectionResetError):
                while connection.recv(1000):
                    pass
            assert time.monotonic() - started < SECONDS_TO_ASK + 2, kind


def test_connection_that_reads_no_answer_is_closed(running: ServiceProcess) -> None:
    """Answers fill its buffers, so that the service cannot complete one. Nobody needs a secret for this."""
    requests = SLOW_STARTS["kept alive"] * 1000
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(SECONDS_TO_READ + 20)
        connection.connect(("127.0.0.1", running.port))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(requests * 1000)


@pytest.mark.parametrize(
    ("identifier", "status"), [("a" * 60_000, 431), ("a" * 201, 400), ("caf\u00e9", 400), ("a" * 200, 202)]
)
def test_delivery_ids_are_bounded(repository: Repository, identifier: str, status: int) -> None:
    (revision,) = repository.commits(1)
    answer = httpx2.post(
        repository.service.url("/webhook"),
        content=payload(revision, f"org/{repository.name}"),
        headers={
            name.encode(): value.encode("latin-1") for name, value in (HEADER | {"Webhook-Id": identifier}).items()
        },
        timeout=20,
    )
    assert answer.status_code == status


def test_stored_reasons_are_bounded(repository: Repository) -> None:
    (revision,) = repository.commits(1)
    repository.service.runs(codes=[2], says="long " * 1000)
    repository.deliver(revision, "1")
    assert len(repository.outcome(revision).reason) == MAX_REASON


@pytest.mark.parametrize("path", ["/?page=" + "1" * 20_000, "/runs/" + "a" * 20_000 + "/log.txt"])
def test_long_addresses_are_refused(running: ServiceProcess, path: str) -> None:
    assert httpx2.get(running.url(path), headers=HEADER).status_code == 431


def test_run_name_longer_than_a_file_name_is_not_found(running: ServiceProcess) -> None:
    assert httpx2.get(running.url(f"/runs/{'a' * 300}/log.txt"), headers=HEADER).status_code == 404


@pytest.mark.parametrize("linked", ["run", "out", "file"])
def test_pages_follow_no_links(repository: Repository, linked: str) -> None:
    service = repository.service
    (revision,) = repository.commits(1)
    repository.deliver(revision, linked)
    assert repository.outcome(revision).report is not None
    report = service.folder / "service" / str(repository.outcome(revision).report) / "report.json"
    address = service.url(f"/runs/{report.parent.parent.name}/report.json")
    assert httpx2.get(address, headers=HEADER).status_code == 200
    secret = service.folder / f"elsewhere-{linked}" / "out"
    secret.mkdir(parents=True)
    (secret / "report.json").write_text(f"private {SECRET}")
    replaced, target = {
        "file": (report, secret / "report.json"),
        "out": (report.parent, secret),
        "run": (report.parent.parent, secret.parent),
    }[linked]
    replaced.rename(replaced.with_name(f"{replaced.name}-moved"))
    replaced.symlink_to(target)
    assert httpx2.get(address, headers=HEADER).status_code == 404
