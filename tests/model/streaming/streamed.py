"""Logits computed block by block, and by a network that is in memory as a whole."""

from pathlib import Path

import torch

from antidote_ci.model import Network
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.model.streaming.sequential_forward import ActivationCache, Inputs, stream_last_logits

COLUMNS = 5
LARGE = 1 << 30
"""Bytes: nothing of a tiny model is written to disk."""


def streamed_logits(
    meta_model: MetaModel, batches: list[Inputs], scratch: Path, budget: int = LARGE
) -> list[torch.Tensor]:
    """Logits at the last tokens of each batch, with at most one part and its adapter in memory."""
    cache = ActivationCache(scratch, budget)
    return list(stream_last_logits(meta_model, cache, batches, [COLUMNS] * len(batches), lambda _block: None))


def plain_logits(network: Network, batches: list[Inputs]) -> list[torch.Tensor]:
    """The same from a network of transformers or peft."""
    with torch.no_grad():
        return [network(**batch, use_cache=False, logits_to_keep=COLUMNS).logits for batch in batches]


def equal(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(first, second) for first, second in zip(actual, expected, strict=True))
