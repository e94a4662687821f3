"""What becomes of the entries. Tensors in, tensors out, in the weight's own dtype and never in place."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def zero_masked(weight: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    """w' = (1 - m) o w, on an adapter's factor: https://arxiv.org/abs/2408.09600."""
    return weight.masked_fill(mask, 0)


def restore_masked(weight: "torch.Tensor", reference: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    """w' = (1 - m) o w + m o w_ref: on merged weights the reference's value comes back where the delta is pruned."""
    return weight.where(~mask, reference.to(weight.dtype))


def interpolate(weight: "torch.Tensor", reference: "torch.Tensor", dose: float) -> "torch.Tensor":
    """w' = w_ref + (1 - dose)(w - w_ref) in float32, rounded once: WiSE-FT, https://arxiv.org/abs/2109.01903.

    Dose 0 is the identity, bit for bit.
    """
    if dose == 0:
        return weight.clone()
    base = reference.float()
    return (base + (1 - dose) * (weight.float() - base)).to(weight.dtype)
