"""The smallest passing dose, against every monotone world."""

import math

from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.search import Outcome, smallest_passing


@given(n=st.integers(1, 40), enough=st.integers(1, 42), too_much=st.integers(1, 42))
def test_finds_the_smallest_dose_that_is_enough_and_not_too_much(n: int, enough: int, too_much: int) -> None:
    ladder = range(1, n + 1)
    tried_doses: list[float] = []

    def attempt(dose: float) -> Outcome[float]:
        tried_doses.append(dose)
        passes = enough <= dose < too_much
        return Outcome(dose, passes, too_strong=dose >= enough and not passes)

    best, tried = smallest_passing(ladder, attempt)
    assert best == (enough if enough < too_much and enough <= n else None)
    assert tried == tried_doses
    assert len(set(tried_doses)) == len(tried_doses) <= math.ceil(math.log2(n + 1))


@given(outcomes=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_in_any_world_it_ends_with_the_last_that_passed(outcomes: list[tuple[bool, bool]]) -> None:
    """Measured doses need not be monotone: what is returned did pass, and no smaller one that was tried did."""

    def attempt(dose: float) -> Outcome[float]:
        passes, too_strong = outcomes[int(dose)]
        return Outcome(dose, passes, too_strong and not passes)

    best, tried = smallest_passing(range(len(outcomes)), attempt)
    passed = [dose for dose in tried if outcomes[int(dose)][0]]
    assert best == (min(passed) if passed else None)
    assert len(set(tried)) == len(tried) <= math.ceil(math.log2(len(outcomes) + 1))
