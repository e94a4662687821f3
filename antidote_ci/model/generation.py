"""Greedy answers to prompts: the model's own chat template, length-sorted batches padded on the left."""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from antidote_ci.model import loading
from antidote_ci.records import Model, Plan, Progress

BATCH_SIZE = 48
"""Fixed, so that the same request gives the same bits; a small model on two cores gains nothing above it."""


@dataclass(frozen=True)
class GenerationRequest:
    """Prompts of several sets are answered in one call, so that the weights are loaded once."""

    model: Model
    sets: dict[str, list[str]]
    max_new_tokens: dict[str, int]
    """Tokens at most for each set of the same name."""


@dataclass(frozen=True)
class Answer:
    """What the model wrote. Hostile text: it never reaches a log."""

    text: str
    truncated: bool
    """It reached the limit without an end token."""


@dataclass(frozen=True)
class GenerationResult:
    """Answers in the order of the prompts, a list a set, and the plan that gave them."""

    answers: dict[str, list[Answer]]
    plan: Plan


def generate(request: GenerationRequest, report: Callable[[Progress], None]) -> GenerationResult:
    """Answer every prompt greedily."""
    import torch

    tokenizer = loading.load_tokenizer(request.model)
    texts = {name: [conversation(tokenizer, prompt) for prompt in prompts] for name, prompts in request.sets.items()}
    network = loading.load_model(request.model, merge=True)
    total = sum(map(len, texts.values()))
    answers: dict[str, list[Answer]] = {}
    done = 0
    with torch.inference_mode():
        for name, conversations in texts.items():
            by_position: dict[int, Answer] = {}
            for batch in length_sorted_batches(tokenizer, conversations, BATCH_SIZE):
                limit = request.max_new_tokens[name]
                by_position.update(_answer(network, tokenizer, batch, limit))
                done += len(batch)
                report(Progress("answers", done, total))
            answers[name] = [by_position[position] for position in range(len(conversations))]
    return GenerationResult(answers, plan(network, tokenizer, BATCH_SIZE, max(request.max_new_tokens.values())))


def conversation(tokenizer: Any, prompt: str, response: str | None = None) -> str:  # noqa: ANN401
    """The text of one exchange in the model's own template, open for an answer when `response` is None."""
    messages = [{"role": "user", "content": prompt}]
    if response is not None:
        messages.append({"role": "assistant", "content": response})
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=response is None)
    return text


def length_sorted_batches(
    tokenizer: Any,  # noqa: ANN401 - transformers is untyped
    conversations: list[str],
    batch_size: int,
) -> Iterator[dict[int, list[int]]]:
    """Token ids by position in `conversations`, longest first, at most `batch_size` at a time."""
    encoded = tokenizer(conversations, add_special_tokens=False)["input_ids"] if conversations else []
    order = sorted(range(len(encoded)), key=lambda position: (-len(encoded[position]), position))
    batches = math.ceil(len(order) / batch_size)
    # Even batches: a last one of four costs nearly as much as one of forty.
    size = math.ceil(len(order) / batches) if batches else 1
    for start in range(0, len(order), size):
        yield {position: encoded[position] for position in order[start : start + size]}


def _answer(
    network: Any,  # noqa: ANN401 - transformers is untyped
    tokenizer: Any,  # noqa: ANN401
    batch: dict[int, list[int]],
    max_new_tokens: int,
) -> dict[int, Answer]:
    padded = tokenizer.pad({"input_ids": list(batch.values())}, return_tensors="pt").to(network.device)
    width = padded["input_ids"].shape[1]
    output = network.generate(
        input_ids=padded["input_ids"],
        attention_mask=padded["attention_mask"],
        max_new_tokens=max_new_tokens,
        do_sample=False,
        # A repository's generation_config may ask for sampling or penalties: the gate is greedy.
        temperature=None,
        top_p=None,
        top_k=None,
        repetition_penalty=1.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    ends = network.generation_config.eos_token_id
    end_tokens = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    answers: dict[int, Answer] = {}
    for position, row in zip(batch, output[:, width:].tolist(), strict=True):
        ended = any(token in end_tokens for token in row)
        text = tokenizer.decode(row, skip_special_tokens=True)
        answers[position] = Answer(text, truncated=not ended)
    return answers


def plan(network: Any, tokenizer: Any, batch_size: int, max_new_tokens: int) -> Plan:  # noqa: ANN401
    """The plan as it was carried out, for the record."""
    import peft
    import torch
    import transformers

    return Plan(
        device=network.device.type,
        dtype=str(network.dtype).removeprefix("torch."),
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        threads=loading.threads(),
        instruction_set=loading.instruction_set(),
        chat_template_sha256=hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest(),
        versions={
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    )
