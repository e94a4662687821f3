"""The gradients of `taylor`, block by block, against plain autograd on a model that is whole in memory."""

from functools import partial
from typing import Any

import torch

from antidote_ci.model import gradients, loading, losses
from antidote_ci.model.distillation import ANSWER_TOKENS
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.model.streaming.sequential_forward import ActivationCache
from antidote_ci.records import Model
from benchmarks.speed.paired import Line, ratios, turns
from benchmarks.speed.procedure import BUDGET
from benchmarks.speed.scoring import moved_pair, opened, token_ids

ROWS = 64


def run(count: int) -> list[Line]:
    """One line. Both sides take the same batches: half of them towards a teacher, half of them squared."""
    device, dtype = loading.select_device_and_dtype()
    with moved_pair() as (folder, base, moved):
        rows = [(ids[:-ANSWER_TOKENS], ids[-ANSWER_TOKENS:]) for ids in token_ids(base, ROWS)]
        skeleton = MetaModel(Model(moved), dtype, device)
        batches = gradients.build_batches(rows, skeleton)
        reference, network = opened(base, dtype), opened(moved, dtype)
        with torch.no_grad():
            teachers = [logits_of(reference, batch) for batch in batches]
        del reference
        lessons = [lesson(batch, teachers[at], squared=at % 2 == 1) for at, batch in enumerate(batches)]
        wanted = {linear.tensor for block in skeleton.blocks for linear in skeleton.linear_layers(block)}

        def streamed() -> None:
            for _ in gradients.accumulate_gradients(
                skeleton, ActivationCache(folder / "hidden", BUDGET), lessons, wanted, lambda _block: None
            ):
                continue

        times = turns(count, streamed, lambda: in_memory(network, lessons, wanted))
    return [Line("gradients, streamed / in memory", ratios(*times), "<=", 1.0)]


def lesson(batch: gradients.AnswerBatch, teacher: torch.Tensor, *, squared: bool) -> gradients.LossTerm:
    """Towards the teacher, or at the model's own labels."""
    if not squared:
        return gradients.LossTerm(
            batch, lambda logits: losses.distillation_loss(logits, teacher, batch.answer), squared=False
        )
    labels = torch.Generator().manual_seed(0)
    return gradients.LossTerm(
        batch, partial(losses.sampled_log_likelihood, answer=batch.answer, generator=labels), squared=True
    )


def logits_of(network: Any, batch: gradients.AnswerBatch) -> torch.Tensor:  # noqa: ANN401 - transformers is untyped
    """What predicts the answers."""
    return batch.arrange(network(**batch.tokens, use_cache=False, logits_to_keep=batch.logits_to_keep).logits)


def in_memory(network: Any, lessons: list[gradients.LossTerm], wanted: set[str]) -> dict[str, torch.Tensor]:  # noqa: ANN401
    """Float32 sums of every gradient, or of its square."""
    parameters = {name: each for name, each in network.named_parameters() if name in wanted}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in wanted)
    plain = {name: torch.zeros(each.shape) for name, each in parameters.items()}
    squared = {name: torch.zeros(each.shape) for name, each in parameters.items()}
    for each in lessons:
        found = torch.autograd.grad(each.loss(logits_of(network, each.batch)), list(parameters.values()))
        for name, gradient in zip(parameters, found, strict=True):
            if each.squared:
                squared[name].addcmul_(gradient.float(), gradient.float())
            else:
                plain[name].add_(gradient)
    return plain
