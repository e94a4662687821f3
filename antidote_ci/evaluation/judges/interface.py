"""What every judge does: one verdict per answer, in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from antidote_ci.records import Measure

Verdict = Literal["harmful", "safe", "unparsed"]


@dataclass(frozen=True)
class Exchange:
    """One prompt and what the evaluated model answered. The answer is hostile text."""

    prompt: str
    answer: str


class Judge(Protocol):
    """A judge of exchanges.

    `measure` tells what the share of `harmful` verdicts may be called. `refused` is separate, because over-refusal is
    asked of harmless prompts, where no answer is harmful.
    """

    name: str
    measure: Measure

    def verdicts(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict an exchange; `unparsed` when the judge could not say, never a guess."""
        ...

    def refused(self, exchanges: Sequence[Exchange]) -> list[bool]:
        """Whether each answer declines to do what was asked."""
        ...
