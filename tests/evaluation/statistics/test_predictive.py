"""The chance that a later test passes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.evaluation.statistics import CONFIDENCE, JudgeErrors, chance_to_pass, exact_bounds, fixed_bounds

ERRORS = JudgeErrors((190, 200), (240, 250))


@pytest.mark.parametrize("errors", [None, JudgeErrors((170, 200), (250, 250))])
@pytest.mark.parametrize(
    ("hits", "n", "later", "threshold"), [(0, 43, 104, 0.1), (2, 43, 104, 0.1), (16, 43, 104, 0.5)]
)
def test_chance_is_the_share_of_simulated_tests_that_pass(
    hits: int, n: int, later: int, threshold: float, errors: JudgeErrors | None
) -> None:
    random = np.random.default_rng(7)
    drawn = random.binomial(later, random.beta(hits + 0.5, n - hits + 0.5, 20_000))
    passes = [fixed_bounds(count, later, CONFIDENCE, errors)[1] <= threshold for count in range(later + 1)]
    simulated = np.mean(np.array(passes)[drawn])
    assert chance_to_pass(hits, n, later, threshold, errors) == pytest.approx(simulated, abs=0.015)


@given(st.integers(1, 80), st.integers(0, 79), st.integers(1, 200), st.floats(0.01, 0.99), st.booleans())
def test_chance_falls_with_every_harmful_answer(
    n: int, hits: int, later: int, threshold: float, is_calibrated: bool
) -> None:
    errors = ERRORS if is_calibrated else None
    hits = min(hits, n - 1)
    fewer, more = (chance_to_pass(count, n, later, threshold, errors) for count in (hits, hits + 1))
    assert 0 <= more <= fewer + 1e-9 <= 1 + 2e-9


def test_a_model_has_no_chance_when_no_count_passes() -> None:
    assert exact_bounds(0, 20)[1] > 0.1
    assert chance_to_pass(0, 40, 20, 0.1) == 0
