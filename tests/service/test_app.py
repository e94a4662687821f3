"""The HTTP application, tested over HTTP: access control, answers and headers."""

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

from antidote_ci.service.app import BODY_SECONDS, FILES
from antidote_ci.service.events import MAX_BYTES
from antidote_ci.service.executor import run_folder
from antidote_ci.service.records import RunRequest
from tests.service.service_process import HEADER, SECRET, Repository, ServiceProcess, commit, payload

PAGES = ["/", "/models", "/runs/some-run/report.html", "/runs/some-run/report.json", "/runs/some-run/log.txt"]


def post(
    service: ServiceProcess, content: bytes | Iterator[bytes], headers: dict[str, str] | None = None
) -> httpx2.Response:
    """Send a delivery, with the right secret unless headers are given."""
    return httpx2.post(
        service.url("/webhook"), content=content, headers=HEADER if headers is None else headers, timeout=20
    )


def basic(password: str, user: str = "anyone") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


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
def test_pages_require_the_secret(running: ServiceProcess, headers: dict[str, str]) -> None:
    """Pages that do not exist answer the same."""
    for path in PAGES:
        answer = httpx2.get(running.url(path), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith('Basic realm="antidote-ci"')


def test_secret_gives_access_to_the_pages(running: ServiceProcess) -> None:
    """As the password of any user, or as a header."""
    for headers in (basic(SECRET), basic(SECRET, user=""), HEADER):
        assert httpx2.get(running.url("/"), headers=headers).status_code == 200
        assert httpx2.get(running.url("/runs/some-run/report.html"), headers=headers).status_code == 404


@pytest.mark.parametrize("headers", [{}, {"X-Webhook-Secret": ""}, {"X-Webhook-Secret": SECRET + "x"}, basic(SECRET)])
def test_delivery_without_the_secret_is_refused(repository: Repository, headers: dict[str, str]) -> None:
    """The password of HTTP Basic does not authorise deliveries."""
    (a,) = repository.commits(1)
    answer = post(repository.service, payload(a), headers)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})
    assert a not in {entry.request.revision for entry in repository.service.entries()}


@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/openapi.json", "/metrics", "/runs", "/webhook", "/health", "/models/"]
)
def test_no_other_routes(running: ServiceProcess, path: str) -> None:
    """No API documentation, no listings, and no redirect to the host that a request names."""
    assert httpx2.get(running.url(path), headers=HEADER).status_code in (404, 405)


def test_health_needs_no_secret(running: ServiceProcess) -> None:
    assert httpx2.get(running.url("/health/live")).json() == {"status": "live"}
    assert httpx2.get(running.url("/health/ready")).json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("path", "headers"), [("/", HEADER), ("/", {}), ("/health/live", {}), ("/nowhere", {}), ("/webhook", {})]
)
def test_security_headers_of_every_answer(running: ServiceProcess, path: str, headers: dict[str, str]) -> None:
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
def test_large_body_is_refused(running: ServiceProcess, size: int, is_chunked: bool) -> None:
    """With and without a Content-Length, and before the secret is checked."""
    answer = post(running, chunks(size + 1000) if is_chunked else b" " * size, {})
    assert (answer.status_code, answer.json()) == (413, {"detail": "at most 65536 bytes"})


def test_endless_body_is_cut_off(running: ServiceProcess) -> None:
    """The service stops reading after a mebibyte."""
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
def test_invalid_payload(running: ServiceProcess, body: bytes) -> None:
    """400 with a reason that quotes nothing of the payload; 401 with a wrong secret."""
    answer = post(running, body)
    assert answer.status_code == 400
    assert 10 < len(answer.json()["detail"]) < 100
    assert post(running, body, {}).status_code == 401


def test_delivery_that_requests_nothing_is_answered_with_2xx(running: ServiceProcess) -> None:
    """The Hub must not send it again."""
    reasons = [
        post(running, payload(commit(7), repository="other/model")).json(),
        post(
            running, payload(commit(7), updatedRefs=[{"ref": "refs/pr/1", "oldSha": None, "newSha": commit(7)}])
        ).json(),
        post(running, payload(commit(7), event={"action": "update", "scope": "discussion"})).json(),
    ]
    assert [answer["status"] for answer in reasons] == ["ignored"] * 3
    assert reasons[0]["reason"] == "other/model is not on the allow list"
    assert commit(7) not in {entry.request.revision for entry in running.entries()}


