"""Who is known to the loopback Hub, and who is told."""

from dataclasses import dataclass, field
from typing import Literal

from loopback_hub.job_records import StoredJobSpec

Rights = Literal["read", "write", "fine-grained", "all"]


@dataclass(frozen=True)
class Credential:
    """A token, and what its account may do with it. An account may have several."""

    account: str
    sha256: str
    """Of the token: the Hub keeps no token."""
    rights: Rights
    organisations: list[str] = field(default_factory=list)
    repositories: list[str] = field(default_factory=list)
    """Fine-grained: the only ones that it may write to, or see while they are private."""
    expires: float | None = None
    """When the token stops being valid, in seconds since 1970; None for a token that stays valid."""


@dataclass(frozen=True)
class TrustedPublisher:
    """A workflow that may publish to one repository without a token of its own."""

    repository: str
    workflow: str


@dataclass(frozen=True)
class Accounts:
    """Who is known. While nobody is, every token is one account that may do everything."""

    credentials: list[Credential] = field(default_factory=list)
    publishers: list[TrustedPublisher] = field(default_factory=list)


@dataclass(frozen=True)
class JobTrigger:
    """What a Job webhook starts: a copy of its source Job, without that one's secrets."""

    namespace: str
    spec: StoredJobSpec
    secrets: dict[str, str] = field(default_factory=dict)
    """The webhook's own, for every Job that it starts."""


@dataclass(frozen=True)
class StoredWebhook:
    """An address that wants to be told, or a Job that is to run, and of what."""

    id: str
    owner: str
    url: str | None
    watched: list[tuple[str, str]]
    """Kind and name: a model, a dataset, or everything of a user or an organisation."""
    domains: list[str]
    secret: str | None
    disabled: bool = False
    trigger: JobTrigger | None = None
    """Where there is no url."""
