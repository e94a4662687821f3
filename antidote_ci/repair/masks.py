"""Which entries a dose covers. Tensors in, tensors out; masks are boolean [out, in]."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def count_per_row(columns: int, dose: float) -> int:
    """k = cols - int(cols * (1 - alpha)), as the paper's code counts; 0 at dose 0, all at dose 1."""
    return columns - int(columns * (1 - dose))


def top_per_row(score: "torch.Tensor", dose: float) -> "torch.Tensor":
    """m = ArgTopK_alpha(h) in each output row: exactly k true entries a row, ties broken by the smaller column."""
    import torch

    count = count_per_row(score.shape[1], dose)
    if count == 0:
        return torch.zeros_like(score, dtype=torch.bool)
    smallest = score.topk(count, dim=1).values[:, -1:]
    above = score > smallest
    tied = score == smallest
    room = count - above.sum(dim=1, keepdim=True)
    return above | (tied & (tied.cumsum(dim=1) <= room))


def top_of_tensor(score: "torch.Tensor", dose: float) -> "torch.Tensor":
    """The highest share `dose` of all entries together, ties broken by position."""
    return top_per_row(score.reshape(1, -1), dose).reshape(score.shape)


def random_score(rows: int, columns: int, name: str) -> "torch.Tensor":
    """The control's score, drawn by a generator seeded with the tensor's name."""
    import torch

    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))


def pack(mask: "torch.Tensor") -> "torch.Tensor":
    """Eight entries a byte, row by row: uint8 [ceil(out * in / 8)]."""
    import numpy
    import torch

    return torch.from_numpy(numpy.packbits(mask.numpy().reshape(-1)))


def unpack(packed: "torch.Tensor", rows: int, columns: int) -> "torch.Tensor":
    """The mask that `pack` packed."""
    import numpy
    import torch

    bits = numpy.unpackbits(packed.numpy(), count=rows * columns)
    return torch.from_numpy(bits.astype(bool)).reshape(rows, columns)
