"""Gradients of the scored tensors, with one block in memory at a time. Runs in the sandbox process only.

A forward pass caches the input of each block. A backward pass then goes from the last block to the first: it computes
each block again with autograd, and hands the gradient with respect to its input to the block before.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from antidote_ci.model import Tensor
from antidote_ci.model.batching import pad_left
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.streaming.meta_model import EMBEDDINGS_PART, HEAD_PART, MetaModel
from antidote_ci.model.streaming.sequential_forward import ActivationCache, BlockCallback, Inputs, SequentialForward

BATCH_SIZE = 8
SUM_BYTES = 8
"""Of the two float32 sums of an entry."""


@dataclass(frozen=True)
class AnswerBatch:
    """Prompts with the first tokens of their answers, padded on the left: all answers end in the last column."""

    tokens: Inputs
    answer: Tensor
    """Boolean [rows, tokens of the longest answer]: which of the last columns belong to the answer."""


@dataclass(frozen=True)
class LossTerm:
    """A batch and a loss on it."""

    batch: AnswerBatch
    loss: Callable[[Tensor], Tensor]
    """A scalar from the logits [rows, tokens of the longest answer, vocabulary] that predict the answers."""
    squared: bool
    """Accumulate the square of the gradient."""


@dataclass(frozen=True)
class GradientSums:
    """The accumulated gradients of one tensor, float32 [rows, columns] each."""

    tensor: str
    gradient: Tensor
    """Sum of the gradients of the terms that are not squared."""
    squared: Tensor
    """Sum of the squared gradients of the others."""


def build_batches(rows: Sequence[TokenPair], device: str) -> list[AnswerBatch]:
    """The rows in batches of similar prompt lengths, shortest first."""
    import torch

    ordered = sorted(rows, key=lambda row: len(row[0]))
    batches = []
    for start in range(0, len(ordered), BATCH_SIZE):
        chunk = ordered[start : start + BATCH_SIZE]
        longest = max(len(answer) for _, answer in chunk)
        mask = torch.tensor([[0] * (longest - len(answer)) + [1] * len(answer) for _, answer in chunk])
        tokens = pad_left([[*prompt, *answer] for prompt, answer in chunk], device)
        batches.append(AnswerBatch(tokens, mask.to(device).bool()))
    return batches


def accumulate_gradients(
    meta_model: MetaModel,
    cache: ActivationCache,
    terms: Sequence[LossTerm],
    tensors: Collection[str],
    done: BlockCallback,
) -> Iterator[GradientSums]:
    """Yield the sums of each tensor in `tensors`, last block first. `done` is called twice per block."""
    forward = SequentialForward(meta_model, cache, [term.batch.tokens for term in terms])

    @contextmanager
    def cache_inputs(block: str) -> Iterator[None]:
        for index in range(len(terms)):
            cache.put(_input_key(block, index), forward.get_hidden(index))
        with meta_model.attach_adapter(block):
            yield

    forward.embed()
    forward.run_blocks(cache_inputs, done)
    _start_backward(forward, terms)
    for block in reversed(meta_model.blocks):
        yield from _backward_block(forward, block, terms, tensors)
        done(block)


def _start_backward(forward: SequentialForward, terms: Sequence[LossTerm]) -> None:
    """Replace the hidden states by the gradients of the losses with respect to them."""
    import torch

    with forward.meta_model.load_weights(EMBEDDINGS_PART, HEAD_PART):
        for index, term in enumerate(terms):
            hidden = forward.get_hidden(index).detach().requires_grad_()
            logits = forward.logits(index, hidden, term.batch.answer.shape[1] + 1)[:, :-1]
            (gradient,) = torch.autograd.grad(term.loss(logits), hidden)
            forward.set_hidden(index, gradient)


def _backward_block(
    forward: SequentialForward, block: str, terms: Sequence[LossTerm], tensors: Collection[str]
) -> Iterator[GradientSums]:
    """Yield the sums of a block's tensors. The block is computed again for each group whose sums fit into the budget.

    The gradient of a tensor does not depend on the other tensors of its group.
    """
    meta_model, cache = forward.meta_model, forward.cache
    with meta_model.load_weights(block), meta_model.attach_adapter(block) as factors:
        layers = [] if meta_model.lora else meta_model.linear_layers(block)
        weights = factors | {layer.tensor: meta_model.network.get_submodule(layer.path).weight for layer in layers}
        groups = _group_by_size({name: weight for name, weight in weights.items() if name in tensors}, cache.budget)
        for number, group in enumerate(groups, 1):
            sums = _sum_gradients(forward, block, terms, group, is_last=number == len(groups))
            while sums:  # one at a time, so that the caller's copy is the only one
                entry = sums.pop(0)
                yield GradientSums(entry.tensor, entry.gradient.cpu(), entry.squared.cpu())


def _group_by_size(weights: dict[str, Tensor], budget: int) -> list[dict[str, Tensor]]:
    """The tensors in order, in groups whose sums take at most `budget` bytes or that hold one tensor; at least one."""
    groups: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, weight in weights.items():
        if groups[-1] and size + SUM_BYTES * weight.numel() > budget:
            groups.append({})
            size = 0
        groups[-1][name] = weight
        size += SUM_BYTES * weight.numel()
    return groups


def _sum_gradients(
    forward: SequentialForward, block: str, terms: Sequence[LossTerm], weights: dict[str, Tensor], *, is_last: bool
) -> list[GradientSums]:
    """The sums of some weights of a block. The last call replaces the gradient of the output by that of the input."""
    import torch

    cache = forward.cache
    for weight in weights.values():
        weight.requires_grad_()
    sums = [
        GradientSums(name, *(torch.zeros(weight.shape, device=weight.device) for _ in range(2)))
        for name, weight in weights.items()
    ]
    for index, term in enumerate(terms):
        hidden = cache.get(_input_key(block, index)).to(forward.meta_model.device).detach().requires_grad_()
        wanted = [*weights.values(), *([hidden] if is_last else [])]
        # materialize_grads: an expert that no token was routed to has a gradient of zero.
        gradients = torch.autograd.grad(
            forward.run_block(block, index, hidden), wanted, forward.get_hidden(index), materialize_grads=True
        )
        if is_last:
            forward.set_hidden(index, gradients[-1])
            cache.drop(_input_key(block, index))
        for tensor_sums, gradient in zip(sums, gradients[: len(sums)], strict=True):
            if term.squared:
                tensor_sums.squared.addcmul_(gradient.float(), gradient.float())
            else:
                tensor_sums.gradient.add_(gradient)
    for weight in weights.values():
        weight.requires_grad = False
    return sums


def _input_key(block: str, index: int) -> str:
    return f"{block}-{index}-input"
