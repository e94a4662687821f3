"""Masks: the entries that a dose covers. Tensors in, tensors out; masks are boolean [out, in]."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from antidote_ci.records import Grouping, ScoredTensor

if TYPE_CHECKING:
    import torch

ENTRIES_AT_ONCE = 1 << 22
"""Approximate entries that are partitioned at a time: no tensor is copied whole."""


def count_per_row(columns: int, dose: float) -> int:
    """k = cols - int(cols * (1 - alpha)), as in the code of the paper; 0 at dose 0, all at dose 1."""
    return columns - int(columns * (1 - dose))


def count_covered(tensor: ScoredTensor, per: Grouping, dose: float) -> int:
    """Return the number of true entries in the mask of one tensor."""
    if per == "row":
        return tensor.rows * count_per_row(tensor.columns, dose)
    return count_per_row(tensor.entries, dose)


def select_per_row(score: "torch.Tensor", doses: Sequence[float]) -> Iterator["torch.Tensor"]:
    """m = ArgTopK_alpha(h) in each output row of `score` float32 [out, in], for one dose after another.

    A row has exactly k true entries. Ties are broken by the smaller column, so the mask of a dose is a subset of the
    mask of any larger dose. All masks share one buffer: each overwrites the previous one.
    """
    import numpy
    import torch

    rows, columns = score.shape
    counts = [count_per_row(columns, dose) for dose in doses]
    portion = max(1, ENTRIES_AT_ONCE // columns)
    thresholds = torch.cat(
        [_threshold_scores(score[start : start + portion], counts) for start in range(0, rows, portion)]
    )
    # One buffer, because fresh pages take longer than the comparison; numpy's comparison is faster than torch's.
    mask = torch.empty_like(score, dtype=torch.bool)
    for position, count in enumerate(counts):
        if count in (0, columns):
            yield mask.fill_(count == columns)
            continue
        least, next_below = thresholds[:, position, :1], thresholds[:, position, 1]
        numpy.greater_equal(score.numpy(), least.numpy(), out=mask.numpy())
        tied = (least[:, 0] == next_below).nonzero()[:, 0]
        if len(tied):
            mask[tied] = _break_ties(score[tied], least[tied], count)
        yield mask


def select_per_tensor(score: "torch.Tensor", doses: Sequence[float]) -> Iterator["torch.Tensor"]:
    """The highest entries of the whole tensor, for one dose after another; ties are broken by position.

    As in `select_per_row`, each mask overwrites the previous one.
    """
    for mask in select_per_row(score.reshape(1, -1), doses):
        yield mask.reshape(score.shape)


def _threshold_scores(score: "torch.Tensor", counts: Sequence[int]) -> "torch.Tensor":
    """Return the k-th and the (k+1)-th highest score of each row, for every k of `counts`: [rows, counts, 2].

    One partition and one sort serve all counts. The values for k = 0 and k = all are meaningless.
    """
    import numpy
    import torch

    columns = score.shape[1]
    leading = min(max(counts, default=0) + 1, columns)
    values = numpy.partition(score.numpy(), columns - leading, axis=1)[:, columns - leading :]
    values.sort(axis=1)
    wanted = [[leading - max(count, 1), max(leading - count - 1, 0)] for count in counts]
    return torch.from_numpy(values[:, numpy.array(wanted, dtype=int).reshape(-1, 2)])


def _break_ties(score: "torch.Tensor", least: "torch.Tensor", count: int) -> "torch.Tensor":
    """Return `count` entries of each row: all above `least`, and the first of those that equal it."""
    import torch

    above, equal = score > least, score == least
    remaining = count - above.sum(dim=1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= remaining))


def random_score(rows: int, columns: int, name: str) -> "torch.Tensor":
    """Uniform scores for the control `random`, from a generator seeded with the name of the tensor."""
    import torch

    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))


def pack_mask(mask: "torch.Tensor") -> "torch.Tensor":
    """Pack eight entries into a byte, row by row: uint8 [ceil(out * in / 8)]."""
    import numpy
    import torch

    return torch.from_numpy(numpy.packbits(mask.numpy().reshape(-1)))


def unpack_mask(packed: "torch.Tensor", rows: int, columns: int) -> "torch.Tensor":
    """Invert `pack_mask`: boolean [rows, columns]."""
    import numpy
    import torch

    bits = numpy.unpackbits(packed.numpy(), count=rows * columns)
    return torch.from_numpy(bits.view(bool)).reshape(rows, columns)
