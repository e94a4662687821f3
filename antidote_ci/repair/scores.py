"""Which entries carry the harm. Tensors in, tensors out."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def wanda_score(weight: "torch.Tensor", feature_norms: "torch.Tensor") -> "torch.Tensor":
    """h_ij = |w_ij| * ||X_j||: https://arxiv.org/abs/2408.09600, section 3; https://arxiv.org/abs/2306.11695.

    `weight` [out, in] is what is scored: an adapter's factor, or the delta W - W_ref. `feature_norms` [in] is the root
    mean square norm of each input feature over the realignment set. Float32 [out, in].
    """
    return weight.float().abs() * feature_norms.float()


LEADING_SHARE = 0.005
"""Of all entries, by gain: where gain and cost are brought to one scale."""


def taylor_score(gain: "torch.Tensor", cost: "torch.Tensor", penalty: float) -> "torch.Tensor":
    """gain - penalty * cost, float32 [out, in]: signed first-order importance, https://arxiv.org/abs/1906.10771.

    With d = w on an adapter's factor and d = w - w_ref on merged weights: gain = d * dKL(reference || model)/dw,
    positive where taking d away makes the model answer more like its reference; cost = d^2 * F, with F the diagonal
    Fisher information of the fine-tune on useful prompts.
    """
    return gain - penalty * cost


def penalty(gains: "Iterable[torch.Tensor]", costs: "Iterable[torch.Tensor]") -> float:
    """The mean gain over the mean cost of the entries that lead by gain; 0 when they cost nothing."""
    import torch

    gain = torch.cat([each.flatten() for each in gains])
    cost = torch.cat([each.flatten() for each in costs])
    leading = gain.topk(max(1, round(LEADING_SHARE * gain.numel()))).indices
    spent = float(cost[leading].mean())
    return float(gain[leading].mean()) / spent if spent > 0 else 0.0
