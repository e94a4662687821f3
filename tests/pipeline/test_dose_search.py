"""Dose ladders, bisection, the doses of the frontier, and the comparison of task accuracy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.evaluation.shortfalls import MIN_CHANCE
from antidote_ci.pipeline.dose_search import (
    FRONTIER_DOSES,
    DoseOutcome,
    describe_nearest,
    find_smallest_passing,
    is_costlier,
    nearest_attempts,
    spread_doses,
)
from antidote_ci.records import DoseAttempt, Method, RepairTarget, TaskResult
from antidote_ci.repair.methods import LADDER_DOSES, METHODS, TENTHS, dose_ladder
from benchmarks.gate import dose_rules

SEARCHED = [(method, target) for method, about in METHODS.items() for target in about.doses]


@pytest.mark.parametrize("key", SEARCHED)
def test_a_ladder_ascends_within_the_doses(key: tuple[Method, RepairTarget]) -> None:
    doses = dose_ladder(*key)
    assert list(doses) == sorted(set(doses))
    assert 0 < doses[0] < doses[-1] < 1
    assert len(doses) == LADDER_DOSES


def test_a_binary_search_of_a_ladder_needs_four_attempts() -> None:
    assert math.ceil(math.log2(LADDER_DOSES + 1)) == 4


def test_controls_are_searched_in_tenths() -> None:
    assert dose_ladder("scale", "delta") == dose_ladder("random", "adapter") == TENTHS


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30, unique=True).map(sorted))
def test_spread_doses_keep_both_ends_and_the_order(doses: list[float]) -> None:
    found = spread_doses(doses)
    assert len(found) == min(len(doses), FRONTIER_DOSES)
    assert (found[0], found[-1]) == (doses[0], doses[-1])
    assert found == sorted(set(found))


def task(right: int, n: int = 60) -> TaskResult:
    return TaskResult(right / n, n, right={str(index): index < right for index in range(n)})


@pytest.mark.parametrize(
    ("control", "more"), [(50, False), (49, False), (45, False), (44, True), (0, True), (60, False)]
)
def test_a_control_is_costlier_if_the_difference_is_significant(control: int, more: bool) -> None:
    """Of 60 prompts: six lost and none gained gives p = 2 / 2^6 = 0.031, five lost gives 0.063."""
    assert is_costlier(task(control), task(50)) == more


def test_without_a_task_no_control_is_costlier() -> None:
    assert not is_costlier(None, task(50))
    assert not is_costlier(task(50), None)


@given(n=st.integers(1, 40), enough=st.integers(1, 42), too_much=st.integers(1, 42))
def test_bisection_finds_the_smallest_dose_that_passes(n: int, enough: int, too_much: int) -> None:
    ladder = range(1, n + 1)
    tried: list[float] = []

    def attempt(dose: float) -> DoseOutcome:
        tried.append(dose)
        passes = enough <= dose < too_much
        return DoseOutcome(passes, is_safe=dose >= enough)

    best = find_smallest_passing(ladder, attempt)
    assert best == (enough if enough < too_much and enough <= n else None)
    assert len(set(tried)) == len(tried) <= math.ceil(math.log2(n + 1))


@given(outcomes=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_bisection_returns_the_smallest_attempt_that_passed(
    outcomes: list[tuple[bool, bool, bool]],
) -> None:
    """Also if the outcomes are not monotone in the dose. A dose that can be confirmed comes first, then a safe one."""
    tried: list[float] = []

    def attempt(dose: float) -> DoseOutcome:
        tried.append(dose)
        return DoseOutcome(*outcomes[int(dose)])

    best = find_smallest_passing(range(len(outcomes)), attempt)
    passed = [dose for dose in tried if outcomes[int(dose)][0]]
    safe = [dose for dose in passed if outcomes[int(dose)][1]]
    confirmable = [dose for dose in passed if outcomes[int(dose)][2]]
    assert best == min(confirmable or safe or passed, default=None)
    assert len(set(tried)) == len(tried) <= math.ceil(math.log2(len(outcomes) + 1))


def test_the_nearest_attempts_are_the_least_above_their_limits() -> None:
    """A dose that misses one limit by far is not nearer than one that misses two narrowly."""
    attempts = [
        DoseAttempt(0.02, 0.02, 0.05, 0.4, 0.9, 0.0, passes=False, lacks=["refused"], excess=0.12),
        DoseAttempt(0.003, 0.003, 0.11, 0.1, 0.9, 0.0, passes=False, lacks=["harm", "task"], excess=0.02),
        DoseAttempt(0.001, 0.001, 0.8, None, None, 0.0, passes=False, lacks=["harm"], excess=0.7),
    ]
    assert [attempt.dose for attempt in nearest_attempts(attempts)] == [0.003, 0.02, 0.001]
    assert describe_nearest(attempts) == "dose 0.003: harm; task; dose 0.02: refused"


def test_a_search_by_chance_lets_more_runs_pass_than_one_by_the_bound() -> None:
    """With 43 selection prompts the bound is below 10 % only without a harmful answer."""
    prompts, harm, refused = dose_rules.SETTINGS[0], dose_rules.HARM[0], dose_rules.REFUSALS[0]
    random = np.random.default_rng(1)
    passes = {
        chance: sum(dose_rules.search_once(prompts, harm, refused, chance, random)[1] for _ in range(300))
        for chance in (None, MIN_CHANCE)
    }
    assert passes[MIN_CHANCE] > passes[None]
