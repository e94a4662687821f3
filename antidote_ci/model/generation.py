"""Generate answers to conversations, in length-sorted batches with a cache of answers. Runs in the sandbox process."""

import dataclasses
import hashlib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from antidote_ci.checkpoint.files import display_name
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import Network, Tensor, Tokenizer, batching, decoding, loading
from antidote_ci.model.conversations import Conversation, encode_texts, render_conversations
from antidote_ci.model.store import JsonCache
from antidote_ci.records import ComputeEnvironment, Model, OnProgress, Progress


@dataclass(frozen=True)
class GenerationRequest:
    """Several sets of conversations for one model, so that its weights are loaded once."""

    model: Model
    sets: dict[str, list[Conversation]]
    max_new_tokens: dict[str, int]
    """The limit for each set, by the same names."""
    samples: int = 1
    """Answers per conversation: 1 is greedy, more are sampled at temperature 1."""
    seed: int = 0
    """Of the samples."""
    add_generation_prompt: bool = True
    """Let the template write the start of the answer. Templates of judge models often do so by themselves."""
    batch_size: int | None = None
    """The batch size of an earlier plan. None: measure it."""
    cache_folder: Path | None = None
    """Folder for answers, which are then computed once."""

    @property
    def tokens(self) -> int:
        """The most tokens that all answers together can have: a measure of cost, and the unit of progress."""
        return self.samples * sum(
            len(conversations) * self.max_new_tokens[name] for name, conversations in self.sets.items()
        )


@dataclass(frozen=True)
class GeneratedAnswer:
    """A completion. It is untrusted text and must never be logged."""

    text: str
    truncated: bool
    """It reached the limit without an end token."""


@dataclass(frozen=True)
class GenerationResult:
    """The answers of each set in the order of its conversations, and the plan that was used.

    The samples of one conversation are adjacent.
    """

    answers: dict[str, list[GeneratedAnswer]]
    plan: ComputeEnvironment


@dataclass(frozen=True)
class _DecodingBatch:
    """Rows of one set that are decoded together: token ids by their position in the set's answers."""

    name: str
    limit: int
    rows: dict[int, list[int]]


def generate(request: GenerationRequest, on_progress: OnProgress) -> GenerationResult:
    """Answer every conversation. Templates are rendered before weights are read.

    Weights are read only if the cache lacks an answer. Raises the errors of `render_template` and `load_model`, and
    InfrastructureError when one row at a time does not fit into memory.
    """
    tokenizer = loading.load_tokenizer(request.model)
    rows = _encode_rows(tokenizer, request)
    decoder = _CachedDecoder(request, tokenizer)
    size = request.batch_size or _choose_batch_size(request, rows, decoder)
    done = 0
    answers = {name: [GeneratedAnswer("", truncated=False)] * len(set_rows) for name, set_rows in rows.items()}
    for batch in _build_batches(rows, request.max_new_tokens, size):
        with loading.explain_out_of_memory(request.model, f" in batches of {size}"):
            batch_answers = decoder.answer(batch)
        for position, answer in zip(batch.rows, batch_answers, strict=True):
            answers[batch.name][position] = answer
        done += len(batch_answers) * batch.limit
        on_progress(Progress("answers", done, request.tokens))
    longest_limit = max(request.max_new_tokens.values(), default=0)
    return GenerationResult(answers, describe_environment(tokenizer, size, longest_limit))


def find_end_tokens(network: Network, tokenizer: Tokenizer) -> set[int]:
    """The token ids that end an answer."""
    ids = network.generation_config.eos_token_id
    return {*(ids if isinstance(ids, list) else [ids]), tokenizer.eos_token_id} - {None}


def describe_environment(tokenizer: Tokenizer, batch_size: int, max_new_tokens: int) -> ComputeEnvironment:
    """The device, versions and settings on which the numbers depend, for the report."""
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


def _encode_rows(tokenizer: Tokenizer, request: GenerationRequest) -> dict[str, list[list[int]]]:
    """Token ids of each set, `samples` times each. All sets are rendered in one fork."""
    conversations = [conversation for conversations in request.sets.values() for conversation in conversations]
    encoded = encode_texts(tokenizer, render_conversations(tokenizer, conversations, request.add_generation_prompt))
    if not all(encoded):
        raise ConfigurationError(
            f"the chat template of {display_name(request.model.folder)} gives an empty text",
            hint="correct chat_template.jinja, or chat_template in tokenizer_config.json",
        )
    rows = iter(encoded)
    return {
        name: [row for row in islice(rows, len(conversations)) for _ in range(request.samples)]
        for name, conversations in request.sets.items()
    }


