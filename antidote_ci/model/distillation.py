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
from antidote_ci.model.decoding import Continued
from antidote_ci.model.gradients import Batch, Lesson, Sums, answer_logits, batches, gradient_sums
from antidote_ci.model.streaming.activation_cache import Reservoir
from antidote_ci.model.streaming.meta_model import Skeleton
from antidote_ci.records import OnProgress, Progress

if TYPE_CHECKING:
    import torch

BACKWARD = 3
"""What a batch costs on its way back through a layer, in ways forth: it is computed again, then differentiated."""


@dataclass(frozen=True)
class Curriculum:
    """Prompts with the beginnings of answers."""

    taught: Sequence[Continued]
    """With the teacher's answers: KL(teacher || pupil) is to fall."""
    averted: Sequence[Continued]
    """With answers that are not to come: log p of them is to fall, `aversion` times as much."""
    aversion: float
    kept: Sequence[Continued]
    """With the pupil's own answers, which are to stay."""


def taught_sums(
    teacher: Skeleton,
    pupil: Skeleton,
    curriculum: Curriculum,
    wanted: Collection[str],
    scratch: Path,
    budget: int,
    report: OnProgress,
) -> Iterator[Sums]:
    """Of each tensor the mean gradient of what is to fall, and the diagonal Fisher on what is kept.

    Up to `budget` bytes of hidden states stay in memory; what is beyond them is in `scratch`, whose owner removes it.
    """
    import torch

    towards, away, useful = (
        batches(rows, pupil.device) for rows in (curriculum.taught, curriculum.averted, curriculum.kept)
    )
    lots = len(towards) + len(away) + len(useful)
    costs = [len(towards)] * len(teacher.blocks) + [lots] * len(pupil.blocks) + [BACKWARD * lots] * len(pupil.blocks)
    spent = accumulate(costs)

    def passed(_block: str) -> None:
        report(Progress("batches through layers", next(spent), sum(costs)))

    answers = Reservoir(scratch / "answers", 0)  # each is needed once, and much later
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        for at, logits in enumerate(answer_logits(teacher, Reservoir(Path(name), budget), towards, passed)):
            answers.put(str(at), logits)
    labels = torch.Generator().manual_seed(0)

    def divergence(at: int, logits: "torch.Tensor") -> "torch.Tensor":
        answer = answers.get(str(at)).to(pupil.device)
        return losses.towards_teacher(logits, answer, towards[at].answer) / len(curriculum.taught)

    def averse(batch: Batch, logits: "torch.Tensor") -> "torch.Tensor":
        given = batch.tokens["input_ids"][:, -batch.answer.shape[1] :]
        return losses.given_answers(logits, given, batch.answer) * curriculum.aversion / len(curriculum.averted)

    def likelihood(batch: Batch, logits: "torch.Tensor") -> "torch.Tensor":
        # It is the square of its gradient that is a mean over rows.
        return losses.own_labels(logits, batch.answer, labels) / math.sqrt(len(curriculum.kept))

    lessons = [
        *(Lesson(batch, partial(divergence, at), squared=False) for at, batch in enumerate(towards)),
        *(Lesson(batch, partial(averse, batch), squared=False) for batch in away),
        *(Lesson(batch, partial(likelihood, batch), squared=True) for batch in useful),
    ]
    return gradient_sums(pupil, Reservoir(scratch / "hidden", budget), lessons, wanted, passed)
