"""One commit upon a known head: never twice, never over somebody else's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from antidote_ci.errors import InfrastructureError
from antidote_ci.hub import commit_marker
from antidote_ci.hub.commit_marker import Mark
from antidote_ci.hub.trees import Content, Tree, differing, tree

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.hf_api import CommitInfo

STALE = 412
OF_A_RUN = ("README.md", "SHA256SUMS", "antidote/")
"""What two runs with the same result may write differently."""


@dataclass(frozen=True)
class Change:
    """What a commit makes true."""

    contents: Mapping[str, Content]
    """Path in the repository -> what must be there."""
    gone: tuple[str, ...]
    """Paths that must not be there."""
    title: str
    description: str
    """It ends with the mark."""


@dataclass(frozen=True)
class Head:
    """Where a branch or pull request stands, and whose commit that is."""

    tree: Tree
    mark: Mark | None

    @property
    def revision(self) -> str:
        """The commit."""
        return self.tree.revision


def head(client: "HfApi", repository: str, revision: str) -> Head:
    """The head of `revision` with its mark, both of the same commit."""
    there = tree(client, repository, revision)
    last = next(iter(client.list_repo_commits(repository, revision=there.revision)), None)
    return Head(there, commit_marker.read(last.message) if last is not None else None)


def push(client: "HfApi", repository: str, branch: str, upon: Tree, change: Change) -> str:
    """The new head: one commit on `branch`, whose head must still be `upon`.

    What is there already is left out; with nothing left to do the head stays. The Hub answers 412 when the branch has
    moved: look again before you ask again.
    """
    operations = _operations(change, upon)
    if not operations:
        return upon.revision
    _upload(client, repository, branch, operations)
    return str(_committed(client, repository, branch, upon, change, operations, create_pr=False).oid)


def propose(client: "HfApi", repository: str, upon: Tree, change: Change) -> bool:
    """Open a pull request of one commit upon `upon`; False when there is nothing to change.

    The Hub never answers 412 here: whoever wants main to be at `upon` looks again after the upload (`upload`).
    """
    operations = _operations(change, upon)
    if not operations:
        return False
    return _committed(client, repository, "main", upon, change, operations, create_pr=True).pr_url is not None


def upload(client: "HfApi", repository: str, upon: Tree, change: Change) -> None:
    """Send the large files of a pull request to come; the commit then finds them there."""
    _upload(client, repository, "main", _operations(change, upon), create_pr=True)


def is_stale(error: Exception) -> bool:
    """Whether the Hub refused a commit because its branch has moved."""
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, HfHubHTTPError) and error.response.status_code == STALE


def require_there(repository: str, found: Head, change: Change, mark: Mark) -> None:
    """Raise InfrastructureError unless the Hub names everything by its hash.

    Of another run with the same result, what names the run may differ.
    """
    own = found.mark is not None and found.mark.run == mark.run
    sent = {path: each for path, each in change.contents.items() if own or not path.startswith(OF_A_RUN)}
    for path in differing(sent, found.tree):
        raise InfrastructureError(
            f"{path} of {repository} at {found.revision} is not what was published",
            cause=f"the Hub names {found.tree.files.get(path, 'no such file')}, {sent[path].sha256} was sent",
            hint="do not use that commit; run the same command again",
        )


def _operations(change: Change, upon: Tree) -> "list[CommitOperationAdd | CommitOperationDelete]":
    """Objects that serve one commit: made anew for each attempt."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    return [
        *(CommitOperationAdd(path, change.contents[path].file) for path in differing(change.contents, upon)),
        *(CommitOperationDelete(path, is_folder=False) for path in change.gone if path in upon.files),
    ]


def _upload(
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


def _committed(
    client: "HfApi",
    repository: str,
    branch: str,
    upon: Tree,
    change: Change,
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