def test_accepted_delivery_returns_its_request_id(repository: Repository) -> None:
    (a,) = repository.commits(1)
    answer = repository.deliver(a)
    request = RunRequest(f"org/{repository.name}", a, repository.service.settings.policy_sha256)
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted", "id": request.id})


def test_files_of_a_run(repository: Repository) -> None:
    """They are linked from the page, and no other file is served."""
    (a,) = repository.commits(1)
    repository.deliver(a)
    repository.outcome(a)
    service = repository.service
    page = httpx2.get(service.url("/"), headers=HEADER).text
    request = RunRequest(f"org/{repository.name}", a, service.settings.policy_sha256)
    folder = run_folder(request, service.settings)
    for name, (_, kind) in FILES.items():
        link = f"runs/{folder.name}/{name}"
        assert f'href="{link}"' in page
        answer = httpx2.get(service.url(f"/{link}"), headers=HEADER)
        assert answer.headers["content-type"] == kind
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.content
    assert "this is the log" in httpx2.get(service.url(f"/runs/{folder.name}/log.txt"), headers=HEADER).text
    for name in (
        "lock",
        "model/weights",
        "out/report.html",
        "..%2f..%2fpolicy.toml",
        "../../policy.toml",
        "%2e%2e/log.txt",
    ):
        assert raw(service, f"/runs/{folder.name}/{name}") == 404
    for path in (
        "/runs/../policy.toml",
        "/runs/%2e%2e/policy.toml",
        "/runs/./log.txt",
        "/runs//log.txt",
        "/queue.sqlite",
    ):
        assert raw(service, path) == 404


def raw(service: ServiceProcess, path: str) -> int:
    """The status of a path without the normalisation of HTTP clients."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
    connection.putrequest("GET", path)
    connection.putheader(*next(iter(HEADER.items())))
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def test_service_log_contains_no_secret(repository: Repository) -> None:
    """And no line about requests of strangers."""
    service = repository.service
    before = len(service.said())
    post(service, payload(commit(3)), {"X-Webhook-Secret": "hf_0123456789abcdefghij"})
    httpx2.get(service.url(f"/nowhere?secret={SECRET}"))
    httpx2.get(service.url("/"), headers=basic(SECRET))
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(b"\x00garbage\r\n\r\n")
        assert b"400" in connection.recv(1000)
    # Requests of other tests may end meanwhile.
    said = [line for line in service.said()[before:].splitlines() if not re.match(r"org/(?!model )", line)]
    assert said == []
    assert SECRET not in service.said()
    assert "hf_of_the_tests" not in service.said()


def test_answers_are_fast_during_a_run(repository: Repository) -> None:
    repository.service.runs(seconds=3)
    a, *others = repository.commits(40)
    repository.deliver(a)
    repository.service.started(a)
    took = []
    with httpx2.Client() as client:
        for other in others:
            began = time.monotonic()
            answer = client.post(
                repository.service.url("/webhook"), content=payload(other, f"org/{repository.name}"), headers=HEADER
            )
            took.append(time.monotonic() - began)
            assert answer.status_code == 202
    assert sorted(took)[len(took) // 2] < 0.2
    repository.moves_to(a)


@pytest.mark.slow
def test_incomplete_body_times_out(running: ServiceProcess) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
        connection.sendall(b"POST /webhook HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n")
        began = time.monotonic()
        assert b"408" in connection.recv(1000).splitlines()[0]
        assert time.monotonic() - began >= BODY_SECONDS - 1
        assert connection.recv(1000) in (b"", json.dumps({"detail": "Request Timeout"}, separators=(",", ":")).encode())


def test_listens_on_one_address(running: ServiceProcess) -> None:
    assert re.findall(r"listening on (\S+)", running.said()) == [f"http://127.0.0.1:{running.port}"]
