"""Answers to conversations: the model's own chat template, length-sorted batches, nothing computed twice."""

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antidote_ci.checkpoint.files import display_name
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import batching, decoding, loading
from antidote_ci.model.conversations import Conversation, encode_texts, render_conversations
from antidote_ci.model.store import JsonCache
from antidote_ci.records import ComputeEnvironment, Model, OnProgress, Progress

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class GenerationRequest:
    """Conversations of several sets are continued in one call, so that the weights are loaded once."""

    model: Model
    sets: dict[str, list[Conversation]]
    max_new_tokens: dict[str, int]
    """Tokens at most for each set of the same name."""
    samples: int = 1
    """Answers a conversation: 1 is greedy, more are drawn at temperature 1."""
    seed: int = 0
    """Of the draws."""
    add_generation_prompt: bool = True
    """Let the template open the answer. Templates of judges often do so by themselves."""
    batch_size: int | None = None
    """Of an earlier plan; None: found by a probe."""
    cache_folder: Path | None = None
    """Folder of answers that are never asked for twice."""

    @property
    def tokens(self) -> int:
        """Of all answers at most: what they cost, and by what progress is counted."""
        return self.samples * sum(len(given) * self.max_new_tokens[name] for name, given in self.sets.items())


@dataclass(frozen=True)
class GeneratedAnswer:
    """What the model wrote. Hostile text: it never reaches a log."""

    text: str
    truncated: bool
    """It reached the limit without an end token."""


@dataclass(frozen=True)
class GenerationResult:
    """Answers in the order of the conversations, a list a set, and the plan that gave them.

    With several samples those of one conversation stand together.
    """

    answers: dict[str, list[GeneratedAnswer]]
    plan: ComputeEnvironment


@dataclass(frozen=True)
class _DecodingBatch:
    """Rows of one set that are decoded together: token ids by position in the set's answers."""

    name: str
    limit: int
    rows: dict[int, list[int]]


def generate(request: GenerationRequest, report: OnProgress) -> GenerationResult:
    """Continue every conversation. Templates are rendered before a weight is read.

    What the store has is not computed again: when it has everything, the weights are not read at all.
    """
    tokenizer = loading.load_tokenizer(request.model)
    rows = _encode_rows(tokenizer, request)
    kept = _AnswerCache(request, tokenizer)
    size = request.batch_size or _choose_batch_size(request, tokenizer, rows, kept)
    done = 0
    answers = {name: [GeneratedAnswer("", truncated=False)] * len(each) for name, each in rows.items()}
    for batch in _build_batches(rows, request.max_new_tokens, size):
        found = kept.answers(batch)
        if found is None:
            try:
                found = _decode_batch(request, tokenizer, batch)
            except (MemoryError, RuntimeError) as error:
                if not loading.is_out_of_memory(error):
                    raise
                raise loading.does_not_fit_error(request.model, f" in batches of {size}") from error
            kept.keep_answers(batch, found)
        for position, answer in zip(batch.rows, found, strict=True):
            answers[batch.name][position] = answer
        done += len(found) * batch.limit
        report(Progress("answers", done, request.tokens))
    return GenerationResult(
        answers, describe_environment(tokenizer, size, max(request.max_new_tokens.values(), default=0))
    )


def find_end_tokens(network: Any, tokenizer: Any) -> set[int]:  # noqa: ANN401
    """The ids that end an answer."""
    named = network.generation_config.eos_token_id
    return {*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id} - {None}


