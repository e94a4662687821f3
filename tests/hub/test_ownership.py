"""What our own account said, where a repository has no pull requests and where the Hub does not answer."""

import pytest

from antidote_ci.errors import AntidoteError
from antidote_ci.hub import ownership
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.retry import RetryPolicy
from tests.hub.canned import JSON, Asked, Canned, CannedHub


def said_by(status: int, patch: pytest.MonkeyPatch) -> list[object]:
    """The marks found, when the account is known and a list of pull requests is answered with `status`."""

    def answer(asked: Asked) -> Canned:
        return Canned(200, b'{"name": "bot"}', JSON) if "whoami" in asked.path else Canned(status, b"{}", JSON)

    with CannedHub(answer) as hub:
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        access = HubAccess("hf_bot", RetryPolicy(0, sleep=lambda _: None))
        return list(ownership.read_own_markers(access, "org/model"))


@pytest.mark.parametrize("status", [403, 404, 410])
def test_where_there_are_no_pull_requests_nothing_was_said(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said_by(status, monkeypatch) == []


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_a_hub_that_fails_is_no_empty_list(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AntidoteError):
        said_by(status, monkeypatch)
