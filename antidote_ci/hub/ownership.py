"""Whether a commit holds a repair of ours, by what nobody else can have said.

A commit's message, a manifest and a report can be copied or made up by whoever may push, onto our own pull request too.
The words of a pull request cannot: the Hub says whose they are. They end with a mark, which names the result by a hash
over every repaired file and over the commit that all other files come from.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from antidote_ci.checkpoint.card import CARD
from antidote_ci.checkpoint.files import is_report_file
from antidote_ci.hub import commit_marker
from antidote_ci.hub.access import HubAccess, write_access
from antidote_ci.hub.commit_marker import CommitMarker
from antidote_ci.hub.destination import ATTRIBUTES, MAIN
from antidote_ci.hub.digests import SHA256_DIGITS
from antidote_ci.hub.identity import WORKFLOW, read_name
from antidote_ci.hub.trees import CommitTree, read_tree

if TYPE_CHECKING:
    from huggingface_hub import HfApi

WEIGHTS_SUFFIX = ".safetensors"
MISSING_STATUSES = (403, 404, 410)
"""What the Hub answers where a repository has none."""


def read_main(access: HubAccess, repository: str) -> CommitTree | None:
    """Its main branch as it is now; None where no such repository, or nothing in it, is to be seen."""
    return access.request(repository, lambda client: _read_tree_or_none(client, repository, MAIN))


def has_weights(head: CommitTree, repaired: Mapping[str, str]) -> bool:
    """Whether the weights in safetensors are those of `repaired` (path -> sha256), and there are no others."""
    return _weight_files(head.files) == _weight_files(repaired)


def own_access(environ: Mapping[str, str]) -> HubAccess | None:
    """As whom we publish; None without a token.

    Nor has a workflow's own identity a name of its own: the workflows of all strangers share it.
    """
    if not (environ.get("HF_WRITE_TOKEN") or environ.get("HF_TOKEN")):
        return None
    return write_access({name: value for name, value in environ.items() if name != "HF_OIDC_RESOURCE"})


def read_own_markers(access: HubAccess, repository: str) -> list[CommitMarker]:
    """The marks at the end of what the account of `access` said in its own pull requests on the repository."""
    return access.request(repository, lambda client: _read_markers(client, repository))


def is_merged_repair(
    access: HubAccess, head: CommitTree, repository: str, tested: str, repaired: Mapping[str, str]
) -> bool:
    """Whether `head` is what a merge of a repair leaves: the repaired files (path -> sha256), and all others of the
    model as they were in `tested`."""
    before = access.request(repository, lambda client: _read_tree_or_none(client, repository, tested))
    # A branch may be called like a commit.
    if before is None or before.revision != tested:
        return False
    return _model_files(head.files) == _expected_files(before.files, repaired)


def _expected_files(tested: Mapping[str, str], repaired: Mapping[str, str]) -> dict[str, str]:
    """What a merge leaves: the repaired files, and all others as they were when they were tested."""
    expected = _model_files(tested)
    for path, sha256 in repaired.items():
        # A repair changes weights alone. The Hub may name other files by another hash: those are as they were.
        if path.endswith(WEIGHTS_SUFFIX) or len(expected.get(path, "")) == SHA256_DIGITS:
            expected[path] = sha256
    return expected


def _model_files(files: Mapping[str, str]) -> dict[str, str]:
    """All but what people go on editing, and what speaks of a run."""
    return {
        path: digest for path, digest in files.items() if path not in (CARD, ATTRIBUTES) and not is_report_file(path)
    }


def _weight_files(files: Mapping[str, str]) -> dict[str, str]:
    return {path: digest for path, digest in files.items() if path.endswith(WEIGHTS_SUFFIX)}


def _read_tree_or_none(client: "HfApi", repository: str, revision: str) -> CommitTree | None:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return read_tree(client, repository, revision)
    except GatedRepoError:
        raise
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return None


def _read_markers(client: "HfApi", repository: str) -> list[CommitMarker]:
    """Nothing of a workflow's identity: under its name anybody's workflow speaks."""
    from huggingface_hub.community import DiscussionComment
    from huggingface_hub.errors import HfHubHTTPError

    found = []
    try:
        account = read_name(client)
        if account == WORKFLOW:
            return []
        for each in client.get_repo_discussions(repository, discussion_type="pull_request", author=account):
            for event in client.get_discussion_details(repository, each.num).events:
                if isinstance(event, DiscussionComment) and event.author == event.last_edited_by == account:
                    found.append(commit_marker.parse_marker(event.content))
    except HfHubHTTPError as error:
        if error.response.status_code not in MISSING_STATUSES:
            raise
    return [mark for mark in found if mark is not None]
