"""Gradients of every scored tensor, one block in memory at a time. Called in the child process only.

Two sweeps: forward, keeping what goes into each block; then from the last block to the first, each computed once more,
with autograd, to pass back the gradient of what came out of it.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.streaming import lora
from antidote_ci.model.streaming.activation_cache import ActivationCache
from antidote_ci.model.streaming.meta_model import EMBEDDINGS_PART, HEAD_PART, MetaModel
from antidote_ci.model.streaming.sequential_forward import Inputs, SequentialForward

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 8

BlockCallback = Callable[[str], None]
"""Hears of each block that is behind."""


@dataclass(frozen=True)
class AnswerBatch:
    """Prompts with the beginnings of their answers, padded on the left: the answers end together."""

    tokens: Inputs
    answer: "torch.Tensor"
    """Boolean [rows, tokens of the longest answer]: which of the last columns are of the answer."""


@dataclass(frozen=True)
class LossTerm:
    """A batch, and what is differentiated on it."""

    batch: AnswerBatch
    loss: "Callable[[torch.Tensor], torch.Tensor]"
    """From the logits [rows, tokens of the longest answer, vocabulary] that predict the answers."""
    squared: bool
    """Its gradient's square is asked for."""


@dataclass(frozen=True)
class GradientSums:
    """Of one tensor, float32 [rows, columns] each."""

    tensor: str
    gradient: "torch.Tensor"
    """Gradients of the lessons that are not squared."""
    squared: "torch.Tensor"
    """Squares of the gradients of those that are."""


def build_batches(rows: Sequence[TokenPair], device: str) -> list[AnswerBatch]:
    """The rows in batches of nearly one length, shortest first."""
    import torch

    ordered = sorted(rows, key=lambda row: len(row[0]))
    found = []
    for start in range(0, len(ordered), BATCH_SIZE):
        chunk = ordered[start : start + BATCH_SIZE]
        longest = max(len(answer) for _, answer in chunk)
        answer = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for _, row in chunk])
        tokens = pad_left([[*prompt, *answer] for prompt, answer in chunk], device)
        found.append(AnswerBatch(tokens, answer.to(device).bool()))
    return found


def pad_left(rows: Sequence[Sequence[int]], device: str) -> Inputs:
    """Token ids as the inputs of a forward pass. Padding has no position: every row begins at 0."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)}


def stream_answer_logits(
    meta_model: MetaModel, cache: ActivationCache, lots: Sequence[AnswerBatch], passed: BlockCallback
) -> "Iterator[torch.Tensor]":
    """Of each batch what predicts its answers: [rows, tokens of the longest answer, vocabulary], as it is computed."""
    inputs = [each.tokens for each in lots]
    columns = [each.answer.shape[1] + 1 for each in lots]
    for logits in stream_last_logits(meta_model, cache, inputs, columns, passed):
        yield logits[:, :-1]


def stream_last_logits(
    meta_model: MetaModel,
    cache: ActivationCache,
    inputs: Sequence[Inputs],
    columns: Sequence[int],
    passed: BlockCallback,
) -> "Iterator[torch.Tensor]":
    """Of each of the inputs, the logits [rows, columns, vocabulary] that follow its last tokens."""
    import torch

    sweep = SequentialForward(meta_model, cache, inputs, "answers")
    sweep.embed()
    sweep.run_blocks(lambda block: _attach_adapter(meta_model, block), passed)
    with meta_model.load_weights(EMBEDDINGS_PART, HEAD_PART), torch.no_grad():
        for at, wanted in enumerate(columns):
            yield sweep.logits(at, sweep.get_hidden(at), wanted)


def accumulate_gradients(
    meta_model: MetaModel,
    cache: ActivationCache,
    lessons: Sequence[LossTerm],
    wanted: Collection[str],
    passed: BlockCallback,
) -> Iterator[GradientSums]:
    """Of each tensor in `wanted`, from the last block to the first. Every block is passed twice."""
    sweep = SequentialForward(meta_model, cache, [each.batch.tokens for each in lessons], "lessons")

    @contextmanager
    def keeping(block: str) -> Iterator[None]:
        for at in range(len(lessons)):
            cache.put(_gradient_key(block, at), sweep.get_hidden(at))
        with _attach_adapter(meta_model, block):
            yield

    sweep.embed()
    sweep.run_blocks(keeping, passed)
    _start_backward(sweep, lessons)
    for block in reversed(meta_model.blocks):
        yield from _backward_block(sweep, block, lessons, wanted)
        passed(block)


def _start_backward(forward: SequentialForward, lessons: Sequence[LossTerm]) -> None:
    """From here on the sweep carries not hidden states but the gradients of the losses with respect to them."""
    import torch

    with forward.skeleton.load_weights(EMBEDDINGS_PART, HEAD_PART):
        for at, lesson in enumerate(lessons):
            hidden = forward.get_hidden(at).detach().requires_grad_()
            logits = forward.logits(at, hidden, lesson.batch.answer.shape[1] + 1)[:, :-1]
            (gradient,) = torch.autograd.grad(lesson.loss(logits), hidden)
            forward.set_hidden(at, gradient)


def _backward_block(
    forward: SequentialForward, block: str, lessons: Sequence[LossTerm], wanted: Collection[str]
) -> list[GradientSums]:
    import torch

    skeleton, reservoir = forward.skeleton, forward.reservoir
    with skeleton.load_weights(block), _attach_adapter(skeleton, block) as factors:
        linears = [] if skeleton.lora else skeleton.linear_layers(block)
        weights = factors | {each.tensor: skeleton.network.get_submodule(each.path).weight for each in linears}
        scored = {name: weight.requires_grad_() for name, weight in weights.items() if name in wanted}
        sums = [
            GradientSums(name, *(torch.zeros(weight.shape, device=weight.device) for _ in range(2)))
            for name, weight in scored.items()
        ]
        for at, lesson in enumerate(lessons):
            hidden = reservoir.get(_gradient_key(block, at)).to(skeleton.device).detach().requires_grad_()
            output = forward.run_block(block, at, hidden)
            # An expert that no token was sent to has a gradient of zero.
            onward, *gradients = torch.autograd.grad(
                output, [hidden, *scored.values()], forward.get_hidden(at), materialize_grads=True
            )
            forward.set_hidden(at, onward)
            reservoir.drop(_gradient_key(block, at))
            for each, gradient in zip(sums, gradients, strict=True):
                if lesson.squared:
                    each.squared.addcmul_(gradient.float(), gradient.float())
                else:
                    each.gradient.add_(gradient)
    return [GradientSums(each.tensor, each.gradient.cpu(), each.squared.cpu()) for each in sums]


def _attach_adapter(meta_model: MetaModel, block: str) -> "AbstractContextManager[dict[str, torch.Tensor]]":
    """Within it, the block computes what its adapter adds. Yields the adapter's factors: none without one."""
    if meta_model.lora is None:
        return nullcontext({})
    return lora.attach_lora(meta_model.network, meta_model.lora, block, meta_model.dtype, meta_model.device)


def _gradient_key(block: str, at: int) -> str:
    return f"{block}-{at}-into"
