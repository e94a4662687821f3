"""Log-likelihoods of given answers, and choices among answers by them. Runs in the sandbox process only."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, permutations
from pathlib import Path

from antidote_ci.checkpoint.files import display_name
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import Network, Tensor, Tokenizer, edited_model, loading, memory
from antidote_ci.model.batching import pad_left
from antidote_ci.model.conversations import (
    NO_SETTINGS,
    describe_template,
    encode_texts,
    render_conversations,
    single_turn,
)
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.generation import describe_environment
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.model.streaming.sequential_forward import ActivationCache, BlockCallback, stream_last_logits
from antidote_ci.records import ChatSettings, ComputeEnvironment, Model, OnProgress, Progress, PromptRow

Batch = Sequence[Sequence[int]]
"""Token rows that are computed together."""
LogitsSource = Callable[[Sequence[Batch], Sequence[int]], Iterator[Tensor]]
"""Gives the logits [rows, columns, vocabulary] at the last columns of each batch, from batches and columns."""


@dataclass(frozen=True)
class EncodeChoicesRequest:
    """Rows with their choices."""

    model: Model
    rows: list[PromptRow]
    chat: ChatSettings = NO_SETTINGS


@dataclass(frozen=True)
class EncodedChoices:
    """The token ids (prompt, choice) of each row's choices, and the environment in which they are compared."""

    rows: list[list[TokenPair]]
    environment: ComputeEnvironment


@dataclass(frozen=True)
class ChoiceRequest:
    """Encoded rows. A batch has `batch_size` answers."""

    model: Model
    rows: list[list[TokenPair]]
    batch_size: int


def encode_task_choices(request: EncodeChoicesRequest, _on_progress: OnProgress) -> EncodedChoices:
    """Render and encode every row with each of its choices. No weights are read.

    Raises ConfigurationError for a choice that is a prefix of another: it is never less likely; and for prompts that
    begin a thought, after which no choice follows.
    """
    tokenizer = loading.load_cached_tokenizer(request.model)
    if describe_template(tokenizer, request.chat.template_arguments).thoughts == "open":
        raise ConfigurationError(
            f"the prompts of {display_name(request.model.folder)} begin a thought, so choices cannot be scored",
            cause="a choice is scored as the beginning of an answer, and here a thought comes first",
            hint="turn thoughts off with chat_template_kwargs in [evaluation] of the policy, or use another task_match",
        )
    choices = [(row.prompt, [choice.strip() for choice in row.choices]) for row in request.rows]
    rows = encode_choices(tokenizer, choices, request.chat)
    for row, pairs in zip(request.rows, rows, strict=True):
        _require_distinct_choices(row, pairs)
    loading.require_embedded(request.model, (ids for pairs in rows for pair in pairs for ids in pair))
    return EncodedChoices(rows, describe_environment(tokenizer, 0, 0))


def choose_answers(request: ChoiceRequest, on_progress: OnProgress) -> list[int]:
    """The position of each row's most likely choice as the assistant's answer in the model's own chat template.

    The likelihood of a choice is the probability that the answer begins with it: the sum of the log-probabilities of
    its tokens, which lm-evaluation-harness calls `acc`. Its mean over characters (`acc_norm`) favours long choices
    (https://proceedings.mlr.press/v306/oostermeijer26a.html) and is not a log-probability. The first of equals wins.
    A model that does not fit into memory is run block by block.
    """
    pairs = [choice for choices in request.rows for choice in choices]
    # An edit is applied in memory only; without it a model that does not fit is streamed.
    in_memory = request.model.edit is not None or memory.fits_in_memory(request.model)
    source = open_logits(request.model, on_progress, in_memory=in_memory)
    likelihoods = iter(log_likelihoods(source, pairs, request.batch_size, on_progress))
    chosen = []
    for choices in request.rows:
        row_likelihoods = [next(likelihoods) for _ in choices]
        chosen.append(row_likelihoods.index(max(row_likelihoods)))
    return chosen


def log_likelihoods(
    source: LogitsSource, rows: Sequence[TokenPair], batch_size: int, on_progress: OnProgress
) -> list[float]:
    """log p(answer | prompt) of each row in nats: the sum over the answer's tokens, in float32."""
    inputs = _group_inputs(rows)
    likelihoods = [0.0] * len(rows)
    ordered = sorted(inputs, key=len, reverse=True)
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    # The last token of a prompt predicts the first of its answer.
    columns = [
        max(1 + len(ids) - len(rows[position][0]) for ids in batch for position in inputs[ids]) for batch in batches
    ]
    done = 0
    for batch, kept, logits in zip(batches, columns, source(batches, columns), strict=True):
        scores = logits.float().log_softmax(dim=-1)
        for input_scores, ids in zip(scores, batch, strict=True):
            for position in inputs[ids]:
                prompt, answer = rows[position]
                first = kept - len(ids) + len(prompt) - 1
                likelihoods[position] = float(input_scores[range(first, first + len(answer)), answer].sum())
        done += len(batch)
        on_progress(Progress("choices", done, len(ordered)))
    return likelihoods


