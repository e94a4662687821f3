"""The head of a destination that exists, is missing, or is not visible."""

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from antidote_ci.hub.destination import Destination, read_last_head
from tests.hub.canned import JSON, Canned, CannedHub

SEPARATE = Destination("repo", "org/model", "a" * 40, "demo/repaired")
BRANCH = Destination("branch", "org/model", "a" * 40, "repaired")


def read_with_answer(status: int, code: str, destination: Destination) -> object:
    with CannedHub(lambda _: Canned(status, b"{}", JSON | {"X-Error-Code": code})) as hub:
        return read_last_head(HfApi(endpoint=hub.endpoint, token="hf_bot"), destination)


def test_missing_repository_or_branch_has_no_head() -> None:
    assert read_with_answer(404, "RepoNotFound", SEPARATE) is None
    assert read_with_answer(404, "RevisionNotFound", BRANCH) is None


def test_gated_repository_is_not_missing() -> None:
    with pytest.raises(GatedRepoError):
        read_with_answer(403, "GatedRepo", SEPARATE)


def test_deleted_source_is_not_a_missing_branch() -> None:
    with pytest.raises(RepositoryNotFoundError):
        read_with_answer(404, "RepoNotFound", BRANCH)
