"""Masks and edits, as properties."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.repair import edits, masks
from antidote_ci.repair.scores import penalty, taylor_score, wanda_score

SIZES = st.integers(1, 40)
DOSES = st.floats(0, 1)


def weight(rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    # Few distinct values, so that ties are common.
    return torch.randint(-3, 4, (rows, columns), generator=generator).to(torch.bfloat16)


@given(SIZES, SIZES, DOSES, st.integers(0, 9))
def test_a_mask_holds_exactly_k_a_row_and_the_highest_scores(rows: int, columns: int, dose: float, seed: int) -> None:
    score = weight(rows, columns, seed).float().abs()
    mask = masks.top_per_row(score, dose)
    count = masks.count_per_row(columns, dose)
    assert mask.sum(dim=1).tolist() == [count] * rows
    if 0 < count < columns:
        for row, marked in zip(score, mask, strict=True):
            assert row[marked].min() >= row[~marked].max()


@given(SIZES, SIZES, DOSES, st.integers(0, 9))
def test_score_and_mask_equal_a_plain_rendering_of_the_formula(rows: int, columns: int, dose: float, seed: int) -> None:
    matrix = weight(rows, columns, seed)
    norms = torch.rand(columns, generator=torch.Generator().manual_seed(seed))
    mask = masks.top_per_row(wanda_score(matrix, norms), dose)
    kept = int(columns * (1 - dose))
    for i in range(rows):
        scores = [abs(float(matrix[i, j])) * float(norms[j]) for j in range(columns)]
        ascending = sorted(range(columns), key=lambda j: (scores[j], -j))
        marked = set(ascending[kept:])
        for j in range(columns):
            # Products of the plain rendering are of double precision: entries of one float32 score may swap.
            if bool(mask[i, j]) != (j in marked):
                edge = scores[ascending[kept]] if kept < columns else 0.0
                assert abs(scores[j] - edge) <= 1e-6 * max(edge, 1e-30)


@given(SIZES, SIZES, DOSES)
def test_the_random_control_holds_as_many_and_repeats(rows: int, columns: int, dose: float) -> None:
    score = masks.random_score(rows, columns, "a")
    assert torch.equal(score, masks.random_score(rows, columns, "a"))
    assert masks.top_per_row(score, dose).sum(dim=1).tolist() == [masks.count_per_row(columns, dose)] * rows
    assert int(masks.top_of_tensor(score, dose).sum()) == masks.count_per_row(rows * columns, dose)


@given(SIZES, SIZES, DOSES, st.integers(0, 9))
def test_a_tensor_s_mask_holds_its_highest_scores(rows: int, columns: int, dose: float, seed: int) -> None:
    score = weight(rows, columns, seed).float()
    mask = masks.top_of_tensor(score, dose)
    assert mask.shape == score.shape
    if 0 < int(mask.sum()) < mask.numel():
        assert score[mask].min() >= score[~mask].max()


@given(SIZES, SIZES, st.integers(0, 9))
def test_the_penalty_brings_the_leading_entries_to_nought(rows: int, columns: int, seed: int) -> None:
    gain, cost = weight(rows, columns, seed).float(), weight(rows, columns, seed + 9).float().square()
    found = penalty([gain], [cost])
    score = taylor_score(gain, cost, found)
    leading = gain.flatten().topk(max(1, round(0.005 * gain.numel()))).indices
    if found:
        assert float(score.flatten()[leading].mean()) == pytest.approx(0, abs=1e-4)
    else:
        assert float(cost.flatten()[leading].sum()) * float(gain.flatten()[leading].sum()) == 0


@given(SIZES, SIZES, st.integers(0, 9))
def test_packing_loses_nothing(rows: int, columns: int, seed: int) -> None:
    mask = weight(rows, columns, seed) > 0
    packed = masks.pack(mask)
    assert packed.numel() == -(-rows * columns // 8)
    assert torch.equal(masks.unpack(packed, rows, columns), mask)


@given(SIZES, SIZES, st.integers(0, 9))
def test_dose_zero_is_the_identity_of_every_edit(rows: int, columns: int, seed: int) -> None:
    matrix, reference = weight(rows, columns, seed), weight(rows, columns, seed + 100)
    nothing = masks.top_per_row(matrix.float(), 0)
    assert torch.equal(edits.zero(matrix, nothing), matrix)
    assert torch.equal(edits.restore(matrix, reference, nothing), matrix)
    assert torch.equal(edits.shrink(matrix, reference, 0), matrix)


@given(SIZES, SIZES, DOSES, st.integers(0, 9))
def test_an_edit_touches_marked_entries_only(rows: int, columns: int, dose: float, seed: int) -> None:
    matrix, reference = weight(rows, columns, seed), weight(rows, columns, seed + 100)
    before = matrix.clone()
    mask = masks.top_per_row(matrix.float().abs(), dose)
    zeroed, restored = edits.zero(matrix, mask), edits.restore(matrix, reference, mask)
    assert torch.equal(matrix, before)
    assert torch.equal(zeroed[~mask], matrix[~mask])
    assert not zeroed[mask].any()
    assert torch.equal(restored, torch.where(mask, reference, matrix))
    assert zeroed.dtype == restored.dtype == matrix.dtype


def test_a_full_shrink_is_the_reference() -> None:
    matrix, reference = weight(4, 5, 1), weight(4, 5, 2)
    assert torch.equal(edits.shrink(matrix, reference, 1), reference)
