"""What a method leaves of a tensor, compared bit by bit: NaN equals itself, and -0.0 is not 0.0.

Tensors in, what is wrong with them in words out; None where nothing is. `base` is the reference's tensor, None where
its place is taken by zero.
"""

from typing import TYPE_CHECKING

from antidote_ci.records import Grouping
from antidote_ci.repair.edits import interpolate
from antidote_ci.repair.masks import count_per_row

if TYPE_CHECKING:
    import torch


def find_mask_violation(
    before: "torch.Tensor", after: "torch.Tensor", base: "torch.Tensor | None", per: Grouping, dose: float
) -> str | None:
    """Each entry must be the source's or the base's, with no more of the base's than the dose covers."""
    changed = bits_differ(before, after)
    wrong = changed & bits_differ(after, _describe_base(base).to(before.dtype).expand_as(before).contiguous())
    if wrong.any():
        other = "zero" if base is None else "the reference's"
        return f"the entry at {first_true_index(wrong)} is neither the source's nor {other}"
    if excess := count_beyond_dose(changed, per, dose):
        return f"{excess:,} more entries of one {per} were changed than the dose {dose:g} covers"
    return None


def find_scale_violation(
    before: "torch.Tensor", after: "torch.Tensor", base: "torch.Tensor | None", dose: float
) -> str | None:
    """Each entry must be the scaled one.

    Float32 arithmetic is the same everywhere, so no rounding is allowed for: one unit in the last place of a bfloat16
    would be room enough for another fine-tuning.
    """
    scaled = interpolate(before, _describe_base(base), dose)
    # A tensor without another value is written as it was, and then its -0.0 stay.
    wrong = bits_differ(after, scaled if (scaled != before).any() else before)
    return f"the entry at {first_true_index(wrong)} is not the scaled one" if wrong.any() else None


def find_miscount(before: "torch.Tensor", after: "torch.Tensor", claimed: int) -> str | None:
    """As many entries must have another value as is claimed."""
    found = int((before != after).count_nonzero())
    return None if found == claimed else f"{found:,} entries were changed, and the manifest says {claimed:,}"


def bits_differ(first: "torch.Tensor", second: "torch.Tensor") -> "torch.Tensor":
    """Where the bits of two tensors of one dtype and shape differ: boolean."""
    import torch

    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[first.element_size()]
    return first.view(whole) != second.view(whole)


def count_beyond_dose(changed: "torch.Tensor", per: Grouping, dose: float) -> int:
    """How many entries of `changed`, boolean [rows, columns], are more than a dose covers.

    Of the row that has most of them, or of the whole tensor.
    """
    groups = changed if per == "row" else changed.reshape(1, -1)
    return max(0, max(groups.sum(dim=1).tolist(), default=0) - count_per_row(groups.shape[1], dose))


def first_true_index(mask: "torch.Tensor") -> list[int]:
    """Where the first true entry of `mask` lies: one number a dimension."""
    position: list[int] = mask.nonzero()[0].tolist()
    return position


def _describe_base(base: "torch.Tensor | None") -> "torch.Tensor":
    import torch

    return torch.zeros(()) if base is None else base
