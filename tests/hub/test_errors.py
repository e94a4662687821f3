"""Error responses through the real client: each is translated, and docs/hub-errors.md shows every row."""

import errno
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants, errors, file_download
from huggingface_hub.utils import _http
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antidote_ci.errors import AntidoteError, ConfigurationError, InfrastructureError, PublishConflict
from antidote_ci.hub import client, commits, error_table, jobs_api, webhooks
from antidote_ci.hub.access import HubAccess, read_account
from antidote_ci.hub.error_table import HubErrorMeaning, Purpose
from antidote_ci.hub.errors import is_unauthorized, meaning_of_status, retry_delay, to_antidote_error, translate_errors
from antidote_ci.hub.retry import RetryPolicy
from tests.hub.canned import JSON, Canned, CannedHub, Request
from tests.hub.hub_samples import Clock, hub_error

DOCUMENT = Path(__file__).parents[2] / "docs" / "hub-errors.md"
IT = "org/model"
KEY = "hf_aTokenOfTheseTests"
ONCE = RetryPolicy(0)
PURPOSES: tuple[Purpose, ...] = ("reading", "publishing", "exchanging", "submitting", "managing")
STATUSES = sorted(
    set(error_table.STATUS_MEANINGS) | {405, 410, 413, 409, 418, 425, 431, 451, 499, 500, 502, 503, 504, 505, 520, 599}
)
PREUPLOAD = Canned(200, b'{"files": [{"path": "a.txt", "uploadMode": "regular", "shouldIgnore": false}]}', JSON)

Call = Callable[[HfApi], object]
READING: dict[str, Call] = {
    "model_info": lambda api: client.fetch_model_info(api, IT),
    "auth_check": lambda api: api.auth_check(IT),
    "tree": lambda api: list(api.list_repo_tree(IT)),
    "download": lambda api: api.hf_hub_download(IT, "config.json"),
    "snapshot": lambda api: api.snapshot_download(IT, revision="0" * 40),
    "whoami": lambda api: api.whoami(),
}
PUBLISHING: dict[str, Call] = {
    "create_commit": lambda api: api.create_commit(IT, [CommitOperationAdd("a.txt", b"a")], commit_message="a"),
    "create_repo": lambda api: api.create_repo(IT, private=True),
    "comment": lambda api: api.comment_discussion(IT, 1, "a"),
}
SUBMITTING: dict[str, Call] = {
    "run_job": lambda api: api.run_job(image="a", command=["b"], namespace="org"),
    "list_jobs": lambda api: list(api.list_jobs(namespace="org")),
    "hardware": lambda api: api.list_jobs_hardware(),
}
MANAGING: dict[str, Call] = {
    "list_webhooks": lambda api: api.list_webhooks(),
    "create_webhook": lambda api: api.create_webhook(watched=[{"type": "model", "name": IT}], url="https://host/a"),
    "delete_webhook": lambda api: api.delete_webhook("a"),
}
CALLS: list[tuple[str, Call, Purpose]] = [
    *((name, call, "reading") for name, call in READING.items()),
    *((name, call, "publishing") for name, call in PUBLISHING.items()),
    *((name, call, "submitting") for name, call in SUBMITTING.items()),
    *((name, call, "managing") for name, call in MANAGING.items()),
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CannedHub]:
    """Answers 200 without a body until a test replaces the answer. The client does not sleep between attempts."""
    with pytest.MonkeyPatch.context() as patch, CannedHub(lambda _: Canned()) as running:
        patch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_ENDPOINT", running.endpoint)
        for module in (_http, file_download):
            patch.setattr(module, "time", SimpleNamespace(sleep=lambda _: None))
        yield running


def refusing(answer: Canned) -> Callable[[Request], Canned]:
    """Return `answer` for every request except the one that prepares a commit."""
    return lambda request: PREUPLOAD if "/preupload/" in request.path else answer


