"""Published repairs and controls, in memory: what the package's methods are compared to.

Each function returns the weights [out, in] of the adapted layers, by path.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from antidote_ci.model.batching import length_sorted_batches, pad_left
from antidote_ci.model.decoding import TokenPair
from benchmarks.repair.networks import EditableModel

Weights = dict[str, torch.Tensor]


def scale(model: EditableModel, dose: float) -> Weights:
    """W_ref + (1 - dose) (W - W_ref): WiSE-FT, https://arxiv.org/abs/2109.01903."""
    return {path: model.reference[path].float() + (1 - dose) * model.delta(path) for path in model.factors}


def resta(model: EditableModel, unaligned: Weights, dose: float) -> Weights:
    """W + dose (W_ref - W_unaligned): RESTA, https://arxiv.org/abs/2402.11746, without DARE.

    `unaligned` holds the deltas of the reference fine-tuned on harmful rows alone.
    """
    return {path: model.reference[path].float() + model.delta(path) - dose * unaligned[path] for path in model.factors}


def safe_delta(model: EditableModel, inputs: Mapping[str, torch.Tensor], dose: float) -> Weights:
    """Keep the delta greedily by utility over safety cost, and compensate: https://arxiv.org/abs/2505.12038.

    `inputs` holds H = X X^T / n [in, in] of each layer on the reference's refusals. With H^-1, the safety cost of an
    entry of the delta is its square over 2 [H^-1]_jj, its utility its square; the cheapest are kept until their cost
    reaches `dose` times the mean, and the rest is removed with the compensation of Optimal Brain Surgeon.
    """
    weights = {}
    for path in model.factors:
        hessian = inputs[path].double()
        damping = 0.01 * hessian.diagonal().mean()
        inverse = torch.linalg.inv(hessian + damping * torch.eye(len(hessian), dtype=torch.float64)).float()
        diagonal = inverse.diagonal()
        delta = model.delta(path)
        # The ratio of utility to cost of an entry depends on its column alone: 2 [H^-1]_jj.
        cost = delta.square() / (2 * diagonal)
        limit = dose * cost.sum()
        order = diagonal.argsort(descending=True)
        kept_cost = cost[:, order].sum(dim=0).cumsum(dim=0)
        kept_columns = order[kept_cost <= limit]
        removed = torch.ones(len(diagonal), dtype=torch.bool)
        removed[kept_columns] = False
        kept = delta.clone()
        columns = removed.nonzero().squeeze(1)
        if len(columns) and len(kept_columns):
            # Rows of the kept columns absorb what the removed ones did on the inputs of the refusals.
            block = inverse[columns][:, columns]
            correction = torch.linalg.solve(block, -delta[:, columns].T).T @ inverse[columns]
            kept = kept + correction
        kept[:, columns] = 0
        weights[path] = model.reference[path].float() + kept
    return weights


def input_products(model: EditableModel, pairs: Sequence[TokenPair]) -> Weights:
    """X X^T / n [in, in] of each adapted layer, over the tokens of the answers. The network holds the reference."""
    totals: Weights = {}
    count = 0
    for batch in length_sorted_batches([prompt + answer for prompt, answer in pairs], 8):
        rows = [[*pairs[position][0], *pairs[position][1]] for position in batch]
        longest = max(len(pairs[position][1]) for position in batch)
        with _record_inputs(model, totals, longest), torch.inference_mode():
            model.network(**pad_left(rows, "cpu"), use_cache=False, logits_to_keep=1)
        count += longest * len(rows)
    return {path: total / count for path, total in totals.items()}


@contextmanager
def _record_inputs(model: EditableModel, totals: Weights, columns: int) -> Iterator[None]:
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


def rollback(model: EditableModel, gradients: Weights, dose: float) -> Weights:
    """Restore the entries with the largest gradients of the harm whose sign agrees with the delta's.

    Gradient rollback (S&P 2025, kangyangWHU/LLMAlignment). `gradients` holds dL/dW, L falling with the harm, at the
    fine-tune. `dose` is the share of a layer's entries.
    """
    weights = {}
    for path in model.factors:
        delta = model.delta(path)
        score = torch.where(delta * gradients[path] > 0, gradients[path].abs(), torch.zeros(()))
        count = int(dose * score.numel())
        threshold = score.flatten().topk(max(count, 1)).values.min()
        restored = (score >= threshold) & (score > 0)
        weights[path] = model.reference[path].float() + delta.masked_fill(restored, 0)
    return weights