def _group_inputs(rows: Sequence[TokenPair]) -> dict[tuple[int, ...], list[int]]:
    """The inputs of the forward passes, each with the positions of the rows whose scores are read from it.

    An answer's last token predicts nothing, so it is left out. An input that is a prefix of another needs no forward
    pass of its own, for example a prompt whose answers have one token.
    """
    row_inputs = {position: (*prompt, *answer[:-1]) for position, (prompt, answer) in enumerate(rows) if answer}
    inputs: dict[tuple[int, ...], list[int]] = {}
    longest: tuple[int, ...] = ()
    # In descending order a prefix follows directly after an input that begins with it.
    for position in sorted(row_inputs, key=row_inputs.__getitem__, reverse=True):
        ids = row_inputs[position]
        if longest[: len(ids)] != ids:
            longest = ids
        inputs.setdefault(longest, []).append(position)
    return inputs


def encode_choices(
    tokenizer: Tokenizer, rows: Sequence[tuple[str, Sequence[str]]], chat: ChatSettings = NO_SETTINGS
) -> list[list[TokenPair]]:
    """Each prompt with each of its answers as token ids, split at the first token in which the answers differ.

    An answer is encoded together with its prompt, because a tokenizer may merge the answer's first characters with the
    template's last. With one split for all answers to a prompt, such a merged token belongs to the answer.
    """
    conversations = [single_turn(prompt, chat.system_prompt) for prompt, _ in rows]
    texts = render_conversations(tokenizer, conversations, template_arguments=chat.template_arguments)
    encoded = []
    for text, (_, answers) in zip(texts, rows, strict=True):
        ids = encode_texts(tokenizer, [text, *(text + answer for answer in answers)])
        shortest = min(map(len, ids))
        split = next((at for at in range(shortest) if len({row[at] for row in ids}) > 1), shortest)
        split = max(1, split)  # a model predicts nothing before its first token
        encoded.append([(row[:split], row[split:]) for row in ids[1:]])
    return encoded


def open_logits(model: Model, on_progress: OnProgress, *, in_memory: bool) -> LogitsSource:
    """The logits of the model, which is loaded completely or, without `in_memory`, one block at a time."""
    if in_memory:
        return partial(compute_logits, edited_model.load_edited_model(model))
    device, dtype = loading.select_device_and_dtype()
    meta_model = MetaModel(model, dtype, device)
    finished = count(1)

    def report(_block: str) -> None:
        on_progress(Progress("layers computed", next(finished), len(meta_model.blocks)))

    return partial(_stream_logits, meta_model, report)


def compute_logits(network: Network, batches: Sequence[Batch], columns: Sequence[int]) -> Iterator[Tensor]:
    """Yield the logits [rows, columns, vocabulary] at the last columns of each batch, in the network's dtype."""
    import torch

    for batch, kept in zip(batches, columns, strict=True):
        with torch.inference_mode():
            output = network(**pad_left(batch, network.device), use_cache=False, logits_to_keep=kept)
        yield output.logits


def _stream_logits(
    meta_model: MetaModel, done: BlockCallback, batches: Sequence[Batch], columns: Sequence[int]
) -> Iterator[Tensor]:
    inputs = [pad_left(batch, meta_model.device) for batch in batches]
    with memory.return_freed_memory(), tempfile.TemporaryDirectory(prefix="antidote-hidden-") as folder:
        cache = ActivationCache(Path(folder), memory.HIDDEN_STATES_BUDGET)
        yield from stream_last_logits(meta_model, cache, inputs, columns, done)


def _require_distinct_choices(row: PromptRow, choices: Sequence[TokenPair]) -> None:
    for (number, (_, prefix)), (_, (_, answer)) in permutations(enumerate(choices), 2):
        if answer[: len(prefix)] == prefix:
            raise ConfigurationError(
                f"the choice {row.choices[number]!r} is the beginning of another choice of the same task row",
                cause="of two such choices the shorter one is always at least as likely",
                hint="label the choices with letters in the prompt, and let the model choose a letter",
            )
