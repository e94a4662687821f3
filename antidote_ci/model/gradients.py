"""Gradients of every scored tensor, one block in memory at a time. Called in the child process only.

Two sweeps: forward, keeping what goes into each block; then from the last block to the first, each computed once more,
with autograd, to pass back the gradient of what came out of it.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from antidote_ci.model.decoding import Continued
from antidote_ci.model.streaming import lora
from antidote_ci.model.streaming.activation_cache import Reservoir
from antidote_ci.model.streaming.meta_model import ENTRANCE, HEAD, Skeleton
from antidote_ci.model.streaming.sequential_forward import Inputs, Sweep

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 8

Passed = Callable[[str], None]
"""Hears of each block that is behind."""


@dataclass(frozen=True)
class Batch:
    """Prompts with the beginnings of their answers, padded on the left: the answers end together."""

    tokens: Inputs
    answer: "torch.Tensor"
    """Boolean [rows, tokens of the longest answer]: which of the last columns are of the answer."""


@dataclass(frozen=True)
class Lesson:
    """A batch, and what is differentiated on it."""

    batch: Batch
    loss: "Callable[[torch.Tensor], torch.Tensor]"
    """From the logits [rows, tokens of the longest answer, vocabulary] that predict the answers."""
    squared: bool
    """Its gradient's square is asked for."""


@dataclass(frozen=True)
class Sums:
    """Of one tensor, float32 [rows, columns] each."""

    tensor: str
    gradient: "torch.Tensor"
    """Gradients of the lessons that are not squared."""
    squared: "torch.Tensor"
    """Squares of the gradients of those that are."""


def batches(rows: Sequence[Continued], device: str) -> list[Batch]:
    """The rows in batches of nearly one length, shortest first."""
    import torch

    ordered = sorted(rows, key=lambda row: len(row[0]))
    found = []
    for start in range(0, len(ordered), BATCH_SIZE):
        chunk = ordered[start : start + BATCH_SIZE]
        longest = max(len(answer) for _, answer in chunk)
        answer = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for _, row in chunk])
        tokens = left_padded([[*prompt, *answer] for prompt, answer in chunk], device)
        found.append(Batch(tokens, answer.to(device).bool()))
    return found


def left_padded(rows: Sequence[Sequence[int]], device: str) -> Inputs:
    """Token ids as the inputs of a forward pass. Padding has no position: every row begins at 0."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)}


def answer_logits(
    skeleton: Skeleton, reservoir: Reservoir, lots: Sequence[Batch], passed: Passed
) -> "Iterator[torch.Tensor]":
    """Of each batch what predicts its answers: [rows, tokens of the longest answer, vocabulary], as it is computed."""
    inputs = [each.tokens for each in lots]
    columns = [each.answer.shape[1] + 1 for each in lots]
    for logits in last_logits(skeleton, reservoir, inputs, columns, passed):
        yield logits[:, :-1]


def last_logits(
    skeleton: Skeleton, reservoir: Reservoir, inputs: Sequence[Inputs], columns: Sequence[int], passed: Passed
) -> "Iterator[torch.Tensor]":
    """Of each of the inputs, the logits [rows, columns, vocabulary] that follow its last tokens."""
    import torch

    sweep = Sweep(skeleton, reservoir, inputs, "answers")
    sweep.enter()
    sweep.forward(lambda block: _adapted(skeleton, block), passed)
    with skeleton.filled(ENTRANCE, HEAD), torch.no_grad():
        for at, wanted in enumerate(columns):
            yield sweep.logits(at, sweep.hidden(at), wanted)


def gradient_sums(
    skeleton: Skeleton, reservoir: Reservoir, lessons: Sequence[Lesson], wanted: Collection[str], passed: Passed
) -> Iterator[Sums]:
    """Of each tensor in `wanted`, from the last block to the first. Every block is passed twice."""
    sweep = Sweep(skeleton, reservoir, [each.batch.tokens for each in lessons], "lessons")

    @contextmanager
    def keeping(block: str) -> Iterator[None]:
        for at in range(len(lessons)):
            reservoir.put(_into(block, at), sweep.hidden(at))
        with _adapted(skeleton, block):
            yield

    sweep.enter()
    sweep.forward(keeping, passed)
    _turn(sweep, lessons)
    for block in reversed(skeleton.blocks):
        yield from _back(sweep, block, lessons, wanted)
        passed(block)


def _turn(sweep: Sweep, lessons: Sequence[Lesson]) -> None:
    """From here on the sweep carries not hidden states but the gradients of the losses with respect to them."""
    import torch

    with sweep.skeleton.filled(ENTRANCE, HEAD):
        for at, lesson in enumerate(lessons):
            hidden = sweep.hidden(at).detach().requires_grad_()
            logits = sweep.logits(at, hidden, lesson.batch.answer.shape[1] + 1)[:, :-1]
            (gradient,) = torch.autograd.grad(lesson.loss(logits), hidden)
            sweep.keep(at, gradient)


def _back(sweep: Sweep, block: str, lessons: Sequence[Lesson], wanted: Collection[str]) -> list[Sums]:
    import torch

    skeleton, reservoir = sweep.skeleton, sweep.reservoir
    with skeleton.filled(block), _adapted(skeleton, block) as factors:
        linears = [] if skeleton.lora else skeleton.linears(block)
        weights = factors | {each.tensor: skeleton.network.get_submodule(each.path).weight for each in linears}
        scored = {name: weight.requires_grad_() for name, weight in weights.items() if name in wanted}
        sums = [
            Sums(name, *(torch.zeros(weight.shape, device=weight.device) for _ in range(2)))
            for name, weight in scored.items()
        ]
        for at, lesson in enumerate(lessons):
            hidden = reservoir.get(_into(block, at)).to(skeleton.device).detach().requires_grad_()
            output = sweep.through(block, at, hidden)
            # An expert that no token was sent to has a gradient of zero.
            onward, *gradients = torch.autograd.grad(
                output, [hidden, *scored.values()], sweep.hidden(at), materialize_grads=True
            )
            sweep.keep(at, onward)
            reservoir.drop(_into(block, at))
            for each, gradient in zip(sums, gradients, strict=True):
                if lesson.squared:
                    each.squared.addcmul_(gradient.float(), gradient.float())
                else:
                    each.gradient.add_(gradient)
    return [Sums(each.tensor, each.gradient.cpu(), each.squared.cpu()) for each in sums]


def _adapted(skeleton: Skeleton, block: str) -> "AbstractContextManager[dict[str, torch.Tensor]]":
    """Within it, the block computes what its adapter adds. Yields the adapter's factors: none without one."""
    if skeleton.lora is None:
        return nullcontext({})
    return lora.beside(skeleton.network, skeleton.lora, block, skeleton.dtype, skeleton.device)


def _into(block: str, at: int) -> str:
    return f"{block}-{at}-into"
