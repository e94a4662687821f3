"""The ceiling: a few steps of fine-tuning with two teachers, which can move every factor freely.

The loss is KL(reference || model) on harmful prompts, KL(fine-tune || model) on harmless prompts and on the task.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional

from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.gradients import AnswerBatch, pad_rows
from antidote_ci.model.losses import distillation_loss
from benchmarks.repair.networks import EditableModel, Factors


@dataclass(frozen=True)
class Teacher:
    """A set of prompts with the teacher's answers."""

    pairs: Sequence[TokenPair]
    of_reference: bool
    """The teacher is the reference, otherwise the fine-tune."""
    rows: int
    """Prompts in a step."""


class TwoTeacherTuning:
    """A fine-tuning of the factors that goes on where it stopped. Adam, with the mean loss of each set."""

    def __init__(self, model: EditableModel, teachers: Sequence[Teacher], rate: float = 1e-4, seed: int = 0) -> None:
        """Compute the teachers' logits. The factors are float32, the network has its own dtype."""
        draw = random.Random(seed)  # noqa: S311 - a reproducible order, no secret
        self._model, self._teachers, self._steps = model, teachers, 0
        self._logits = [_teacher_logits(model, teacher) for teacher in teachers]
        self._orders = [_cycle(draw, len(teacher.pairs)) for teacher in teachers]
        self._master = {path: (layer.a.clone(), layer.b.clone()) for path, layer in model.factors.items()}
        self._flat = [factor for pair in self._master.values() for factor in pair]
        self._optimizer = torch.optim.Adam(self._flat, lr=rate)

    def advance(self, steps: int) -> dict[str, Factors]:
        """The factors after a number of steps in all, which is not below that of an earlier call."""
        with _trainable_factors(self._model, self._master) as trained:
            while self._steps < steps:
                for factor, total in zip(self._flat, self._sum_gradients(trained), strict=True):
                    factor.grad = total
                torch.nn.utils.clip_grad_norm_(self._flat, 1.0)
                self._optimizer.step()
                with torch.no_grad():
                    for factor, source in zip(trained, self._flat, strict=True):
                        factor.copy_(source)
                self._steps += 1
        scalings = {path: layer.scaling for path, layer in self._model.factors.items()}
        return {path: Factors(a.clone(), b.clone(), scalings[path]) for path, (a, b) in self._master.items()}

    def _sum_gradients(self, trained: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The gradients of a step, float32: the sum over the teachers of the mean over their rows."""
        totals = [torch.zeros_like(factor) for factor in self._flat]
        for teacher, logits, order in zip(self._teachers, self._logits, self._orders, strict=True):
            drawn = [next(order) for _ in range(teacher.rows)]
            batch = pad_rows([teacher.pairs[row] for row in drawn], "cpu")
            target = _align_right([logits[row] for row in drawn])
            loss = distillation_loss(_forward(self._model, batch), target, batch.answer)
            for total, gradient in zip(totals, torch.autograd.grad(loss, trained), strict=True):
                total.add_(gradient.float(), alpha=1 / len(drawn))
        return totals


def _teacher_logits(model: EditableModel, teacher: Teacher) -> list[torch.Tensor]:
    """The teacher's logits [tokens of the answer, vocabulary] on each row."""
    if teacher.of_reference:
        model.use_reference()
    else:
        model.use_factors(model.factors)
    with torch.no_grad():
        return [_forward(model, pad_rows([pair], "cpu"))[0].clone() for pair in teacher.pairs]


def _align_right(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """[rows, tokens of the longest answer, vocabulary], as `AnswerBatch` has the answers."""
    longest = max(len(row) for row in rows)
    return torch.stack([functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])


def _cycle(draw: random.Random, count: int) -> Iterator[int]:
    """Positions in a new random order each round."""
    while True:
        yield from draw.sample(range(count), count)


@contextmanager
def _trainable_factors(
    model: EditableModel, master: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
) -> Iterator[list[torch.Tensor]]:
    """Copies of the factors in the order of `master` that require gradients and are added to the reference's layers."""
    model.use_reference()
    handles, trained = [], list[torch.Tensor]()
    for path, layer in model.factors.items():
        a, b = (factor.to(model.network.dtype, copy=True).requires_grad_() for factor in master[path])
        trained += [a, b]

        def add(
            _module: object,
            inputs: tuple[torch.Tensor, ...],
            output: torch.Tensor,
            a: torch.Tensor = a,
            b: torch.Tensor = b,
            scaling: float = layer.scaling,
        ) -> torch.Tensor:
            return output + functional.linear(functional.linear(inputs[0], a), b) * scaling

        handles.append(model.network.get_submodule(path).register_forward_hook(add))
    for parameter in model.network.parameters():
        parameter.requires_grad_(False)
    try:
        yield trained
    finally:
        for handle in handles:
            handle.remove()


def _forward(model: EditableModel, batch: AnswerBatch) -> torch.Tensor:
    """The logits that predict the answers."""
    return batch.arrange(model.network(**batch.tokens, use_cache=False, logits_to_keep=batch.logits_to_keep).logits)
