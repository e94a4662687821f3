"""The client: its endpoint, and the redaction of tokens in messages and logs."""

import base64
import errno
import io
import logging
import traceback
from functools import partial
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from huggingface_hub import errors, get_session
from huggingface_hub.utils import _auth
from hypothesis import example, given, settings
from hypothesis import strategies as st

from antidote_ci.errors import AntidoteError, InfrastructureError
from antidote_ci.hub.access import HubAccess, forget_exchanged
from antidote_ci.hub.client import (
    PIECE_LENGTH,
    REDACTED,
    WITHHELD,
    configure_client,
    create_api,
    fetch_model_info,
    printable_endpoint,
    read_endpoint,
    redact_secrets,
)
from antidote_ci.hub.errors import translate_errors
from antidote_ci.hub.retry import RetryPolicy
from loopback_hub import LoopbackHub
from tests.hub.canned import JSON, Canned, CannedHub, Request
from tests.hub.hub_samples import MakeModel, full_text, hub_error

HUB_TOKENS = st.from_regex(r"hf_[A-Za-z0-9]{16,40}", fullmatch=True)
OTHER_TOKENS = st.text("abcdefghijkmnopqrstuvwxyz0123456789-", min_size=20, max_size=40)


def failures(message: str) -> list[Exception]:
    """Each kind of exception of the client, with `message` in its text."""
    return [
        hub_error(errors.GatedRepoError, 403, message),
        hub_error(errors.RepositoryNotFoundError, 404, message),
        hub_error(errors.RevisionNotFoundError, 404, message),
        hub_error(errors.RemoteEntryNotFoundError, 404, message),
        hub_error(errors.DisabledRepoError, 403, message),
        *(hub_error(errors.HfHubHTTPError, status, message) for status in (401, 403, 409, 412, 429, 503)),
        errors.HFValidationError(message),
        errors.LocalEntryNotFoundError(message),
        errors.OfflineModeIsEnabled(message),
        errors.OIDCError(message),
        errors.FileMetadataError(message),
        errors.XetDownloadError(message),
        httpx2.ConnectError(message),
        httpx2.ReadTimeout(message),
        httpx2.LocalProtocolError(message),
        ConnectionError(message),
        OSError(errno.ENOSPC, message),
        OSError(message),
    ]


@given(number=st.integers(0, len(failures("")) - 1), token=HUB_TOKENS | OTHER_TOKENS, with_token=st.booleans())
@settings(max_examples=80, deadline=None)
def test_messages_contain_no_token(number: int, token: str, with_token: bool) -> None:
    """Neither the token in use, in any form, nor another string like a Hub token."""
    if not token.startswith("hf_"):
        with_token = True
    failure = failures(f"Bearer {token} was refused")[number]
    with pytest.raises(AntidoteError) as raised, translate_errors(f"org/{token}", token if with_token else None):
        raise failure
    assert token not in full_text(raised.value)
    assert token not in "".join(traceback.format_exception(raised.value))


@given(before=st.text(max_size=20), token=HUB_TOKENS)
@settings(deadline=None)
def test_redaction_keeps_other_text(before: str, token: str) -> None:
    text = before.replace("hf_", "")
    assert redact_secrets(f"{text} {token} after", None) == f"{text} [token] after"


@given(token=OTHER_TOKENS, before=st.binary(max_size=5), cut=st.integers(PIECE_LENGTH, 20), at=st.integers(1, 19))
@example(token="a" * 20, before=b"", cut=PIECE_LENGTH, at=1)
def test_every_form_of_a_token_is_redacted(token: str, before: bytes, cut: int, at: int) -> None:
    """Plain, in an address, in base64 at any offset, truncated, and wrapped."""
    forms = (
        token,
        quote(token),
        base64.b64encode(token.encode()).decode(),
        base64.b64encode(before + token.encode() + b" and more").decode(),
        token[:cut],
        token[-cut:],
        f"{token[:at]}\n{token[at:]}",
    )
    for form in forms:
        shown = redact_secrets(f"Authorization: {form} is wrong", token)
        assert shown == WITHHELD or REDACTED in shown
        assert token[:PIECE_LENGTH] not in shown
        assert token[-PIECE_LENGTH:] not in shown


@pytest.mark.parametrize("name", ["HF_TOKEN", "HF_WRITE_TOKEN", "HF_OIDC_ID_TOKEN", "ANTIDOTE_JUDGE_KEY"])
def test_secrets_of_the_environment_are_redacted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "no-token-of-the-hub\n")
    assert redact_secrets("it is no-token-of-the-hub, see", None) == "it is [token], see"


