"""The door, by real HTTP: who gets in, what is answered, and what an answer never does."""

import base64
import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx2
import pytest

from antidote_ci.service.app import FILES, SECONDS_FOR_A_BODY
from antidote_ci.service.events import MAX_BYTES
from antidote_ci.service.executor import run_folder
from antidote_ci.service.records import RunRequest
from tests.service.workshop import HEADER, SECRET, Repository, Workshop, commit, needs_sqlite, payload

pytestmark = needs_sqlite

PAGES = ["/", "/runs/some-run/report.html", "/runs/some-run/report.json", "/runs/some-run/log.txt"]


def post(
    workshop: Workshop, content: bytes | Iterator[bytes], headers: dict[str, str] | None = None
) -> httpx2.Response:
    """A delivery of any kind; the right secret unless another is named."""
    return httpx2.post(
        workshop.url("/webhook"), content=content, headers=HEADER if headers is None else headers, timeout=20
    )


def basic(password: str, user: str = "anyone") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("wrong"),
        basic(""),
        basic(SECRET.upper()),
        basic("x", user=SECRET),
        {"Authorization": "Basic ?"},
        {"Authorization": f"Bearer {SECRET}"},
        {"X-Webhook-Secret": SECRET[:-1]},
    ],
    ids=str,
)
def test_pages_want_the_secret(running: Workshop, path: str, headers: dict[str, str]) -> None:
    """All of them, before they say whether anything is there."""
    answer = httpx2.get(running.url(path), headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Basic realm="antidote-ci"')


def test_secret_opens_the_pages(running: Workshop) -> None:
    """From a browser as the password of any user, from a script by the header."""
    for headers in (basic(SECRET), basic(SECRET, user=""), HEADER):
        assert httpx2.get(running.url("/"), headers=headers).status_code == 200
        assert httpx2.get(running.url("/runs/some-run/report.html"), headers=headers).status_code == 404


@pytest.mark.parametrize("headers", [{}, {"X-Webhook-Secret": ""}, {"X-Webhook-Secret": SECRET + "x"}, basic(SECRET)])
def test_forged_delivery(repository: Repository, headers: dict[str, str]) -> None:
    """A browser that knows the password sends no deliveries either."""
    (a,) = repository.commits(1)
    answer = post(repository.workshop, payload(a), headers)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})
    assert a not in {entry.request.revision for entry in repository.workshop.entries()}


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/metrics", "/runs", "/webhook", "/health"])
def test_nothing_else_is_there(running: Workshop, path: str) -> None:
    """No documentation of itself, no list of anything."""
    assert httpx2.get(running.url(path), headers=HEADER).status_code in (404, 405)


def test_health_is_for_everyone_and_says_little(running: Workshop) -> None:
    """Liveness and readiness."""
    assert httpx2.get(running.url("/health/live")).json() == {"status": "live"}
    assert httpx2.get(running.url("/health/ready")).json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("path", "headers"), [("/", HEADER), ("/", {}), ("/health/live", {}), ("/nowhere", {}), ("/webhook", {})]
)
def test_every_answer_is_guarded(running: Workshop, path: str, headers: dict[str, str]) -> None:
    """No sniffing, no frame, no cache, no name of the server."""
    answer = httpx2.get(running.url(path), headers=headers)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "server" not in answer.headers
    if answer.headers["content-type"].startswith("text/html"):
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 1000):
        yield b" " * 1000


@pytest.mark.parametrize("size", [MAX_BYTES + 1, 10 * MAX_BYTES])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_body_that_is_too_large(running: Workshop, size: int, is_chunked: bool) -> None:
    """Before anyone asks for the secret, and whether or not its length is announced."""
    answer = post(running, chunks(size + 1000) if is_chunked else b" " * size, {})
    assert (answer.status_code, answer.json()) == (413, {"detail": "at most 65536 bytes"})


