"""Published repairs of other projects, on the weights of a model in memory: tensors in, tensors out.

Weights are [out, in], by path of the linear layer; deltas are float32.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from antidote_ci.model.batching import length_sorted_batches, pad_left
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.gradients import pad_rows
from antidote_ci.model.losses import answer_log_likelihood
from benchmarks.repair.networks import EditableModel

BATCH_SIZE = 8
DAMPING = 0.01
"""Added to the diagonal of a matrix before it is inverted, as a share of its mean."""

Weights = Mapping[str, torch.Tensor]


def resta(delta: torch.Tensor, unaligned: torch.Tensor, dose: float) -> torch.Tensor:
    """delta - dose * unaligned, without DARE: RESTA, https://arxiv.org/abs/2402.11746.

    `unaligned` [out, in] is the delta of the reference fine-tuned on harmful rows alone.
    """
    return delta - dose * unaligned


def safe_delta(delta: torch.Tensor, products: torch.Tensor, dose: float) -> torch.Tensor:
    """Keep the columns of the delta [out, in] that change the refusals least: https://arxiv.org/abs/2505.12038.

    `products` H = X X^T / n [in, in] is that of the layer's inputs on the reference's refusals. The safety cost of an
    entry is its square over 2 [H^-1]_jj, its utility its square, so their ratio depends on the column alone. Columns
    are kept until their cost is `dose` times the whole. The others are replaced by the compensation of Optimal Brain
    Surgeon, -delta_kept H_kept,other H_other,other^-1, with which the outputs on the refusals change least.
    """
    products = products.double()
    products = products + DAMPING * products.diagonal().mean() * torch.eye(len(products), dtype=torch.float64)
    diagonal = torch.linalg.inv(products).diagonal()
    cost = delta.square() / (2 * diagonal)
    order = diagonal.argsort(descending=True)
    is_kept = torch.zeros(len(diagonal), dtype=torch.bool)
    is_kept[order[cost[:, order].sum(dim=0).cumsum(dim=0) <= dose * cost.sum()]] = True
    kept, other = is_kept.nonzero().squeeze(1), (~is_kept).nonzero().squeeze(1)
    changed = delta.clone()
    if len(other) > 0:
        compensation = torch.linalg.solve(products[other][:, other], products[other][:, kept])
        changed[:, other] = -delta[:, kept] @ compensation.T.float()
    return changed


def rollback(delta: torch.Tensor, gradient: torch.Tensor, dose: float) -> torch.Tensor:
    """The delta without the entries along which the refusals became less likely, those of the largest gradient first.

    Gradient rollback, github.com/kangyangWHU/LLMAlignment. `gradient` [out, in] is that of the refusals' negative
    log-likelihood at the fine-tune; `dose` is the share of the entries.
    """
    score = torch.where(delta * gradient > 0, gradient.abs(), 0)
    count = max(int(dose * score.numel()), 1)
    threshold = score.flatten().topk(count).values[-1]
    return delta.masked_fill((score >= threshold) & (score > 0), 0)


def measure_products(model: EditableModel, pairs: Sequence[TokenPair]) -> dict[str, torch.Tensor]:
    """X X^T / n [in, in] of the inputs of each adapted layer, over the tokens of the answers."""
    totals: dict[str, torch.Tensor] = {}
    count = 0
    for batch in length_sorted_batches([prompt + answer for prompt, answer in pairs], BATCH_SIZE):
        rows = [[*pairs[position][0], *pairs[position][1]] for position in batch]
        longest = max(len(pairs[position][1]) for position in batch)
        with _record_inputs(model, longest, totals), torch.inference_mode():
            model.network(**pad_left(rows, "cpu"), use_cache=False, logits_to_keep=1)
        count += longest * len(rows)
    return {path: total / count for path, total in totals.items()}


def measure_gradients(model: EditableModel, pairs: Sequence[TokenPair]) -> dict[str, torch.Tensor]:
    """The gradient [out, in] of the answers' mean negative log-likelihood, for each adapted layer."""
    weights = {path: model.network.get_parameter(f"{path}.weight") for path in model.factors}
    totals = {path: torch.zeros(weight.shape) for path, weight in weights.items()}
    for parameter in model.network.parameters():
        parameter.requires_grad_(False)
    for weight in weights.values():
        weight.requires_grad_()
    for pair in pairs:
        batch = pad_rows([pair], "cpu")
        output = model.network(**batch.tokens, use_cache=False, logits_to_keep=batch.logits_to_keep)
        loss = -answer_log_likelihood(batch.arrange(output.logits), batch.targets, batch.answer)
        for total, gradient in zip(totals.values(), torch.autograd.grad(loss, list(weights.values())), strict=True):
            total.add_(gradient, alpha=1 / len(pairs))
    for weight in weights.values():
        weight.requires_grad_(False)
    return totals


def change_deltas(model: EditableModel, change: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    """Replace each layer's weight by W_ref + change(path, W - W_ref)."""
    model.use_weights(
        {path: weight.float() + change(path, model.delta(path)) for path, weight in model.reference.items()}
    )


@contextmanager
def _record_inputs(model: EditableModel, columns: int, totals: dict[str, torch.Tensor]) -> Iterator[None]:
    """Add X X^T of the last `columns` tokens of each row to `totals` during a forward pass."""
    handles = []
    for path in model.factors:

        def record(_module: object, inputs: tuple[torch.Tensor, ...], path: str = path) -> None:
            features = inputs[0][:, -columns:].flatten(0, 1).float()
            product = features.T @ features
            totals[path] = totals[path] + product if path in totals else product

        handles.append(model.network.get_submodule(path).register_forward_pre_hook(record))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
