"""How far fine-tuning moved the weights: ||W - W_ref||_F / ||W_ref||_F. Tensors in, squared norms out, in float64."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ENTRIES_AT_ONCE = 1 << 20
"""In float64 at a time: a whole matrix in it would take four times the memory of the weights."""


def squared_norm(weight: "torch.Tensor") -> float:
    """||W||_F^2 of a matrix of any dtype."""
    return math.fsum(float(rows.square().sum()) for rows in _float64_pieces(weight))


def squared_distance(weight: "torch.Tensor", reference: "torch.Tensor") -> float:
    """||W - W_ref||_F^2 of two matrices of one shape, of whatever dtypes."""
    pairs = zip(_float64_pieces(weight), _float64_pieces(reference), strict=True)
    return math.fsum(float((rows - others).square().sum()) for rows, others in pairs)


def squared_product(a: "torch.Tensor", b: "torch.Tensor", scale: float) -> float:
    """||s B A||_F^2 = s^2 tr((B^T B)(A A^T)): what a LoRA adapter adds, from two [rank, rank] Gram matrices.

    `a` [rank, in], `b` [out, rank]; their product [out, in] is never formed: https://arxiv.org/abs/2106.09685.
    """
    a, b = a.double(), b.double()
    # both Gram matrices are symmetric, so the trace of their product is the sum of their entries' products
    return scale**2 * max(0.0, float(((b.T @ b) * (a @ a.T)).sum()))


def relative_drift(squared_moved: float, squared_reference: float) -> float:
    """The quotient of the two norms; 1 where only the reference is all zeros, 0 where nothing moved."""
    if squared_reference == 0:
        return float(squared_moved > 0)
    return math.sqrt(squared_moved / squared_reference)


def _float64_pieces(weight: "torch.Tensor") -> "Iterator[torch.Tensor]":
    flat = weight.reshape(-1)
    return (flat[start : start + ENTRIES_AT_ONCE].double() for start in range(0, len(flat), ENTRIES_AT_ONCE))
