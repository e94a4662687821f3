"""What is known of each method but its formula: a line a method in every table. To add one: docs/adding-a-method.md."""

from collections.abc import Mapping, Sequence

from antidote_ci.records import Grouping, Method, Score, Target

PER: Mapping[Method, Grouping | None] = {"antidote": "row", "taylor": "tensor", "random": "row", "scale": None}
"""Of what a dose is a share; `scale` has no mask, and a `random` that imitates another method the share of that one."""
SCORES: Mapping[Method, Score] = {"antidote": "antidote", "taylor": "taylor"}
"""The methods that choose their entries; the others, alone, score nothing."""
NEED_REFERENCE: Sequence[Method] = ("taylor", "scale")
"""Whose edit is nothing without the aligned model."""
PASSES: Mapping[Method, int] = {"antidote": 1, "taylor": 8}
"""How many forward passes over all texts scoring takes, by the clock."""

LADDER = 15
"""Doses, so that four attempts find the smallest that passes."""
_ANTIDOTE = (0.005, 0.007, 0.01, 0.014, 0.02, 0.028, 0.04, 0.05, 0.065, 0.085, 0.11, 0.14, 0.18, 0.23, 0.3)
_DENSE = (1e-5, 3e-5, 1e-4, 2e-4, 3e-4, 5e-4, 7e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 7e-3, 0.01, 0.02)
_TAYLOR = (0.002, 0.003, 0.004, 0.0055, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.055, 0.075, 0.1, 0.14, 0.2)
_TAYLOR_DELTA = (1e-4, 1.5e-4, 2.5e-4, 4e-4, 6e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 8e-3, 0.012, 0.02, 0.03, 0.05)
LADDERS: Mapping[tuple[Method, Target], tuple[float, ...]] = {
    ("antidote", "adapter"): _ANTIDOTE,
    ("antidote", "delta"): _ANTIDOTE,
    ("antidote", "dense"): _DENSE,
    ("taylor", "adapter"): _TAYLOR,
    ("taylor", "delta"): _TAYLOR_DELTA,
}
"""Ascending shares of each row (antidote) or tensor (taylor). The search begins in the middle: docs/repair.md."""
TENTHS = tuple(step / 10 for step in range(1, 10))
"""Of the controls."""


def ladder(method: Method, target: Target) -> tuple[float, ...]:
    """The doses that a method is searched over."""
    return LADDERS.get((method, target), TENTHS)
