"""Which entries carry the harm. Tensors in, tensors out."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def wanda_score(weight: "torch.Tensor", feature_norms: "torch.Tensor") -> "torch.Tensor":
    """h_ij = |w_ij| * ||X_j||: https://arxiv.org/abs/2408.09600, section 3; https://arxiv.org/abs/2306.11695.

    `weight` [out, in] is what is scored: an adapter's factor, or the delta W - W_ref. `feature_norms` [in] is the root
    mean square norm of each input feature over the realignment set. Float32 [out, in].
    """
    return weight.float().abs().mul_(feature_norms.float())


LEADING_SHARE = 0.005
"""Of all entries, by gain: where gain and cost are brought to one scale."""


def taylor_score(gain: "torch.Tensor", cost: "torch.Tensor", penalty: float) -> "torch.Tensor":
    """gain - penalty * cost, float32 [out, in]: signed first-order importance, https://arxiv.org/abs/1906.10771.

    With d = w on an adapter's factor and d = w - w_ref on merged weights: gain = d * dL/dw, positive where removing d
    lowers L = KL(reference || model) on harmful and harmless prompts + b * log p(the answers to harmful ones) on
    harmless ones, so that the model declines where it should and nowhere else; cost = d^2 * F, with F the diagonal
    Fisher information on harmless prompts and on the task. Both are taken halfway between the fine-tune and its
    reference: the midpoint rule for what the way there changes, integrated: https://arxiv.org/abs/1703.01365.
    """
    return gain - penalty * cost


Leading = tuple["torch.Tensor", "torch.Tensor"]
"""Gains and costs of the entries with the highest gain."""


def count_leading(entries: int) -> int:
    """How many of all entries lead."""
    return max(1, round(LEADING_SHARE * entries))


def merge_leading(leading: "Leading | None", gain: "torch.Tensor", cost: "torch.Tensor", count: int) -> "Leading":
    """The `count` entries with the highest gain of those that lead so far and of one tensor more."""
    import torch

    if leading is None:
        gains, costs = gain.flatten(), cost.flatten()
    else:
        # What does not beat the last of a full list is no candidate.
        above = gain > leading[0].min() if len(leading[0]) == count else torch.ones_like(gain, dtype=torch.bool)
        gains, costs = torch.cat([leading[0], gain[above]]), torch.cat([leading[1], cost[above]])
    kept = gains.topk(min(count, len(gains)), sorted=False).indices
    return gains[kept], costs[kept]


def cost_penalty(leading: "Leading") -> float:
    """The mean gain over the mean cost of the entries that lead; 0 when they cost nothing."""
    gains, costs = (float(each.double().mean()) for each in leading)
    return gains / costs if costs > 0 else 0.0
