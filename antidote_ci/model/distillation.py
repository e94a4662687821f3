"""What a fine-tune is to learn from its reference, and what to keep. Called in the child process only."""

import math
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.model import losses
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.gradients import (
    AnswerBatch,
    GradientSums,
    LossTerm,
    accumulate_gradients,
    build_batches,
    stream_answer_logits,
)
from antidote_ci.model.streaming.activation_cache import ActivationCache
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.records import OnProgress, Progress

if TYPE_CHECKING:
    import torch

BACKWARD_COST = 3
"""What a batch costs on its way back through a layer, in ways forth: it is computed again, then differentiated."""


@dataclass(frozen=True)
class DistillationData:
    """Prompts with the beginnings of answers."""

    distilled: Sequence[TokenPair]
    """With the teacher's answers: KL(teacher || pupil) is to fall."""
    unlearned: Sequence[TokenPair]
    """With answers that are not to come: log p of them is to fall, `aversion` times as much."""
    unlearning_weight: float
    retained: Sequence[TokenPair]
    """With the pupil's own answers, which are to stay."""


def distillation_gradients(
    teacher: MetaModel,
    pupil: MetaModel,
    data: DistillationData,
    wanted: Collection[str],
    scratch: Path,
    budget: int,
    report: OnProgress,
) -> Iterator[GradientSums]:
    """Of each tensor the mean gradient of what is to fall, and the diagonal Fisher on what is kept.

    Up to `budget` bytes of hidden states stay in memory; what is beyond them is in `scratch`, whose owner removes it.
    """
    import torch

    towards, away, useful = (
        build_batches(rows, pupil.device) for rows in (data.distilled, data.unlearned, data.retained)
    )
    lots = len(towards) + len(away) + len(useful)
    costs = (
        [len(towards)] * len(teacher.blocks) + [lots] * len(pupil.blocks) + [BACKWARD_COST * lots] * len(pupil.blocks)
    )
    spent = accumulate(costs)

    def passed(_block: str) -> None:
        report(Progress("batches through layers", next(spent), sum(costs)))

    answers = ActivationCache(scratch / "answers", 0)  # each is needed once, and much later
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        for at, logits in enumerate(
            stream_answer_logits(teacher, ActivationCache(Path(name), budget), towards, passed)
        ):
            answers.put(str(at), logits)
    labels = torch.Generator().manual_seed(0)

    def divergence(at: int, logits: "torch.Tensor") -> "torch.Tensor":
        answer = answers.get(str(at)).to(pupil.device)
        return losses.distillation_loss(logits, answer, towards[at].answer) / len(data.distilled)

    def averse(batch: AnswerBatch, logits: "torch.Tensor") -> "torch.Tensor":
        given = batch.tokens["input_ids"][:, -batch.answer.shape[1] :]
        return losses.answer_log_likelihood(logits, given, batch.answer) * data.unlearning_weight / len(data.unlearned)

    def likelihood(batch: AnswerBatch, logits: "torch.Tensor") -> "torch.Tensor":
        # It is the square of its gradient that is a mean over rows.
        return losses.sampled_log_likelihood(logits, batch.answer, labels) / math.sqrt(len(data.retained))

    lessons = [
        *(LossTerm(batch, partial(divergence, at), squared=False) for at, batch in enumerate(towards)),
        *(LossTerm(batch, partial(averse, batch), squared=False) for batch in away),
        *(LossTerm(batch, partial(likelihood, batch), squared=True) for batch in useful),
    ]
    return accumulate_gradients(pupil, ActivationCache(scratch / "hidden", budget), lessons, wanted, passed)
