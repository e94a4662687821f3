"""The drift of fine-tuning against plain renderings of its formulas."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.repair import planning

SIZES = st.integers(1, 40)
RANKS = st.integers(1, 12)
DTYPES = st.sampled_from([torch.bfloat16, torch.float16, torch.float32])
SEEDS = st.integers(0, 99)


def normal(rows: int, columns: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


@given(SIZES, SIZES, DTYPES, DTYPES, SEEDS)
def test_norms_equal_the_plain_sums(rows: int, columns: int, one: torch.dtype, other: torch.dtype, seed: int) -> None:
    weight, reference = normal(rows, columns, one, seed), normal(rows, columns, other, seed + 1)
    pairs = list(zip(weight.flatten().tolist(), reference.flatten().tolist(), strict=True))
    assert planning.squared_distance(weight, reference) == pytest.approx(math.fsum((w - r) ** 2 for w, r in pairs))
    assert planning.squared_norm(reference) == pytest.approx(math.fsum(r**2 for _, r in pairs))


@given(SIZES, SIZES, RANKS, DTYPES, st.floats(0.01, 64), SEEDS)
def test_gram_matrices_give_the_norm_of_the_dense_product(
    rows: int, columns: int, rank: int, dtype: torch.dtype, scale: float, seed: int
) -> None:
    a, b = normal(rank, columns, dtype, seed), normal(rows, rank, dtype, seed + 1)
    dense = scale * (b.double() @ a.double())
    assert planning.squared_product(a, b, scale) == pytest.approx(float(dense.square().sum()), rel=1e-9)


def test_factors_that_cancel_move_nothing() -> None:
    a = normal(1, 16, torch.float32, 0).repeat(2, 1)
    b = torch.tensor([1.0, -1.0]).repeat(8, 1)
    assert 0 <= planning.squared_product(a, b, 1.0) < 1e-12


def test_a_matrix_of_several_portions_is_summed_whole() -> None:
    weight = normal(3, planning.ENTRIES_AT_ONCE // 2 + 1, torch.bfloat16, 0)
    assert planning.squared_norm(weight) == pytest.approx(float(weight.double().square().sum()))
    assert planning.squared_distance(weight, 3 * weight) == pytest.approx(
        float((weight.double() - (3 * weight).double()).square().sum())
    )


def test_a_number_that_is_none_makes_the_norm_none() -> None:
    for value in (math.nan, math.inf):
        assert not math.isfinite(planning.squared_norm(torch.tensor([[1.0, value]])))
    # the square of the largest bfloat16 is far beyond float32
    assert math.isfinite(planning.squared_norm(torch.full((4, 4), 3e38, dtype=torch.bfloat16)))


@given(st.floats(0, 1e6), st.floats(1e-6, 1e6))
def test_the_quotient_is_of_norms_and_needs_no_reference_that_is_not_zero(moved: float, stood: float) -> None:
    assert planning.relative_drift(moved, stood) == pytest.approx(math.sqrt(moved) / math.sqrt(stood))
    assert planning.relative_drift(moved, 0.0) == (1.0 if moved else 0.0)
