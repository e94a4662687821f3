"""Generator that runs transformers in the sandbox, in length-sorted batches with a store of answers.

Only this process opens the store. The sandbox renders, encodes and decodes for one model, and its replies are stored
under the fingerprint of that model alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from antidote_ci.checkpoint.links import model_fingerprint
from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.model import batching
from antidote_ci.model.generation import (
    BatchSizeRequest,
    DecodeRequest,
    EncodeRequest,
    GeneratedAnswer,
    GenerationRequest,
    GenerationResult,
    decode_batch,
    encode_conversations,
    find_batch_size,
    split_answer,
)
from antidote_ci.model.loading import out_of_memory_error
from antidote_ci.model.thoughts import THINKING_MODES, ThoughtLimit
from antidote_ci.records import ComputeEnvironment, OnProgress, Progress
from antidote_ci.sandbox.client import Runner
from antidote_ci.sandbox.replies import invalid_reply_error

DECODING = 2
"""The version of the way of decoding, which decides the last bits. 2: `fast` of `generate_tokens`."""
MAX_CHARACTERS_PER_TOKEN = 4_000
"""The longest token that `checkpoint.tokenizers` accepts."""


@dataclass(frozen=True)
class _Batch:
    """Rows of one set that are decoded together: token ids by their position in the set's answers."""

    name: str
    limit: int
    rows: dict[int, list[int]]


class TransformersGenerator:
    """Uses one batch size for the whole run: the one found for the first model."""

    def __init__(self, sandbox: Runner, store: AnswerStore) -> None:
        self._sandbox = sandbox
        self._store = store
        self._batch_size: int | None = None

    def generate(self, request: GenerationRequest, on_progress: OnProgress) -> GenerationResult:
        """Return the answers in the order of the conversations; several samples of one conversation are adjacent.

        Templates are rendered before weights are read, and weights are read only if the store lacks an answer. Raises
        the errors of `encode_conversations` and `decode_batch`.
        """
        decoding = _Decoding(self._sandbox, self._store, request, on_progress)
        rows = decoding.rows
        size = request.batch_size or self._batch_size or _choose_batch_size(decoding)
        done = 0
        answers = {name: [GeneratedAnswer("", truncated=False)] * len(set_rows) for name, set_rows in rows.items()}
        for batch in _build_batches(rows, request.max_new_tokens, size, decoding.thought_tokens):
            for position, answer in zip(batch.rows, decoding.require_answers(batch, size), strict=True):
                answers[batch.name][position] = answer
            done += len(batch.rows) * batch.limit
            on_progress(Progress("answers", done, request.tokens))
        self._batch_size = self._batch_size or size
        longest_limit = max(request.max_new_tokens.values(), default=0)
        environment = dataclasses.replace(decoding.environment, batch_size=size, max_new_tokens=longest_limit)
        return GenerationResult(answers, environment)


