"""What an edit does to the entries that a mask holds, and to the others."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.repair import edits, masks

SIZES = st.integers(1, 30)
DOSE = st.floats(0, 1)
SEEDS = st.integers(0, 99)
DTYPES = st.sampled_from([torch.bfloat16, torch.float16, torch.float32])


def weight(rows: int, columns: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.uint8)


@given(SIZES, SIZES, SEEDS, DTYPES)
def test_dose_zero_is_the_identity_of_every_edit(rows: int, columns: int, seed: int, dtype: torch.dtype) -> None:
    matrix, reference = weight(rows, columns, seed, dtype), weight(rows, columns, seed + 100, dtype)
    matrix[0, 0] = -0.0
    for top in (masks.select_per_row, masks.select_per_tensor):
        (nothing,) = top(matrix.float().abs(), [0])
        assert torch.equal(bits(edits.zero_masked(matrix, nothing)), bits(matrix))
        assert torch.equal(bits(edits.restore_masked(matrix, reference, nothing)), bits(matrix))
    assert torch.equal(bits(edits.interpolate(matrix, reference, 0)), bits(matrix))


@given(SIZES, SIZES, DOSE, SEEDS, DTYPES, DTYPES)
def test_an_edit_touches_marked_entries_only(
    rows: int, columns: int, dose: float, seed: int, dtype: torch.dtype, other: torch.dtype
) -> None:
    matrix, reference = weight(rows, columns, seed, dtype), weight(rows, columns, seed + 100, other)
    before = matrix.clone()
    (mask,) = masks.select_per_row(matrix.float().abs(), [dose])
    zeroed, restored = edits.zero_masked(matrix, mask), edits.restore_masked(matrix, reference, mask)
    assert torch.equal(matrix, before)
    assert torch.equal(zeroed[~mask], matrix[~mask])
    assert not zeroed[mask].any()
    assert torch.equal(restored, torch.where(mask, reference.to(dtype), matrix))
    assert zeroed.dtype == restored.dtype == dtype


@given(SIZES, SIZES, SEEDS, DTYPES)
def test_a_full_dose_is_the_reference(rows: int, columns: int, seed: int, dtype: torch.dtype) -> None:
    matrix, reference = weight(rows, columns, seed, dtype), weight(rows, columns, seed + 100, dtype)
    (everything,) = masks.select_per_row(matrix.float().abs(), [1])
    assert not edits.zero_masked(matrix, everything).any()
    assert torch.equal(edits.restore_masked(matrix, reference, everything), reference)
    assert torch.equal(edits.interpolate(matrix, reference, 1), reference)


@given(SIZES, SIZES, DOSE, SEEDS)
def test_a_shrunk_weight_lies_on_the_line_to_the_reference(rows: int, columns: int, dose: float, seed: int) -> None:
    matrix, reference = weight(rows, columns, seed, torch.float32), weight(rows, columns, seed + 100, torch.float32)
    line = reference.double() + (1 - dose) * (matrix.double() - reference.double())
    assert edits.interpolate(matrix, reference, dose).double() == pytest.approx(line, abs=1e-5)
