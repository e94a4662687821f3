"""Supervised fine-tuning (https://arxiv.org/abs/2203.02155): what every method here adds something to.

The mean cross-entropy of the answers' tokens; prompts carry no loss.
"""
# ruff: noqa: ANN401 - models are untyped

from typing import Any

import torch

from benchmarks.paper.batches import Batch


def step(model: Any, batch: Batch) -> torch.Tensor:
    """The loss, in nats a token."""
    loss: torch.Tensor = model(**batch, use_cache=False).loss
    return loss
