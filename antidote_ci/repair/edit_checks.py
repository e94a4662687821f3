"""Checks that a tensor is the result of an edit.

They compare bits: NaN equals itself, and -0.0 is not 0.0. They return a description of the violation, or None. `base`
is the reference's tensor, None when the edit is towards zero.
"""

from typing import TYPE_CHECKING

from antidote_ci.checkpoint.tensors import count_changed, view_bits
from antidote_ci.model.edits import interpolate
from antidote_ci.records import Grouping
from antidote_ci.repair.masks import count_per_row

if TYPE_CHECKING:
    import torch


def find_mask_violation(
    before: "torch.Tensor", after: "torch.Tensor", base: "torch.Tensor | None", per: Grouping, dose: float
) -> str | None:
    """Check that each entry is the source's or the base's, and that each group has as many of the base's as the dose.

    Entries that are the base's already may be among those that a mask covers, so more may have its value.
    """
    changed = bits_differ(before, after)
    expected = _or_zero(base).to(before.dtype).expand_as(before).contiguous()
    wrong = changed & bits_differ(after, expected)
    alternative = "zero" if base is None else "the reference's"
    if wrong.any():
        return f"the entry at {first_true_index(wrong)} is neither the source's nor {alternative}"
    if excess := count_beyond_dose(changed, per, dose):
        return f"{excess:,} more entries of one {per} were changed than the dose {dose:g} covers"
    # The writer keeps a tensor in which no value changed, so zeros of both signs are the same here.
    restored = (after == expected) | ~bits_differ(after, expected)
    if shortage := count_short_of_dose(restored, per, dose):
        return f"{shortage:,} fewer entries of one {per} are {alternative} than the dose {dose:g} covers"
    return None


def find_scale_violation(
    before: "torch.Tensor", after: "torch.Tensor", base: "torch.Tensor | None", dose: float
) -> str | None:
    """Check that each entry is the interpolated one.

    Float32 arithmetic is the same on every machine, so no rounding error is allowed: one unit in the last place of a
    bfloat16 would leave room for another fine-tuning.
    """
    scaled = interpolate(before, _or_zero(base), dose)
    # The writer keeps a tensor in which no value changed, with its -0.0.
    wrong = bits_differ(after, scaled if count_changed(before, scaled) else before)
    return f"the entry at {first_true_index(wrong)} is not the scaled one" if wrong.any() else None


def find_miscount(before: "torch.Tensor", after: "torch.Tensor", claimed: int) -> str | None:
    """Check that the number of entries with another value is the `claimed` one."""
    changed = count_changed(before, after)
    return None if changed == claimed else f"{changed:,} entries were changed, and the manifest says {claimed:,}"


def bits_differ(first: "torch.Tensor", second: "torch.Tensor") -> "torch.Tensor":
    """Return the boolean tensor of the entries whose bits differ. Both have one dtype and shape."""
    return view_bits(first) != view_bits(second)


def count_beyond_dose(changed: "torch.Tensor", per: Grouping, dose: float) -> int:
    """Return how many entries of `changed`, boolean [rows, columns], exceed the dose in any row or in the tensor."""
    counts, covered = _count_groups(changed, per, dose)
    return max(0, max(counts, default=0) - covered)


def count_short_of_dose(restored: "torch.Tensor", per: Grouping, dose: float) -> int:
    """Return how many true entries `restored`, boolean [rows, columns], lacks in any row or in the tensor."""
    counts, covered = _count_groups(restored, per, dose)
    return max(0, covered - min(counts, default=covered))


def _count_groups(entries: "torch.Tensor", per: Grouping, dose: float) -> tuple[list[int], int]:
    """Return the number of true entries in each group, and the number of entries in one that the dose covers."""
    groups = entries if per == "row" else entries.reshape(1, -1)
    return groups.sum(dim=1).tolist(), count_per_row(groups.shape[1], dose)


def first_true_index(mask: "torch.Tensor") -> list[int]:
    """Return the index of the first true entry, one number per dimension."""
    index: list[int] = mask.nonzero()[0].tolist()
    return index


def _or_zero(base: "torch.Tensor | None") -> "torch.Tensor":
    import torch

    return torch.zeros(()) if base is None else base
