"""Gradients of the scored tensors, with one block in memory at a time. Runs in the sandbox process only.

A forward pass caches the input of each block. A backward pass then goes from the last block to the first: it computes
each block again with autograd, and hands the gradient with respect to its input to the block before.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from antidote_ci.model import DType, Tensor
from antidote_ci.model.batching import common_prefix_length, pad_left
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.streaming.meta_model import EMBEDDINGS_PART, HEAD_PART, MetaModel
from antidote_ci.model.streaming.sequential_forward import ActivationCache, BlockCallback, Inputs, SequentialForward

BATCH_SIZE = 8
SUM_BYTES = 8
"""Of the two float32 sums of an entry."""


@dataclass(frozen=True)
class AnswerBatch:
    """Prompts with the first tokens of their answers.

    Either one row of tokens for each prompt, padded on the left, so that all answers end in the last column; or all
    prompts in one row, without the tokens that they have in common.
    """

    tokens: Inputs
    answer: Tensor
    """Boolean [rows, tokens of the longest answer], right-aligned: which tokens belong to the answer."""
    targets: Tensor
    """[rows, tokens of the longest answer]: the token ids of the answers."""
    columns: Tensor | None = None
    """[rows, tokens of the longest answer], of prompts in one row: the column whose logits predict the token."""

    @property
    def logits_to_keep(self) -> int | Tensor:
        """The argument of the network's forward: the number of last columns, or their positions."""
        return self.answer.shape[1] + 1 if self.columns is None else self.columns.flatten()

    def arrange(self, logits: Tensor) -> Tensor:
        """The kept logits as [rows, tokens of the longest answer, vocabulary]."""
        return logits[:, :-1] if self.columns is None else logits.view(*self.columns.shape, -1)


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


def split_batches(rows: Sequence[TokenPair]) -> list[list[TokenPair]]:
    """The rows in batches of similar prompt lengths, shortest first."""
    ordered = sorted(rows, key=lambda row: len(row[0]))
    return [ordered[start : start + BATCH_SIZE] for start in range(0, len(ordered), BATCH_SIZE)]


def build_batches(rows: Sequence[TokenPair], meta_model: MetaModel) -> list[AnswerBatch]:
    """The batches of `split_batches`.

    Where the network permits, a batch is one row: chat templates begin all prompts with the same tokens, often half of
    a prompt, which are then computed once.
    """
    chunks = split_batches(rows)
    longest = max((len(prompt) + len(answer) for prompt, answer in rows), default=0)
    if meta_model.attends_by_mask(longest):
        return [pack_rows(chunk, meta_model.device, meta_model.dtype) for chunk in chunks]
    return [pad_rows(chunk, meta_model.device) for chunk in chunks]


def pad_rows(rows: Sequence[TokenPair], device: str) -> AnswerBatch:
    """One row of tokens for each prompt with its answer."""
    answer, targets = _align_answers(rows, device)
    return AnswerBatch(pad_left([[*prompt, *answer] for prompt, answer in rows], device), answer, targets)


def pack_rows(rows: Sequence[TokenPair], device: str, dtype: DType) -> AnswerBatch:
    """One row of tokens: those with which all prompts begin, then the rest of each prompt with its answer.

    A token attends to the common tokens and to the earlier ones of its own prompt, and has the position that it has in
    a row of its own. `dtype` is that of the mask: 0, or the lowest number.
    """
    import torch

    answer_mask, targets = _align_answers(rows, device)
    texts = [[*prompt, *answer] for prompt, answer in rows]
    # The last token of a prompt predicts the first of its answer, so it is not common.
    common = min(common_prefix_length(texts), min(len(prompt) for prompt, _ in rows) - 1)
    lengths = torch.tensor([len(text) - common for text in texts])
    owners = torch.cat(
        [torch.zeros(common, dtype=torch.long), torch.arange(1, len(rows) + 1).repeat_interleave(lengths)]
    )
    ends = common + lengths.cumsum(0)
    positions = torch.cat([torch.arange(common), *(torch.arange(common, len(text)) for text in texts)])
    order = torch.arange(len(owners))
    visible = (order[None] <= order[:, None]) & ((owners[None] == 0) | (owners[None] == owners[:, None]))
    mask = torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)
    tokens = {
        "input_ids": torch.tensor([[*texts[0][:common], *(token for text in texts for token in text[common:])]]),
        "attention_mask": mask[None, None],
        "position_ids": positions[None],
    }
    longest = answer_mask.shape[1]
    columns = ends[:, None] - 1 - longest + torch.arange(longest)[None]
    return AnswerBatch(
        {name: tensor.to(device) for name, tensor in tokens.items()},
        answer_mask,
        targets,
        columns.clamp(min=0).to(device),
    )


def _align_answers(rows: Sequence[TokenPair], device: str) -> tuple[Tensor, Tensor]:
    """The mask and the token ids of the answers, [rows, tokens of the longest answer] each, right-aligned."""
    import torch

    longest = max(len(answer) for _, answer in rows)
    padding = [[0] * (longest - len(answer)) for _, answer in rows]
    mask = torch.tensor([[*zeros, *[1] * len(answer)] for zeros, (_, answer) in zip(padding, rows, strict=True)])
    targets = torch.tensor([[*zeros, *answer] for zeros, (_, answer) in zip(padding, rows, strict=True)])
    return mask.to(device).bool(), targets.to(device)


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
            logits = forward.logits(index, hidden, term.batch.logits_to_keep)
            (gradient,) = torch.autograd.grad(term.loss(term.batch.arrange(logits)), hidden)
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
