"""Who is known to the loopback Hub, and who is told."""

from dataclasses import dataclass, field
from typing import Literal

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


@dataclass(frozen=True)
class Publisher:
    """A workflow that may publish to one repository without a token of its own."""

    repository: str
    workflow: str


@dataclass(frozen=True)
class Accounts:
    """Who is known. While nobody is, every token is one account that may do everything."""

    credentials: list[Credential] = field(default_factory=list)
    publishers: list[Publisher] = field(default_factory=list)


@dataclass(frozen=True)
class Webhook:
    """An address that wants to be told, and of what."""

    id: str
    owner: str
    url: str
    watched: list[tuple[str, str]]
    """Kind and name: a model, a dataset, or everything of a user or an organisation."""
    domains: list[str]
    secret: str | None
    disabled: bool = False
