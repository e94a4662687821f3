"""The client's exceptions in our words, and never a token among them."""

import errno
import traceback
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import errors
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.demo.hub import LoopbackHub
from antidote_ci.errors import AntidoteError, InfrastructureError, PublishConflict
from antidote_ci.hub.client import api, explained, redact
from tests.hub.hub_samples import MakeModel, said

HUB_TOKENS = st.from_regex(r"hf_[A-Za-z0-9]{16,40}", fullmatch=True)
OTHER_TOKENS = st.text("abcdefghijkmnopqrstuvwxyz0123456789-", min_size=20, max_size=40)
REQUEST = httpx2.Request("GET", "http://127.0.0.1/api/models/org/model")


def answered(kind: type[errors.HfHubHTTPError], status: int, message: str) -> errors.HfHubHTTPError:
    response = httpx2.Response(status, request=REQUEST)
    return kind(message, response=response, server_message=message)


def failures(message: str) -> list[Exception]:
    """One of everything the client raises, each with `message` inside."""
    return [
        answered(errors.GatedRepoError, 403, message),
        answered(errors.RepositoryNotFoundError, 404, message),
        answered(errors.RevisionNotFoundError, 404, message),
        answered(errors.DisabledRepoError, 403, message),
        *(answered(errors.HfHubHTTPError, status, message) for status in (401, 403, 409, 412, 429, 503)),
        errors.HFValidationError(message),
        errors.LocalEntryNotFoundError(message),
        errors.OfflineModeIsEnabled(message),
        errors.OIDCError(message),
        httpx2.ConnectError(message),
        httpx2.ReadTimeout(message),
        ConnectionError(message),
        OSError(errno.ENOSPC, message),
        OSError(message),
    ]


@given(token=HUB_TOKENS | OTHER_TOKENS, known=st.booleans())
@settings(max_examples=50, deadline=None)
def test_no_token_in_any_message(token: str, known: bool) -> None:
    """Neither the token in use, whatever it looks like, nor another one that looks like the Hub's."""
    if not token.startswith("hf_"):
        known = True
    for failure in failures(f"Bearer {token} was refused"):
        with pytest.raises(AntidoteError) as raised, explained(f"org/{token}", token if known else None):
            raise failure
        assert token not in said(raised.value)
        assert token not in "".join(traceback.format_exception(raised.value))


@given(before=st.text(max_size=20), token=HUB_TOKENS)
@settings(deadline=None)
def test_redaction_keeps_the_rest(before: str, token: str) -> None:
    kept = before.replace("hf_", "")
    assert redact(f"{kept} {token} after", None) == f"{kept} [token] after"


def test_each_failure_is_told_apart() -> None:
    told = {}
    for failure in failures("no more is known"):
        with pytest.raises(AntidoteError) as raised, explained("org/model", None):
            raise failure
        assert raised.value.cause
        assert raised.value.hint
        told[f"{type(failure).__name__} {failure.args}"] = said(raised.value)
    assert len(set(told.values())) >= 12


def test_the_cause_beneath_the_clients_wrapping() -> None:
    for wrapper in (errors.LocalEntryNotFoundError("look"), RuntimeError("Error while uploading")):
        with pytest.raises(InfrastructureError, match="is gated"), explained("org/model", None):
            raise wrapper from answered(errors.GatedRepoError, 403, "")


def test_what_is_not_the_hubs_passes() -> None:
    for failure in (KeyError("a bug"), RuntimeError("another"), PublishConflict("ours")):
        with pytest.raises(type(failure)) as raised, explained("org/model", None):
            raise failure
        assert raised.value is failure


def test_a_full_disk() -> None:
    with pytest.raises(InfrastructureError, match="the disk is full"), explained("org/model", None):
        Path("/dev/full").write_text("anything")


def test_what_the_hub_says_stays_on_one_line() -> None:
    with pytest.raises(InfrastructureError) as raised, explained("org/model", None):
        raise answered(errors.HfHubHTTPError, 400, "no\n::error::not ours\r\n")
    assert "no ::error::not ours" in str(raised.value.cause)


def test_a_branch_that_moved_under_the_commit() -> None:
    with pytest.raises(PublishConflict, match="no longer at"), explained("org/model", None):
        raise answered(errors.HfHubHTTPError, 412, "")


def test_no_token_is_taken_from_this_machine(
    hub: LoopbackHub, model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ofThisMachine")
    hub.add("org/gated", model(), gated=True)
    with pytest.raises(errors.GatedRepoError):
        api(None).auth_check("org/gated")
    api("hf_given").auth_check("org/gated")
