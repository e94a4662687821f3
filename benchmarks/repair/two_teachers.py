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
class Tuning:
    """The settings of the fine-tuning."""

    steps: int = 40
    rate: float = 1e-4
    harmful: int = 12
    """Prompts of each set in a step."""
    harmless: int = 6
    task: int = 6


def tune(
    model: EditableModel,
    teachers: Mapping[str, tuple[Sequence[TokenPair], bool]],
    tuning: Tuning,
    seed: int = 0,
) -> dict[str, Factors]:
    """Return the tuned factors. `teachers` maps `harmful`, `harmless` and `task` to prompts with the teacher's answers,
    and whether the teacher is the reference.
    """
    draw = random.Random(seed)  # noqa: S311 - a reproducible order, no secret
    logits = {name: _teacher_logits(model, pairs, of_reference) for name, (pairs, of_reference) in teachers.items()}
    sizes = {"harmful": tuning.harmful, "harmless": tuning.harmless, "task": tuning.task}
    orders = {name: _cycle(draw, len(logits[name])) for name in teachers}
    master = {path: (layer.a.clone(), layer.b.clone()) for path, layer in model.factors.items()}
    flat = [factor for pair in master.values() for factor in pair]
    optimizer = torch.optim.Adam(flat, lr=tuning.rate)
    with _trainable_factors(model) as parameters:
        trained = [factor for pair in parameters.values() for factor in pair]
        for _step in range(tuning.steps):
            totals = [torch.zeros_like(factor) for factor in flat]
            for name, (pairs, _) in teachers.items():
                drawn = [next(orders[name]) for _ in range(sizes[name])]
                batch = pad_rows([pairs[row] for row in drawn], "cpu")
                target = _align_right([logits[name][row] for row in drawn])
                loss = distillation_loss(_forward(model, batch), target, batch.answer)
                for total, gradient in zip(totals, torch.autograd.grad(loss, trained), strict=True):
                    total.add_(gradient.float(), alpha=1 / len(drawn))
            for factor, total in zip(flat, totals, strict=True):
                factor.grad = total
            torch.nn.utils.clip_grad_norm_(flat, 1.0)
            optimizer.step()
            with torch.no_grad():
                for factor, source in zip(trained, flat, strict=True):
                    factor.copy_(source)
    return {path: Factors(a, b, model.factors[path].scaling) for path, (a, b) in master.items()}


def _teacher_logits(model: EditableModel, pairs: Sequence[TokenPair], of_reference: bool) -> list[torch.Tensor]:
    """The teacher's logits [tokens of the answer, vocabulary] on each row."""
    if of_reference:
        model.use_reference()
    else:
        model.use_factors(model.factors)
    with torch.no_grad():
        return [_forward(model, pad_rows([pair], "cpu"))[0].clone() for pair in pairs]


def _align_right(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """[rows, tokens of the longest answer, vocabulary], as `AnswerBatch` has the answers."""
    longest = max(len(row) for row in rows)
    return torch.stack([functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])


def _cycle(draw: random.Random, count: int) -> Iterator[int]:
    """Positions in a new random order each round."""
    while True:
        yield from draw.sample(range(count), count)


@contextmanager
def _trainable_factors(model: EditableModel) -> Iterator[dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Factors that require gradients, added to the reference's layers; the network's weights are the reference's."""
    model.use_reference()
    handles, parameters = [], {}
    for path, layer in model.factors.items():
        a, b = (factor.to(model.network.dtype).requires_grad_() for factor in (layer.a, layer.b))
        parameters[path] = (a, b)

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
        yield parameters
    finally:
        for handle in handles:
            handle.remove()


def _forward(model: EditableModel, batch: AnswerBatch) -> torch.Tensor:
    """The logits that predict the answers."""
    return batch.arrange(model.network(**batch.tokens, use_cache=False, logits_to_keep=batch.logits_to_keep).logits)
