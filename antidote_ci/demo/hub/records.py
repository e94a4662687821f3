"""What the loopback Hub keeps. Revisions are 40-hex commit ids, paths relative."""

from dataclasses import dataclass, field
from typing import Literal

MAIN = "main"


@dataclass(frozen=True)
class Entry:
    """One file of a commit."""

    sha256: str
    """Of the content: the blob's name, and the file's id in large-file storage."""
    git_id: str
    """Of the content, or of the pointer that git keeps for a large file."""
    size: int
    pointer_size: int | None
    """None for a file that git keeps itself."""

    @property
    def tag(self) -> str:
        """What the client compares to know a file again, and names it by in its cache."""
        return self.git_id if self.pointer_size is None else self.sha256


@dataclass(frozen=True)
class Commit:
    """A complete state of the repository; it never changes."""

    revision: str
    parent: str | None
    title: str
    body: str
    created: str
    files: dict[str, Entry]


@dataclass(frozen=True)
class PullRequest:
    """A proposal on main, its commits under refs/pr/<number>."""

    number: int
    title: str
    body: str
    base: str
    created: str
    status: Literal["open", "closed", "merged"] = "open"

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.number}"


@dataclass(frozen=True)
class Repository:
    """Everything of a repository that may change."""

    id: str
    gated: bool
    created: str
    refs: dict[str, str]
    pull_requests: list[PullRequest] = field(default_factory=list)


@dataclass(frozen=True)
class Change:
    """What a commit does to its parent."""

    title: str
    body: str
    added: dict[str, Entry]
    deleted: list[str]
    """A file, or a folder with a trailing slash."""
