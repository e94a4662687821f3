"""Which entries a dose covers. Tensors in, tensors out; masks are boolean [out, in]."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from antidote_ci.records import Grouping, ScoredTensor

if TYPE_CHECKING:
    import torch

ENTRIES_AT_ONCE = 1 << 22
"""Rows are ordered in portions of about so many entries: of a tensor of any size no whole copy is held."""


def count_per_row(columns: int, dose: float) -> int:
    """k = cols - int(cols * (1 - alpha)), as the paper's code counts; 0 at dose 0, all at dose 1."""
    return columns - int(columns * (1 - dose))


def count_covered(tensor: ScoredTensor, per: Grouping, dose: float) -> int:
    """How many entries of one tensor a mask of that dose holds."""
    if per == "row":
        return tensor.rows * count_per_row(tensor.columns, dose)
    return count_per_row(tensor.entries, dose)  # as one long row


def select_per_row(score: "torch.Tensor", doses: Sequence[float]) -> Iterator["torch.Tensor"]:
    """m = ArgTopK_alpha(h) in each output row of `score` float32 [out, in], for one dose after another.

    Exactly k true entries a row, ties broken by the smaller column: a mask lies inside that of any larger dose. The
    next mask takes the place of the last one, whose memory it uses.
    """
    import numpy
    import torch

    rows, columns = score.shape
    counts = [count_per_row(columns, dose) for dose in doses]
    portion = max(1, ENTRIES_AT_ONCE // columns)
    edges = torch.cat([_threshold_scores(score[start : start + portion], counts) for start in range(0, rows, portion)])
    # asking the system for new pages a dose would take longer than the comparison, and numpy's is the faster one
    mask = torch.empty_like(score, dtype=torch.bool)
    for at, number in enumerate(counts):
        if number in (0, columns):
            yield mask.fill_(number == columns)
            continue
        least, next_below = edges[:, at, :1], edges[:, at, 1]
        numpy.greater_equal(score.numpy(), least.numpy(), out=mask.numpy())
        tied = (least[:, 0] == next_below).nonzero()[:, 0]
        if len(tied):
            mask[tied] = _break_ties(score[tied], least[tied], number)
        yield mask


def select_per_tensor(score: "torch.Tensor", doses: Sequence[float]) -> Iterator["torch.Tensor"]:
    """The highest share of all entries together, for one dose after another; ties broken by position.

    As in `select_per_row` the next mask takes the place of the last one.
    """
    for mask in select_per_row(score.reshape(1, -1), doses):
        yield mask.reshape(score.shape)


def _threshold_scores(score: "torch.Tensor", counts: Sequence[int]) -> "torch.Tensor":
    """The k-th and the next highest score of each row, for every k of `counts`: [rows, counts, 2].

    One partition and one sort of what leads serve all; where k is 0 or all, what is given means nothing.
    """
    import numpy
    import torch

    columns = score.shape[1]
    leading = min(max(counts, default=0) + 1, columns)
    values = numpy.partition(score.numpy(), columns - leading, axis=1)[:, columns - leading :]
    values.sort(axis=1)
    wanted = [[leading - max(number, 1), max(leading - number - 1, 0)] for number in counts]
    return torch.from_numpy(values[:, numpy.array(wanted, dtype=int).reshape(-1, 2)])


def _break_ties(score: "torch.Tensor", least: "torch.Tensor", number: int) -> "torch.Tensor":
    """`number` entries a row: all above `least`, and of those that equal it the first."""
    import torch

    above, equal = score > least, score == least
    room = number - above.sum(dim=1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= room))


def random_score(rows: int, columns: int, name: str) -> "torch.Tensor":
    """The control's score, drawn by a generator seeded with the tensor's name."""
    import torch

    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))


def pack_mask(mask: "torch.Tensor") -> "torch.Tensor":
    """Eight entries a byte, row by row: uint8 [ceil(out * in / 8)]."""
    import numpy
    import torch

    return torch.from_numpy(numpy.packbits(mask.numpy().reshape(-1)))


def unpack_mask(packed: "torch.Tensor", rows: int, columns: int) -> "torch.Tensor":
    """The mask that `pack_mask` packed."""
    import numpy
    import torch

    bits = numpy.unpackbits(packed.numpy(), count=rows * columns)
    return torch.from_numpy(bits.view(bool)).reshape(rows, columns)
