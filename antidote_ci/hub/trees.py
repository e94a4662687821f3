"""The files of a repository at one commit, by the hashes that the Hub names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.checkpoint.files import sha256_file
from antidote_ci.hub import cache
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.digests import SHA256_DIGITS, hash_like
from antidote_ci.hub.info import fetch_model_info
from antidote_ci.hub.remote import RemoteFile, parse_commit, parse_file
from antidote_ci.hub.transfer_progress import silent_bar_class

if TYPE_CHECKING:
    from huggingface_hub import HfApi

REGULAR_BYTES = 10_000_000
"""Above this the Hub keeps no file outside large-file storage."""
MAX_READ_BYTES = 16_000_000


@dataclass(frozen=True)
class CommitTree:
    """A commit's files: path -> sha256 (in large-file storage) or git's id."""

    revision: str
    files: dict[str, str]
    sizes: dict[str, int]


@dataclass(frozen=True)
class FileContent:
    """A local file with both names that the Hub may give it."""

    file: Path
    sha256: str
    git_id: str | None
    """None for what is too large to be kept outside large-file storage."""

    def is_named(self, digest: str | None) -> bool:
        """Whether the Hub's `digest` is of this content."""
        return digest is not None and digest == (self.sha256 if len(digest) == SHA256_DIGITS else self.git_id)


def read_content(file: Path) -> FileContent:
    """The file, read once or twice."""
    small = file.stat().st_size <= REGULAR_BYTES
    return FileContent(file, sha256_file(file), hash_like(file, "0" * 40) if small else None)


def read_tree(client: "HfApi", repository: str, revision: str) -> CommitTree:
    """`revision` (a branch, pull request or commit) as it is now, in one answer.

    Raises InfrastructureError for a description that no Hub would give.
    """
    info = fetch_model_info(client, repository, revision, files=True)
    return to_tree(parse_commit(repository, info.sha), [parse_file(repository, each) for each in info.siblings or []])


def to_tree(revision: str, files: Sequence[RemoteFile]) -> CommitTree:
    """A commit, from the files that the Hub described."""
    return CommitTree(revision, {each.path: each.digest for each in files}, {each.path: each.size for each in files})


def list_differing(contents: Mapping[str, FileContent], there: CommitTree) -> list[str]:
    """The paths whose content is another in the tree, or missing."""
    return [path for path, each in contents.items() if not each.is_named(there.files.get(path))]


def read_file(access: HubAccess, repository: str, there: CommitTree, path: str) -> bytes | None:
    """`read_small_file`, asked with patience."""
    return access.request(repository, lambda client: read_small_file(client, repository, there, path))


def read_small_file(client: "HfApi", repository: str, there: CommitTree, path: str) -> bytes | None:
    """A small file of the tree, checked against its hash; None where there is none, or it is not small.

    Raises WrongBytes, which is worth asking again.
    """
    digest = there.files.get(path)
    if digest is None or there.sizes[path] > MAX_READ_BYTES:
        return None
    file = RemoteFile(path, there.sizes[path], digest)
    return cache.fetch_file(client, repository, there.revision, file, silent_bar_class()).read_bytes()
