"""Commits of a repository: its files at a commit, and new commits that carry a marker of this tool.

A commit is added to a known head. It never overwrites the work of others, and is never made twice.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from antidote_ci.checkpoint.card import CARD
from antidote_ci.checkpoint.files import is_report_file, sha256_file
from antidote_ci.errors import InfrastructureError
from antidote_ci.hub import cache
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.client import fetch_commit_message, fetch_model_info, parse_answer
from antidote_ci.hub.remote import REPOSITORY_NAME, SHA256_DIGITS, RemoteFile, parse_commit, parse_file

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.hf_api import CommitInfo

MarkerKind = Literal["repair", "verdict"]
MAIN = "main"
ATTRIBUTES = ".gitattributes"
"""The only file of a new repository."""
STALE_STATUS = 412
REGULAR_BYTES = 16 << 20
"""The Hub stores larger files in large-file storage only. Its own limit, about 10 MB, is not documented exactly."""
MAX_READ_BYTES = 16_000_000
NOTHING_IGNORED = "# Every file of a result is committed.\n"
"""Text of a .gitignore file. The Hub may take an empty one for none."""

_MARKER = re.compile(
    r"<!-- antidote-ci(?P<kind>-verdict)? run=(?P<run>[0-9a-f]{32}) result=(?P<result>[0-9a-f]{64}) "
    r"source=(?P<source>[0-9a-f]{40}) policy=(?P<policy>[0-9a-f]{64}) report=(?P<report>[0-9a-f]{64}) -->\s*\Z",
    re.ASCII,
)


@dataclass(frozen=True)
class CommitMarker:
    """The comment at the end of a commit description or pull request that identifies the result, in hex."""

    run: str
    """The run that made the commit: 32 digits."""
    result: str
    """Equal for runs that made the same weights under the same policy: 64 digits."""
    source: str
    """The tested commit: 40 digits."""
    policy: str
    """sha256 of the policy: 64 digits."""
    report: str
    """sha256 of the published report.json: 64 digits. Of a verdict: of the report.json that stays in `--out`."""
    kind: MarkerKind = "repair"
    """Weights, or a verdict alone. Each kind has pull requests of its own."""


def add_marker(text: str, marker: CommitMarker) -> str:
    """`text` with the marker on its last line, as an HTML comment that a rendered page does not show."""
    fields = " ".join(f"{name}={value}" for name, value in asdict(marker).items() if name != "kind")
    kind = "" if marker.kind == "repair" else f"-{marker.kind}"
    return f"{text.rstrip()}\n\n<!-- antidote-ci{kind} {fields} -->\n"


def parse_marker(text: object) -> CommitMarker | None:
    """The marker at the end of `text`, if there is one. The Hub may send a comment without a text."""
    match = _MARKER.search(text) if isinstance(text, str) else None
    if match is None:
        return None
    fields = match.groupdict()
    kind: MarkerKind = "verdict" if fields.pop("kind") else "repair"
    return CommitMarker(**fields, kind=kind)


@dataclass(frozen=True)
class CommitTree:
    """The files of a commit."""

    revision: str
    files: dict[str, str]
    """Path -> sha256 (in large-file storage) or git blob id."""
    sizes: dict[str, int]


@dataclass(frozen=True)
class FileContent:
    """A local file with both hashes by which the Hub may name it."""

    file: Path
    sha256: str
    git_id: str | None
    """None for a file that is too large to be stored in git."""

    def has_digest(self, digest: str | None) -> bool:
        """Whether the Hub's `digest` is a hash of this content."""
        return digest is not None and digest == (self.sha256 if len(digest) == SHA256_DIGITS else self.git_id)


@dataclass(frozen=True)
class BranchHead:
    """The head of a branch or pull request, and the marker of its last commit."""

    tree: CommitTree
    marker: CommitMarker | None

    @property
    def revision(self) -> str:
        return self.tree.revision


@dataclass(frozen=True)
class CommitRequest:
    """The content of a commit to make."""

    contents: Mapping[str, FileContent]
    """Path in the repository -> content."""
    removed: tuple[str, ...]
    title: str
    description: str
    """Ends with the marker."""


def read_content(file: Path) -> FileContent:
    """Hash a local file."""
    small = file.stat().st_size <= REGULAR_BYTES
    return FileContent(file, sha256_file(file), cache.hash_like(file, "0" * 40) if small else None)


def read_tree(client: "HfApi", repository: str, revision: str) -> CommitTree:
    """The files of `revision` (a branch, pull request or commit), from one request.

    Raises InfrastructureError when the answer is not a valid description.
    """
    info = fetch_model_info(client, repository, revision, files=True)
    return to_tree(parse_commit(repository, info.sha), [parse_file(repository, file) for file in info.siblings or []])


def to_tree(revision: str, files: Sequence[RemoteFile]) -> CommitTree:
    return CommitTree(revision, {file.path: file.digest for file in files}, {file.path: file.size for file in files})


def list_differing(contents: Mapping[str, FileContent], tree: CommitTree) -> list[str]:
    """The paths whose content in the tree differs or is missing."""
    return [path for path, content in contents.items() if not content.has_digest(tree.files.get(path))]


def read_file(access: HubAccess, repository: str, tree: CommitTree, path: str) -> bytes | None:
    """`read_small_file` with retries."""
    return access.request(repository, lambda client: read_small_file(client, repository, tree, path))


def read_small_file(client: "HfApi", repository: str, tree: CommitTree, path: str) -> bytes | None:
    """A file of the tree, checked against its hash; None if it does not exist or exceeds MAX_READ_BYTES.

    Raises DigestMismatch, which is transient.
    """
    digest = tree.files.get(path)
    if digest is None or tree.sizes[path] > MAX_READ_BYTES:
        return None
    file = RemoteFile(path, tree.sizes[path], digest)
    return cache.fetch_file(client, repository, tree.revision, file).read_bytes()


