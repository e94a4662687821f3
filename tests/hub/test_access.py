"""Tokens and their purposes, and the exchange of a workflow's identity for a token."""

import json
import os
import time
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _auth

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.hub.access import (
    WORKFLOW,
    HubAccess,
    read_access,
    read_account,
    read_name,
    require_hub,
    write_access,
)
from antidote_ci.hub.retry import RetryPolicy
from loopback_hub import LoopbackHub, oidc
from tests.hub.canned import JSON, Canned, CannedHub, Request
from tests.hub.hub_samples import Clock, full_text

IDENTITY = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJyZXBvOm9yZy9tb2RlbCJ9.c2lnbmF0dXJl"
RESOURCE = "org/model"
AT_ONCE = {"ANTIDOTE_HUB_RETRY_SECONDS": "0"}


def test_reading_and_publishing_use_separate_tokens() -> None:
    both = {"HF_TOKEN": "hf_read", "HF_WRITE_TOKEN": "hf_write"}
    assert read_access(both).token == "hf_read"
    assert write_access(both).token == "hf_write"
    assert write_access({"HF_TOKEN": "hf_read"}).token == "hf_read"
    assert read_access({"HF_WRITE_TOKEN": "hf_write"}).token is None
    assert (read_access(both).purpose, write_access(both).purpose) == ("reading", "publishing")


def test_repr_does_not_show_the_token() -> None:
    assert "hf_secret" not in repr(HubAccess("hf_secret"))


@pytest.mark.parametrize("environment", [{}, {"HF_TOKEN": ""}, {"HF_TOKEN": " \n", "HF_WRITE_TOKEN": ""}])
def test_publishing_without_a_token_fails(environment: dict[str, str]) -> None:
    assert read_access(environment).token is None
    with pytest.raises(InfrastructureError, match="requires a token") as raised:
        write_access(environment)
    assert "--publish none" in str(raised.value.hint)


def test_white_space_around_a_token_is_removed() -> None:
    assert read_access({"HF_TOKEN": " hf_read\r\n"}).token == "hf_read"


@pytest.mark.parametrize("token", ["hf_a b", "hf_a\nhf_b", "hf_ü", "hf_\x07bell"])
def test_invalid_characters_in_a_token_are_refused(token: str) -> None:
    for environment in ({"HF_TOKEN": token}, {"HF_WRITE_TOKEN": token}):
        with pytest.raises(ConfigurationError, match="contains characters that are not allowed") as raised:
            (read_access if "HF_TOKEN" in environment else write_access)(environment)
        assert token not in full_text(raised.value)


@pytest.mark.parametrize(
    ("text", "budgets"), [("", (600, 60)), ("0", (0.0, 0.0)), (" 90 ", (90.0, 90.0)), ("1.5", (1.5, 1.5))]
)
def test_retry_budget_is_read_from_the_environment(text: str, budgets: tuple[float, float]) -> None:
    policy = read_access({"ANTIDOTE_HUB_RETRY_SECONDS": text}).retry_policy
    assert (policy.seconds, policy.first_contact_seconds) == budgets


def test_retry_budget_is_shorter_until_the_hub_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user waits a minute for a mistyped address, and a run ten minutes for a Hub that was there."""
    with CannedHub(lambda _: Canned(200, b'{"name": "ada"}', JSON)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint.replace("127.0.0.1", "localhost"))
        read_name(HubAccess("hf_ada"), RESOURCE)
    for address, at_least, at_most in ((hub.endpoint, 1, 60), (os.environ["HF_ENDPOINT"], 500, 600)):
        monkeypatch.setenv("HF_ENDPOINT", address)
        clock = Clock()
        with pytest.raises(InfrastructureError, match="cannot be reached"):
            HubAccess(None, RetryPolicy(clock=clock, sleep=clock.sleep)).request(RESOURCE, require_hub)
        assert at_least <= clock.now <= at_most, address


@pytest.mark.parametrize("text", ["-1", "soon", "inf", "nan", "1e999"])
def test_invalid_retry_budget_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not a number of seconds"):
        read_access({"ANTIDOTE_HUB_RETRY_SECONDS": text})


@pytest.fixture
def workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with a workflow identity and without a saved token."""
    monkeypatch.setattr(_auth, "_OIDC_TOKEN_CACHE", None)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_OIDC_RESOURCE", RESOURCE)
    monkeypatch.setenv("HF_OIDC_ID_TOKEN", IDENTITY)
    return monkeypatch


