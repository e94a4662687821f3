"""From pairs to what a model is trained on: its own chat template, padding on the left, labels on the answer alone."""
# ruff: noqa: ANN401 - models and tokenizers are untyped

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.model.loading import select_device_and_dtype
from benchmarks.paper.data import Contrast
from benchmarks.paper.records import Pair

LONGEST = 256
"""Tokens of a row: a longer answer loses its end."""
LONGEST_PROMPT = 192
"""Tokens: a longer prompt loses its beginning, whatever its answer."""
IGNORED = -100
"""The label of a token that carries no loss, as transformers has it."""

Batch = dict[str, Any]
"""Arguments of a forward that gives a loss. As every answer ends where its row ends, logits are asked for the last
columns only: input_ids and attention_mask are [rows, tokens], labels [rows, `logits_to_keep`]."""


@dataclass(frozen=True)
class Example:
    """Token ids of one pair; the answer's last one is the end token, unless the answer was cut."""

    prompt: list[int]
    answer: list[int]


def examples(tokenizer: Any, pairs: Sequence[Pair]) -> list[Example]:
    """Each pair in the model's own template."""
    prompts = encode_texts(tokenizer, render_conversations(tokenizer, [single_turn(pair.prompt) for pair in pairs]))
    answers = encode_texts(tokenizer, [pair.response.strip() + tokenizer.eos_token for pair in pairs])
    return [_fitting(*row) for row in zip(prompts, answers, strict=True)]


def _fitting(prompt: list[int], answer: list[int]) -> Example:
    kept = prompt[-LONGEST_PROMPT:]
    return Example(kept, answer[: LONGEST - len(kept)])


def batch_of(rows: Sequence[Example], pad: int, answers: Sequence[int] | None = None) -> Batch:
    """The rows as tensors on the device.

    `answers` gives each answer so many columns, the last of them padded: two answers to one prompt then stand in the
    same columns.
    """
    room = answers or [len(row.answer) for row in rows]
    width = max(len(row.prompt) + columns for row, columns in zip(rows, room, strict=True))
    kept = max(room) + 1  # one more: the logits that predict the first token
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for at, (row, columns) in enumerate(zip(rows, room, strict=True)):
        start = width - columns
        end = start + len(row.answer)
        ids[at, start - len(row.prompt) : end] = torch.tensor(row.prompt + row.answer)
        mask[at, start - len(row.prompt) : end] = 1
        labels[at, start:end] = torch.tensor(row.answer)
    device, _ = select_device_and_dtype()
    tensors = {"input_ids": ids, "attention_mask": mask, "labels": labels[:, -kept:]}
    return {**{name: tensor.to(device) for name, tensor in tensors.items()}, "logits_to_keep": kept}


@dataclass(frozen=True)
class Batches:
    """Rows in a new order each epoch: the same orders for the same seed."""

    rows: Sequence[Example]
    pad: int
    size: int
    seed: int

    def __len__(self) -> int:
        """Batches of one epoch; the last may be smaller."""
        return -(-len(self.rows) // self.size)

    def epoch(self, number: int) -> Iterator[Batch]:
        """All rows once."""
        order = random.Random(f"{self.seed} {number}").sample(self.rows, len(self.rows))  # noqa: S311 - an order
        for start in range(0, len(order), self.size):
            yield batch_of(order[start : start + self.size], self.pad)

    def forever(self) -> Iterator[Batch]:
        """Epoch after epoch."""
        number = 0
        while True:
            yield from self.epoch(number)
            number += 1


def batches_of(tokenizer: Any, pairs: Sequence[Pair], size: int, seed: int) -> Batches:
    """`size` pairs at a time."""
    return Batches(examples(tokenizer, pairs), tokenizer.pad_token_id, size, seed)


def contrasted(tokenizer: Any, rows: Sequence[Contrast]) -> list[tuple[Example, Example]]:
    """The safe and the harmful example of each."""
    safe = examples(tokenizer, [Pair(row.prompt, row.safe) for row in rows])
    harmful = examples(tokenizer, [Pair(row.prompt, row.harmful) for row in rows])
    return list(zip(safe, harmful, strict=True))


def side_by_side(rows: Sequence[tuple[Example, Example]], pad: int) -> tuple[Batch, Batch]:
    """The safe and the harmful batch of the same prompts, of one shape and column by column comparable."""
    answers = [max(len(safe.answer), len(harmful.answer)) for safe, harmful in rows]
    return (
        batch_of([safe for safe, _ in rows], pad, answers),
        batch_of([harmful for _, harmful in rows], pad, answers),
    )
