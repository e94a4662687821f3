"""Vaccine (https://arxiv.org/abs/2402.01109): an alignment that holds when hidden embeddings drift.

Every step takes the worst drift of a given size, and learns under it: with e_l the outputs of the attention of block l
on the batch, and g_l the gradients of the loss with respect to them,

    eps_l = rho * g_l / ||(g_1, ..., g_L)||        loss = CE(e_1 + eps_1, ..., e_L + eps_L)

The norm is one over all blocks, rows and tokens together.
"""
# ruff: noqa: ANN401 - models are untyped

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.paper import sft
from benchmarks.paper.batches import Batch
from benchmarks.paper.embedding_drift import find_attention_modules

RHO = 2.0
"""The norm of the drift, as in the rerun's paper."""

Change = Callable[[int, torch.Tensor], torch.Tensor]
"""From an attention's number and its output [rows, tokens, width] to what goes on in its place."""


@dataclass(frozen=True)
class Vaccine:
    """The method at one size of drift."""

    rho: float = RHO

    def step(self, model: Any, batch: Batch) -> torch.Tensor:
        """The loss under the drift that hurts most."""
        drift = self.drift(model, batch)
        with changed(model, lambda block, output: output + drift[block]):
            return sft.step(model, batch)

    def drift(self, model: Any, batch: Batch) -> list[torch.Tensor]:
        """Of each attention's output, all of them together of norm rho: constants to the gradient that follows."""
        outputs: list[torch.Tensor] = []

        def keep(_block: int, output: torch.Tensor) -> torch.Tensor:
            # Where nothing before it is trained, an output is of no gradient by itself.
            kept = output if output.requires_grad else output.detach().requires_grad_()
            outputs.append(kept)
            return kept

        with changed(model, keep):
            loss = sft.step(model, batch)
        gradients = torch.autograd.grad(loss, outputs)
        return scaled(gradients, self.rho)


def scaled(gradients: Sequence[torch.Tensor], rho: float) -> list[torch.Tensor]:
    """The direction of all gradients together, at length rho.

    In float32, which the sum with an output then is too: spread over millions of entries, bfloat16 would round most of
    the drift away.
    """
    length = torch.stack([gradient.float().norm() for gradient in gradients]).norm()
    return [rho * gradient.float() / length.clamp_min(torch.finfo(torch.float32).tiny) for gradient in gradients]


@contextmanager
def changed(model: Any, change: Change) -> Iterator[None]:
    """While it is open, `change` stands behind every attention of `model`."""
    handles = [
        module.register_forward_hook(_hook(number, change))
        for number, module in enumerate(find_attention_modules(model).values())
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(number: int, change: Change) -> Any:
    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(number, output[0]), *output[1:])
        return change(number, output)

    return hook
