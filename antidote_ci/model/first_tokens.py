"""The first tokens of a model's own answers: in memory where it fits, else block by block. In the child only."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from antidote_ci.model import loading
from antidote_ci.model.batching import length_sorted_batches
from antidote_ci.model.decoding import generate_tokens
from antidote_ci.model.generation import find_end_tokens
from antidote_ci.model.gradients import pad_left, stream_last_logits
from antidote_ci.model.streaming.activation_cache import ActivationCache
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.records import Model, OnProgress, Progress

ANSWER_TOKENS = 8
"""Where an answer is decided: whether to refuse, what to answer. More only dilutes it."""
BATCH_SIZE = 48


def first_tokens_in_memory(
    model: Model,
    tokenizer: Any,  # noqa: ANN401 - transformers is untyped
    rows: Sequence[Sequence[int]],
    known: int,
) -> list[list[int]]:
    """The first tokens of the greedy answer to each row, its end token included, among the first `known` tokens."""
    from peft import PeftModel

    network = loading.load_model(model, merge=False)
    # An adapter's wrapper hides what its model's forward takes; its layers are in that model either way.
    plain = network.get_base_model() if isinstance(network, PeftModel) else network
    if plain.config.get_text_config().vocab_size > known:
        plain.resize_token_embeddings(known)
    ends = find_end_tokens(plain, tokenizer)
    answers: list[list[int]] = [[] for _ in rows]
    for batch in length_sorted_batches(rows, BATCH_SIZE):
        found = generate_tokens(plain, [rows[position] for position in batch], ANSWER_TOKENS, ends)
        for position, answer in zip(batch, found, strict=True):
            answers[position] = answer
    return answers


def first_tokens_streamed(
    meta_model: MetaModel,
    tokenizer: Any,  # noqa: ANN401 - transformers is untyped
    rows: Sequence[Sequence[int]],
    known: int,
    scratch: Path,
    budget: int,
    report: OnProgress,
) -> list[list[int]]:
    """The same, with one block in memory: a whole forward pass for each token, without a cache."""
    from transformers import GenerationConfig

    folder = meta_model.layout.folder
    if (folder / "generation_config.json").exists():
        meta_model.network.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    ends = find_end_tokens(meta_model.network, tokenizer)
    answers: list[list[int]] = [[] for _ in rows]
    going = list(range(len(rows)))
    for number in range(ANSWER_TOKENS):
        texts = [[*rows[row], *answers[row]] for row in going]
        batches = length_sorted_batches(texts, BATCH_SIZE)
        inputs = [pad_left([texts[position] for position in batch], meta_model.device) for batch in batches]
        with tempfile.TemporaryDirectory(dir=scratch) as name:
            reservoir = ActivationCache(Path(name), budget)
            each = stream_last_logits(meta_model, reservoir, inputs, [1] * len(inputs), lambda _block: None)
            for batch, logits in zip(batches, each, strict=True):
                for position, token in zip(batch, logits[:, -1, :known].argmax(dim=-1).tolist(), strict=True):
                    answers[going[position]].append(token)
        report(Progress("first tokens of answers", number + 1, ANSWER_TOKENS))
        going = [row for row in going if answers[row][-1] not in ends]
        if not going:
            break
    return answers
