"""What is at a destination, by what the Hub answers: absent, there, or not for us to see."""

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from antidote_ci.hub.destination import Destination, read_last_head
from tests.hub.canned import JSON, Canned, CannedHub

OWN = Destination("repo", "org/model", "a" * 40, "demo/repaired")
BRANCH = Destination("branch", "org/model", "a" * 40, "repaired")


def found(status: int, code: str, destination: Destination) -> object:
    with CannedHub(lambda _: Canned(status, b"{}", JSON | {"X-Error-Code": code})) as hub:
        return read_last_head(HfApi(endpoint=hub.endpoint, token="hf_bot"), destination)


def test_a_repository_or_a_branch_is_still_to_be_made() -> None:
    assert found(404, "RepoNotFound", OWN) is None
    assert found(404, "RevisionNotFound", BRANCH) is None


def test_what_we_may_not_see_is_not_taken_for_absent() -> None:
    with pytest.raises(GatedRepoError):
        found(403, "GatedRepo", OWN)


def test_a_source_that_has_vanished_is_no_branch_to_be_made() -> None:
    with pytest.raises(RepositoryNotFoundError):
        found(404, "RepoNotFound", BRANCH)