def raised_by(call: Call, purpose: Purpose, token: str | None = KEY) -> AntidoteError:
    with pytest.raises(AntidoteError) as raised:
        HubAccess(token, ONCE, purpose).request(IT, call)
    assert raised.value.__cause__ is None
    return raised.value


def filled(
    meaning: HubErrorMeaning, status: int | str | None, purpose: Purpose, hub: str, identifier: str = IT
) -> list[str]:
    """The texts of a row."""
    names = {"it": identifier, "hub": hub, "status": status}
    terms = {name: text.format(**names) for name, text in asdict(error_table.PURPOSE_TERMS[purpose]).items()}
    return [text.format(**names, **terms) for text in (meaning.what, meaning.cause, meaning.hint)]


def assert_means(
    error: AntidoteError,
    meaning: HubErrorMeaning,
    hub: CannedHub,
    status: int | None = None,
    purpose: Purpose = "reading",
) -> None:
    what, cause, hint = filled(meaning, status, purpose, hub.endpoint)
    assert type(error) is meaning.error
    assert (error.what, error.hint) == (what, hint)
    assert str(error.cause).startswith(cause)


@pytest.mark.parametrize(("name", "call", "purpose"), CALLS, ids=[name for name, *_ in CALLS])
def test_every_status_of_every_request(hub: CannedHub, name: str, call: Call, purpose: Purpose) -> None:
    for status in STATUSES:
        headers = {**JSON, "X-Error-Message": "the reason it gives"}
        hub.answer = refusing(Canned(status, b'{"error": "the reason it gives"}', headers))
        error = raised_by(call, purpose)
        assert_means(error, meaning_of_status(status, purpose), hub, status, purpose)
        # For these the client replaces the reason by advice of its own.
        assert ("(the reason it gives" in str(error.cause)) != (name == "whoami" and status in (401, 429))


def test_exit_codes_of_statuses() -> None:
    for status in range(400, 600):
        for purpose in PURPOSES:
            expected: type[AntidoteError] = InfrastructureError
            if status == 412 or (status == 409 and purpose == "publishing"):
                expected = PublishConflict
            assert meaning_of_status(status, purpose).error is expected


def test_transient_statuses_are_the_same_for_every_purpose() -> None:
    for status in range(400, 600):
        transient = {meaning_of_status(status, purpose).transient for purpose in PURPOSES}
        assert transient == {status in (408, 429) or (status >= 500 and status not in (501, 511))}, status


@pytest.mark.parametrize(
    ("code", "status", "meaning"),
    [
        ("RepoNotFound", 404, error_table.UNKNOWN_REPOSITORY),
        ("RepoNotFound", 401, error_table.UNKNOWN_REPOSITORY),
        ("RevisionNotFound", 404, error_table.UNKNOWN_REVISION),
        ("EntryNotFound", 404, error_table.UNKNOWN_FILE),
        ("GatedRepo", 403, error_table.GATED),
    ],
)
def test_error_codes_of_the_hub(hub: CannedHub, code: str, status: int, meaning: HubErrorMeaning) -> None:
    hub.answer = refusing(Canned(status, b'{"error": "no"}', {**JSON, "X-Error-Code": code}))
    for name, call, purpose in CALLS:
        if name == "whoami":
            continue
        assert_means(raised_by(call, purpose), meaning, hub, purpose=purpose)