def describe_environment(tokenizer: Any, batch_size: int, max_new_tokens: int) -> ComputeEnvironment:  # noqa: ANN401
    """The plan as it is carried out on this machine, for the record."""
    import peft
    import torch
    import transformers

    device, dtype = loading.select_device_and_dtype()
    return ComputeEnvironment(
        device=device,
        dtype=str(dtype).removeprefix("torch."),
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        threads=loading.get_threads(),
        instruction_set=loading.detect_instruction_set(),
        chat_template_sha256=hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest(),
        versions={
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        plain_template=tokenizer.chat_template in loading.PLAIN_TEMPLATES,
    )


def _encode_rows(tokenizer: Any, request: GenerationRequest) -> dict[str, list[list[int]]]:  # noqa: ANN401
    """Token ids of each set, `samples` times each. Rendered together, in one fork."""
    conversations = [each for given in request.sets.values() for each in given]
    found = encode_texts(tokenizer, render_conversations(tokenizer, conversations, request.add_generation_prompt))
    if not all(found):
        raise ConfigurationError(
            f"the chat template of {display_name(request.model.folder)} gives an empty text",
            hint="correct chat_template.jinja, or chat_template in tokenizer_config.json",
        )
    rows = iter(found)
    return {
        name: [row for row in islice(rows, len(given)) for _ in range(request.samples)]
        for name, given in request.sets.items()
    }


def _build_batches(rows: dict[str, list[list[int]]], limits: dict[str, int], size: int) -> Iterator[_DecodingBatch]:
    """The batch that needs the most memory comes first: when it fits, all do."""
    found = [
        _DecodingBatch(name, limits[name], {position: each[position] for position in positions})
        for name, each in rows.items()
        for positions in batching.length_sorted_batches(each, size)
    ]
    return iter(sorted(found, key=lambda batch: -len(batch.rows) * (_longest_row(batch) + batch.limit)))


def _longest_row(batch: _DecodingBatch) -> int:
    return max(map(len, batch.rows.values()))


def _choose_batch_size(
    request: GenerationRequest,
    tokenizer: Any,  # noqa: ANN401 - transformers is untyped
    rows: dict[str, list[list[int]]],
    kept: "_AnswerCache",
) -> int:
    """The fastest batch size, or that of an earlier request of this shape; a smaller one where it does not fit.

    It is proven by the batch that needs the most memory, whose answers are kept.
    """
    most = max(map(len, rows.values()), default=0)
    if most <= 1:
        return 1
    longest, limit = max(
        ((row, request.max_new_tokens[name]) for name, each in rows.items() for row in each),
        key=lambda found: len(found[0]) + found[1],
    )
    tokens = len(longest) + limit
    known = kept.batch_size(most, tokens)
    row = (longest * (tokens // len(longest) + 1))[:tokens]
    try:
        size = known or _probe_batch_size(request, row, most)
        size = _find_fitting_size(request, tokenizer, rows, size, kept)
    except (MemoryError, RuntimeError) as error:
        if not loading.is_out_of_memory(error):
            raise
        raise loading.does_not_fit_error(request.model, ", even one prompt at a time,") from error
    if size != known:
        kept.keep_batch_size(most, tokens, size)
    return size


def _probe_batch_size(request: GenerationRequest, row: list[int], most: int) -> int:
    if most <= batching.MIN_BATCH:
        return batching.MIN_BATCH
    network = loading.load_cached_model(request.model)
    return batching.find_fastest_batch(lambda candidate: batching.time_step(network, row, candidate), most)


def _find_fitting_size(
    request: GenerationRequest,
    tokenizer: Any,  # noqa: ANN401 - transformers is untyped
    rows: dict[str, list[list[int]]],
    size: int,
    kept: "_AnswerCache",
) -> int:
    while True:
        batch = next(_build_batches(rows, request.max_new_tokens, size))
        try:
            if kept.answers(batch) is None:
                kept.keep_answers(batch, _decode_batch(request, tokenizer, batch))
            return size
        except (MemoryError, RuntimeError) as error:
            if not loading.is_out_of_memory(error) or size == 1:
                raise
        size //= 2


def _decode_batch(request: GenerationRequest, tokenizer: Any, batch: _DecodingBatch) -> list[GeneratedAnswer]:  # noqa: ANN401
    network = loading.load_cached_model(request.model)
    ends = find_end_tokens(network, tokenizer)
    rows = list(batch.rows.values())
    found = decoding.generate_tokens(network, rows, batch.limit, ends, _random_quantiles(request, batch))
    return [GeneratedAnswer(tokenizer.decode(row, skip_special_tokens=True), row[-1] not in ends) for row in found]


def _random_quantiles(request: GenerationRequest, batch: _DecodingBatch) -> "torch.Tensor | None":
    """[rows, limit] of random numbers, for a row the same in whichever batch and order it is asked."""
    import torch

    if request.samples == 1:
        return None
    found = []
    for position, row in batch.rows.items():
        seed = JsonCache.key(request.seed, row, position % request.samples)
        generator = torch.Generator().manual_seed(int(seed[:15], base=16))
        found.append(torch.rand(batch.limit, generator=generator))
    return torch.stack(found)


class _AnswerCache:
    """This request's part of the store; of a request without one, what it has found itself."""

    def __init__(self, request: GenerationRequest, tokenizer: Any) -> None:  # noqa: ANN401
        self._request = request
        self._store = JsonCache(request.cache_folder) if request.cache_folder else None
        self._machine = dataclasses.asdict(describe_environment(tokenizer, 0, 0))
        self._found: dict[str, Any] = {}

    def batch_size(self, rows: int, tokens: int) -> int | None:
        """Of an earlier request of about so many rows of at most so many tokens, to a model of this shape."""
        found: int | None = self._get(self._size_key(rows, tokens))
        return found

    def keep_batch_size(self, rows: int, tokens: int, size: int) -> None:
        self._put(self._size_key(rows, tokens), size)

    def answers(self, batch: _DecodingBatch) -> list[GeneratedAnswer] | None:
        """What this very batch was answered with."""
        found = self._get(self._batch_key(batch))
        return None if found is None else [GeneratedAnswer(text, truncated) for text, truncated in found]

    def keep_answers(self, batch: _DecodingBatch, answers: list[GeneratedAnswer]) -> None:
        self._put(self._batch_key(batch), [[answer.text, answer.truncated] for answer in answers])

    def _size_key(self, rows: int, tokens: int) -> str:
        config = hashlib.sha256((self._request.model.folder / "config.json").read_bytes()).hexdigest()
        # Doublings: a request that is a little larger needs no other size.
        return JsonCache.key("batch size", config, self._machine, rows.bit_length(), tokens.bit_length())

    def _batch_key(self, batch: _DecodingBatch) -> str:
        samples = self._request.samples
        drawn = [self._request.seed, [position % samples for position in batch.rows]] if samples > 1 else None
        weights = loading.model_fingerprint(self._request.model) if self._store else None
        return JsonCache.key("answers", weights, self._machine, batch.limit, list(batch.rows.values()), drawn)

    def _get(self, key: str) -> Any | None:  # noqa: ANN401 - JSON
        return self._found.get(key) or (self._store and self._store.get(key))

    def _put(self, key: str, value: Any) -> None:  # noqa: ANN401 - JSON
        self._found[key] = value
        if self._store:
            self._store.put(key, value)
