"""Masks: the entries that a dose covers. Tensors in, tensors out; masks are boolean [out, in]."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from antidote_ci.records import Grouping, ScoredTensor

if TYPE_CHECKING:
    import numpy
    import torch

    Array = numpy.ndarray[Any, Any]

BLOCK_ENTRIES = 1 << 16
"""Approximate entries of a block: its scores and its mask fit into the cache of a core."""


def count_per_row(columns: int, dose: float) -> int:
    """k = cols - int(cols * (1 - alpha)), as in the code of the paper; 0 at dose 0, all at dose 1."""
    return columns - int(columns * (1 - dose))


def count_covered(tensor: ScoredTensor, per: Grouping, dose: float) -> int:
    """Return the number of true entries in the mask of one tensor."""
    if per == "row":
        return tensor.rows * count_per_row(tensor.columns, dose)
    return count_per_row(tensor.entries, dose)


def pack_masks(score: "torch.Tensor", per: Grouping, doses: Sequence[float]) -> "torch.Tensor":
    """m = ArgTopK_alpha(h) of `score` float32 [out, in], bit-packed: uint8 [doses, ceil(out * in / 8)].

    The highest entries of each row, or of the whole tensor. Ties are broken by the smaller column or position, so the
    mask of a dose is a subset of the mask of any larger dose. One pass over blocks that stay in the processor's cache.
    """
    import numpy
    import torch

    groups = score.contiguous().numpy().reshape(score.shape if per == "row" else (1, -1))
    rows, columns = groups.shape
    counts = [count_per_row(columns, dose) for dose in doses]
    packed = numpy.empty((len(doses), -(-groups.size // 8)), dtype=numpy.uint8)
    if per == "row":
        aligned = 8 // math.gcd(columns, 8)  # rows whose bits fill whole bytes
        step = max(BLOCK_ENTRIES // columns // aligned, 1) * aligned
        for start in range(0, rows, step):
            block = groups[start : start + step]
            _pack_block(block, counts, *_find_thresholds(block, counts), packed[:, start * columns // 8 :])
    else:
        thresholds = _find_thresholds(groups, counts)
        for start in range(0, columns, BLOCK_ENTRIES):
            block = groups[:, start : start + BLOCK_ENTRIES]
            _pack_block(block, counts, *thresholds, packed[:, start // 8 :])
    return torch.from_numpy(packed)


def _find_thresholds(score: "Array", counts: Sequence[int]) -> tuple["Array", "Array"]:
    """Return the k-th highest score of each row for every k of `counts`, and how many entries equal to it are covered.

    Both are [rows, counts]. The number is negative when all are, and the score is meaningless for k = 0. One partition
    and one sort serve all counts.
    """
    import numpy

    columns = score.shape[1]
    leading = min(max(counts, default=0) + 1, columns)
    values = numpy.partition(score, columns - leading, axis=1)[:, columns - leading :]
    values.sort(axis=1)
    least = values[:, [leading - max(count, 1) for count in counts]]
    covered = numpy.full(least.shape, -1)
    for position, count in enumerate(counts):
        if 0 < count < columns:
            limit = least[:, position]
            rows = numpy.flatnonzero(numpy.equal(limit, values[:, leading - count - 1]))
            covered[rows, position] = count - (values[rows] > limit[rows, None]).sum(axis=1)
    return least, covered


def _pack_block(score: "Array", counts: Sequence[int], least: "Array", covered: "Array", packed: "Array") -> None:
    """Write the bits of a block of whole rows, or of a part of one row, to the beginning of `packed` [doses, bytes].

    `covered` is reduced by the covered ties, for the next part of the row.
    """
    import numpy

    mask = numpy.empty(score.shape, dtype=bool)
    tied = [bool((numbers >= 0).any()) for numbers in covered.T]
    ties = None
    for position, count in enumerate(counts):
        if count:
            numpy.greater_equal(score, least[:, position, None], out=mask)
        else:
            mask.fill(False)
        if tied[position]:
            rows = numpy.flatnonzero(covered[:, position] >= 0)
            limit = least[rows, position]
            # Often zero for all doses: the reference's own weights have a delta of zero.
            if ties is None or not (numpy.array_equal(rows, ties.rows) and numpy.array_equal(limit, ties.limit)):
                ties = _find_ties(score, rows, limit)
            mask[rows] &= ties.select(covered[rows, position])
            covered[rows, position] = numpy.maximum(covered[rows, position] - ties.counts, 0)
        bits = numpy.packbits(mask)
        packed[position, : len(bits)] = bits


@dataclass(frozen=True)
class _Ties:
    """The entries of some rows of a block that equal the row's `limit`."""

    rows: "Array"
    limit: "Array"
    unequal: "Array"
    """Boolean [rows, columns]."""
    positions: "Array"
    """Of the equal entries, over all rows."""
    counts: "Array"
    """Equal entries in each row."""

    def select(self, covered: "Array") -> "Array":
        """Return boolean [rows, columns]: false for the equal entries of a row after the first `covered`."""
        import numpy

        rows, columns = self.unequal.shape
        cut = numpy.flatnonzero(covered < self.counts)
        first = self.counts.cumsum() - self.counts
        cutoffs = numpy.full((rows, 1), columns, dtype=numpy.int32)
        cutoffs[cut, 0] = self.positions[(first + covered)[cut]] - cut * columns
        selected: Array = numpy.arange(columns, dtype=numpy.int32) < cutoffs
        selected |= self.unequal
        return selected


def _find_ties(score: "Array", rows: "Array", limit: "Array") -> _Ties:
    import numpy

    equal = (score if len(rows) == len(score) else score[rows]) == limit[:, None]
    return _Ties(rows, limit, ~equal, numpy.flatnonzero(equal), numpy.count_nonzero(equal, axis=1))


def random_score(rows: int, columns: int, name: str) -> "torch.Tensor":
    """Uniform scores for the control `random`, from a generator seeded with the name of the tensor."""
    import torch

    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))
