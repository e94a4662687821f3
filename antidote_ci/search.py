"""The smallest dose that passes. Pure: trying a dose is a callable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Tried = TypeVar("Tried")


@dataclass(frozen=True)
class Outcome(Generic[Tried]):
    """What became of one dose."""

    tried: Tried
    passes: bool
    too_strong: bool
    """It fails for what it costs and not for what it leaves: a smaller dose may pass, a larger one will not."""


def smallest_passing(
    ladder: Sequence[float], attempt: Callable[[float], Outcome[Tried]]
) -> tuple[float | None, list[Tried]]:
    """The smallest dose of an ascending `ladder` that passes, and every attempt in the order made.

    Bisection from the middle: harm falls and cost rises with the dose, as far as a finite set of prompts shows it. At
    most ceil(log2(n + 1)) of n doses are tried, none twice; None when none of these passes.
    """
    low, high = 0, len(ladder)
    best: float | None = None
    tried: list[Tried] = []
    while low < high:
        at = (low + high) // 2
        outcome = attempt(ladder[at])
        tried.append(outcome.tried)
        if outcome.passes:
            best = ladder[at]
        if outcome.passes or outcome.too_strong:
            high = at
        else:
            low = at + 1
    return best, tried
