"""What the tests of streaming compare: logits block by block, and logits of a network that is whole."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from antidote_ci.model.streaming.activation_cache import ActivationCache
from antidote_ci.model.streaming.lora import attach_lora
from antidote_ci.model.streaming.meta_model import EMBEDDINGS_PART, HEAD_PART, MetaModel
from antidote_ci.model.streaming.sequential_forward import Inputs, SequentialForward

COLUMNS = 5
LARGE = 1 << 30
"""Bytes: nothing of a tiny model is spilled."""


def streamed_logits(
    meta_model: MetaModel, batches: list[Inputs], scratch: Path, budget: int = LARGE
) -> list[torch.Tensor]:
    """Of the last tokens of each batch, with at most one part and its adapter in memory."""

    def adapted(block: str) -> Any:  # noqa: ANN401
        if meta_model.lora is None:
            return nullcontext()
        return attach_lora(meta_model.network, meta_model.lora, block, meta_model.dtype, meta_model.device)

    sweep = SequentialForward(meta_model, ActivationCache(scratch, budget), batches, "test")
    sweep.embed()
    sweep.run_blocks(adapted, lambda _block: None)
    with meta_model.load_weights(EMBEDDINGS_PART, HEAD_PART), torch.no_grad():
        return [sweep.logits(at, sweep.get_hidden(at), COLUMNS) for at in range(len(batches))]


def plain_logits(network: Any, batches: list[Inputs]) -> list[torch.Tensor]:  # noqa: ANN401
    """The same from a network of transformers, or one that peft has wrapped."""
    with torch.no_grad():
        return [network(**batch, use_cache=False, logits_to_keep=COLUMNS).logits for batch in batches]


def equal(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))
