"""Access control of the loopback Hub, tested with the real client."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import _auth

from loopback_hub import LoopbackHub
from tests.hub.hub_samples import MakeModel
from tests.loopback_hub.loopback_samples import client, file, rejected, status

WORKFLOW = "octo/repair"
Act = Callable[[HfApi], object]


@pytest.fixture
def peopled(hub: LoopbackHub, model: MakeModel) -> LoopbackHub:
    """A public repository of an organisation, and tokens with different rights."""
    hub.add("org/model", model())
    hub.add_account("ada", "hf_member", organisations=["org"])
    hub.add_account("ada", "hf_reads", rights="read", organisations=["org"])
    hub.add_account("ada", "hf_fine", rights="fine-grained", organisations=["org"], repositories=["org/model"])
    hub.add_account("ada", "hf_elsewhere", rights="fine-grained", organisations=["org"], repositories=["org/other"])
    hub.add_account("bob", "hf_stranger")
    return hub


@pytest.fixture
def trusted(peopled: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make this process a job of a workflow that may publish to org/model."""
    monkeypatch.setattr(constants, "ENDPOINT", peopled.endpoint)
    monkeypatch.setattr(_auth, "_OIDC_TOKEN_CACHE", None)
    for key, value in peopled.trust_workflow("org/model", WORKFLOW).items():
        monkeypatch.setenv(key, value)
    return monkeypatch


def push(hf: HfApi) -> object:
    return hf.create_commit("org/model", [file("note", "A note")], commit_message="Push a note")


def propose(hf: HfApi) -> object:
    return hf.create_commit("org/model", [file("proposal", "A note")], commit_message="Propose a note", create_pr=True)


def comment(hf: HfApi) -> object:
    return hf.comment_discussion("org/model", 1, "A word")


def merge(hf: HfApi) -> object:
    return hf.merge_pull_request("org/model", 2)


def close(hf: HfApi) -> object:
    return hf.change_discussion_status("org/model", 1, "closed")


def gate(hf: HfApi) -> object:
    return hf.update_repo_settings("org/model", gated="auto")


def branch(hf: HfApi) -> object:
    return hf.create_branch("org/model", branch=f"by-{str(hf.token).replace('_', '-')}")


def check_write(hf: HfApi) -> None:
    hf.auth_check("org/model", write=True)


MEMBERS = {"hf_member", "hf_fine"}
ALLOWED: dict[Act, set[str]] = {
    check_write: MEMBERS,
    push: MEMBERS,
    branch: MEMBERS,
    propose: MEMBERS | {"hf_stranger"},
    comment: MEMBERS | {"hf_stranger"},
    close: MEMBERS,
    merge: MEMBERS,
    gate: MEMBERS,
}
"""Action -> the tokens that may do it, in an order in which a member can do all of them."""


@pytest.mark.parametrize("token", ["hf_member", "hf_fine", "hf_stranger", "hf_reads", "hf_elsewhere", "", "hf_unknown"])
def test_rights_of_a_token(peopled: LoopbackHub, token: str) -> None:
    propose(client(peopled, "hf_member"))
    for act, tokens in ALLOWED.items():
        if token in tokens:
            act(client(peopled, token))
        else:
            error = rejected(act, client(peopled, token))
            assert error.response.status_code == (401 if token in ("", "hf_unknown") else 403), act.__name__
            assert error.server_message, act.__name__


def test_author_may_push_to_and_close_only_their_own_pull_request(peopled: LoopbackHub) -> None:
    member, stranger = client(peopled, "hf_member"), client(peopled, "hf_stranger")
    propose(member)
    propose(stranger)
    assert [pull.author for pull in member.get_repo_discussions("org/model")] == ["bob", "ada"]
    stranger.create_commit("org/model", [file("more", "1")], commit_message="More", revision="refs/pr/2")
    stranger.change_discussion_status("org/model", 2, "closed")
    for revision in ("refs/pr/1", "main"):
        change = [file("more", revision)]
        assert status(stranger.create_commit, "org/model", change, commit_message="More", revision=revision) == 403
    written = member.comment_discussion("org/model", 1, "A word")
    assert status(stranger.edit_discussion_comment, "org/model", 1, written.id, "Another") == 403
    authors = [commit.authors for commit in member.list_repo_commits("org/model", revision="refs/pr/2")]
    assert authors == [["bob"], ["bob"], ["demo"]]


def test_whoami(peopled: LoopbackHub) -> None:
    member = client(peopled, "hf_member").whoami()
    assert (member["type"], member["name"], [org["name"] for org in member["orgs"]]) == ("user", "ada", ["org"])
    assert member["auth"]["accessToken"]["role"] == "write"
    assert client(peopled, "hf_reads").whoami()["auth"]["accessToken"]["role"] == "read"
    fine = client(peopled, "hf_fine").whoami()["auth"]["accessToken"]
    assert fine["role"] == "fineGrained"
    assert [scope["entity"]["name"] for scope in fine["fineGrained"]["scoped"]] == ["org/model"]
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        client(peopled, "hf_unknown").whoami()


