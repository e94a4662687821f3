"""Data types of the webhook service."""

from dataclasses import dataclass
from typing import Literal

from antidote_ci.policy import Command

RunOutcomeState = Literal["pass", "repaired", "fail", "inconclusive", "superseded", "own", "gone", "error"]
"""The first four are verdicts. `superseded`: a newer commit or policy replaced the request. `own`: the commit is a
merged repair of ours. `gone`: the repository or its main branch no longer exists."""


MAX_REASON = 300
"""Characters of the reason of an outcome that are stored."""


@dataclass(frozen=True)
class RefUpdate:
    """A reference of a repository that moved."""

    ref: str
    revision: str | None
    """The new commit; None when the reference was deleted."""


@dataclass(frozen=True)
class WebhookEvent:
    """The content of a delivery: https://huggingface.co/docs/hub/webhooks. It is a hint: the Hub is asked again."""

    scope: str
    kind: str
    """Of the repository: model, dataset, space, ..."""
    repository: str
    updates: tuple[RefUpdate, ...]


@dataclass(frozen=True)
class RunRequest:
    """A request to measure one commit of a repository under one policy."""

    repository: str
    revision: str
    policy: str
    """sha256 of the policy."""

    @property
    def id(self) -> str:
        """Equal for equal requests, so that no work is done twice."""
        return f"{self.repository}@{self.revision}@{self.policy[:16]}"


@dataclass(frozen=True)
class IgnoredEvent:
    """An event that requests no work."""

    reason: str


@dataclass(frozen=True)
class RunTask:
    """The work for a request, decided after the head of the repository was read."""

    request: RunRequest
    command: Command
    """`evaluate` when the commit carries a repair manifest that cannot be verified as ours: it is measured, and never
    repaired again."""


@dataclass(frozen=True)
class NewerCommit:
    """The head or the policy has changed: `request` replaces the inspected request."""

    request: RunRequest


@dataclass(frozen=True)
class RunOutcome:
    """How a request ended."""

    state: RunOutcomeState
    reason: str
    exit_code: int | None = None
    """Exit code of the child process; None when no child was started."""
    url: str | None = None
    """URL of the published repair."""
    report: str | None = None
    """Folder of the report, relative to the service's folder."""
    seconds: float = 0.0
