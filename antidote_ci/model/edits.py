"""Weight edits of the form w + m (w_ref - w): zero, restore, interpolate.

They change a weight, or any contiguous part of one, in place, and hold no copy of it. The same functions write a
repaired checkpoint and edit a model in memory.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.checkpoint.headers import read_header
from antidote_ci.checkpoint.tensors import (
    ENTRIES_AT_ONCE,
    Changes,
    ChunkEdit,
    ChunkReader,
    TensorEdit,
    flip_bits,
    view_bits,
)

if TYPE_CHECKING:
    import torch


def open_edit(
    mask: Path | None, dose: float, open_reference: Callable[[str], ChunkReader | None], resources: ExitStack
) -> TensorEdit:
    """Return the edit that reads the same entries of reference and mask for each chunk of a tensor.

    Without a `mask` file the edit interpolates. `open_reference` returns None for an edit towards zero. The mask file
    is closed with `resources`.
    """
    import torch

    header = read_header(mask) if mask else None
    mask_file = resources.enter_context(mask.open("rb")) if mask else None
    zero = torch.zeros(())

    def edit_tensor(name: str) -> ChunkEdit:
        base = open_reference(name)
        packed = ChunkReader(mask_file, header.data_start, header.tensors[name]) if mask_file and header else None

        def edit_chunk(start: int, chunk: torch.Tensor) -> Changes:
            count = len(chunk)
            if packed is None:
                return interpolate_(chunk, zero if base is None else base.read(start, count), dose)
            selected = unpack_mask(packed.read(start // 8, -(-count // 8)), 1, count)[0]
            if base is None:
                return zero_masked_(chunk, selected)
            return restore_masked_(chunk, base.read(start, count), selected)

        return edit_chunk

    return edit_tensor


def edit_tensor_(weight: "torch.Tensor", edit_chunk: ChunkEdit) -> int:
    """Edit a contiguous tensor on the CPU in place. Returns the number of entries whose value changed."""
    entries = weight.view(-1)
    starts = range(0, len(entries), ENTRIES_AT_ONCE)
    return sum(edit_chunk(start, entries[start : start + ENTRIES_AT_ONCE]).values for start in starts)


def zero_masked_(weight: "torch.Tensor", mask: "torch.Tensor") -> Changes:
    """w = (1 - m) o w, on the factors of an adapter: https://arxiv.org/abs/2408.09600. `mask` is boolean."""

    def compute_difference(part: "torch.Tensor", selected: "torch.Tensor") -> "torch.Tensor":
        return _select_bits(view_bits(part), selected)

    return _edit_parts(compute_difference, weight, mask)


def restore_masked_(weight: "torch.Tensor", reference: "torch.Tensor", mask: "torch.Tensor") -> Changes:
    """w = (1 - m) o w + m o w_ref: on merged weights the pruned delta restores the reference's value."""

    def compute_difference(part: "torch.Tensor", base: "torch.Tensor", selected: "torch.Tensor") -> "torch.Tensor":
        return _select_bits(view_bits(part) ^ view_bits(base.to(part.dtype)), selected)

    return _edit_parts(compute_difference, weight, reference, mask)


def interpolate_(weight: "torch.Tensor", reference: "torch.Tensor", dose: float) -> Changes:
    """w = w_ref + (1 - dose)(w - w_ref) in float32, rounded once: WiSE-FT, https://arxiv.org/abs/2109.01903.

    Dose 0 is the identity, bit for bit. `reference` may be a single zero.
    """
    if dose == 0:
        return Changes(0, 0)

    def compute_difference(part: "torch.Tensor", base: "torch.Tensor") -> "torch.Tensor":
        base = base.float()
        interpolated = (part.float() - base).mul_(1 - dose).add_(base)
        return view_bits(part) ^ view_bits(interpolated.to(part.dtype))

    return _edit_parts(compute_difference, weight, reference.expand_as(weight))


def interpolate(weight: "torch.Tensor", reference: "torch.Tensor", dose: float) -> "torch.Tensor":
    """Return what `interpolate_` makes of the weight."""
    edited = weight.clone()
    interpolate_(edited, reference, dose)
    return edited


def unpack_mask(packed: "torch.Tensor", rows: int, columns: int) -> "torch.Tensor":
    """Return the mask of packed bits: boolean [rows, columns]."""
    import numpy
    import torch

    bits = numpy.unpackbits(packed.numpy(), count=rows * columns)
    return torch.from_numpy(bits.view(bool)).reshape(rows, columns)


def _select_bits(bits: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    # A fifth of the time of `where`, which is not vectorised for 16 bits.
    return mask.to(bits.dtype).neg_().bitwise_and_(bits)


def _edit_parts(
    compute_difference: Callable[..., "torch.Tensor"], weight: "torch.Tensor", *others: "torch.Tensor"
) -> Changes:
    """Flip the bits that `compute_difference` returns for the same part of each tensor. All have one shape."""
    vectors = [weight.view(-1), *(other.reshape(-1) for other in others)]
    values = bits = 0
    for start in range(0, len(vectors[0]), ENTRIES_AT_ONCE):
        parts = [vector[start : start + ENTRIES_AT_ONCE] for vector in vectors]
        changes = flip_bits(view_bits(parts[0]), compute_difference(*parts))
        values, bits = values + changes.values, bits + changes.bits
    return Changes(values, bits)
