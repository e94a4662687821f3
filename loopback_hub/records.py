"""What the loopback Hub keeps. Revisions are 40-hex commit ids, paths relative, times in UTC."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

MAIN = "main"

DiscussionStatus = Literal["draft", "open", "closed", "merged"]
Gate = Literal["auto", "manual", False]
"""Who lets an account into a gated repository: the Hub at once, or the owner."""
AccessStatus = Literal["pending", "accepted", "rejected"]


@dataclass(frozen=True)
class FileEntry:
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
    author: str
    created: str
    files: dict[str, FileEntry]


@dataclass(frozen=True)
class FileChanges:
    """What a commit does to its parent."""

    title: str
    body: str
    author: str
    added: dict[str, FileEntry]
    deleted: list[str]
    """A file, or a folder with a trailing slash."""


@dataclass(frozen=True)
class CommentEvent:
    """What someone wrote; its earlier wordings are kept."""

    id: str
    author: str
    created: str
    content: str
    updated: str
    editor: str
    """Whose wording it is by now."""
    earlier: list[str] = field(default_factory=list)
    type: Literal["comment"] = "comment"


@dataclass(frozen=True)
class PushEvent:
    """A commit upon a pull request."""

    id: str
    author: str
    created: str
    title: str
    revision: str
    type: Literal["commit"] = "commit"


@dataclass(frozen=True)
class StatusEvent:
    """A discussion was opened, closed or merged."""

    id: str
    author: str
    created: str
    status: DiscussionStatus
    type: Literal["status-change"] = "status-change"


@dataclass(frozen=True)
class TitleEvent:
    """A discussion got another title."""

    id: str
    author: str
    created: str
    before: str
    after: str
    type: Literal["title-change"] = "title-change"


DiscussionEvent = CommentEvent | PushEvent | StatusEvent | TitleEvent


@dataclass(frozen=True)
class Discussion:
    """A conversation; a pull request when it starts from a commit. Its commits are under refs/pr/<number>."""

    number: int
    title: str
    author: str
    created: str
    status: DiscussionStatus
    base: str | None
    events: list[DiscussionEvent]
    merged: str | None = None
    """The commit of main that a merge made."""

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.number}"

    @property
    def comments(self) -> list[CommentEvent]:
        return [event for event in self.events if isinstance(event, CommentEvent)]


@dataclass(frozen=True)
class AccessRequest:
    """An account that asked to be let into a gated repository, or was."""

    standing: AccessStatus
    since: str


@dataclass(frozen=True)
class Repository:
    """Everything of a repository that may change."""

    id: str
    created: str
    refs: dict[str, str]
    """Branches by their names, and the heads of pull requests."""
    gated: Gate = False
    private: bool = False
    disabled: bool = False
    admissions: dict[str, AccessRequest] = field(default_factory=dict)
    """By account."""
    tags: dict[str, str] = field(default_factory=dict)
    discussions: list[Discussion] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return "dataset" if self.id.startswith("datasets/") else "model"

    @property
    def short_name(self) -> str:
        """Its name among repositories of its kind."""
        return self.id.removeprefix("datasets/")

    @property
    def namespace(self) -> str:
        return self.short_name.partition("/")[0]

    @property
    def is_gated(self) -> bool:
        return self.gated is not False

    @property
    def pull_requests(self) -> list[Discussion]:
        return [discussion for discussion in self.discussions if discussion.base is not None]


@dataclass(frozen=True)
class UpdatedRef:
    """A branch or pull request that points elsewhere now. None: it was not there before, or is not any more."""

    ref: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class RepositoryEvent:
    """Something happened to a repository: what webhooks are told."""

    action: Literal["create", "update", "delete", "move"]
    scope: Literal["repo", "repo.content", "repo.config", "discussion", "discussion.comment"]
    repository: Repository
    refs: tuple[UpdatedRef, ...] = ()
    discussion: Discussion | None = None
    comment: CommentEvent | None = None
    moved_to: str | None = None


def utc_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
