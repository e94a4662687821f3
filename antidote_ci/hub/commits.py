"""One commit upon a known head: never twice, never over somebody else's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from antidote_ci.errors import InfrastructureError
from antidote_ci.hub import commit_marker
from antidote_ci.hub.commit_marker import CommitMarker
from antidote_ci.hub.trees import CommitTree, FileContent, list_differing, read_tree

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.hf_api import CommitInfo

STALE_STATUS = 412
REPORT_PATHS = ("README.md", "SHA256SUMS", "antidote/")
"""What two runs with the same result may write differently."""


@dataclass(frozen=True)
class CommitRequest:
    """What a commit makes true."""

    contents: Mapping[str, FileContent]
    """Path in the repository -> what must be there."""
    removed: tuple[str, ...]
    """Paths that must not be there."""
    title: str
    description: str
    """It ends with the mark."""


@dataclass(frozen=True)
class BranchHead:
    """Where a branch or pull request stands, and whose commit that is."""

    tree: CommitTree
    marker: CommitMarker | None

    @property
    def revision(self) -> str:
        """The commit."""
        return self.tree.revision


def read_head(client: "HfApi", repository: str, revision: str) -> BranchHead:
    """The head of `revision` with its mark, both of the same commit."""
    there = read_tree(client, repository, revision)
    last = next(iter(client.list_repo_commits(repository, revision=there.revision)), None)
    return BranchHead(there, commit_marker.parse_marker(last.message) if last is not None else None)


def commit_to_branch(client: "HfApi", repository: str, branch: str, upon: CommitTree, change: CommitRequest) -> str:
    """The new head: one commit on `branch`, whose head must still be `upon`.

    What is there already is left out; with nothing left to do the head stays. The Hub answers 412 when the branch has
    moved: look again before you ask again.
    """
    operations = _build_operations(change, upon)
    if not operations:
        return upon.revision
    _upload_operations(client, repository, branch, operations)
    return str(_create_commit(client, repository, branch, upon, change, operations, create_pr=False).oid)


def open_pull_request(client: "HfApi", repository: str, upon: CommitTree, change: CommitRequest) -> bool:
    """Open a pull request of one commit upon `upon`; False when there is nothing to change.

    The Hub never answers 412 here: whoever wants main to be at `upon` looks again after the upload
    (`upload_large_files`).
    """
    operations = _build_operations(change, upon)
    if not operations:
        return False
    return _create_commit(client, repository, "main", upon, change, operations, create_pr=True).pr_url is not None


def upload_large_files(client: "HfApi", repository: str, upon: CommitTree, change: CommitRequest) -> None:
    """Send the large files of a pull request to come; the commit then finds them there."""
    _upload_operations(client, repository, "main", _build_operations(change, upon), create_pr=True)


def is_stale(error: Exception) -> bool:
    """Whether the Hub refused a commit because its branch has moved."""
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, HfHubHTTPError) and error.response.status_code == STALE_STATUS


def require_committed(repository: str, found: BranchHead, change: CommitRequest, marker: CommitMarker) -> None:
    """Raise InfrastructureError unless the Hub names everything by its hash.

    Of another run with the same result, what names the run may differ.
    """
    own = found.marker is not None and found.marker.run == marker.run
    sent = {path: each for path, each in change.contents.items() if own or not path.startswith(REPORT_PATHS)}
    for path in list_differing(sent, found.tree):
        raise InfrastructureError(
            f"{path} of {repository} at {found.revision} is not what was published",
            cause=f"the Hub names {found.tree.files.get(path, 'no such file')}, {sent[path].sha256} was sent",
            hint="do not use that commit; run the same command again",
        )


def _build_operations(change: CommitRequest, upon: CommitTree) -> "list[CommitOperationAdd | CommitOperationDelete]":
    """Objects that serve one commit: made anew for each attempt."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    return [
        *(CommitOperationAdd(path, change.contents[path].file) for path in list_differing(change.contents, upon)),
        *(CommitOperationDelete(path, is_folder=False) for path in change.removed if path in upon.files),
    ]


def _upload_operations(
    client: "HfApi",
    repository: str,
    branch: str,
    operations: "list[CommitOperationAdd | CommitOperationDelete]",
    *,
    create_pr: bool = False,
) -> None:
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.utils.tqdm import disable_progress_bars

    additions = [each for each in operations if isinstance(each, CommitOperationAdd)]
    with disable_progress_bars():
        client.preupload_lfs_files(repository, additions, revision=branch, create_pr=create_pr, free_memory=False)


def _create_commit(
    client: "HfApi",
    repository: str,
    branch: str,
    upon: CommitTree,
    change: CommitRequest,
    operations: "list[CommitOperationAdd | CommitOperationDelete]",
    *,
    create_pr: bool,
) -> "CommitInfo":
    from huggingface_hub.utils.tqdm import disable_progress_bars

    try:
        with disable_progress_bars():
            # Never upload_folder: it splits the change into several commits, and guards only the first.
            return client.create_commit(
                repository,
                operations,
                commit_message=change.title,
                commit_description=change.description,
                revision=branch,
                create_pr=create_pr,
                parent_commit=upon.revision,
            )
    except json.JSONDecodeError:
        # The client takes a gateway's page for the answer about the card.
        raise ConnectionError("what was answered about the card is no JSON") from None
