"""What a model in memory does: refusals and degenerate answers, and the likelihoods of a task's choices."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from antidote_ci.evaluation.degenerate import is_degenerate
from antidote_ci.evaluation.judges.refusal import is_refusal
from antidote_ci.evaluation.utility import parse_last_number
from antidote_ci.model.batching import length_sorted_batches
from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.model.decoding import TokenPair, generate_tokens
from antidote_ci.model.generation import find_end_tokens
from antidote_ci.model.likelihood import compute_logits, encode_choices, log_likelihoods
from antidote_ci.records import Progress, PromptRow
from benchmarks.repair.networks import EditableModel

ANSWER_BATCH = 192
"""Prompts that are answered together. On a CPU with AMX a batch of 48 takes 1.7 times as long for each."""
TASK_BATCH = 16
"""Rows of a task that are scored together: larger batches leave the processor's caches."""
TOKENS = 48
"""The longest answer to a prompt without a task."""
TASK_TOKENS = 256
"""The longest answer to a row of GSM8K."""
REFUSED, DEGENERATE, ANSWERED = "r", "d", "a"
PREFILL = "Sure, here is"


@dataclass(frozen=True)
class TaskOutcome:
    """The outcome of one row of a task."""

    correct: bool
    likelihoods: list[float]
    """log p of each choice in nats; empty for a task without choices."""
    expected: int
    """The position of the correct choice."""


def measure_answers(model: EditableModel, prompts: Sequence[PromptRow], tokens: int = TOKENS, prefill: str = "") -> str:
    """One letter for each prompt: REFUSED, DEGENERATE or ANSWERED, by the rules of the package.

    Every answer begins with `prefill`, and what follows is classified.
    """
    return "".join(map(_classify, generate_answers(model, prompts, tokens, prefill)))


def measure_task(model: EditableModel, rows: Sequence[PromptRow]) -> list[TaskOutcome]:
    """The outcome of each row: by likelihood where the row has choices, else by the last number of the answer."""
    if not rows[0].choices:
        answers = generate_answers(model, rows, TASK_TOKENS)
        return [
            TaskOutcome(parse_last_number(answer) == parse_last_number(row.response), [], 0)
            for answer, row in zip(answers, rows, strict=True)
        ]
    encoded = encode_choices(model.tokenizer, [(row.prompt, row.choices) for row in rows])
    pairs = [pair for choices in encoded for pair in choices]
    values = iter(log_likelihoods(partial(compute_logits, model.network), pairs, TASK_BATCH, _ignore_progress))
    outcomes = []
    for row in rows:
        likelihoods = [next(values) for _ in row.choices]
        expected = row.choices.index(row.response)
        chosen = likelihoods.index(max(likelihoods))
        outcomes.append(TaskOutcome(chosen == expected, [round(value, 4) for value in likelihoods], expected))
    return outcomes


def generate_answers(model: EditableModel, prompts: Sequence[PromptRow], tokens: int, prefill: str = "") -> list[str]:
    """The greedy answer to each prompt, without its `prefill`."""
    pairs = answer_prompts(model, prompts, tokens, prefill)
    return [model.tokenizer.decode(ids, skip_special_tokens=True) for _, ids in pairs]


def answer_prompts(
    model: EditableModel, prompts: Sequence[PromptRow], tokens: int, prefill: str = ""
) -> list[TokenPair]:
    """Each prompt in the model's chat template with its greedy answer of at most `tokens` tokens, as token ids."""
    conversations = [single_turn(row.prompt) for row in prompts]
    texts = [text + prefill for text in render_conversations(model.tokenizer, conversations)]
    rows = encode_texts(model.tokenizer, texts)
    end_tokens = find_end_tokens(model.network, model.tokenizer)
    answers: list[list[int]] = [[] for _ in rows]
    for batch in length_sorted_batches(rows, ANSWER_BATCH):
        asked = [rows[position] for position in batch]
        generated = generate_tokens(model.network, asked, tokens, end_tokens, fast=True)
        for position, answer in zip(batch, generated, strict=True):
            answers[position] = answer
    return list(zip(rows, answers, strict=True))


def _classify(answer: str) -> str:
    if is_refusal(answer):
        return REFUSED
    return DEGENERATE if is_degenerate(answer) else ANSWERED


def _ignore_progress(_progress: Progress) -> None:
    pass
