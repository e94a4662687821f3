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
    """Paths of files and folders."""


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
    """The merge commit."""
    branch: str = MAIN
    """The branch into which a pull request is merged."""

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
    creator: str | None = None
    """The account that created it, which may write to it as a contributor of the organisation."""

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
    """A hardware flavour of the Hub."""

    name: str
    title: str
    cpu: str
    ram: str
    storage: str
    gpu: tuple[str, int, str] | None
    """Model, count and total memory."""
    dollars: float
    """Price per hour."""


HARDWARE = (
    Flavor("cpu-basic", "CPU Basic", "2 vCPU", "16 GB", "50 GB", None, 0.01),
    Flavor("cpu-upgrade", "CPU Upgrade", "8 vCPU", "32 GB", "50 GB", None, 0.03),
    Flavor("cpu-performance", "CPU Performance", "32 vCPU", "256 GB", "1024 GB", None, 1.90),
    Flavor("cpu-xl", "CPU XL", "16 vCPU", "124 GB", "1000 GB", None, 1.00),
    Flavor("t4-small", "Nvidia T4 - small", "4 vCPU", "15 GB", "50 GB", ("T4", 1, "16 GB"), 0.40),
    Flavor("t4-medium", "Nvidia T4 - medium", "8 vCPU", "30 GB", "100 GB", ("T4", 1, "16 GB"), 0.60),
    Flavor("a10g-small", "Nvidia A10G - small", "4 vCPU", "15 GB", "110 GB", ("A10G", 1, "24 GB"), 1.00),
    Flavor("a10g-large", "Nvidia A10G - large", "12 vCPU", "46 GB", "200 GB", ("A10G", 1, "24 GB"), 1.50),
    Flavor("a10g-largex2", "2x Nvidia A10G - large", "24 vCPU", "92 GB", "1000 GB", ("A10G", 2, "48 GB"), 3.00),
    Flavor("a10g-largex4", "4x Nvidia A10G - large", "48 vCPU", "184 GB", "2000 GB", ("A10G", 4, "96 GB"), 5.00),
    Flavor("a100-large", "Nvidia A100 - large", "12 vCPU", "142 GB", "1000 GB", ("A100", 1, "80 GB"), 2.50),
    Flavor("a100x4", "4x Nvidia A100", "48 vCPU", "568 GB", "4000 GB", ("A100", 4, "320 GB"), 10.00),
    Flavor("a100x8", "8x Nvidia A100", "96 vCPU", "1136 GB", "8000 GB", ("A100", 8, "640 GB"), 20.00),
    Flavor("h200", "Nvidia H200", "23 vCPU", "256 GB", "3000 GB", ("H200", 1, "141 GB"), 5.00),
    Flavor("h200x2", "Nvidia H200", "46 vCPU", "512 GB", "6000 GB", ("H200", 2, "282 GB"), 10.00),
    Flavor("h200x4", "Nvidia H200", "92 vCPU", "1024 GB", "12000 GB", ("H200", 4, "564 GB"), 20.00),
    Flavor("h200x8", "Nvidia H200", "184 vCPU", "2048 GB", "24000 GB", ("H200", 8, "1128 GB"), 40.00),
    Flavor("rtx-pro-6000", "Nvidia RTX PRO 6000", "23 vCPU", "256 GB", "475 GB", ("RTX PRO 6000", 1, "96 GB"), 2.75),
    Flavor("rtx-pro-6000x2", "Nvidia RTX PRO 6000", "46 vCPU", "512 GB", "950 GB", ("RTX PRO 6000", 2, "192 GB"), 5.50),
    Flavor(
        "rtx-pro-6000x4", "Nvidia RTX PRO 6000", "92 vCPU", "1024 GB", "1900 GB", ("RTX PRO 6000", 4, "384 GB"), 11.00
    ),
    Flavor(
        "rtx-pro-6000x8", "Nvidia RTX PRO 6000", "184 vCPU", "2048 GB", "3800 GB", ("RTX PRO 6000", 8, "768 GB"), 22.00
    ),
    Flavor("l4x1", "1x Nvidia L4", "8 vCPU", "30 GB", "400 GB", ("L4", 1, "24 GB"), 0.80),
    Flavor("l4x4", "4x Nvidia L4", "48 vCPU", "186 GB", "3200 GB", ("L4", 4, "96 GB"), 3.80),
    Flavor("l40sx1", "1x Nvidia L40S", "8 vCPU", "62 GB", "380 GB", ("L40S", 1, "48 GB"), 1.80),
    Flavor("l40sx4", "4x Nvidia L40S", "48 vCPU", "382 GB", "3200 GB", ("L40S", 4, "192 GB"), 8.30),
    Flavor("l40sx8", "8x Nvidia L40S", "192 vCPU", "1534 GB", "6500 GB", ("L40S", 8, "384 GB"), 23.50),
)
"""The catalogue of August 2026 as huggingface_hub 2.4 publishes it, in docs/source/en/guides/jobs.md. The titles of
several flavours with H200 are equal there too."""

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
    role: str = "write"
    """The role in all its organisations: https://huggingface.co/docs/hub/organizations-security."""
    full_names: dict[str, str] = field(default_factory=dict)
    """Name of the account or an organisation -> its full name, where it differs."""


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
