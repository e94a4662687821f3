"""Decides whether a commit contains a repair by this account.

Anyone with write access can copy or forge a commit message, a manifest or a report, also in a pull request of this
account. The author of a comment cannot be forged, because the Hub records it. The comments of this account end with a
marker that identifies the result by a hash of every repaired file and of the commit with all other files.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from antidote_ci.checkpoint.card import CARD
from antidote_ci.checkpoint.files import is_report_file
from antidote_ci.hub.access import RESOURCE_VARIABLE, HubAccess, read_name, write_access
from antidote_ci.hub.commits import ATTRIBUTES, MAIN, CommitMarker, CommitTree, parse_marker, read_tree
from antidote_ci.hub.remote import SHA256_DIGITS

if TYPE_CHECKING:
    from huggingface_hub import HfApi

WEIGHTS_SUFFIX = ".safetensors"
MISSING_STATUSES = (403, 404, 410)
"""The answers for a repository without discussions."""


def read_main(access: HubAccess, repository: str) -> CommitTree | None:
    """The head of main; None if the repository does not exist, is empty, or is not visible to this account."""
    return access.request(repository, lambda client: _read_tree_or_none(client, repository, MAIN))


def has_weights(head: CommitTree, repaired: Mapping[str, str]) -> bool:
    """Whether the safetensors files of `head` are exactly those of `repaired` (path -> sha256)."""
    return _weight_files(head.files) == _weight_files(repaired)


def own_access(environ: Mapping[str, str]) -> HubAccess | None:
    """Access as the account that publishes; None without a token.

    A workflow's identity is not used: all workflows share one name on the Hub.
    """
    if not (environ.get("HF_WRITE_TOKEN") or environ.get("HF_TOKEN")):
        return None
    return write_access({name: value for name, value in environ.items() if name != RESOURCE_VARIABLE})


def read_own_markers(access: HubAccess, repository: str) -> list[CommitMarker]:
    """The markers in the comments of this account on its own pull requests; none for a workflow's identity."""
    if access.is_workflow:
        return []
    account = read_name(access, repository)
    return access.request(repository, lambda client: _read_markers(client, repository, account))


def is_merged_repair(
    access: HubAccess, head: CommitTree, repository: str, tested: str, repaired: Mapping[str, str]
) -> bool:
    """Whether `head` is the merge of a repair: the `repaired` files (path -> sha256), and all other files of the
    model as in the commit `tested`."""
    before = access.request(repository, lambda client: _read_tree_or_none(client, repository, tested))
    # A branch may have the name of a commit.
    if before is None or before.revision != tested:
        return False
    expected = model_files(before.files)
    for path, sha256 in repaired.items():
        # A repair changes weights only. Files with a git blob id, which cannot be compared to a sha256, stay the same.
        if path.endswith(WEIGHTS_SUFFIX) or len(expected.get(path, "")) == SHA256_DIGITS:
            expected[path] = sha256
    return model_files(head.files) == expected


def model_files(files: Mapping[str, str]) -> dict[str, str]:
    """All files except the card and .gitattributes, which people edit, and the reports of a run."""
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


def _read_markers(client: "HfApi", repository: str, account: str) -> list[CommitMarker]:
    from huggingface_hub.community import DiscussionComment
    from huggingface_hub.errors import HfHubHTTPError

    markers = []
    try:
        for discussion in client.get_repo_discussions(repository, discussion_type="pull_request", author=account):
            for event in client.get_discussion_details(repository, discussion.num).events:
                if isinstance(event, DiscussionComment) and event.author == event.last_edited_by == account:
                    markers.append(parse_marker(event.content))
    except HfHubHTTPError as error:
        if error.response.status_code not in MISSING_STATUSES:
            raise
    return [marker for marker in markers if marker is not None]
