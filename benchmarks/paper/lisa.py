"""Lisa (https://arxiv.org/abs/2405.18641): a fine-tuning that goes back to alignment rows again and again.

Two states take turns, K1 steps on alignment rows and K2 on the user's. With v the weights at which the state was
entered, which are where the other one has left off,

    loss = CE + rho / 2 * ||w - v||^2

over everything that is trained, so that neither state runs away from the other. The user's batches go by while the
first state lasts: a training has as many steps as one without it. The authors leave the term away in the first tenth
of a training, to learn the task faster; their paper does not, and neither does this.
"""
# ruff: noqa: ANN401 - models are untyped

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.paper import sft
from benchmarks.paper.batches import Batch

RHO = 1.0
"""As in the rerun's paper for SST-2."""
ALIGNMENT_STEPS, USER_STEPS = 2, 18
"""K1 and K2: in the proportion of the rerun's 100 and 900, for trainings of some sixty steps instead of 20,000."""


@dataclass
class Lisa:
    """The method; it counts its own steps."""

    alignment: Iterator[Batch]
    """Batches without end."""
    rho: float = RHO
    alignment_steps: int = ALIGNMENT_STEPS
    user_steps: int = USER_STEPS
    done: int = 0
    entered: list[torch.Tensor] = field(default_factory=list)
    """The trained weights at the last switch."""

    def step(self, model: Any, batch: Batch) -> torch.Tensor:
        """The loss in the state whose turn it is."""
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if self.switches:
            self.entered = [parameter.detach().clone() for parameter in trained]
        chosen = next(self.alignment) if self.aligning else batch
        self.done += 1
        return sft.step(model, chosen) + proximal(trained, self.entered, self.rho)

    @property
    def aligning(self) -> bool:
        """Whether the next step is one on alignment rows."""
        return self.done % (self.alignment_steps + self.user_steps) < self.alignment_steps

    @property
    def switches(self) -> bool:
        """Whether the next step is the first one of its state."""
        return self.done % (self.alignment_steps + self.user_steps) in (0, self.alignment_steps)


def proximal(weights: Sequence[torch.Tensor], entered: Sequence[torch.Tensor], rho: float) -> torch.Tensor:
    """rho / 2 * ||w - v||^2."""
    terms = [(weight - before).square().sum() for weight, before in zip(weights, entered, strict=True)]
    return rho / 2 * torch.stack(terms).sum()
