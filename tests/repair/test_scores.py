"""Scores compared with their formulas, and the penalty tensor by tensor with that of all tensors at once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.repair.scores import Leading, cost_penalty, count_leading, merge_leading, taylor_score, wanda_score

SIZES = st.integers(1, 40)


def drawn(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@given(SIZES, SIZES, st.integers(0, 9))
def test_wanda_score_is_magnitude_times_norm(rows: int, columns: int, seed: int) -> None:
    weight, norms = drawn(rows, columns, seed).to(torch.bfloat16), drawn(1, columns, seed + 1)[0].abs()
    score = wanda_score(weight, norms)
    assert score.dtype == torch.float32
    for i in range(rows):
        for j in range(columns):
            assert float(score[i, j]) == pytest.approx(abs(float(weight[i, j])) * float(norms[j]), rel=1e-6)


@given(st.lists(st.tuples(SIZES, SIZES), min_size=1, max_size=8), st.integers(1, 400), st.integers(0, 9))
def test_leading_entries_are_merged_tensor_by_tensor(shapes: list[tuple[int, int]], count: int, seed: int) -> None:
    gains = [drawn(*shape, seed + at) for at, shape in enumerate(shapes)]
    costs = [drawn(*shape, seed + 100 + at).square() for at, shape in enumerate(shapes)]
    leading: Leading | None = None
    for gain, cost in zip(gains, costs, strict=True):
        leading = merge_leading(leading, gain, cost, count)
        assert len(leading[0]) == len(leading[1]) <= count
    assert leading is not None
    gain, cost = (torch.cat([each.flatten() for each in many]) for many in (gains, costs))
    best = gain.topk(min(count, len(gain)))
    assert torch.equal(leading[0].sort(descending=True).values, best.values)
    assert torch.equal(leading[1].sort().values, cost[best.indices].sort().values)
    expected = float(best.values.double().mean()) / float(cost[best.indices].double().mean())
    assert cost_penalty(leading) == pytest.approx(expected, rel=1e-9)


@given(st.integers(20, 60), st.integers(20, 60), st.integers(0, 9))
def test_penalty_balances_gain_and_cost_of_leading_entries(rows: int, columns: int, seed: int) -> None:
    gain, cost = drawn(rows, columns, seed), drawn(rows, columns, seed + 9).square()
    count = count_leading(gain.numel())
    weight = cost_penalty(merge_leading(None, gain, cost, count))
    leading = gain.flatten().topk(count).indices
    assert float(taylor_score(gain, cost, weight).flatten()[leading].mean()) == pytest.approx(0, abs=1e-4)


def test_zero_cost_has_no_penalty() -> None:
    gain = drawn(3, 4, 0)
    assert cost_penalty(merge_leading(None, gain, torch.zeros_like(gain), 5)) == 0
    assert torch.equal(taylor_score(gain, torch.ones_like(gain), 0.0), gain)


def test_leading_share_is_half_a_percent_and_at_least_one() -> None:
    assert [count_leading(entries) for entries in (1, 100, 1000, 10**9)] == [1, 1, 5, 5 * 10**6]