def test_repositories_are_created_only_in_own_namespaces(peopled: LoopbackHub) -> None:
    for token, name, allowed in (
        ("hf_member", "org/new", True),
        ("hf_member", "ada/new", True),
        ("hf_member", "bob/new", False),
        ("hf_reads", "org/other", False),
        ("hf_fine", "org/other", False),
    ):
        if allowed:
            client(peopled, token).create_repo(name)
        else:
            assert status(client(peopled, token).create_repo, name) == 403


def test_private_repository_is_hidden_from_others(peopled: LoopbackHub) -> None:
    client(peopled, "hf_member").create_repo("org/other", private=True)
    for token in ("hf_member", "hf_reads", "hf_elsewhere"):
        assert client(peopled, token).model_info("org/other").private
    for token, expected in (("hf_stranger", 404), ("hf_fine", 404), ("", 401)):
        other = client(peopled, token)
        for call in (other.model_info, other.list_repo_files):
            error = rejected(call, "org/other")
            assert isinstance(error, RepositoryNotFoundError)
            assert error.response.status_code == expected
    assert "org/other" not in httpx2.get(peopled.endpoint).text
    client(peopled, "hf_member").move_repo("org/other", "org/renamed")
    assert isinstance(rejected(client(peopled, "").model_info, "org/other"), RepositoryNotFoundError)


def test_gated_repository_restricts_its_files(peopled: LoopbackHub, tmp_path: Path) -> None:
    owner, stranger = client(peopled, "hf_member"), client(peopled, "hf_stranger")

    def fetch(hf: HfApi) -> str:
        return hf.hf_hub_download("org/model", "config.json", cache_dir=tmp_path / str(hf.token), force_download=True)

    owner.update_repo_settings("org/model", gated="manual")
    fetch(owner)
    for hf, expected in ((stranger, 403), (client(peopled, ""), 401)):
        error = rejected(hf.auth_check, "org/model")
        assert isinstance(error, GatedRepoError)
        assert error.response.status_code == expected
        assert hf.model_info("org/model").gated == "manual", "the description is public"


def test_tokens_are_stored_as_hashes(peopled: LoopbackHub, tmp_path: Path) -> None:
    push(client(peopled, "hf_member"))
    stored = b"".join(path.read_bytes() for path in (tmp_path / "hub").rglob("*") if path.is_file())
    assert b"ada" in stored
    assert b"hf_member" not in stored


@pytest.mark.usefixtures("trusted")
def test_trusted_workflow_exchanges_its_identity(peopled: LoopbackHub, model: MakeModel) -> None:
    peopled.add("org/other", model("other", seed=1))
    hf = client(peopled, get_token())
    assert hf.whoami()["name"] == "[OIDC]"
    push(hf)
    propose(hf)
    assert hf.list_repo_commits("org/model")[0].authors == ["[OIDC]"]
    assert status(hf.create_commit, "org/other", [file("a", "b")], commit_message="No") == 403
    assert status(hf.create_repo, "org/new") == 403


def test_exchanged_token_expires(peopled: LoopbackHub, trusted: pytest.MonkeyPatch) -> None:
    lasting = client(peopled, get_token())
    peopled.store.token_seconds = 1
    trusted.setattr(_auth, "_OIDC_TOKEN_CACHE", None)
    brief = client(peopled, get_token())
    assert brief.whoami()["name"] == "[OIDC]"
    time.sleep(1)
    error = rejected(brief.model_info, "org/model")
    assert error.response.status_code == 401
    assert error.server_message == "Invalid credentials in Authorization header"
    assert status(push, brief) == 401
    push(lasting)
    peopled.end_exchanged_tokens()
    assert status(push, lasting) == 401
    push(client(peopled, "hf_member"))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"HF_OIDC_RESOURCE": "org/other"}, 400),
        ({"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "forged"}, 401),
        ({"HF_OIDC_ID_TOKEN": "forged.identity.here"}, 400),
    ],
)
def test_invalid_identity_is_rejected(trusted: pytest.MonkeyPatch, changed: dict[str, str], expected: int) -> None:
    for key, value in changed.items():
        trusted.setenv(key, value)
    assert status(get_token) == expected


def test_whoami_names_the_account_in_full(hub: LoopbackHub) -> None:
    hub.add_account("ada", "hf_ada", organisations=["org", "other"], full_names={"ada": "Ada", "org": "The Org"})
    answer = client(hub, "hf_ada").whoami()
    assert (answer["name"], answer["fullname"]) == ("ada", "Ada")
    assert [(org["name"], org["fullname"]) for org in answer["orgs"]] == [("org", "The Org"), ("other", "other")]