class _Decoding:
    """The encoded conversations of one request, and their answers from the store or from the sandbox."""

    def __init__(
        self, sandbox: Runner, store: AnswerStore, request: GenerationRequest, on_progress: OnProgress
    ) -> None:
        self._sandbox, self._store, self.request, self._on_progress = sandbox, store, request, on_progress
        conversations = [conversation for conversations in request.sets.values() for conversation in conversations]
        encode_request = EncodeRequest(
            request.model,
            conversations,
            request.add_generation_prompt,
            template_arguments=request.template_arguments,
        )
        encoded = sandbox.call(encode_conversations, encode_request, on_progress)
        if len(encoded.rows) != len(conversations):
            raise invalid_reply_error()
        rows = iter(encoded.rows)
        self.environment: ComputeEnvironment = encoded.environment
        self._marks = None if request.max_thought_tokens is None else encoded.marks
        self._thought: ThoughtLimit | None = None
        """None when answers are not expected to have a thought."""
        if request.max_thought_tokens is not None and encoded.mode in THINKING_MODES:
            self._thought = ThoughtLimit(encoded.marks, encoded.mode == "open", request.max_thought_tokens)
        self.rows = {
            name: [row for row in islice(rows, len(conversations)) for _ in range(request.samples)]
            for name, conversations in request.sets.items()
        }
        self._fingerprint = model_fingerprint(request.model)
        self._computed: dict[str, Any] = {}

    @property
    def thought_tokens(self) -> int:
        """The most tokens of a thought before an answer."""
        return self._thought.tokens if self._thought else 0

    def answer(self, batch: _Batch) -> list[GeneratedAnswer] | None:
        """The answers to exactly this batch; None when it does not fit into memory."""
        request, rows = self.request, list(batch.rows.values())
        samples = [position % request.samples for position in batch.rows] if request.samples > 1 else None
        sampling = [request.seed, samples] if samples else None
        thought = [dataclasses.asdict(self._thought)] if self._thought else []
        key = self._key("answers", batch.limit, rows, sampling, *thought)
        entries = self._get(key)
        if entries is None:
            decode_request = DecodeRequest(request.model, rows, batch.limit, request.seed, samples, self._thought)
            answers = self._sandbox.call(decode_batch, decode_request, self._on_progress)
            if answers is None:
                return None
            longest = max((len(answer.thought) + len(answer.text) for answer in answers), default=0)
            most = (batch.limit + self.thought_tokens) * MAX_CHARACTERS_PER_TOKEN
            if len(answers) != len(rows) or longest > most:
                raise invalid_reply_error()
            entries = [list(dataclasses.astuple(answer)) for answer in answers]
            self._put(key, entries)
        answers = [GeneratedAnswer(*entry) for entry in entries]
        if self._marks is None or self._thought is not None:
            return answers
        return [split_answer(answer, self._marks) for answer in answers]

    def require_answers(self, batch: _Batch, size: int) -> list[GeneratedAnswer]:
        """Like `answer`. Raises InfrastructureError when the batch does not fit into memory."""
        answers = self.answer(batch)
        if answers is None:
            raise out_of_memory_error(self.request.model, f" in batches of {size}")
        return answers

    def find_batch_size(self, row: list[int], most_rows: int) -> int:
        """The fastest batch size for about as many rows and tokens, from the store or measured in the sandbox."""
        key = self._batch_size_key(row, most_rows)
        size = self._get(key)
        if size is None:
            size = self._sandbox.call(
                find_batch_size, BatchSizeRequest(self.request.model, row, most_rows), self._on_progress
            )
            if not 1 <= size <= max(most_rows, batching.MIN_BATCH):
                raise invalid_reply_error()
            self._put(key, size)
        return int(size)

    def replace_batch_size(self, row: list[int], most_rows: int, size: int) -> None:
        """Store a smaller size, which fits into memory."""
        self._put(self._batch_size_key(row, most_rows), size)

    def _batch_size_key(self, row: list[int], most_rows: int) -> str:
        # Rounded to powers of two: a slightly larger request does not need another size.
        return self._key("batch size", most_rows.bit_length(), len(row).bit_length())

    def _key(self, kind: str, *parts: object) -> str:
        # The effects of the template are part of the tokens.
        environment = dataclasses.asdict(dataclasses.replace(self.environment, template=None))
        return AnswerStore.key(kind, DECODING, self._fingerprint, environment, *parts)

    def _get(self, key: str) -> Any | None:  # noqa: ANN401 - JSON
        return self._computed.get(key) or self._store.get(key)

    def _put(self, key: str, value: Any) -> None:  # noqa: ANN401 - JSON
        self._computed[key] = value
        self._store.put(key, value)


def _build_batches(
    rows: Mapping[str, Sequence[list[int]]], limits: Mapping[str, int], size: int, thought_tokens: int
) -> list[_Batch]:
    """All batches. The one that needs the most memory comes first: if it fits, all fit."""
    batches = [
        _Batch(name, limits[name], {position: set_rows[position] for position in positions})
        for name, set_rows in rows.items()
        for positions in batching.length_sorted_batches(set_rows, size)
    ]

    def count_tokens(batch: _Batch) -> int:
        return len(batch.rows) * (max(map(len, batch.rows.values())) + batch.limit + thought_tokens)

    return sorted(batches, key=lambda batch: -count_tokens(batch))


def _choose_batch_size(decoding: _Decoding) -> int:
    """The fastest batch size, halved until the largest batch fits into memory."""
    rows, limits = decoding.rows, decoding.request.max_new_tokens
    most_rows = max(map(len, rows.values()), default=0)
    if most_rows <= 1:
        return 1
    longest, limit = max(
        ((row, limits[name]) for name, set_rows in rows.items() for row in set_rows),
        key=lambda candidate: len(candidate[0]) + candidate[1],
    )
    tokens = len(longest) + limit + decoding.thought_tokens
    row = (longest * (tokens // len(longest) + 1))[:tokens]
    size = fastest = decoding.find_batch_size(row, most_rows)
    while decoding.answer(_build_batches(rows, limits, size, decoding.thought_tokens)[0]) is None:
        size //= 2
    if size != fastest:
        decoding.replace_batch_size(row, most_rows, size)
    return size
