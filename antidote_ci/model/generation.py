"""Render conversations and generate answers, one batch at a time. Runs in the sandbox process."""

import hashlib
import json
from dataclasses import dataclass, replace

from antidote_ci.checkpoint.files import display_name
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import Network, Tensor, Tokenizer, batching, decoding, edited_model, loading
from antidote_ci.model.conversations import (
    FIXED_DATE,
    Conversation,
    Date,
    describe_template,
    encode_texts,
    render_conversations,
)
from antidote_ci.records import ComputeEnvironment, Model, OnProgress


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
class EncodeRequest:
    """Conversations for one model, to be rendered in its template."""

    model: Model
    conversations: list[Conversation]
    add_generation_prompt: bool
    date: Date = FIXED_DATE
    """Year, month and day that the template prints, if it prints the date."""


@dataclass(frozen=True)
class EncodedConversations:
    """The token ids of each conversation, and the environment in which they are answered."""

    rows: list[list[int]]
    environment: ComputeEnvironment


@dataclass(frozen=True)
class BatchSizeRequest:
    """A row as long as the longest one with its answer, and the number of rows."""

    model: Model
    row: list[int]
    most_rows: int


@dataclass(frozen=True)
class DecodeRequest:
    """Rows that are decoded together, with at most `limit` new tokens each."""

    model: Model
    rows: list[list[int]]
    limit: int
    seed: int = 0
    samples: list[int] | None = None
    """The number of each row among the samples of its conversation; None for greedy decoding."""


@dataclass(frozen=True)
class DecodedBatch:
    """The answers in the order of the rows. None when they do not fit into memory together."""

    answers: list[GeneratedAnswer] | None


def encode_conversations(request: EncodeRequest, _on_progress: OnProgress) -> EncodedConversations:
    """Render and encode every conversation. No weights are read. Raises the errors of `render_template`."""
    tokenizer = loading.load_cached_tokenizer(request.model)
    texts = render_conversations(tokenizer, request.conversations, request.add_generation_prompt, request.date)
    rows = encode_texts(tokenizer, texts)
    if not all(rows):
        raise ConfigurationError(
            f"the chat template of {display_name(request.model.folder)} gives an empty text",
            hint="correct chat_template.jinja, or chat_template in tokenizer_config.json",
        )
    loading.require_embedded(request.model, rows)
    # The template of a judge, which writes no generation prompt, is part of the judge.
    effects = describe_template(tokenizer) if request.add_generation_prompt and rows else None
    return EncodedConversations(rows, replace(describe_environment(tokenizer, 0, 0), template=effects))


def find_batch_size(request: BatchSizeRequest, _on_progress: OnProgress) -> int:
    """The fastest batch size. Raises InfrastructureError when one row does not fit into memory."""
    if request.most_rows <= batching.MIN_BATCH:
        return batching.MIN_BATCH
    with loading.explain_out_of_memory(request.model, ", even one prompt at a time,"):
        network = edited_model.load_edited_model(request.model)
        return batching.find_fastest_batch(
            lambda size: decoding.time_step(network, request.row, size), request.most_rows
        )


def decode_batch(request: DecodeRequest, _on_progress: OnProgress) -> DecodedBatch:
    """Generate the answers of one batch. Raises InfrastructureError when a single row does not fit into memory."""
    with loading.explain_out_of_memory(request.model, ", even one prompt at a time,"):
        try:
            return DecodedBatch(_decode(request))
        except (MemoryError, RuntimeError) as error:
            if not loading.is_out_of_memory(error) or len(request.rows) == 1:
                raise
    return DecodedBatch(None)


def _decode(request: DecodeRequest) -> list[GeneratedAnswer]:
    tokenizer = loading.load_cached_tokenizer(request.model)
    network = edited_model.load_edited_model(request.model)
    end_tokens = find_end_tokens(network, tokenizer)
    generated = decoding.generate_tokens(
        network, request.rows, request.limit, end_tokens, _draw_quantiles(request), fast=True
    )
    return [
        GeneratedAnswer(tokenizer.decode(ids, skip_special_tokens=True), ids[-1] not in end_tokens) for ids in generated
    ]


def _draw_quantiles(request: DecodeRequest) -> Tensor | None:
    """Random numbers [rows, limit]. They depend on the row, its sample and the seed, not on the batch."""
    import torch

    if request.samples is None:
        return None
    quantiles = []
    for row, sample in zip(request.rows, request.samples, strict=True):
        digest = hashlib.sha256(json.dumps([request.seed, row, sample], separators=(",", ":")).encode()).hexdigest()
        generator = torch.Generator().manual_seed(int(digest[:15], base=16))
        quantiles.append(torch.rand(request.limit, generator=generator))
    return torch.stack(quantiles)


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
        gpu=loading.describe_gpu(),
    )
