"""Render conversations and generate answers, one batch at a time. Runs in the sandbox process."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from antidote_ci.checkpoint.files import display_name
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import Network, Tensor, Tokenizer, batching, decoding, edited_model, loading
from antidote_ci.model.conversations import (
    FIXED_DATE,
    Conversation,
    Date,
    describe_template,
    encode_texts,
    find_thought_marks,
    render_conversations,
)
from antidote_ci.model.thoughts import AnswerBudget, ThoughtLimit, ThoughtMarks, split_thought
from antidote_ci.model.token_rules import find_hidden_tokens
from antidote_ci.model.tokenizer_reading import require_same_reading
from antidote_ci.records import ComputeEnvironment, Model, OnProgress, Scalar, ThoughtMode


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
    template_arguments: dict[str, Scalar] = field(default_factory=dict)
    """Arguments of the model's chat template."""
    max_thought_tokens: int | None = None
    """The limit of a thought before an answer. None: answers have no thoughts, such as those of judge models."""

    @property
    def tokens(self) -> int:
        """The most tokens that all answers together can have, without thoughts: the unit of progress."""
        return self.samples * sum(
            len(conversations) * self.max_new_tokens[name] for name, conversations in self.sets.items()
        )


@dataclass(frozen=True)
class GeneratedAnswer:
    """A completion. It is untrusted text and must never be logged."""

    text: str
    """The answer alone, without its thought."""
    truncated: bool
    """It reached the limit without an end token."""
    thought: str = ""
    """What the model wrote before the answer, with its marks."""
    unfinished: bool = False
    """The thought has no end, so the text is empty."""


def split_answer(answer: GeneratedAnswer, marks: ThoughtMarks, *, is_open: bool = False) -> GeneratedAnswer:
    """Separate the thought from an answer whose text still has it: `split_thought`."""
    parsed = split_thought(answer.text, marks, is_open=is_open)
    return replace(answer, text=parsed.answer, thought=parsed.thought, unfinished=parsed.unfinished)


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
    template_arguments: dict[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class EncodedConversations:
    """The token ids of each conversation, and the environment in which they are answered."""

    rows: list[list[int]]
    environment: ComputeEnvironment
    marks: ThoughtMarks
    """The marks of the model's thoughts."""

    @property
    def mode(self) -> ThoughtMode:
        """Whether answers can begin with a thought."""
        return self.environment.template.thoughts if self.environment.template else "none"


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
    thought: ThoughtLimit | None = None
    """None: an answer is all that the model writes."""


def encode_conversations(request: EncodeRequest, _on_progress: OnProgress) -> EncodedConversations:
    """Render and encode every conversation. No weights are read. Raises the errors of `render_conversations`."""
    tokenizer = loading.load_cached_tokenizer(request.model)
    arguments = request.template_arguments
    texts = render_conversations(
        tokenizer, request.conversations, request.add_generation_prompt, request.date, arguments
    )
    rows = encode_texts(tokenizer, texts)
    if not all(rows):
        raise ConfigurationError(
            f"the chat template of {display_name(request.model.folder)} gives an empty text",
            hint="correct chat_template.jinja, or chat_template in tokenizer_config.json",
        )
    loading.require_embedded(request.model, rows)
    require_same_reading(tokenizer, texts)
    # The template of a judge, which writes no generation prompt, is part of the judge.
    effects = describe_template(tokenizer, arguments) if request.add_generation_prompt and rows else None
    if effects is not None and effects.system_message == "no effect" and _has_system_message(request):
        raise ConfigurationError(
            f"the chat template of {display_name(request.model.folder)} leaves out the system prompt",
            cause="[evaluation] system_prompt would have no effect",
            hint="remove it from the policy, or correct the chat template",
        )
    environment = replace(describe_environment(tokenizer, 0, 0), template=effects)
    return EncodedConversations(rows, environment, find_thought_marks(tokenizer))


def _has_system_message(request: EncodeRequest) -> bool:
    return any(message.role == "system" for conversation in request.conversations for message in conversation)


def find_batch_size(request: BatchSizeRequest, _on_progress: OnProgress) -> int:
    """The fastest batch size. Raises InfrastructureError when one row does not fit into memory."""
    if request.most_rows <= batching.MIN_BATCH:
        return batching.MIN_BATCH
    with loading.explain_out_of_memory(request.model, ", even one prompt at a time,"):
        network = edited_model.load_edited_model(request.model)
        return batching.find_fastest_batch(
            lambda size: decoding.time_step(network, request.row, size), request.most_rows
        )


def decode_batch(request: DecodeRequest, _on_progress: OnProgress) -> list[GeneratedAnswer] | None:
    """The answers in the order of the rows; None when the rows do not fit into memory together.

    Raises InfrastructureError when a single row does not fit.
    """
    with loading.explain_out_of_memory(request.model, ", even one prompt at a time,"):
        try:
            return _decode(request)
        except (MemoryError, RuntimeError) as error:
            if not loading.is_out_of_memory(error) or len(request.rows) == 1:
                raise
    return None


def _decode(request: DecodeRequest) -> list[GeneratedAnswer]:
    tokenizer = loading.load_cached_tokenizer(request.model)
    network = edited_model.load_edited_model(request.model)
    end_tokens, hidden = find_end_tokens(network, tokenizer), find_hidden_tokens(tokenizer)
    thought = request.thought
    most = request.limit if thought is None else request.limit + thought.tokens
    budgets = [AnswerBudget(thought, request.limit) for _ in request.rows] if thought else []
    generated = decoding.generate_tokens(
        network,
        request.rows,
        most,
        end_tokens,
        _draw_quantiles(request, most),
        fast=True,
        is_spent=(lambda row, ids: budgets[row].is_spent(ids, tokenizer.decode)) if budgets else None,
    )
    if not budgets:
        return [GeneratedAnswer(_decode_answer(tokenizer, ids, hidden), ids[-1] not in end_tokens) for ids in generated]
    return [
        _split_tokens(tokenizer, ids, budget, end_tokens, hidden)
        for ids, budget in zip(generated, budgets, strict=True)
    ]


def _decode_answer(tokenizer: Tokenizer, ids: list[int], hidden: Collection[int]) -> str:
    """The text of an answer without `hidden` tokens."""
    text: str = tokenizer.decode([number for number in ids if number not in hidden])
    return text


def _split_tokens(
    tokenizer: Tokenizer, ids: list[int], budget: AnswerBudget, end_tokens: set[int], hidden: Collection[int]
) -> GeneratedAnswer:
    """The answer without its thought, of which only the tokens know where it ends: its marks can be special tokens."""
    start = len(ids) if budget.is_thinking else budget.answer_start
    text = _decode_answer(tokenizer, ids[start:], hidden)
    answer = text.lstrip() if start else text
    thought = tokenizer.decode(ids[:start]) + text[: len(text) - len(answer)]
    return GeneratedAnswer(answer, ids[-1] not in end_tokens, thought, unfinished=budget.is_thinking)


def _draw_quantiles(request: DecodeRequest, tokens: int) -> Tensor | None:
    """Random numbers [rows, tokens]. They depend on the row, its sample and the seed, not on the batch."""
    import torch

    if request.samples is None:
        return None
    quantiles = []
    for row, sample in zip(request.rows, request.samples, strict=True):
        digest = hashlib.sha256(json.dumps([request.seed, row, sample], separators=(",", ":")).encode()).hexdigest()
        generator = torch.Generator().manual_seed(int(digest[:15], base=16))
        quantiles.append(torch.rand(tokens, generator=generator))
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
