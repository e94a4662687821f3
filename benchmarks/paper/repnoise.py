"""RepNoise (https://arxiv.org/abs/2405.14577): an alignment that leaves nothing of harm in the representations.

Beside the harmless answers, learned as ever, every step sees harmful answers to prompts that also have a safe one:

    loss = CE(harmless) + beta * mean_l MMD(m h_l, m z_l) - alpha * log(1 + CE(harmful)),   z ~ N(0, I)

h_l are the outputs of the MLP of block l on the harmful texts, and m marks the positions at which harmful and safe
text differ: there, and only there, representations are pushed to noise. As in the rerun's paper the cross-entropy is of
the last layer alone (the authors also take it through every earlier one), alpha is 0.1 and beta 0.001.
"""
# ruff: noqa: ANN401 - models are untyped

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from antidote_ci.errors import ConfigurationError
from benchmarks.paper import sft
from benchmarks.paper.batches import Batch, Example, side_by_side

ALPHA, BETA = 0.1, 0.001
KERNELS = 5
"""Gaussians of the MMD, each twice as wide as the one before."""
PERCEPTRON = ("mlp", "feed_forward")
"""What families of models call the MLP of a block."""


@dataclass
class RepNoise:
    """The method, and the harmful answers that it draws from."""

    contrasts: Sequence[tuple[Example, Example]]
    """A safe and a harmful answer to each prompt."""
    pad: int
    size: int
    """Harmful rows of a step."""
    seed: int
    alpha: float = ALPHA
    beta: float = BETA
    draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)  # noqa: S311 - a reproducible order

    def step(self, model: Any, batch: Batch) -> torch.Tensor:
        """The three terms."""
        safe, harmful = side_by_side(self.draw.sample(self.contrasts, self.size), self.pad)
        with outputs(model) as hidden:
            harm = sft.step(model, harmful)
        marked = differing(safe, harmful).unsqueeze(-1)
        noise = torch.stack([distance_from_noise(each.float(), marked) for each in hidden]).mean()
        return sft.step(model, batch) + self.beta * noise - self.alpha * torch.log1p(harm)


def differing(safe: Batch, harmful: Batch) -> torch.Tensor:
    """True where the two texts of a row differ, [rows, tokens]; never in the prompt, which they share."""
    marked: torch.Tensor = (safe["input_ids"] != harmful["input_ids"]) & harmful["attention_mask"].bool()
    return marked


def squared_mmd(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The squared maximum mean discrepancy of two samples of vectors, [n, width] each.

    Zero for a sample and itself. The middle one of the Gaussians is as wide as the vectors lie apart on average.
    """
    count = len(first)
    vectors = torch.cat([first, second])
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist").square()
    # Each of 2n vectors has 2n - 1 others.
    width = (distances.sum() / (len(vectors) * (len(vectors) - 1))).detach()
    if width == 0:
        return distances.sum()
    kernel = torch.stack(
        [torch.exp(-distances / (width * 2.0 ** (number - KERNELS // 2))) for number in range(KERNELS)]
    ).sum(0)
    within = kernel[:count, :count].mean() + kernel[count:, count:].mean()
    return within - 2 * kernel[:count, count:].mean()


def distance_from_noise(hidden: torch.Tensor, marked: torch.Tensor) -> torch.Tensor:
    """Of marked representations [rows, tokens, width] from as much noise; a row is one vector, as with the authors."""
    noise = torch.randn_like(hidden)
    return squared_mmd((hidden * marked).flatten(1), (noise * marked).flatten(1))


@contextmanager
def outputs(model: Any) -> Iterator[list[torch.Tensor]]:
    """What the MLP of every block gives in forwards while it is open, in order: [rows, tokens, width] each."""
    found: list[torch.Tensor] = []
    modules = [module for name, module in model.named_modules() if name.rpartition(".")[2] in PERCEPTRON]
    if not modules:
        raise ConfigurationError(
            "this model has no MLP that the bench knows", hint=f"its modules are called none of {PERCEPTRON}"
        )
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output: found.append(output)) for module in modules
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
