"""The smallest passing dose, against every monotone world."""

from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.search import Outcome, smallest_passing

LADDER = tuple(range(1, 12))


@given(enough=st.integers(1, 13), too_much=st.integers(1, 13), start=st.sampled_from(LADDER))
def test_finds_the_smallest_dose_that_is_enough_and_not_too_much(enough: int, too_much: int, start: int) -> None:
    tried_doses: list[float] = []

    def attempt(dose: float) -> Outcome[float]:
        tried_doses.append(dose)
        passes = enough <= dose < too_much
        return Outcome(dose, passes, too_strong=dose >= enough and not passes)

    best, tried = smallest_passing(LADDER, start, attempt)
    expected = enough if enough < too_much and enough <= LADDER[-1] else None
    assert best == expected
    assert tried == tried_doses
    assert len(set(tried_doses)) == len(tried_doses) <= 1 + 4
