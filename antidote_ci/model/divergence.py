"""How far a repair moved a model's language: perplexity and KL divergence on the answers that the input model gave."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antidote_ci.checkpoint.files import display_name
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import loading
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.likelihood import compute_last_logits, encode_choices
from antidote_ci.paths import require_space
from antidote_ci.records import Divergence, Model, OnProgress, Progress, PromptRow

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 4
"""Answers at a time: the logits of long answers over a large vocabulary are what takes memory here."""


@dataclass(frozen=True)
class DivergenceRequest:
    """`exchanges` pair harmless prompts with the answers that `before` gave."""

    before: Model
    after: Model
    exchanges: list[PromptRow]
    most_tokens: int = 2048
    """Answer tokens compared."""


def measure_divergence(request: DivergenceRequest, report: OnProgress) -> Divergence | None:
    """Compare the two models at every token of the answers, in the template and token ids of `before`.

    One model is in memory at a time: the logits of the first wait on disk, in its own precision, so that nothing is
    lost and a model against itself has a divergence of exactly 0. None when there is no answer to compare, or a model
    computes no finite figure. Raises ConfigurationError when the vocabularies differ.
    """
    import torch
    from safetensors.torch import load_file, save_file

    _require_shared_vocabulary(request.before, request.after)
    tokenizer = loading.load_tokenizer(request.before)
    rows = encode_exchanges(tokenizer, request.exchanges, request.most_tokens)
    if not rows:
        return None
    tokens = sum(len(answer) for _, answer in rows)
    # Sums of thousands of terms; a term is a float32.
    before, after, apart = (torch.zeros((), dtype=torch.float64) for _ in range(3))
    with tempfile.TemporaryDirectory(prefix="antidote-logits-") as folder:
        for number, (logits, targets) in enumerate(_answer_logits(request.before, tokenizer, rows, report, 0)):
            if number == 0:
                require_space(Path(folder), tokens * logits[0].nbytes, "TMPDIR")
            before += _negative_log_likelihood(logits, targets)
            save_file({"logits": logits.cpu().contiguous()}, Path(folder) / f"{number}.safetensors")
        for number, (logits, targets) in enumerate(_answer_logits(request.after, tokenizer, rows, report, len(rows))):
            after += _negative_log_likelihood(logits, targets)
            kept = load_file(Path(folder) / f"{number}.safetensors")["logits"].to(logits.device)
            apart += token_divergence(kept, logits).sum(dtype=torch.float64).cpu()
    found = Divergence(
        perplexity_before=float((before / tokens).exp()),
        perplexity_after=float((after / tokens).exp()),
        kl=float(apart / tokens),
        tokens=tokens,
    )
    finite = all(map(isfinite, (found.perplexity_before, found.perplexity_after, found.kl)))
    return found if finite else None


def token_divergence(before: "torch.Tensor", after: "torch.Tensor") -> "torch.Tensor":
    """KL(before || after) in nats, float32 [tokens], from two sets of logits [tokens, vocabulary].

    The sum over the whole vocabulary of p log(p / q); what has no probability before adds nothing.
    https://en.wikipedia.org/wiki/Kullback-Leibler_divergence
    """
    p, q = before.float().log_softmax(dim=-1), after.float().log_softmax(dim=-1)
    share = p.exp()
    terms = (share * (p - q)).masked_fill_(share == 0, 0.0)
    # Never negative; rounding can make it so.
    return terms.sum(dim=-1).clamp(min=0.0)


def encode_exchanges(tokenizer: Any, exchanges: Sequence[PromptRow], most_tokens: int) -> list[TokenPair]:  # noqa: ANN401
    """The exchanges as token ids, until the answers hold `most_tokens` together; the last may be cut.

    Taken in the order of the prompts' hashes: a file sorted by category would give its first categories alone.
    """
    ordered = sorted(exchanges, key=lambda row: hashlib.sha256(row.prompt.encode()).digest())
    rows: list[TokenPair] = []
    left = most_tokens
    for ((prompt, answer),) in encode_choices(tokenizer, [(row.prompt, [row.response]) for row in ordered]):
        if answer[:left]:
            rows.append((prompt, answer[:left]))
            left -= len(answer[:left])
    return rows


def _answer_logits(
    model: Model,
    tokenizer: Any,  # noqa: ANN401 - transformers is untyped
    rows: Sequence[TokenPair],
    report: OnProgress,
    done: int,
) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
    """Logits [tokens, vocabulary] and ids [tokens] of the answers, batch by batch, always in the same batches."""
    import torch

    network = loading.load_cached_model(model)
    ordered = sorted(rows, key=lambda row: -len(row[0]) - len(row[1]))
    for start in range(0, len(ordered), BATCH_SIZE):
        batch = ordered[start : start + BATCH_SIZE]
        columns = max(len(answer) for _, answer in batch)
        with torch.inference_mode():
            logits = compute_last_logits(
                network, tokenizer, [[*prompt, *answer][:-1] for prompt, answer in batch], columns
            )
        of_answers = [of_row[columns - len(answer) :] for of_row, (_, answer) in zip(logits, batch, strict=True)]
        targets = [token for _, answer in batch for token in answer]
        yield torch.cat(of_answers), torch.tensor(targets, device=logits.device)
        report(Progress("answers compared", done + start + len(batch), 2 * len(rows)))


def _negative_log_likelihood(logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    """The sum of -log p(target) in nats, float64 on the CPU."""
    import torch

    log_probabilities = logits.float().log_softmax(dim=-1).gather(-1, targets.unsqueeze(-1))
    return -log_probabilities.sum(dtype=torch.float64).cpu()


def _require_shared_vocabulary(before: Model, after: Model) -> None:
    from transformers import AutoConfig

    one, other = (
        AutoConfig.from_pretrained(model.folder, local_files_only=True).get_text_config().vocab_size
        for model in (before, after)
    )
    if one != other:
        raise ConfigurationError(
            f"the vocabularies differ: {one} entries in {display_name(before.folder)}, {other} in "
            f"{display_name(after.folder)}",
            hint="compare a model with its own repair",
        )