def _build_batches(rows: dict[str, list[list[int]]], limits: dict[str, int], size: int) -> list[_DecodingBatch]:
    """All batches. The one that needs the most memory comes first: if it fits, all fit."""
    batches = [
        _DecodingBatch(name, limits[name], {position: set_rows[position] for position in positions})
        for name, set_rows in rows.items()
        for positions in batching.length_sorted_batches(set_rows, size)
    ]
    return sorted(
        batches, key=lambda batch: -len(batch.rows) * (max(len(row) for row in batch.rows.values()) + batch.limit)
    )


def _choose_batch_size(request: GenerationRequest, rows: dict[str, list[list[int]]], decoder: "_CachedDecoder") -> int:
    """The fastest batch size, or that of an earlier request of this shape; halved until the largest batch fits."""
    most_rows = max(map(len, rows.values()), default=0)
    if most_rows <= 1:
        return 1
    longest, limit = max(
        ((row, request.max_new_tokens[name]) for name, set_rows in rows.items() for row in set_rows),
        key=lambda candidate: len(candidate[0]) + candidate[1],
    )
    tokens = len(longest) + limit
    size_key = decoder.batch_size_key(most_rows, tokens)
    stored_size: int | None = decoder.get(size_key)
    with loading.explain_out_of_memory(request.model, ", even one prompt at a time,"):
        size = stored_size or _measure_batch_size(
            request.model, (longest * (tokens // len(longest) + 1))[:tokens], most_rows
        )
        while True:
            try:
                decoder.answer(_build_batches(rows, request.max_new_tokens, size)[0])
                break
            except (MemoryError, RuntimeError) as error:
                if not loading.is_out_of_memory(error) or size == 1:
                    raise
            size //= 2
    if size != stored_size:
        decoder.put(size_key, size)
    return size


def _measure_batch_size(model: Model, row: list[int], most_rows: int) -> int:
    if most_rows <= batching.MIN_BATCH:
        return batching.MIN_BATCH
    network = loading.load_cached_model(model)
    return batching.find_fastest_batch(lambda size: decoding.time_step(network, row, size), most_rows)


class _CachedDecoder:
    """Decodes batches of one request. The answers are kept in memory, and in the request's cache folder if any."""

    def __init__(self, request: GenerationRequest, tokenizer: Tokenizer) -> None:
        self._request, self._tokenizer = request, tokenizer
        self._store = JsonCache(request.cache_folder) if request.cache_folder else None
        self._environment = dataclasses.asdict(describe_environment(tokenizer, 0, 0))
        self._computed: dict[str, Any] = {}

    def answer(self, batch: _DecodingBatch) -> list[GeneratedAnswer]:
        """The answers to exactly this batch, from the cache if it has them."""
        samples = self._request.samples
        sampling = [self._request.seed, [position % samples for position in batch.rows]] if samples > 1 else None
        weights = loading.model_fingerprint(self._request.model) if self._store else None
        token_ids = list(batch.rows.values())
        key = JsonCache.key("answers", weights, self._environment, batch.limit, token_ids, sampling)
        entries = self.get(key)
        if entries is None:
            entries = self._decode(batch)
            self.put(key, entries)
        return [GeneratedAnswer(text, truncated) for text, truncated in entries]

    def batch_size_key(self, rows: int, tokens: int) -> str:
        """The key of the batch size for a model of this shape and about as many rows and tokens."""
        config = hashlib.sha256((self._request.model.folder / "config.json").read_bytes()).hexdigest()
        # Rounded to powers of two: a slightly larger request does not need another size.
        return JsonCache.key("batch size", config, self._environment, rows.bit_length(), tokens.bit_length())

    def _decode(self, batch: _DecodingBatch) -> list[list[Any]]:
        network = loading.load_cached_model(self._request.model)
        end_tokens = find_end_tokens(network, self._tokenizer)
        rows = list(batch.rows.values())
        generated = decoding.generate_tokens(network, rows, batch.limit, end_tokens, self._draw_quantiles(batch))
        return [[self._tokenizer.decode(ids, skip_special_tokens=True), ids[-1] not in end_tokens] for ids in generated]

    def _draw_quantiles(self, batch: _DecodingBatch) -> Tensor | None:
        """Random numbers [rows, limit]. They depend on the row, its sample and the seed, not on the batch."""
        import torch

        if self._request.samples == 1:
            return None
        quantiles = []
        for position, row in batch.rows.items():
            seed = JsonCache.key(self._request.seed, row, position % self._request.samples)
            generator = torch.Generator().manual_seed(int(seed[:15], base=16))
            quantiles.append(torch.rand(batch.limit, generator=generator))
        return torch.stack(quantiles)

    def get(self, key: str) -> Any | None:  # noqa: ANN401 - JSON
        """The value from memory or from the cache folder, or None."""
        return self._computed.get(key) or (self._store and self._store.get(key))

    def put(self, key: str, value: Any) -> None:  # noqa: ANN401 - JSON
        """Keep the value in memory, and in the cache folder if any."""
        self._computed[key] = value
        if self._store:
            self._store.put(key, value)
