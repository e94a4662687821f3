"""Whether a commit holds a repair of ours, by what nobody else can have said.

A commit's message, a manifest and a report can be copied or made up by whoever may push, onto our own pull request too.
The words of a pull request cannot: the Hub says whose they are. They end with a mark, which names the result by a hash
over every repaired file and over the commit that all other files come from.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from antidote_ci.checkpoint.card import CARD
from antidote_ci.checkpoint.files import is_proof
from antidote_ci.hub import commit_marker
from antidote_ci.hub.access import Access, writing
from antidote_ci.hub.commit_marker import Mark
from antidote_ci.hub.destination import ATTRIBUTES, MAIN
from antidote_ci.hub.digests import SHA256_DIGITS
from antidote_ci.hub.identity import WORKFLOW, name_of
from antidote_ci.hub.trees import Tree, tree

if TYPE_CHECKING:
    from huggingface_hub import HfApi

WEIGHTS = ".safetensors"
NO_PULL_REQUESTS = (403, 404, 410)
"""What the Hub answers where a repository has none."""


def main(access: Access, repository: str) -> Tree | None:
    """Its main branch as it is now; None where no such repository, or nothing in it, is to be seen."""
    return access.ask(repository, lambda client: _tree(client, repository, MAIN))


def holds(head: Tree, repaired: Mapping[str, str]) -> bool:
    """Whether the weights in safetensors are those of `repaired` (path -> sha256), and there are no others."""
    return _weights(head.files) == _weights(repaired)


def ourselves(environ: Mapping[str, str]) -> Access | None:
    """As whom we publish; None without a token.

    Nor has a workflow's own identity a name of its own: the workflows of all strangers share it.
    """
    if not (environ.get("HF_WRITE_TOKEN") or environ.get("HF_TOKEN")):
        return None
    return writing({name: value for name, value in environ.items() if name != "HF_OIDC_RESOURCE"})


def said(access: Access, repository: str) -> list[Mark]:
    """The marks at the end of what the account of `access` said in its own pull requests on the repository."""
    return access.ask(repository, lambda client: _said(client, repository))


def is_merged(access: Access, head: Tree, repository: str, tested: str, repaired: Mapping[str, str]) -> bool:
    """Whether `head` is what a merge of a repair leaves: the repaired files (path -> sha256), and all others of the
    model as they were in `tested`."""
    before = access.ask(repository, lambda client: _tree(client, repository, tested))
    # A branch may be called like a commit.
    if before is None or before.revision != tested:
        return False
    return _of_model(head.files) == _expected(before.files, repaired)


def _expected(tested: Mapping[str, str], repaired: Mapping[str, str]) -> dict[str, str]:
    """What a merge leaves: the repaired files, and all others as they were when they were tested."""
    expected = _of_model(tested)
    for path, sha256 in repaired.items():
        # A repair changes weights alone. The Hub may name other files by another hash: those are as they were.
        if path.endswith(WEIGHTS) or len(expected.get(path, "")) == SHA256_DIGITS:
            expected[path] = sha256
    return expected


def _of_model(files: Mapping[str, str]) -> dict[str, str]:
    """All but what people go on editing, and what speaks of a run."""
    return {path: digest for path, digest in files.items() if path not in (CARD, ATTRIBUTES) and not is_proof(path)}


def _weights(files: Mapping[str, str]) -> dict[str, str]:
    return {path: digest for path, digest in files.items() if path.endswith(WEIGHTS)}


def _tree(client: "HfApi", repository: str, revision: str) -> Tree | None:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return tree(client, repository, revision)
    except GatedRepoError:
        raise
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return None


def _said(client: "HfApi", repository: str) -> list[Mark]:
    """Nothing of a workflow's identity: under its name anybody's workflow speaks."""
    from huggingface_hub.community import DiscussionComment
    from huggingface_hub.errors import HfHubHTTPError

    found = []
    try:
        account = name_of(client)
        if account == WORKFLOW:
            return []
        for each in client.get_repo_discussions(repository, discussion_type="pull_request", author=account):
            for event in client.get_discussion_details(repository, each.num).events:
                if isinstance(event, DiscussionComment) and event.author == event.last_edited_by == account:
                    found.append(commit_marker.read(event.content))
    except HfHubHTTPError as error:
        if error.response.status_code not in NO_PULL_REQUESTS:
            raise
    return [mark for mark in found if mark is not None]
