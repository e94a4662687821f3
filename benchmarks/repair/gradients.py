"""Gradients of losses with respect to the factors of an adapter, for one model in memory.

The losses are those of `antidote_ci.model.losses`. Sums are float32; the network computes in its own dtype.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch.nn import functional

from antidote_ci.model import losses
from antidote_ci.model.batching import length_sorted_batches
from antidote_ci.model.decoding import TokenPair, generate_tokens
from antidote_ci.model.generation import find_end_tokens
from antidote_ci.model.gradients import AnswerBatch, pack_rows, pad_rows, split_batches
from benchmarks.repair.networks import EditableModel, Factors

Sums = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""By path of the layer: a float32 tensor for every entry of A [rank, in] and of B [out, rank]."""


IndexedLoss = Callable[[int, AnswerBatch, torch.Tensor], torch.Tensor]
"""A loss from the index of a batch, the batch, and its logits [rows, tokens of the longest answer, vocabulary]."""


def answer_with(model: EditableModel, rows: Sequence[Sequence[int]], tokens: int) -> list[TokenPair]:
    """The rows with the first tokens of the network's greedy answers."""
    end_tokens = find_end_tokens(model.network, model.tokenizer)
    answers: list[list[int]] = [[] for _ in rows]
    for batch in length_sorted_batches(rows, 48):
        texts = [rows[position] for position in batch]
        for position, answer in zip(
            batch, generate_tokens(model.network, texts, tokens, end_tokens, fast=True), strict=True
        ):
            answers[position] = answer
    return list(zip(map(list, rows), answers, strict=True))


def packed_batches(model: EditableModel, pairs: Sequence[TokenPair]) -> list[AnswerBatch]:
    """The batches of `split_batches`, each as one row: all models of the benchmark attend by mask and position."""
    return [pack_rows(chunk, "cpu", model.network.dtype) for chunk in split_batches(pairs)]


def compute_logits(model: EditableModel, pairs: Sequence[TokenPair]) -> list[torch.Tensor]:
    """The network's logits of every batch of `pairs`, in the order of `split_batches`."""
    with torch.no_grad():
        return [forward_answers(model, batch).clone() for batch in packed_batches(model, pairs)]


def distil_from(teacher_logits: Sequence[torch.Tensor]) -> IndexedLoss:
    """KL(teacher || network), the mean over each row's tokens."""
    return lambda index, batch, logits: losses.distillation_loss(logits, teacher_logits[index], batch.answer)


def answer_likelihood(_index: int, batch: AnswerBatch, logits: torch.Tensor) -> torch.Tensor:
    """log p of the answers, the mean over each row's tokens."""
    return losses.answer_log_likelihood(logits, batch.targets, batch.answer)


def sum_gradients(
    model: EditableModel, factors: Mapping[str, Factors], strength: float, pairs: Sequence[TokenPair], loss: IndexedLoss
) -> Sums:
    """The gradient of the mean loss over `pairs` at the reference plus `strength` times the fine-tune's delta."""
    with trainable_factors(model, factors, strength) as parameters:
        sums = _zeros(parameters)
        for index, batch in enumerate(packed_batches(model, pairs)):
            _accumulate(model, parameters, sums, batch, partial(loss, index, batch), False)
        return _scaled(sums, 1 / len(pairs))


def sum_squares(
    model: EditableModel, factors: Mapping[str, Factors], strength: float, pairs: Sequence[TokenPair], *, by_row: bool
) -> Sums:
    """The diagonal Fisher information: the mean over `pairs` of squared gradients with labels from the network.

    With `by_row` the gradient of each row is squared, else that of each batch.
    """
    labels = torch.Generator().manual_seed(0)
    batches = [pad_rows([pair], "cpu") for pair in pairs] if by_row else None
    with trainable_factors(model, factors, strength) as parameters:
        sums = _zeros(parameters)
        for batch in batches or packed_batches(model, pairs):
            _accumulate(
                model,
                parameters,
                sums,
                batch,
                partial(losses.sampled_log_likelihood, answer=batch.answer, generator=labels),
                True,
            )
        return _scaled(sums, 1 / len(pairs))


@contextmanager
def trainable_factors(
    model: EditableModel, factors: Mapping[str, Factors], strength: float
) -> Iterator[dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Factors that require gradients, added to the reference's layers; the network's weights are the reference's."""
    model.use_reference()
    handles, parameters = [], {}
    for path, layer in factors.items():
        a, b = (factor.to(model.network.dtype).requires_grad_() for factor in (layer.a, layer.b))
        parameters[path] = (a, b)
        scaling = strength * layer.scaling

        def add(
            _module: object,
            inputs: tuple[torch.Tensor, ...],
            output: torch.Tensor,
            a: torch.Tensor = a,
            b: torch.Tensor = b,
            scaling: float = scaling,
        ) -> torch.Tensor:
            return output + functional.linear(functional.linear(inputs[0], a), b) * scaling

        handles.append(model.network.get_submodule(path).register_forward_hook(add))
    for parameter in model.network.parameters():
        parameter.requires_grad_(False)
    try:
        yield parameters
    finally:
        for handle in handles:
            handle.remove()


def _accumulate(
    model: EditableModel,
    parameters: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    sums: Sums,
    batch: AnswerBatch,
    loss: Callable[[torch.Tensor], torch.Tensor],
    squared: bool,
) -> None:
    tensors = [factor for pair in parameters.values() for factor in pair]
    gradients = iter(torch.autograd.grad(loss(forward_answers(model, batch)), tensors))
    for path in parameters:
        for total in sums[path]:
            gradient = next(gradients).float()
            if squared:
                total.addcmul_(gradient, gradient)
            else:
                total.add_(gradient)


def forward_answers(model: EditableModel, batch: AnswerBatch) -> torch.Tensor:
    """The logits that predict the answers."""
    return batch.arrange(model.network(**batch.tokens, use_cache=False, logits_to_keep=batch.logits_to_keep).logits)


def _zeros(parameters: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> Sums:
    return {path: (torch.zeros(a.shape), torch.zeros(b.shape)) for path, (a, b) in parameters.items()}


def _scaled(sums: Sums, factor: float) -> Sums:
    return {path: (a * factor, b * factor) for path, (a, b) in sums.items()}
