"""LDIFS (https://arxiv.org/abs/2308.13320): a fine-tuning whose features stay near those of the model it began with.

    loss = CE + weight * mean_l || f_l / |f_l| - f0_l / |f0_l| ||^2

f_l is what the MLP of block l gives for one token of the user's batch, and f0_l what it gave before; the distance is
the mean over tokens. Its paper has one feature an image where this has one a token. The rerun's code does not
normalise, takes the sum over tokens (times 5e-5), and drops the term of a layer once it exceeds 0.1; with that, it
reports, tasks are hardly learned at all.
"""
# ruff: noqa: ANN401 - models are untyped

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import normalize

from benchmarks.paper import sft
from benchmarks.paper.batches import Batch
from benchmarks.paper.repnoise import outputs

WEIGHT = 10.0
"""As in the method's paper."""


@dataclass(frozen=True)
class Ldifs:
    """The method. `model` must be a PEFT one: without its adapter it is the model before."""

    weight: float = WEIGHT

    def step(self, model: Any, batch: Batch) -> torch.Tensor:
        """The loss with the distance from the model before."""
        # Of this pass the MLPs alone are wanted, neither a loss nor every token's logits.
        unanswered = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        with torch.no_grad(), model.disable_adapter(), outputs(model) as before:
            model(**unanswered, logits_to_keep=1, use_cache=False)
        with outputs(model) as now:
            loss = sft.step(model, batch)
        return loss + self.weight * distance(now, before, batch["attention_mask"])


def distance(now: Sequence[torch.Tensor], before: Sequence[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """The mean over blocks and the tokens that `mask`, [rows, tokens], marks."""
    marked = mask.bool()
    return torch.stack(
        [_moved(one[marked], other[marked]) for one, other in zip(now, before, strict=True)],
    ).mean()


def _moved(now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    return (normalize(now.float(), dim=-1) - normalize(before.float(), dim=-1)).square().sum(-1).mean()