def test_body_of_any_length_is_not_kept(running: Workshop) -> None:
    """One that is announced with a terabyte is cut off after a mebibyte."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    connection.putrequest("POST", "/webhook")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    megabytes = 0
    # A broken pipe, or a reset, once the buffers of both ends are full.
    with suppress(OSError):
        while megabytes < 60:
            connection.send(b" " * 1_000_000)
            megabytes += 1
    connection.close()
    assert megabytes < 60


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"webhook": {"version": 4}}', payload("not a commit")])
def test_body_that_is_no_payload(running: Workshop, body: bytes) -> None:
    """400 with a reason that quotes nothing of it; with a wrong secret not even that."""
    answer = post(running, body)
    assert answer.status_code == 400
    assert 10 < len(answer.json()["detail"]) < 100
    assert post(running, body, {}).status_code == 401


def test_payload_of_a_later_version_says_so(running: Workshop) -> None:
    """Upgrade: the Hub would go on sending."""
    answer = post(running, payload(commit(1), webhook={"id": "w", "version": 4}))
    assert answer.status_code == 400
    assert "version" in answer.json()["detail"]


def test_delivery_that_asks_for_nothing(running: Workshop) -> None:
    """2xx, so that the Hub does not send it again; with the reason."""
    reasons = [
        post(running, payload(commit(7), repository="other/model")).json(),
        post(
            running, payload(commit(7), updatedRefs=[{"ref": "refs/pr/1", "oldSha": None, "newSha": commit(7)}])
        ).json(),
        post(running, payload(commit(7), event={"action": "update", "scope": "discussion"})).json(),
    ]
    assert [each["status"] for each in reasons] == ["ignored"] * 3
    assert reasons[0]["reason"] == "other/model is not on the list of repositories"
    assert commit(7) not in {entry.request.revision for entry in running.entries()}


def test_accepted_delivery_names_its_order(repository: Repository) -> None:
    """By which it is found again."""
    (a,) = repository.commits(1)
    answer = repository.deliver(a)
    order = RunRequest(f"org/{repository.name}", a, repository.workshop.settings.policy_sha256)
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted", "id": order.id})


def test_files_of_a_run(repository: Repository) -> None:
    """Linked from the page, of their kinds, and nothing beside them."""
    (a,) = repository.commits(1)
    repository.deliver(a)
    repository.outcome(a)
    workshop = repository.workshop
    page = httpx2.get(workshop.url("/"), headers=HEADER).text
    order = RunRequest(f"org/{repository.name}", a, workshop.settings.policy_sha256)
    folder = run_folder(order, workshop.settings)
    for name, (_, kind) in FILES.items():
        link = f"runs/{folder.name}/{name}"
        assert f'href="{link}"' in page
        answer = httpx2.get(workshop.url(f"/{link}"), headers=HEADER)
        assert answer.headers["content-type"] == kind
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.content
    assert "this is the log" in httpx2.get(workshop.url(f"/runs/{folder.name}/log.txt"), headers=HEADER).text
    for name in (
        "lock",
        "model/weights",
        "out/report.html",
        "..%2f..%2fpolicy.toml",
        "../../policy.toml",
        "%2e%2e/log.txt",
    ):
        assert raw(workshop, f"/runs/{folder.name}/{name}") == 404
    for path in (
        "/runs/../policy.toml",
        "/runs/%2e%2e/policy.toml",
        "/runs/./log.txt",
        "/runs//log.txt",
        "/queue.sqlite",
    ):
        assert raw(workshop, path) == 404


def raw(workshop: Workshop, path: str) -> int:
    """The status of a path as it is written: clients tidy up what leads upwards."""
    connection = http.client.HTTPConnection("127.0.0.1", workshop.port, timeout=20)
    connection.putrequest("GET", path)
    connection.putheader(*next(iter(HEADER.items())))
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def test_log_of_the_service_has_no_secret(repository: Repository) -> None:
    """Neither the secret nor a token, whatever was sent; and no line for what strangers send."""
    workshop = repository.workshop
    before = len(workshop.said())
    post(workshop, payload(commit(3)), {"X-Webhook-Secret": "hf_0123456789abcdefghij"})
    httpx2.get(workshop.url(f"/nowhere?secret={SECRET}"))
    httpx2.get(workshop.url("/"), headers=basic(SECRET))
    with socket.create_connection(("127.0.0.1", workshop.port)) as connection:
        connection.sendall(b"\x00garbage\r\n\r\n")
        assert b"400" in connection.recv(1000)
    # Orders of other tests may end meanwhile, of other repositories.
    said = [line for line in workshop.said()[before:].splitlines() if not re.match(r"org/(?!model )", line)]
    assert said == []
    assert SECRET not in workshop.said()
    assert "hf_of_the_tests" not in workshop.said()


def test_answers_stay_fast_while_a_run_computes(repository: Repository) -> None:
    """The enqueue is one short transaction, and the child is nice."""
    repository.workshop.runs(seconds=3)
    a, *others = repository.commits(60)
    repository.deliver(a)
    repository.workshop.started(a)
    took = []
    with httpx2.Client() as client:
        for other in others:
            began = time.monotonic()
            answer = client.post(
                repository.workshop.url("/webhook"), content=payload(other, f"org/{repository.name}"), headers=HEADER
            )
            took.append(time.monotonic() - began)
            assert answer.status_code == 202
    assert sorted(took)[len(took) // 2] < 0.2
    repository.moves_to(a)


@pytest.mark.slow
def test_body_that_never_comes(running: Workshop) -> None:
    """408, and the connection is free again."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
        connection.sendall(b"POST /webhook HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n")
        began = time.monotonic()
        assert b"408" in connection.recv(1000).splitlines()[0]
        assert time.monotonic() - began >= SECONDS_FOR_A_BODY - 1
        assert connection.recv(1000) in (b"", json.dumps({"detail": "Request Timeout"}, separators=(",", ":")).encode())


def test_listens_where_it_says(running: Workshop) -> None:
    """On one address alone."""
    assert re.findall(r"listening on (\S+)", running.said()) == [f"http://127.0.0.1:{running.port}"]
