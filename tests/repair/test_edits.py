"""Weight edits and the checks of their results, as properties."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.model.edits import interpolate, interpolate_, restore_masked_, zero_masked_
from antidote_ci.records import Grouping
from antidote_ci.repair.masks import count_per_row
from antidote_ci.repair.verifying import (
    bits_differ,
    count_beyond_dose,
    find_mask_violation,
    find_miscount,
    find_scale_violation,
    first_true_index,
)

DOSES = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)
SEEDS = st.integers(0, 99)
DTYPES = st.sampled_from([torch.bfloat16, torch.float16, torch.float32, torch.float64])


def zero_masked(weight: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    edited = weight.clone()
    zero_masked_(edited, mask)
    return edited


def restore_masked(weight: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    edited = weight.clone()
    restore_masked_(edited, reference, mask)
    return edited


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.uint8)


@given(DOSES, SEEDS, DTYPES, DTYPES)
def test_edits_have_the_bits_of_the_formula_and_count_what_they_change(
    dose: float, seed: int, dtype: torch.dtype, reference_dtype: torch.dtype
) -> None:
    draw = torch.Generator().manual_seed(seed)
    # Few values, zeroes of both signs among them.
    matrix, reference = (
        torch.randint(-1, 2, (7, 9), generator=draw).mul(-0.5).to(each) for each in (dtype, reference_dtype)
    )
    mask = torch.rand(7, 9, generator=draw) < dose
    base = reference.float()
    expected = {
        "zero": matrix.masked_fill(mask, 0),
        "restore": torch.where(mask, reference.to(dtype), matrix),
        "interpolate": (base + (1 - dose) * (matrix.float() - base)).to(dtype) if dose else matrix,
    }
    edited = {name: matrix.clone() for name in expected}
    changes = {
        "zero": zero_masked_(edited["zero"], mask),
        "restore": restore_masked_(edited["restore"], reference, mask),
        "interpolate": interpolate_(edited["interpolate"], reference, dose),
    }
    for name, tensor in expected.items():
        assert torch.equal(bits(edited[name]), bits(tensor))
        assert changes[name].values == int((tensor != matrix).sum())
        assert changes[name].bits == int(bits_differ(tensor, matrix).sum())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_bits_are_compared_not_values(dtype: torch.dtype) -> None:
    first = torch.tensor([[float("nan"), 0.0, 1.0, float("inf")]], dtype=dtype)
    second = torch.tensor([[float("nan"), -0.0, 1.0, float("-inf")]], dtype=dtype)
    assert bits_differ(first, second).tolist() == [[False, True, False, True]]


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.sampled_from(["row", "tensor"]), st.randoms())
def test_count_beyond_dose_is_zero_up_to_the_dose(
    rows: int, columns: int, dose: float, per: Grouping, draw: object
) -> None:
    groups, size = (rows, columns) if per == "row" else (1, rows * columns)
    covered = count_per_row(size, dose)
    changed = torch.zeros(groups, size, dtype=torch.bool)
    changed[:, :covered] = True
    assert count_beyond_dose(changed.reshape(rows, columns), per, dose) == 0
    if covered < size:
        changed[draw.randrange(groups), covered] = True  # type: ignore[attr-defined]
        assert count_beyond_dose(changed.reshape(rows, columns), per, dose) == 1


def test_empty_tensor_is_within_any_dose() -> None:
    assert count_beyond_dose(torch.zeros(0, 4, dtype=torch.bool), "row", 0.1) == 0


def test_first_true_index_of_a_mask() -> None:
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[1, 2] = mask[2, 0] = True
    assert first_true_index(mask) == [1, 2]


@given(st.floats(0, 1), st.booleans(), st.integers(0, 9))
def test_results_of_edits_pass_their_checks(dose: float, zeroed: bool, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    # Few values, zeroes of both signs among them.
    weight, base = (torch.randint(-1, 2, (5, 8), generator=draw).mul(-0.5).to(torch.bfloat16) for _ in range(2))
    mask = torch.zeros(5, 8, dtype=torch.bool)
    mask[:, : count_per_row(8, dose)] = True
    origin = None if zeroed else base
    masked = zero_masked(weight, mask) if origin is None else restore_masked(weight, origin, mask)
    assert find_mask_violation(weight, masked, origin, "row", dose) is None
    scaled = interpolate(weight, torch.zeros(()) if origin is None else origin, dose)
    written = scaled if (scaled != weight).any() else weight  # as the writer does
    assert find_scale_violation(weight, written, origin, dose) is None


def test_weights_equal_to_the_reference_stay_unchanged() -> None:
    weight = torch.tensor([[-0.0, 1.0]])
    assert find_scale_violation(weight, weight, weight, 0.5) is None
    assert find_scale_violation(weight, -weight, weight, 0.5) == "the entry at [0, 0] is not the scaled one"


def test_entry_of_neither_model_is_reported() -> None:
    before, after = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 0.0, 5.0]])
    assert find_mask_violation(before, after, None, "row", 1.0) == (
        "the entry at [0, 2] is neither the source's nor zero"
    )
    reference = torch.tensor([[7.0, 0.0, 7.0]])
    assert find_mask_violation(before, after, reference, "row", 1.0) == (
        "the entry at [0, 2] is neither the source's nor the reference's"
    )
    assert find_mask_violation(before, torch.zeros(1, 3), None, "row", 0.4) == (
        "1 more entries of one row were changed than the dose 0.4 covers"
    )
    assert find_mask_violation(before, before, None, "row", 0.4) == (
        "2 fewer entries of one row are zero than the dose 0.4 covers"
    )


def test_miscounted_changes_are_reported() -> None:
    before, after = torch.zeros(40, 50), torch.ones(40, 50)
    assert find_miscount(before, after, 2000) is None
    assert find_miscount(before, after, 1999) == "2,000 entries were changed, and the manifest says 1,999"
