"""The divergence of two models on given answers: perplexity and KL divergence. Runs in the sandbox process only."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from antidote_ci.checkpoint.files import display_name
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import Tensor, Tokenizer, loading, memory
from antidote_ci.model.conversations import NO_SETTINGS
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.likelihood import LogitsSource, encode_choices, open_logits
from antidote_ci.model.losses import token_divergence
from antidote_ci.paths import require_space
from antidote_ci.records import ChatSettings, Divergence, Model, OnProgress, Progress, PromptRow

BATCH_SIZE = 4
"""The logits of a few long answers over a large vocabulary already take much memory."""


@dataclass(frozen=True)
class DivergenceRequest:
    """`exchanges` are benign prompts with the answers of the model `before`."""

    before: Model
    after: Model
    exchanges: list[PromptRow]
    most_tokens: int = 2048
    """The number of answer tokens to compare."""
    chat: ChatSettings = NO_SETTINGS


def measure_divergence(request: DivergenceRequest, on_progress: OnProgress) -> Divergence | None:
    """Compare the two models at every token of the answers, with the template and the tokenizer of `before`.

    One model is in memory at a time, or one block if either model does not fit. The logits of the first are stored on
    disk in its own dtype, so they are exact, and the divergence of a model from itself is 0. Returns None when there is
    no answer to compare, or a figure is not finite. Raises ConfigurationError when the vocabularies differ,
    InfrastructureError when the disk has no room.
    """
    import torch
    from safetensors.torch import load_file, save_file

    _require_shared_vocabulary(request.before, request.after)
    tokenizer = loading.load_tokenizer(request.before)
    rows = encode_exchanges(tokenizer, request.exchanges, request.most_tokens, request.chat)
    if not rows:
        return None
    in_memory = all(map(memory.fits_in_memory, (request.before, request.after)))
    tokens = sum(len(answer) for _, answer in rows)
    # Sums of thousands of float32 terms.
    loss_before, loss_after, divergence = (torch.zeros((), dtype=torch.float64) for _ in range(3))
    with tempfile.TemporaryDirectory(prefix="antidote-logits-") as folder:
        source = open_logits(request.before, on_progress, in_memory=in_memory)
        for number, (logits, targets) in enumerate(_answer_logits(source, rows, on_progress, 0)):
            if number == 0:
                require_space(Path(folder), tokens * logits[0].nbytes, "TMPDIR")
            loss_before += _negative_log_likelihood(logits, targets)
            save_file({"logits": logits.cpu().contiguous()}, Path(folder) / f"{number}.safetensors")
        del source  # its network must be gone before the next one is loaded
        source = open_logits(request.after, on_progress, in_memory=in_memory)
        for number, (logits, targets) in enumerate(_answer_logits(source, rows, on_progress, len(rows))):
            loss_after += _negative_log_likelihood(logits, targets)
            logits_before = load_file(Path(folder) / f"{number}.safetensors")["logits"].to(logits.device)
            divergence += token_divergence(logits_before, logits).sum(dtype=torch.float64).cpu()
    result = Divergence(
        perplexity_before=float((loss_before / tokens).exp()),
        perplexity_after=float((loss_after / tokens).exp()),
        kl=float(divergence / tokens),
        tokens=tokens,
    )
    return result if all(map(isfinite, (result.perplexity_before, result.perplexity_after, result.kl))) else None


def encode_exchanges(
    tokenizer: Tokenizer, exchanges: Sequence[PromptRow], most_tokens: int, chat: ChatSettings = NO_SETTINGS
) -> list[TokenPair]:
    """The exchanges as token ids, up to `most_tokens` answer tokens in total; the last answer may be cut.

    They are taken in the order of the prompts' hashes: a file sorted by category would contribute its first categories
    alone.
    """
    ordered = sorted(exchanges, key=lambda row: hashlib.sha256(row.prompt.encode()).digest())
    rows: list[TokenPair] = []
    remaining = most_tokens
    for ((prompt, answer),) in encode_choices(tokenizer, [(row.prompt, [row.response]) for row in ordered], chat):
        if answer[:remaining]:
            rows.append((prompt, answer[:remaining]))
            remaining -= len(answer[:remaining])
    return rows


def _answer_logits(
    source: LogitsSource, rows: Sequence[TokenPair], on_progress: OnProgress, done: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits [tokens, vocabulary] and ids [tokens] of the answers in each batch. The batches are always equal."""
    import torch

    ordered = sorted(rows, key=lambda row: -len(row[0]) - len(row[1]))
    batches = [ordered[start : start + BATCH_SIZE] for start in range(0, len(ordered), BATCH_SIZE)]
    columns = [max(len(answer) for _, answer in batch) for batch in batches]
    inputs = [[[*prompt, *answer][:-1] for prompt, answer in batch] for batch in batches]
    for batch, count, logits in zip(batches, columns, source(inputs, columns), strict=True):
        answer_logits = [
            row_logits[count - len(answer) :] for row_logits, (_, answer) in zip(logits, batch, strict=True)
        ]
        targets = [token for _, answer in batch for token in answer]
        yield torch.cat(answer_logits), torch.tensor(targets, device=logits.device)
        done += len(batch)
        on_progress(Progress("answers compared", done, 2 * len(rows)))


def _negative_log_likelihood(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum of -log p(target) in nats, float64 on the CPU."""
    import torch

    log_probabilities = logits.float().log_softmax(dim=-1).gather(-1, targets.unsqueeze(-1))
    return -log_probabilities.sum(dtype=torch.float64).cpu()


def _require_shared_vocabulary(before: Model, after: Model) -> None:
    from transformers import AutoConfig

    size_before, size_after = (
        AutoConfig.from_pretrained(model.folder, local_files_only=True).get_text_config().vocab_size
        for model in (before, after)
    )
    if size_before != size_after:
        raise ConfigurationError(
            f"the vocabularies differ: {size_before} entries in {display_name(before.folder)}, {size_after} in "
            f"{display_name(after.folder)}",
            hint="compare a model with its own repair",
        )
