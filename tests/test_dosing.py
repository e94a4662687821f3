"""Ladders, the spread of a frontier, and what counts as a higher cost."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.dosing import FRONTIER_DOSES, costs_more, spread
from antidote_ci.records import Method, Target, Task
from antidote_ci.repair.methods import LADDER, METHODS, TENTHS, ladder

SEARCHED = [(method, target) for method, about in METHODS.items() for target in about.doses]


@pytest.mark.parametrize("key", SEARCHED)
def test_a_ladder_ascends_and_is_searched_in_four_attempts(key: tuple[Method, Target]) -> None:
    doses = ladder(*key)
    assert list(doses) == sorted(set(doses))
    assert 0 < doses[0] < doses[-1] < 1
    assert len(doses) == LADDER
    assert math.ceil(math.log2(LADDER + 1)) == 4


def test_the_controls_are_searched_in_tenths() -> None:
    assert ladder("scale", "delta") == ladder("random", "adapter") == TENTHS


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30, unique=True).map(sorted))
def test_a_spread_keeps_the_ends_and_the_order(doses: list[float]) -> None:
    found = spread(doses)
    assert len(found) == min(len(doses), FRONTIER_DOSES)
    assert (found[0], found[-1]) == (doses[0], doses[-1])
    assert found == sorted(set(found))


def task(right: int, n: int = 60) -> Task:
    return Task(right / n, n, right={str(index): index < right for index in range(n)})


@pytest.mark.parametrize(
    ("control", "more"), [(50, False), (49, False), (45, False), (44, True), (0, True), (60, False)]
)
def test_a_control_costs_more_when_chance_does_not_explain_it(control: int, more: bool) -> None:
    """Of 60: six lost and none gained has p = 2 / 2^6 = 0.031, five lost 0.063."""
    assert costs_more(task(control), task(50)) == more


def test_without_a_task_none_costs_more() -> None:
    assert not costs_more(None, task(50))
    assert not costs_more(task(50), None)
