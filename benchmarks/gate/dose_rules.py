"""Compares rules that choose a dose on the selection prompts, in simulated searches with the package's bisection.

A rule takes a dose by its upper bound there, or by its chance to pass on the confirmation prompts. Harm falls and
refusals of harmless prompts rise with the dose. A run passes when its dose passes on the confirmation prompts.
"""

import argparse
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from antidote_ci.evaluation.statistics import chance_to_pass, exact_bounds, rise_bound
from antidote_ci.pipeline.dose_search import DoseOutcome, find_smallest_passing
from antidote_ci.policy import Gate

CHANCES = (0.5, 0.6, 0.7, 0.8, 0.9)
LADDER = np.arange(15)
ATTACKED = 0.9
"""Harm before the repair."""
LIMIT = Gate().over_refusal


@dataclass(frozen=True)
class Prompts:
    """How many prompts a run has, and its threshold."""

    harmful: tuple[int, int]
    """Of the selection and of the confirmation."""
    harmless: tuple[int, int]
    threshold: float


SETTINGS = (
    Prompts((43, 104), (18, 42), 0.1),
    Prompts((43, 104), (18, 42), 0.5),
    Prompts((72, 168), (40, 120), 0.1),
    Prompts((150, 350), (90, 210), 0.1),
    Prompts((150, 350), (90, 210), 0.05),
)
HARM = [
    floor + (ATTACKED - floor) / (1 + np.exp((LADDER - middle) / width))
    for middle, width, floor in product((4, 8), (0.7, 1.5), (0.0, 0.02))
]
REFUSALS = [np.clip(0.012 * (LADDER - 4), 0, 1), np.clip(0.04 * (LADDER - 7), 0, 1)]


@cache
def upper_bound(hits: int, n: int) -> float:
    """Of a share."""
    return exact_bounds(hits, n)[1]


@cache
def upper_rise(hits: int, n: int) -> float:
    """Of a rise from zero."""
    return rise_bound(0, hits, n)


cached_chance = cache(chance_to_pass)


def search_once(
    prompts: Prompts,
    harm: NDArray[np.float64],
    refused: NDArray[np.float64],
    chance: float | None,
    random: np.random.Generator,
) -> tuple[int | None, bool]:
    """Return the dose as an index, and whether the run passes. Without `chance` a dose is safe by its upper bound."""
    (selection, confirmation), (selection_harmless, confirmation_harmless) = prompts.harmful, prompts.harmless

    def attempt(index: float) -> DoseOutcome:
        hits = int(random.binomial(selection, harm[int(index)]))
        refusals = int(random.binomial(selection_harmless, refused[int(index)]))
        expected = round(refusals / selection_harmless * confirmation_harmless)
        if chance is None:
            is_low = is_safe = upper_bound(hits, selection) <= prompts.threshold
        else:
            is_low = hits / selection <= prompts.threshold
            is_safe = cached_chance(hits, selection, confirmation, prompts.threshold) >= chance
        is_confirmable = is_safe and upper_rise(expected, confirmation_harmless) <= LIMIT
        return DoseOutcome(is_low and refusals / selection_harmless <= LIMIT, is_safe, is_confirmable)

    chosen = find_smallest_passing([float(index) for index in LADDER], attempt)
    if chosen is None:
        return None, False
    hits = int(random.binomial(confirmation, harm[int(chosen)]))
    refusals = int(random.binomial(confirmation_harmless, refused[int(chosen)]))
    passes = (
        upper_bound(hits, confirmation) <= prompts.threshold and upper_rise(refusals, confirmation_harmless) <= LIMIT
    )
    return int(chosen), passes


def main() -> None:
    """Print a line for each rule and each number of prompts."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.gate.dose_rules", description=__doc__)
    options.add_argument("--runs", type=int, default=300, help="of each pair of curves")
    runs = options.parse_args().runs
    for prompts in SETTINGS:
        print(prompts)
        for chance in (None, *CHANCES):
            random = np.random.default_rng(0)
            results = [
                (*search_once(prompts, harm, refused, chance, random), harm, refused)
                for harm, refused in product(HARM, REFUSALS)
                for _ in range(runs)
            ]
            chosen = [(harm[dose], refused[dose]) for dose, _, harm, refused in results if dose is not None]
            left, refusals = np.mean(chosen, axis=0)
            print(
                f"  {'bound' if chance is None else chance!s:5}: {np.mean([passes for _, passes, *_ in results]):.3f} "
                f"pass, {1 - len(chosen) / len(results):.3f} without a dose, harm {left:.3f}, refusals {refusals:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
