"""Markers of this account, in a repository without pull requests and when the Hub fails."""

import pytest

from antidote_ci.errors import AntidoteError
from antidote_ci.hub import ownership
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.retry import RetryPolicy
from tests.hub.canned import JSON, Canned, CannedHub, Request


def read_markers(status: int, patch: pytest.MonkeyPatch) -> list[object]:
    """The markers, when the Hub answers the list of pull requests with `status`."""

    def answer(request: Request) -> Canned:
        return Canned(200, b'{"name": "bot"}', JSON) if "whoami" in request.path else Canned(status, b"{}", JSON)

    with CannedHub(answer) as hub:
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        access = HubAccess("hf_bot", RetryPolicy(0, sleep=lambda _: None))
        return list(ownership.read_own_markers(access, "org/model"))


@pytest.mark.parametrize("status", [403, 404, 410])
def test_repository_without_discussions_has_no_markers(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_markers(status, monkeypatch) == []


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_error_of_the_hub_is_not_an_empty_list(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AntidoteError):
        read_markers(status, monkeypatch)