def test_gated_repository(hub: CannedHub) -> None:
    message = f"Your request to access model {IT} is awaiting a review from the repo authors."
    hub.answer = refusing(Canned(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": message}))
    for call in READING.values():
        error = raised_by(call, "reading")
        assert_means(error, error_table.GATED, hub)
        assert "is awaiting a review" in str(error.cause)
    hub.answer = refusing(Canned(401, b"", {"X-Error-Code": "GatedRepo"}))
    assert_means(raised_by(READING["download"], "reading", None), error_table.GATED, hub)


def test_disabled_repository(hub: CannedHub) -> None:
    hub.answer = refusing(Canned(403, b"", {"X-Error-Message": "Access to this resource is disabled."}))
    for _, call, purpose in CALLS:
        assert_means(raised_by(call, purpose), error_table.DISABLED, hub)


def test_silent_hub_times_out(hub: CannedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls of the client set no timeout, so TIMEOUTS applies."""
    monkeypatch.setitem(client.TIMEOUTS, "read", 0.1)

    def late(_: Request) -> Canned:
        time.sleep(0.3)
        return Canned()

    hub.answer = late
    for name in ("auth_check", "whoami", "create_repo"):
        assert_means(raised_by({**READING, **PUBLISHING}[name], "reading"), error_table.NOT_IN_TIME, hub)


def test_timeout_of_a_call_is_kept(hub: CannedHub) -> None:
    seen: list[dict[str, float]] = []
    client.configure_client()
    session = _http.get_session()
    hooks = session.event_hooks
    hooks["request"].append(lambda request: seen.append(request.extensions["timeout"]))
    session.event_hooks = hooks
    try:
        hub.answer = lambda _: Canned(404)
        for call in (lambda api: api.model_info(IT, timeout=7.0), READING["auth_check"]):
            raised_by(call, "reading")
    finally:
        _http.close_session()
    assert [timeout["read"] for timeout in seen] == [7.0, client.TIMEOUTS["read"]]
    assert client.TIMEOUTS["read"] > 60, "the Hub may take as long for a commit"


@pytest.mark.parametrize("headers", [{"Retry-After": "3600"}, {"RateLimit": '"api";r=0;t=3600'}])
def test_client_does_not_sleep_for_long_requested_waits(
    hub: CannedHub, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=slept.append))
    hub.answer = refusing(Canned(429, b"", headers))
    for name in ("tree", "download", "model_info"):
        error = raised_by(READING[name], "reading")
        assert "the server asks to wait for 60 min" in str(error.cause)
    assert slept == []


@pytest.mark.parametrize("body", [b"<html>Log in</html>", b"[]", b"null", b"7", b"\xff\xfe", b"[" * 5000])
def test_server_is_not_a_hub(hub: CannedHub, body: bytes) -> None:
    hub.answer = lambda _: Canned(200, body, JSON)
    for name in ("model_info", "create_commit", "whoami" if body.startswith(b"<") else "create_repo"):
        call = {**READING, **PUBLISHING}[name]
        assert_means(raised_by(call, "reading"), error_table.NOT_A_HUB, hub)


def test_endless_list_ends(hub: CannedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_ANSWERS", 20)
    hub.requests.clear()
    hub.answer = lambda _: Canned.of({"count": 10**9, "start": 0, "discussions": []})
    error = raised_by(lambda api: list(api.get_repo_discussions(IT)), "reading")
    assert_means(error, error_table.NOT_A_HUB, hub)
    assert len(hub.requests) == 21


ACCOUNT = {"name": "ada", "type": "user", "auth": {"accessToken": {"role": "write"}}, "orgs": [{"name": "org"}]}
JOB = {
    "id": "a",
    "createdAt": "2026-01-01T00:00:00.000Z",
    "command": ["a"],
    "environment": {"A": "b"},
    "flavor": "cpu-basic",
    "status": {"stage": "RUNNING", "message": None},
    "owner": {"id": "a", "name": "ada", "type": "user"},
}
HARDWARE = {
    "name": "cpu-basic",
    "prettyName": "CPU",
    "cpu": "2 vCPU",
    "ram": "16 GB",
    "accelerator": None,
    "unitCostMicroUSD": 1,
    "unitCostUSD": 0.01,
    "unitLabel": "hour",
}
WEBHOOK = {
    "id": "a",
    "url": "https://host/a",
    "watched": [{"type": "model", "name": IT}],
    "domains": ["repo"],
    "disabled": False,
    "secret": None,
    "job": None,
}
MODEL = {"id": IT, "sha": "a" * 40, "siblings": [{"rfilename": "a", "size": 1, "blobId": "b" * 40}]}
STRANGE: list[object] = [None, 7, ["x"], {"a": 1}, "\x1b[2J\n::error::x", float("nan"), -1]
ANSWERS: dict[str, tuple[object, Callable[[HubAccess], object]]] = {
    "account": (ACCOUNT, lambda access: read_account(access, IT)),
    "heads": ([{"id": IT, "sha": "a" * 40}], lambda access: commits.list_main_heads(access, "org/*")),
    "tree": (MODEL, lambda access: access.request(IT, lambda api: commits.read_tree(api, IT, "main"))),
    "hardware": ([HARDWARE], jobs_api.list_hardware),
    "job": (
        JOB,
        lambda access: access.request(IT, lambda api: jobs_api.to_job(api.inspect_job(job_id="a", namespace="b"))),
    ),
    "webhooks": ([WEBHOOK], webhooks.list_webhooks),
}


def variants(value: object) -> Iterator[object]:
    """The value with each of its parts replaced by each strange value."""
    yield from STRANGE
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(parts):
        for variant in variants(part):
            yield {**value, key: variant} if isinstance(value, dict) else [variant]


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_with_values_of_other_types_are_errors_or_harmless(hub: CannedHub, name: str) -> None:
    """Only AntidoteError is raised: nothing else than these types reaches the rest of the program."""
    answer, call = ANSWERS[name]
    hub.answer = lambda _: Canned.of(answer)
    call(HubAccess(KEY, ONCE))
    for number, variant in enumerate(variants(answer)):
        hub.answer = partial(_always, Canned.of(variant))
        with suppress(AntidoteError):
            call(HubAccess(f"{KEY}{number}", ONCE))  # the client remembers the account of a token


def _always(answer: Canned, _: Request) -> Canned:
    return answer


def test_deeply_nested_history_is_not_a_hub(hub: CannedHub) -> None:
    hub.answer = lambda _: Canned(200, b"[" * 200_000, JSON)
    error = raised_by(lambda api: client.fetch_commit_message(api, IT, "a" * 40), "reading")
    assert_means(error, error_table.NOT_A_HUB, hub)


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -1.0])
def test_impossible_prices_are_refused(hub: CannedHub, price: float) -> None:
    """A Job starts without asking when its cost was printed."""
    hub.answer = lambda _: Canned.of([{**HARDWARE, "unitCostUSD": price}])
    with pytest.raises(InfrastructureError, match="does not answer like a Hub"):
        jobs_api.list_hardware(HubAccess(KEY, ONCE))


def test_description_with_a_key_named_self(hub: CannedHub) -> None:
    hub.answer = lambda _: Canned(200, json.dumps({"id": IT, "self": "x", "cardData": {"self": 1}}).encode(), JSON)
    assert client.fetch_model_info(client.create_api(None), IT).id == IT


def test_download_from_another_server(hub: CannedHub) -> None:
    hub.answer = lambda _: Canned(200, b"hello")
    assert_means(raised_by(READING["download"], "reading"), error_table.NOT_A_HUB, hub)


CODES = st.sampled_from(["RepoNotFound", "RevisionNotFound", "EntryNotFound", "GatedRepo", "JobNotFound", "", "?"])
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "errors", "error_description", "message", "id", "sha"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
BODIES = st.one_of(
    st.just(b""), st.binary(max_size=60), VALUES.map(lambda value: json.dumps(value).encode()),
    TEXT.map(lambda text: f"<html>{text}</html>".encode()),
)  # fmt: skip
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "X-Error-Code": CODES,
        "X-Error-Message": TEXT,
        "Content-Type": st.sampled_from(["application/json", "text/html", "text/plain", "text/plain; charset=x", ""]),
        "Retry-After": st.sampled_from(["0", "5", "²", "9" * 400, "soon", "Wed, 21 Oct 2015 07:28:00 GMT"]) | TEXT,
        "RateLimit": st.sampled_from(['"api";r=0;t=1', f'"api";r=0;t={"9" * 5000}', '"api";r=5;t=9']),
    },
)


@given(
    status=st.integers(400, 599), body=BODIES, headers=HEADERS, which=st.sampled_from(CALLS), with_token=st.booleans()
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_error_response_is_translated(
    hub: CannedHub,
    status: int,
    body: bytes,
    headers: dict[str, str],
    which: tuple[str, Call, Purpose],
    with_token: bool,
) -> None:
    """Any status, body and headers become an AntidoteError with texts of one line."""
    hub.answer = refusing(Canned(status, body, headers))
    _, call, purpose = which
    error = raised_by(call, purpose, KEY if with_token else None)
    for text in (error.what, error.cause, error.hint):
        assert text
        assert text.isprintable()
        assert len(text) < 1000


@given(value=VALUES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_invalid_success_response_is_translated(hub: CannedHub, value: object) -> None:
    hub.answer = lambda _: Canned(200, json.dumps(value).encode(), JSON)
    for name in ("model_info", "tree", "create_commit", "create_repo", "comment"):
        with suppress(AntidoteError):
            HubAccess(KEY, ONCE).request(IT, {**READING, **PUBLISHING}[name])


def after(cause: Exception, error: Exception) -> Exception:
    """`error` as it is raised while `cause` is handled."""
    error.__context__ = cause
    return error


XET = "Network error: Request error: HTTP status client error ({}), domain: http://127.0.0.1/api/models"
CLIENT_ERRORS: list[tuple[Exception, HubErrorMeaning, bool]] = [
    (errors.OfflineModeIsEnabled("no"), error_table.OFFLINE, False),
    (errors.LocalEntryNotFoundError("no"), error_table.NOT_REACHED, True),
    (errors.IncompleteSnapshotError("no", "/nowhere"), error_table.NOT_REACHED, True),
    (errors.RevisionResolutionError("no"), error_table.NOT_REACHED, True),
    (errors.HFValidationError("no"), error_table.NOT_A_NAME, False),
    (errors.FileMetadataError("no"), error_table.NOT_A_HUB, False),
    (errors.OIDCError("no"), error_table.IDENTITY, False),
    (errors.XetDownloadError("no"), error_table.STORAGE, True),
    (errors.LocalTokenNotFoundError("no"), error_table.NOT_TRANSFERRED, False),
    (hub_error(errors.BadRequestError, 400), error_table.STATUS_MEANINGS[400], False),
    (hub_error(errors.HfHubHTTPError, 503), error_table.OTHER_FAILURE, True),
    (httpx2.ConnectError("refused"), error_table.NOT_REACHED, True),
    (after(socket.gaierror(socket.EAI_AGAIN, "later"), httpx2.ConnectError("no")), error_table.NOT_REACHED, True),
    (after(socket.gaierror(socket.EAI_NONAME, "who?"), httpx2.ConnectError("no")), error_table.NO_SUCH_HOST, False),
    (httpx2.RemoteProtocolError("cut"), error_table.NOT_REACHED, True),
    (httpx2.ReadTimeout("late"), error_table.NOT_IN_TIME, True),
    (TimeoutError("late"), error_table.NOT_IN_TIME, True),
    (httpx2.ProxyError("407"), error_table.NOT_REACHED, True),
    (httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), error_table.NOT_TRUSTED, False),
    (httpx2.UnsupportedProtocol("no"), error_table.NOT_AN_ADDRESS, False),
    (httpx2.InvalidURL("no"), error_table.NOT_AN_ADDRESS, False),
    (httpx2.LocalProtocolError("no"), error_table.NOT_SENT, False),
    (httpx2.TooManyRedirects("no"), error_table.NOT_A_HUB, False),
    (httpx2.DecodingError("no"), error_table.NOT_A_HUB, False),
    (json.JSONDecodeError("no", "", 0), error_table.NOT_A_HUB, False),
    (ConnectionError("no route"), error_table.NOT_REACHED, True),
    (ConnectionError(XET.format("404 Not Found")), error_table.NO_XET, False),
    (ConnectionError(XET.format("401 Unauthorized")), error_table.STATUS_MEANINGS[401], False),
    (RuntimeError(XET.format("503 Service Unavailable")), error_table.OTHER_FAILURE, True),
    (ValueError("LFS batch API returned errors:\nEncountered error"), error_table.STORAGE_REFUSED, False),
    (ValueError("Invalid metadata in README.md.\n- license is wrong"), error_table.BAD_CARD, False),
    (OSError("Consistency check failed: file should be of size 5"), error_table.CUT_SHORT, True),
    (OSError(errno.ENOSPC, "no space"), error_table.NOT_WRITTEN, False),
    (OSError(errno.EROFS, "read-only"), error_table.NOT_WRITTEN, False),
    (OSError(errno.EIO, "broken"), error_table.NOT_TRANSFERRED, False),
]


@pytest.mark.parametrize(("error", "meaning", "retried"), CLIENT_ERRORS, ids=lambda value: type(value).__name__)
def test_other_exceptions_of_the_client(
    hub: CannedHub, error: Exception, meaning: HubErrorMeaning, retried: bool
) -> None:
    with pytest.raises(AntidoteError) as raised, translate_errors(IT, KEY):
        raise error
    status = next((status for status in (400, 401, 404, 503) if str(status) in raised.value.what), None)
    assert_means(raised.value, meaning, hub, status)
    assert (retry_delay(error) is not None) == retried
    # The webhook service retries in both cases. A user would wait for a mistyped host name.
    assert raised.value.passing == meaning.transient == (retried or meaning is error_table.NO_SUCH_HOST)


def test_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    translated = to_antidote_error(errors.LocalEntryNotFoundError("no"), IT, None)
    assert translated is not None
    assert translated.cause == error_table.OFFLINE.cause
    assert retry_delay(errors.LocalEntryNotFoundError("no")) is None


def test_invalid_endpoint(hub: CannedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("huggingface.co", "ftp://huggingface.co", "http://127.0.0.1:x"):
        monkeypatch.setenv("HF_ENDPOINT", address)
        error = raised_by(READING["model_info"], "reading")
        assert isinstance(error, ConfigurationError)
        assert error.what == f"{address} is not a valid address of a Hub"


def test_token_with_a_line_end_cannot_be_sent(hub: CannedHub) -> None:
    error = raised_by(READING["model_info"], "reading", "two\nlines")
    assert (error.what, error.exit_code) == (f"the request for {IT} cannot be sent", 2)


def test_wrapped_exceptions_are_unwrapped() -> None:
    for wrapper in (
        errors.LocalEntryNotFoundError("look"),
        errors.RevisionResolutionError("look"),
        RuntimeError("Error while uploading"),
    ):
        with pytest.raises(InfrastructureError, match="is gated"), translate_errors(IT, None):
            raise wrapper from hub_error(errors.GatedRepoError, 403)


def test_other_exceptions_are_not_translated() -> None:
    for failure in (KeyError("a bug"), RuntimeError("another"), ValueError("a third")):
        with pytest.raises(type(failure)) as raised, translate_errors(IT, None):
            raise failure
        assert raised.value is failure


def test_exception_of_a_callback_is_not_translated(hub: CannedHub) -> None:
    """A bug of this package inside a call of the client is not an error of the Hub."""

    def mistaken() -> Iterator[CommitOperationAdd]:
        client.redact_secrets(b"bytes", KEY)  # type: ignore[arg-type]
        yield CommitOperationAdd("a.txt", b"a")

    with pytest.raises(TypeError, match="bytes-like"):
        HubAccess(KEY, ONCE).request(IT, lambda api: api.create_commit(IT, mistaken(), commit_message="a"))


def test_own_errors_are_redacted() -> None:
    with pytest.raises(PublishConflict) as raised, translate_errors(IT, KEY):
        raise PublishConflict(f"moved to {KEY}", cause="it moved", hint="again")
    assert (raised.value.what, raised.value.cause, raised.value.hint) == ("moved to [token]", "it moved", "again")


def test_message_of_the_hub_is_one_short_line(hub: CannedHub) -> None:
    message = "no\n::error::not ours\r\n\x1b[31m" + "x" * 2000
    hub.answer = lambda _: Canned(418, json.dumps({"error": message}).encode(), JSON)
    cause = str(raised_by(READING["model_info"], "reading").cause)
    assert "no ::error::not ours [31mxxx" in cause
    assert len(cause) < 400
    assert cause.isprintable()


def test_retries_are_logged(hub: CannedHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.answer = lambda _: Canned(503, json.dumps({"error": KEY}).encode(), {**JSON, "Retry-After": "12"})
    clock = Clock()
    patience = RetryPolicy(clock=clock, sleep=clock.sleep, random=lambda: 0.0)
    with caplog.at_level(logging.WARNING, "antidote_ci"), pytest.raises(InfrastructureError) as raised:
        HubAccess(KEY, patience).request(IT, READING["model_info"])
    lines = [record.getMessage() for record in caplog.records if record.name == "antidote_ci.hub.retry"]
    assert lines[0] == f"{hub.endpoint} answered 503 about {IT}; retrying in 12 s, for at most 10 min more"
    assert "tried 51 times in 10 min, and the server asks to wait for 12 s" in str(raised.value.cause)
    assert KEY not in caplog.text + str(raised.value.cause)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (hub_error(errors.HfHubHTTPError, 401), True),
        (hub_error(errors.RepositoryNotFoundError, 401), True),
        (hub_error(errors.RepositoryNotFoundError, 404), False),
        (hub_error(errors.HfHubHTTPError, 403), False),
        (OSError(XET.format("401 Unauthorized")), True),
        (RuntimeError(XET.format("401 Unauthorized")), True),
        (RuntimeError(XET.format("403 Forbidden")), False),
        (OSError("no"), False),
        (InfrastructureError("answered 401"), False),
        (ValueError(XET.format("401 Unauthorized")), False),
    ],
)
def test_rejected_token_is_recognised(error: Exception, expected: bool) -> None:
    assert is_unauthorized(error) is expected


def row(meaning: HubErrorMeaning, status: int | str = "", purpose: Purpose = "reading") -> str:
    """A row of docs/hub-errors.md without its first column."""
    resource = {"submitting": "Jobs of ORG", "managing": webhooks.SUBJECT}.get(purpose, "ORG/NAME")
    shown = filled(meaning, status, purpose, "https://huggingface.co", resource)
    retried = ("yes" if meaning.retried else "by the service") if meaning.transient else "no"
    return " | ".join([*(text.replace("|", "\\|") for text in shown), retried, f"{meaning.error.exit_code} |"])


def document_rows() -> list[str]:
    """The rows that docs/hub-errors.md must have."""
    table = vars(error_table)
    meanings = [meaning for meaning in table.values() if isinstance(meaning, HubErrorMeaning)]
    by_status = error_table.STATUS_MEANINGS
    special = [error_table.OTHER_REFUSAL, error_table.OTHER_FAILURE, error_table.PUBLISH_RACE, error_table.JOBS_CREDIT]
    return [
        *(row(meaning, status) for status, meaning in by_status.items()),
        row(error_table.OTHER_REFUSAL, "4xx"),
        row(error_table.OTHER_FAILURE, "5xx"),
        row(error_table.PUBLISH_RACE, 409, "publishing"),
        row(error_table.JOBS_CREDIT, 402, "submitting"),
        *(row(meaning) for meaning in meanings if meaning not in [*by_status.values(), *special]),
    ]


def test_document_shows_every_row_of_the_table() -> None:
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ") and line.count(" | ") == 5]
    shown = [line.removeprefix("| ").split(" | ", 1) for line in lines if not line.startswith("| When")]
    assert [texts for _, texts in shown] == document_rows()
    assert len({when for when, _ in shown}) == len(shown)
