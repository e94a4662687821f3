"""Which entries carry the harm. Tensors in, tensors out."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def wanda_score(weight: "torch.Tensor", feature_norms: "torch.Tensor") -> "torch.Tensor":
    """h_ij = |w_ij| * ||X_j||: https://arxiv.org/abs/2408.09600, section 3; https://arxiv.org/abs/2306.11695.

    `weight` [out, in] is what is scored: an adapter's factor, or the delta W - W_ref. `feature_norms` [in] is the root
    mean square norm of each input feature over the realignment set. Float32 [out, in].
    """
    return weight.float().abs() * feature_norms.float()
