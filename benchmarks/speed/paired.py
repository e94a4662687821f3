"""Two ways to do the same work, in turns: other work on the machine then slows both sides of a ratio."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One ratio of the table: a value a turn."""

    name: str
    values: list[float]
    relation: str
    """`<=` or `>=`: how the median should stand to the goal."""
    goal: float
    limit: str = ""
    """What keeps it from being better."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        return self.median <= self.goal if self.relation == "<=" else self.median >= self.goal


def ratios(ours: Sequence[float], other: Sequence[float]) -> list[float]:
    """Turn by turn."""
    return [one / two for one, two in zip(ours, other, strict=True)]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def turns(count: int, *works: Callable[[], object]) -> list[list[float]]:
    """Seconds of each work, `count` times in turn; each is called once before anything is measured."""
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    for _ in range(count):
        for work, found in zip(works, times, strict=True):
            found.append(seconds(work))
    return times
