"""Scores of weight entries: which entries to prune first. Tensors in, tensors out."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def wanda_score(weight: "torch.Tensor", feature_norms: "torch.Tensor") -> "torch.Tensor":
    """h_ij = |w_ij| * ||X_j||: https://arxiv.org/abs/2408.09600, section 3; https://arxiv.org/abs/2306.11695.

    `weight` [out, in] is what is scored: an adapter's factor, or the delta W - W_ref. `feature_norms` [in] is the root
    mean square norm of each input feature over the realignment set. Returns float32 [out, in].
    """
    return (weight.float() * feature_norms.float()).abs_()


LEADING_SHARE = 0.005
"""The share of all entries, by gain, on which gain and cost are brought to one scale."""


def taylor_score(gain: "torch.Tensor", cost: "torch.Tensor", penalty: float) -> "torch.Tensor":
    """gain - penalty * cost, float32 [out, in]: signed first-order importance, https://arxiv.org/abs/1906.10771.

    With d = w on an adapter's factor and d = w - w_ref on merged weights:

    gain = d * dL/dw, positive when removing d lowers L = KL(reference || model) on harmful and harmless prompts
    + b * log p(answers to harmful prompts) on harmless prompts: the model refuses harmful prompts and no others.
    cost = d^2 * F, with F the diagonal Fisher information on harmless prompts and on the task.

    Gradients are taken halfway between the fine-tune and its reference: the midpoint rule for the integral of the
    change along this path, https://arxiv.org/abs/1703.01365.
    """
    return gain - penalty * cost


Leading = tuple["torch.Tensor", "torch.Tensor"]
"""Gains and costs of the entries with the highest gain."""


EXACT_ENTRIES = 1 << 31
"""Above this number of entries, the leading entries are those of a sample: they only determine two means."""
SAMPLE_STRIDE = 61
"""One entry of 61 is sampled. Columns are no multiples of this prime, so the sample is spread over them."""


def leading_stride(entries: int) -> int:
    """Return the distance of the entries, among all `entries`, from which the leading ones are taken."""
    return SAMPLE_STRIDE if entries > EXACT_ENTRIES else 1


def count_leading(entries: int) -> int:
    """Return the number of leading entries among all `entries`, or among their sample."""
    return max(1, round(LEADING_SHARE * entries / leading_stride(entries)))


def merge_leading(leading: "Leading | None", gain: "torch.Tensor", cost: "torch.Tensor", count: int) -> "Leading":
    """Return the `count` entries with the highest gain among the current leading ones and one more tensor."""
    import torch

    if leading is None:
        gains, costs = gain.flatten(), cost.flatten()
    else:
        # An entry below the minimum of a full list cannot lead.
        above = gain > leading[0].min() if len(leading[0]) == count else torch.ones_like(gain, dtype=torch.bool)
        gains, costs = torch.cat([leading[0], gain[above]]), torch.cat([leading[1], cost[above]])
    top = gains.topk(min(count, len(gains)), sorted=False).indices
    return gains[top], costs[top]


def cost_penalty(leading: "Leading") -> float:
    """mean(gain) / mean(cost) of the leading entries; 0 when their cost is 0."""
    mean_gain, mean_cost = (float(values.double().mean()) for values in leading)
    return mean_gain / mean_cost if mean_cost > 0 else 0.0
