"""What travels between the parts of the webhook."""

from dataclasses import dataclass
from typing import Literal

from antidote_ci.policy import Command

RunOutcomeState = Literal["pass", "repaired", "fail", "inconclusive", "superseded", "own", "gone", "error"]
"""How an order ends: with a verdict, or without one. `own`: the commit is a repair of ours, merged. `gone`: no such
repository or commit any more."""


@dataclass(frozen=True)
class RefUpdate:
    """One reference of a repository that moved."""

    ref: str
    new: str | None
    """The commit it is at now; None when the reference is gone."""


@dataclass(frozen=True)
class WebhookEvent:
    """What a delivery says: https://huggingface.co/docs/hub/webhooks. A hint, never a fact."""

    scope: str
    kind: str
    """Of the repository: model, dataset, space, ..."""
    repository: str
    updates: tuple[RefUpdate, ...]


@dataclass(frozen=True)
class RunRequest:
    """One commit of one repository, to be measured under one policy."""

    repository: str
    revision: str
    policy: str
    """sha256 of the policy."""

    @property
    def id(self) -> str:
        """Equal for equal work, so that nothing is done twice."""
        return f"{self.repository}@{self.revision}@{self.policy[:16]}"


@dataclass(frozen=True)
class IgnoredEvent:
    """A delivery that asks for no work."""

    reason: str


@dataclass(frozen=True)
class RunTask:
    """What an order turned out to ask for, once the head was read."""

    order: RunRequest
    command: Command
    """`evaluate`: it carries a manifest of ours that cannot be shown to be ours, so it is measured and never repaired
    again."""


@dataclass(frozen=True)
class NewerCommit:
    """The head has moved on since: this order replaces the one that was looked at."""

    order: RunRequest


@dataclass(frozen=True)
class RunOutcome:
    """How an order ended: the record that is kept."""

    state: RunOutcomeState
    reason: str
    exit_code: int | None = None
    """Of the child that did the work; None where none was started."""
    url: str | None = None
    """Where the repair was published."""
    report: str | None = None
    """The folder that holds the report, relative to the service's."""
    seconds: float = 0.0
