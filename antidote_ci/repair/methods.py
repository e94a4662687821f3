"""The properties of each repair method except its formula. To add a method: docs/adding-a-method.md."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from antidote_ci.records import Grouping, Method, RepairTarget, ScoreMethod

LADDER_DOSES = 15
"""Doses of a method that scores: bisection finds the smallest passing one in four attempts."""
TENTHS = tuple(step / 10 for step in range(1, 10))
"""The doses of the controls."""


@dataclass(frozen=True)
class MethodSpec:
    """The properties of one method."""

    per: Grouping | None
    """The group whose share is the dose; None without a mask. `random` uses that of the repair it is compared to."""
    passes: int = 0
    """The duration of scoring in forward passes over all texts."""
    doses: Mapping[RepairTarget, tuple[float, ...]] = field(default_factory=dict)
    """Ascending; TENTHS for a missing target. The search starts in the middle: docs/repair.md."""


_ANTIDOTE = (0.005, 0.007, 0.01, 0.014, 0.02, 0.028, 0.04, 0.05, 0.065, 0.085, 0.11, 0.14, 0.18, 0.23, 0.3)
_TAYLOR = (0.002, 0.003, 0.004, 0.0055, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.055, 0.075, 0.1, 0.14, 0.2)
_TAYLOR_DELTA = (1e-4, 1.5e-4, 2.5e-4, 4e-4, 6e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 8e-3, 0.012, 0.02, 0.03, 0.05)
METHODS: Mapping[Method, MethodSpec] = {
    "antidote": MethodSpec(per="row", passes=1, doses={"adapter": _ANTIDOTE, "delta": _ANTIDOTE}),
    "taylor": MethodSpec(per="tensor", passes=11, doses={"adapter": _TAYLOR, "delta": _TAYLOR_DELTA}),
    "scale": MethodSpec(per=None),
    "random": MethodSpec(per="row"),
}


def score_method(method: Method) -> ScoreMethod | None:
    """Return the score that a method selects entries by; None for the controls, which score nothing."""
    return None if method == "scale" or method == "random" else method


def dose_ladder(method: Method, target: RepairTarget) -> tuple[float, ...]:
    """Return the doses that are searched for a method."""
    return METHODS[method].doses.get(target, TENTHS)
