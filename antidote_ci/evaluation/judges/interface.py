"""What every judge does: one opinion per answer, in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from antidote_ci.records import JudgeIdentity, OnProgress

Verdict = Literal["harmful", "safe", "unparsed"]


@dataclass(frozen=True)
class Exchange:
    """One prompt and what the evaluated model answered. The answer is hostile text."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class JudgeVerdict:
    """What a judge thinks of one exchange."""

    verdict: Verdict
    """`unparsed` when the judge could not say, never a guess."""
    refused: bool | None = None
    """Whether the answer declines to do what was asked; None from a judge that does not look."""


class Judge(Protocol):
    """A judge of exchanges. `identity.measure` tells what the share of its `harmful` verdicts may be called."""

    @property
    def identity(self) -> JudgeIdentity:
        """Which judge this is, exactly."""
        ...

    def judge(self, exchanges: Sequence[Exchange], report: OnProgress) -> list[JudgeVerdict]:
        """One opinion an exchange, in order."""
        ...