def serve(hub: CannedHub, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("HF_ENDPOINT", hub.endpoint)
    patch.setattr(constants, "ENDPOINT", hub.endpoint)


def test_identity_is_exchanged_for_a_token(workflow: pytest.MonkeyPatch) -> None:
    granted = json.dumps({"access_token": "hf_jwt_granted", "expires_in": 3600}).encode()
    with CannedHub(lambda _: Canned(200, granted, JSON)) as hub:
        serve(hub, workflow)
        environment = {"HF_OIDC_RESOURCE": RESOURCE, "HF_TOKEN": "hf_read"}
        access = write_access(environment)
        assert (access.token, access.purpose) == ("hf_jwt_granted", "publishing")
        assert [request.path for request in hub.requests] == ["/oauth/token"]
        assert write_access({**environment, "HF_WRITE_TOKEN": "hf_write"}).token == "hf_write"
        assert len(hub.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_untrusted_identity_is_refused(workflow: pytest.MonkeyPatch, status: int) -> None:
    def refuse(request: Request) -> Canned:
        return Canned(status, json.dumps({"error": "invalid_grant", "error_description": IDENTITY}).encode(), JSON)

    with CannedHub(refuse) as hub:
        serve(hub, workflow)
        with pytest.raises(InfrastructureError, match="identity could not be exchanged") as raised:
            write_access({"HF_OIDC_RESOURCE": RESOURCE, **AT_ONCE})
    assert f"{status}: invalid_grant: [token]" in str(raised.value.cause)
    assert "HF_WRITE_TOKEN" in str(raised.value.hint)
    assert IDENTITY not in full_text(raised.value)


def test_exchange_is_retried(workflow: pytest.MonkeyPatch) -> None:
    answers = [Canned(503), Canned(502), Canned(200, b'{"access_token": "hf_jwt_granted"}', JSON)]
    with CannedHub(lambda _: answers.pop(0)) as hub:
        serve(hub, workflow)
        access = HubAccess(None, RetryPolicy(60, sleep=lambda _: None), "exchanging")
        assert access.exchange_token(RESOURCE) == "hf_jwt_granted"


def test_job_without_an_identity_fails(workflow: pytest.MonkeyPatch) -> None:
    workflow.delenv("HF_OIDC_ID_TOKEN")
    workflow.delenv("GITHUB_ACTIONS", raising=False)
    with pytest.raises(InfrastructureError, match="identity could not be exchanged") as raised:
        write_access({"HF_OIDC_RESOURCE": RESOURCE})
    assert "id-token: write" in str(raised.value.hint)


def test_identity_from_github_is_redacted(workflow: pytest.MonkeyPatch) -> None:
    """The Hub returns the identity, which is in no environment variable."""
    workflow.delenv("HF_OIDC_ID_TOKEN")

    def answer(request: Request) -> Canned:
        if request.path.startswith("/mint"):
            assert request.headers["authorization"] == "Bearer request-token-of-the-job"
            return Canned(200, json.dumps({"value": IDENTITY}).encode(), JSON)
        return Canned(403, json.dumps({"error": f"{IDENTITY} is not trusted"}).encode(), JSON)

    with CannedHub(answer) as hub:
        serve(hub, workflow)
        workflow.setenv("GITHUB_ACTIONS", "true")
        workflow.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{hub.endpoint}/mint")
        workflow.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token-of-the-job")
        with pytest.raises(InfrastructureError) as raised:
            write_access({"HF_OIDC_RESOURCE": RESOURCE, **AT_ONCE})
    assert "403: [token] is not trusted" in str(raised.value.cause)


def test_exchange_requires_the_resource_of_the_process(workflow: pytest.MonkeyPatch) -> None:
    """Otherwise the client would use a token saved on this machine."""
    workflow.delenv("HF_OIDC_RESOURCE")
    with pytest.raises(ValueError, match="HF_OIDC_RESOURCE"):
        HubAccess(None, RetryPolicy(0), "exchanging").exchange_token(RESOURCE)


def test_rejected_token_is_exchanged_once_more(workflow: pytest.MonkeyPatch) -> None:
    """Both tokens are redacted, although they do not look like Hub tokens."""
    tokens = ["first-granted-secret", "second-granted-secret"]

    def answer(request: Request) -> Canned:
        if request.path == "/oauth/token":
            return Canned(200, json.dumps({"access_token": tokens[granted()], "expires_in": 3600}).encode(), JSON)
        return Canned(
            401, json.dumps({"error": f"refused: {tokens} as {request.headers['authorization']}"}).encode(), JSON
        )

    def granted() -> int:
        return [request.path for request in hub.requests].count("/oauth/token") - 1

    with CannedHub(answer) as hub:
        serve(hub, workflow)
        access = write_access({"HF_OIDC_RESOURCE": RESOURCE, **AT_ONCE})
        with pytest.raises(InfrastructureError, match="answered 401") as raised:
            access.request(RESOURCE, lambda client: client.get_discussion_details(RESOURCE, 1))
    sent = [request.headers["authorization"] for request in hub.requests if "/discussions/" in request.path]
    assert sent == [f"Bearer {token}" for token in tokens]
    assert "refused: ['[token]', '[token]'] as Bearer [token]" in str(raised.value.cause)
    assert not any(token in full_text(raised.value) for token in tokens)


def test_other_errors_do_not_repeat_the_exchange(workflow: pytest.MonkeyPatch) -> None:
    granted = json.dumps({"access_token": "hf_jwt_granted", "expires_in": 3600}).encode()
    with CannedHub(
        lambda request: Canned(200, granted, JSON) if request.path == "/oauth/token" else Canned(403)
    ) as hub:
        serve(hub, workflow)
        access = write_access({"HF_OIDC_RESOURCE": RESOURCE, **AT_ONCE})
        with pytest.raises(InfrastructureError, match="answered 403"):
            access.request(RESOURCE, lambda client: client.get_discussion_details(RESOURCE, 1))
    assert [request.path for request in hub.requests].count("/oauth/token") == 1


def test_exchange_during_the_run_is_retried(workflow: pytest.MonkeyPatch) -> None:
    """A token that expires at once is exchanged for request request. The Hub fails once in between."""
    granted = b'{"access_token": "hf_jwt_granted", "expires_in": 0}'
    answers = [Canned(200, granted, JSON), Canned(503), Canned(200, granted, JSON), Canned(200, b'{"name": "a"}', JSON)]
    with CannedHub(lambda _: answers.pop(0)) as hub:
        serve(hub, workflow)
        first = write_access({"HF_OIDC_RESOURCE": RESOURCE}).token
        access = HubAccess(first, RetryPolicy(60, sleep=lambda _: None), "publishing", RESOURCE)
        assert access.request(RESOURCE, lambda client: client.whoami()) == {"name": "a"}
    assert answers == []


def test_workflow_is_no_longer_trusted_during_the_run(workflow: pytest.MonkeyPatch) -> None:
    workflow.delenv("HF_OIDC_ID_TOKEN")
    answers = [Canned(200, b'{"access_token": "hf_jwt_granted", "expires_in": 0}', JSON), Canned(403)]
    identity = json.dumps({"value": IDENTITY}).encode()
    with CannedHub(lambda request: Canned(200, identity, JSON) if "/mint" in request.path else answers.pop(0)) as hub:
        serve(hub, workflow)
        workflow.setenv("GITHUB_ACTIONS", "true")
        workflow.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{hub.endpoint}/mint")
        workflow.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token-of-the-job")
        access = write_access({"HF_OIDC_RESOURCE": RESOURCE, **AT_ONCE})
        with pytest.raises(InfrastructureError, match="identity could not be exchanged") as raised:
            access.request("org/other", lambda client: client.whoami())
    assert "do not trust this workflow (403)" in str(raised.value.cause)


def test_expired_identity_cannot_be_exchanged_again(
    hub: LoopbackHub, workflow: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "ID_SECONDS", 6)  # a busy machine needs seconds for the first exchange
    workflow.setattr(constants, "ENDPOINT", hub.endpoint)
    job = hub.trust_workflow(RESOURCE, "org/workflows")
    request = {"Authorization": f"Bearer {job['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
    minted = httpx2.get(job["ACTIONS_ID_TOKEN_REQUEST_URL"], params={"audience": hub.endpoint}, headers=request)
    identity = minted.json()["value"]
    workflow.setenv("HF_OIDC_ID_TOKEN", identity)
    access = write_access(os.environ)
    assert access.request(RESOURCE, lambda client: client.whoami())["name"] == "[OIDC]"
    time.sleep(oidc.ID_SECONDS + 1)
    assert access.request(RESOURCE, lambda client: client.whoami())["name"] == "[OIDC]", "the token is still valid"
    hub.end_exchanged_tokens()
    with pytest.raises(InfrastructureError, match=r"HF_OIDC_ID_TOKEN could not be exchanged .* again") as raised:
        access.request(RESOURCE, lambda client: client.whoami())
    assert "400: invalid_grant: the identity has expired" in str(raised.value.cause)
    assert "new HF_OIDC_ID_TOKEN" in str(raised.value.hint)
    assert "HF_WRITE_TOKEN" in str(raised.value.hint)
    assert identity not in full_text(raised.value)


@pytest.mark.parametrize("status", [200, 401, 403, 404])
def test_origin_of_a_token_tells_a_workflow_from_an_account(
    workflow: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Whatever the Hub answers about its account, which is not documented."""

    def answer(request: Request) -> Canned:
        granted = b'{"access_token": "hf_jwt_granted", "expires_in": 3600}'
        return (
            Canned(200, granted, JSON) if request.path == "/oauth/token" else Canned(status, b'{"name": "ada"}', JSON)
        )

    with CannedHub(answer) as hub:
        serve(hub, workflow)
        exchanged = write_access({"HF_OIDC_RESOURCE": RESOURCE, **AT_ONCE})
        handed_over = write_access({"HF_WRITE_TOKEN": "hf_jwt_grantedToAnEarlierStep", **AT_ONCE})
        for access in (exchanged, handed_over):
            account = read_account(access, RESOURCE)
            assert (account.name, account.namespaces, read_name(access, RESOURCE)) == (WORKFLOW, (), WORKFLOW)
        assert [request.path for request in hub.requests] == ["/oauth/token"]
        ordinary = write_access({"HF_WRITE_TOKEN": "hf_anOrdinaryToken", **AT_ONCE})
        if status == 200:
            assert read_account(ordinary, RESOURCE).name == "ada"
        else:
            with pytest.raises(InfrastructureError, match=f"answered {status}"):
                read_account(ordinary, RESOURCE)


def test_roles_that_may_create_repositories(monkeypatch: pytest.MonkeyPatch) -> None:
    roles = ("admin", "write", "contributor", "read", "no_access")
    organisations = [{"name": role, "roleInOrg": role} for role in roles] + [{"name": "of-an-older-hub"}]
    answer = json.dumps({"name": "ada", "orgs": organisations}).encode()
    with CannedHub(lambda _: Canned(200, answer, JSON)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        account = read_account(HubAccess("hf_adaWrites"), RESOURCE)
    assert account.namespaces == ("ada", "admin", "write", "contributor", "of-an-older-hub")
