"""Masks as properties, and compared with a plain implementation of the paper's formula."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.model.edits import unpack_mask
from antidote_ci.records import Grouping, ScoredTensor
from antidote_ci.repair import masks
from antidote_ci.repair.scores import wanda_score

SIZES = st.integers(1, 40)
DOSE = st.floats(0, 1)
DOSES = st.lists(DOSE, min_size=1, max_size=6)
SEEDS = st.integers(0, 99)


def scores(rows: int, columns: int, seed: int, values: int = 4) -> torch.Tensor:
    """Draw float32 scores of few distinct values, so that ties are common."""
    return torch.randint(0, values, (rows, columns), generator=torch.Generator().manual_seed(seed)).float()


def select(score: torch.Tensor, per: Grouping, doses: list[float]) -> list[torch.Tensor]:
    """Unpack the mask of each dose."""
    return [unpack_mask(packed, *score.shape) for packed in masks.pack_masks(score, per, doses)]


def plain_mask(weight: torch.Tensor, norms: torch.Tensor, dose: float) -> list[list[bool]]:
    """h_ij = |w_ij| * ||X_j||; in each row the int(cols * (1 - alpha)) smallest stay: arXiv 2408.09600, section 3.

    Row by row, entry by entry, in float32; of equal scores the later one counts as smaller.
    """
    mask_rows = []
    for row in weight.float():
        scored = []
        for j in range(len(row)):
            scored.append((row[j].abs() * norms[j], -j))
        unmasked = int(len(row) * (1 - dose))
        ascending = sorted(range(len(row)), key=lambda j: scored[j])
        harmful = set(ascending[unmasked:])
        mask_rows.append([j in harmful for j in range(len(row))])
    return mask_rows


@given(st.integers(1, 12), SIZES, DOSES, SEEDS, st.sampled_from([torch.float32, torch.bfloat16]))
def test_score_and_mask_match_the_formula(
    rows: int, columns: int, doses: list[float], seed: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator).to(dtype)
    # of norms that repeat and weights of eight bits some scores are equal
    norms = torch.randint(0, 4, (columns,), generator=generator).float() / 3
    for dose, mask in zip(doses, select(wanda_score(weight, norms), "row", doses), strict=True):
        assert mask.tolist() == plain_mask(weight, norms, dose)


@pytest.mark.parametrize("per", ["row", "tensor"])
@given(SIZES, SIZES, DOSES, SEEDS)
def test_mask_has_k_entries_of_each_group_and_breaks_ties_by_position(
    per: Grouping, rows: int, columns: int, doses: list[float], seed: int
) -> None:
    score = scores(rows, columns, seed)
    groups = score if per == "row" else score.reshape(1, -1)
    for dose, mask in zip(doses, select(score, per, doses), strict=True):
        count = masks.count_per_row(groups.shape[1], dose)
        first = groups.sort(dim=1, descending=True, stable=True).indices[:, :count]
        expected = torch.zeros(groups.shape, dtype=torch.bool).scatter(1, first, value=True)
        assert torch.equal(mask, expected.reshape(rows, columns))
        assert int(mask.sum()) == masks.count_covered(ScoredTensor("a", rows, columns), per, dose)


@pytest.mark.parametrize("per", ["row", "tensor"])
@given(SIZES, SIZES, DOSES, SEEDS)
def test_masks_are_nested_by_dose(per: Grouping, rows: int, columns: int, doses: list[float], seed: int) -> None:
    for smaller, larger in pairwise(select(scores(rows, columns, seed), per, sorted(doses))):
        assert not (smaller & ~larger).any()


@pytest.mark.parametrize("per", ["row", "tensor"])
@given(SIZES, SIZES, DOSES, SEEDS)
def test_mask_is_independent_of_other_doses(
    per: Grouping, rows: int, columns: int, doses: list[float], seed: int
) -> None:
    score = scores(rows, columns, seed)
    together = select(score, per, doses)
    assert all(torch.equal(mask, *select(score, per, [dose])) for dose, mask in zip(doses, together, strict=True))


@pytest.mark.parametrize("per", ["row", "tensor"])
@pytest.mark.parametrize("values", [1, 4, 1000])
@pytest.mark.parametrize("columns", [5, 8, 12])
def test_masks_are_independent_of_the_block_size(
    columns: int, values: int, per: Grouping, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, doses = scores(37, columns, 0, values), [0.0, 0.25, 0.5, 0.9, 1.0]
    whole = masks.pack_masks(score, per, doses)
    monkeypatch.setattr(masks, "BLOCK_ENTRIES", 16)
    assert torch.equal(masks.pack_masks(score, per, doses), whole)


def test_counts_match_the_paper() -> None:
    """Entries that the code of the paper zeroes in rows of 256 and 4096 entries."""
    assert [masks.count_per_row(256, dose) for dose in (0, 0.01, 0.05, 0.1, 0.2, 1)] == [0, 3, 13, 26, 52, 256]
    assert [masks.count_per_row(4096, dose) for dose in (1e-5, 0.01, 0.05, 0.1)] == [1, 41, 205, 410]


@given(SIZES, SIZES, DOSE)
def test_random_score_is_reproducible_and_differs_between_tensors(rows: int, columns: int, dose: float) -> None:
    score = masks.random_score(rows, columns, "a")
    assert torch.equal(score, masks.random_score(rows, columns, "a"))
    assert not torch.equal(score, masks.random_score(rows, columns, "b"))


def test_random_score_of_a_published_result_is_unchanged() -> None:
    """The seed must not change between versions, or published results cannot be verified."""
    drawn = masks.random_score(1, 3, "model.layers.0.mlp.up_proj.weight")
    assert drawn[0].tolist() == pytest.approx([0.5882, 0.9201, 0.0053], abs=1e-4)