@pytest.mark.parametrize("credentials", ["robot:pa%40ss/word", "hf_asAnAccount", "robot:short"])
def test_credentials_of_the_endpoint_are_redacted(credentials: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"https://{credentials}@mirror.example/hub/")
    assert read_endpoint() == f"https://{credentials}@mirror.example/hub"
    assert printable_endpoint() == "https://mirror.example/hub"
    plain = credentials.replace("%40", "@")
    basic = base64.b64encode(plain.encode()).decode()
    for text in (f"GET {read_endpoint()}/api", f"Basic {basic}", plain):
        shown = redact_secrets(text, None)
        assert credentials not in shown
        assert plain not in shown
        assert basic not in shown


def test_log_of_the_client_is_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://robot:secret@mirror.example")
    configure_client()
    [handler] = logging.getLogger("huggingface_hub").handlers
    record = logging.LogRecord(
        "huggingface_hub.utils", logging.WARNING, "", 0, "%s\nfor %s", (f"hf_{'a' * 20}", read_endpoint()), None
    )
    assert handler.filter(record)
    assert record.getMessage() == "huggingface_hub: [token] for https://[token]@mirror.example"


def test_warnings_of_the_hub_are_one_line_of_text(client_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client prints the header X-HF-Warning. A line that begins with :: commands a workflow."""
    address = "https://host/file?X-Amz-Signature=private"
    warning = f"; ::set-output name=a::b \x1b[2J\x07 \x9b31m {address}"
    answer = Canned(200, b'{"id": "org/model"}', JSON | {"X-HF-Warning": warning})
    [handler] = logging.getLogger("huggingface_hub").handlers
    monkeypatch.setattr(handler, "stream", printed := io.StringIO())
    with CannedHub(partial(_always, answer)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        fetch_model_info(create_api(None), "org/model")
    [line] = printed.getvalue().splitlines()
    assert line.startswith("huggingface_hub: ")
    assert line.isprintable()
    assert "private" not in line


def test_file_of_another_commit_is_not_stored(
    client_settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client would store it under the commit in the header, and find that one for the requested commit later."""
    answer = Canned(200, b"x", {"X-Repo-Commit": "c" * 40, "ETag": f'"{"b" * 64}"'})
    with CannedHub(partial(_always, answer)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        with pytest.raises(InfrastructureError, match="does not answer like a Hub"):
            HubAccess(None, RetryPolicy(0)).request(
                "org/model", lambda client: client.hf_hub_download("org/model", "a.json", revision="a" * 40)
            )
    assert [path for path in tmp_path.rglob("*") if path.name in ("a" * 40, "c" * 40, "a.json")] == []


def _always(answer: Canned, _: Request) -> Canned:
    return answer


def test_etags_of_upload_parts_are_kept(client_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not hashes, and the client sends them back."""
    with CannedHub(partial(_always, Canned(200, b"", {"ETag": '"0123-part"'}))) as hub:
        configure_client()
        assert get_session().put(f"{hub.endpoint}/part", content=b"x").headers["ETag"] == '"0123-part"'


@pytest.mark.parametrize("name", ["../../outside", "a" * 39, "A" * 40, "", "hf_" + "a" * 37])
def test_invalid_hashes_create_no_folders(
    client_settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The client creates folders named after the commit of a response, also for an error."""
    hashes = {"X-Repo-Commit": "a" * 40, "ETag": f'"{"b" * 64}"'}
    answers = [
        Canned(status, b"x", hashes | {header: name, "X-Error-Code": "EntryNotFound"})
        for status, header in ((200, "X-Repo-Commit"), (404, "X-Repo-Commit"), (200, "ETag"))
    ]
    for answer in answers:
        with CannedHub(partial(_always, answer)) as hub:
            monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
            with pytest.raises(InfrastructureError):
                HubAccess(None, RetryPolicy(0)).request(
                    "org/model", lambda client: client.hf_hub_download("org/model", "a.json")
                )
    written = [path for path in tmp_path.rglob("*") if path.is_file() and ".locks" not in path.parts]
    assert [path for path in written if path.name != "CACHEDIR.TAG"] == []


def test_private_names_of_the_client_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that `forget_exchanged` uses."""
    assert not _auth._OIDC_TOKEN_LOCK.locked()
    cached: _auth._OidcTokenCache = {"resource": "org/model", "token": "exchanged", "expires_at": 0.0}
    monkeypatch.setattr(_auth, "_OIDC_TOKEN_CACHE", cached)
    forget_exchanged("another")
    assert _auth._OIDC_TOKEN_CACHE is cached
    forget_exchanged("exchanged")
    assert _auth._OIDC_TOKEN_CACHE is None


def test_token_of_this_machine_is_not_used(hub: LoopbackHub, model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ofThisMachine")
    hub.add("org/gated", model(), gated=True)
    with pytest.raises(errors.GatedRepoError):
        create_api(None).auth_check("org/gated")
    create_api("hf_given").auth_check("org/gated")