def list_main_heads(access: HubAccess, name: str) -> dict[str, str]:
    """The heads of main of the model ORG/NAME, or of all models of an account for ORG/*: current name -> commit id.

    Empty repositories are left out.
    """
    owner, _, rest = name.partition("/")

    def read(client: "HfApi") -> dict[str, str]:
        models = client.list_models(author=owner, expand=["sha"]) if rest == "*" else [fetch_model_info(client, name)]
        with parse_answer():
            heads = {model.id: parse_commit(name, model.sha) for model in models if model.sha is not None}
            if not all(map(REPOSITORY_NAME.fullmatch, heads)):
                raise ValueError("a name")
        return heads

    return access.request(name, read)


def read_head(client: "HfApi", repository: str, revision: str) -> BranchHead:
    """The head of `revision` with the marker of the same commit."""
    tree = read_tree(client, repository, revision)
    return BranchHead(tree, parse_marker(fetch_commit_message(client, repository, tree.revision)))


def commit_to_branch(client: "HfApi", repository: str, branch: str, parent: CommitTree, change: CommitRequest) -> str:
    """Add one commit to `branch`, whose head must still be `parent`, and return the new head.

    Unchanged files are left out. Without any change the head stays. The Hub answers 412 when the branch has moved
    (`is_stale`): read the head again before a retry.
    """
    commit = _create_commit(client, repository, branch, parent, change)
    return str(commit.oid) if commit is not None else parent.revision


def open_pull_request(client: "HfApi", repository: str, parent: CommitTree, change: CommitRequest) -> int | None:
    """Open a pull request with one commit on `parent`, and return its number; None when nothing changes.

    The Hub never answers 412 here, so check the head of main after `upload_large_files` and before this call.
    """
    commit = _create_commit(client, repository, MAIN, parent, change, create_pr=True)
    return commit.pr_num if commit is not None else None


def require_pull_request_right(client: "HfApi", repository: str) -> None:
    """Raise HfHubHTTPError if the token may not open pull requests. Sends the first request of a commit alone."""
    from huggingface_hub import CommitOperationAdd

    # The Hub never asks for the content of an empty file.
    client.preupload_lfs_files(repository, [CommitOperationAdd(CARD, b"")], create_pr=True)


def upload_large_files(client: "HfApi", repository: str, parent: CommitTree, change: CommitRequest) -> None:
    """Upload the large files of a pull request before the pull request is opened."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    with disable_progress_bars():
        _prepare_additions(client, repository, MAIN, _build_operations(change, parent), create_pr=True)


def is_stale(error: Exception) -> bool:
    """Return whether the Hub refused a commit because its branch has moved."""
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, HfHubHTTPError) and error.response.status_code == STALE_STATUS


def require_committed(repository: str, head: BranchHead, change: CommitRequest, marker: CommitMarker) -> None:
    """Raise InfrastructureError unless the Hub names the hash of every file of `change`.

    If another run published the same result, its card and reports may differ and are not compared.
    """
    own = head.marker is not None and head.marker.run == marker.run
    sent = {path: content for path, content in change.contents.items() if own or not _names_run(path)}
    for path in list_differing(sent, head.tree):
        raise InfrastructureError(
            f"{path} of {repository} at {head.revision} is not what was published",
            cause=f"the Hub names {head.tree.files.get(path, 'no such file')}, {sent[path].sha256} was sent",
            hint="do not use that commit; run the same command again",
        )


def _names_run(path: str) -> bool:
    return path == CARD or is_report_file(path)


def _build_operations(change: CommitRequest, parent: CommitTree) -> "list[CommitOperationAdd | CommitOperationDelete]":
    """Return the operations that turn `parent` into the requested content: additions of differing files, and deletions.

    Each attempt needs new operations, because the client stores the state of the upload in them.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    return [
        *(CommitOperationAdd(path, change.contents[path].file) for path in list_differing(change.contents, parent)),
        *(CommitOperationDelete(path, is_folder=False) for path in change.removed if path in parent.files),
    ]


def _prepare_additions(
    client: "HfApi",
    repository: str,
    branch: str,
    operations: "Sequence[CommitOperationAdd | CommitOperationDelete]",
    *,
    create_pr: bool,
) -> None:
    """Upload the large files, and note in the operations how the others are sent.

    Without this, the client would silently leave out the files that a .gitignore of the repository excludes.
    """
    from huggingface_hub import CommitOperationAdd

    client.preupload_lfs_files(
        repository,
        [operation for operation in operations if isinstance(operation, CommitOperationAdd)],
        revision=branch,
        create_pr=create_pr,
        free_memory=False,
        gitignore_content=NOTHING_IGNORED,
    )


def _create_commit(
    client: "HfApi", repository: str, branch: str, parent: CommitTree, change: CommitRequest, *, create_pr: bool = False
) -> "CommitInfo | None":
    """Upload the files that differ, and make the commit; None when nothing differs."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    operations = _build_operations(change, parent)
    if not operations:
        return None
    try:
        with disable_progress_bars():
            _prepare_additions(client, repository, branch, operations, create_pr=create_pr)
            # Not upload_folder: it splits the change into several commits, and guards only the first.
            return client.create_commit(
                repository,
                operations,
                commit_message=change.title,
                commit_description=change.description,
                revision=branch,
                create_pr=create_pr,
                parent_commit=parent.revision,
            )
    except json.JSONDecodeError:
        # The client does not check that the validation of the card returned JSON.
        raise ConnectionError("the answer about the model card is not JSON") from None
