"""The data of the loopback Hub. Revisions are 40-hex commit ids, paths are relative, times are in UTC."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

MAIN = "main"

DiscussionStatus = Literal["draft", "open", "closed", "merged"]
Gate = Literal["auto", "manual", False]
"""How access to a gated repository is granted: automatically or by the owner. False: not gated."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a commit."""

    sha256: str
    """Hash of the content: the name of the blob and the id in git-lfs."""
    git_id: str
    """git blob id of the content, or of the pointer of a git-lfs file."""
    size: int
    pointer_size: int | None
    """None for a file that is not in git-lfs."""

    @property
    def tag(self) -> str:
        """The ETag. The client also uses it as the file name in its cache."""
        return self.git_id if self.pointer_size is None else self.sha256


@dataclass(frozen=True)
class Commit:
    """One commit with the complete list of its files."""

    revision: str
    parent: str | None
    title: str
    body: str
    author: str
    created: str
    files: dict[str, FileEntry]


@dataclass(frozen=True)
class FileChanges:
    """The changes of a commit to its parent."""

    title: str
    body: str
    author: str
    added: dict[str, FileEntry]
    deleted: list[str]
    """Paths of files, and of folders with a trailing slash."""


@dataclass(frozen=True)
class CommentEvent:
    """A comment with its earlier versions."""

    id: str
    author: str
    created: str
    content: str
    updated: str
    editor: str
    """The account that edited the comment last."""
    earlier: list[str] = field(default_factory=list)
    type: Literal["comment"] = "comment"


@dataclass(frozen=True)
class PushEvent:
    """A commit was pushed to a pull request."""

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


DiscussionEvent = CommentEvent | PushEvent | StatusEvent


@dataclass(frozen=True)
class Discussion:
    """A discussion, or a pull request if `base` is a commit. The head of a pull request is refs/pr/<number>."""

    number: int
    title: str
    author: str
    created: str
    status: DiscussionStatus
    base: str | None
    events: list[DiscussionEvent]
    merged: str | None = None
    """The merge commit on main."""

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.number}"

    @property
    def comments(self) -> list[CommentEvent]:
        return [event for event in self.events if isinstance(event, CommentEvent)]


@dataclass(frozen=True)
class Repository:
    """The state of a repository."""

    id: str
    created: str
    refs: dict[str, str]
    """Branch name or refs/pr/<number> -> commit id."""
    gated: Gate = False
    private: bool = False
    disabled: bool = False
    discussions: list[Discussion] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return "dataset" if self.id.startswith("datasets/") else "model"

    @property
    def short_name(self) -> str:
        """The id without the prefix of datasets."""
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
    """A change of a branch or pull request. None: it did not exist before, or does not exist any more."""

    ref: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class RepositoryEvent:
    """A change of a repository that webhooks report."""

    action: Literal["create", "update", "delete", "move"]
    scope: Literal["repo", "repo.content", "repo.config", "discussion", "discussion.comment"]
    repository: Repository
    refs: tuple[UpdatedRef, ...] = ()
    discussion: Discussion | None = None
    comment: CommentEvent | None = None
    moved_to: str | None = None


def utc_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


JobStage = Literal["SCHEDULING", "RUNNING", "COMPLETED", "CANCELED", "ERROR", "DELETED"]
TERMINAL_STAGES: tuple[JobStage, ...] = ("COMPLETED", "CANCELED", "ERROR", "DELETED")


@dataclass(frozen=True)
class StoredJobSpec:
    """What a Job runs. Secrets are not part of it: they are passed to the process and not stored."""

    image: str
    command: list[str]
    arguments: list[str]
    environment: dict[str, str]
    flavor: str
    timeout: int
    """Seconds."""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredJob:
    """One Job and its status."""

    id: str
    namespace: str
    initiator: str
    """The account that started the Job."""
    spec: StoredJobSpec
    created: str
    stage: JobStage = "SCHEDULING"
    message: str | None = None
    started: str | None = None
    finished: str | None = None


@dataclass(frozen=True)
class Flavor:
    """A hardware flavour of the Hub. Prices are those of August 2026."""

    name: str
    title: str
    cpu: str
    ram: str
    storage: str
    gpu: tuple[str, int, str] | None
    """Model, count and total memory."""
    micro_dollars: int
    """Price per minute in millionths of a dollar."""


HARDWARE = (
    Flavor("cpu-basic", "CPU Basic", "2 vCPU", "16 GB", "50 GB", None, 167),
    Flavor("cpu-upgrade", "CPU Upgrade", "8 vCPU", "32 GB", "50 GB", None, 500),
    Flavor("t4-small", "Nvidia T4 - small", "4 vCPU", "15 GB", "50 GB", ("T4", 1, "16 GB"), 6667),
    Flavor("l4x1", "1x Nvidia L4", "8 vCPU", "30 GB", "400 GB", ("L4", 1, "24 GB"), 13333),
    Flavor("a10g-small", "Nvidia A10G - small", "4 vCPU", "15 GB", "110 GB", ("A10G", 1, "24 GB"), 16667),
    Flavor("a100-large", "Nvidia A100 - large", "12 vCPU", "142 GB", "1000 GB", ("A100", 1, "80 GB"), 41667),
    Flavor("h200", "1x Nvidia H200", "23 vCPU", "256 GB", "3000 GB", ("H200", 1, "141 GB"), 83333),
)

Rights = Literal["read", "write", "fine-grained", "all"]


@dataclass(frozen=True)
class Credential:
    """A token with its account and rights. An account may have several."""

    account: str
    sha256: str
    """Hash of the token. The token itself is not stored."""
    rights: Rights
    organisations: list[str] = field(default_factory=list)
    repositories: list[str] = field(default_factory=list)
    """For fine-grained tokens: the only repositories that it may write to, or read while they are private."""
    expires: float | None = None
    """Expiry in seconds since 1970, or None."""


@dataclass(frozen=True)
class TrustedPublisher:
    """A GitHub workflow that may publish to one repository without a stored token."""

    repository: str
    workflow: str


@dataclass(frozen=True)
class Accounts:
    """All credentials and publishers. While there are none, every token may do everything."""

    credentials: list[Credential] = field(default_factory=list)
    publishers: list[TrustedPublisher] = field(default_factory=list)


@dataclass(frozen=True)
class JobTrigger:
    """The Job that a webhook starts: a copy of its source Job without the secrets of that Job."""

    namespace: str
    spec: StoredJobSpec
    secrets: dict[str, str] = field(default_factory=dict)
    """Secrets of the webhook, passed to every Job that it starts."""


@dataclass(frozen=True)
class StoredWebhook:
    """A webhook: which repositories it watches, and the URL it calls or the Job it starts."""

    id: str
    owner: str
    url: str | None
    watched: list[tuple[str, str]]
    """Pairs of kind (model, dataset, user, org) and name."""
    domains: list[str]
    secret: str | None
    disabled: bool = False
    trigger: JobTrigger | None = None
    """Set if `url` is None."""
