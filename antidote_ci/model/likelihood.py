"""How likely given answers are to a model: the base of choosing among answers and of comparing two models."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antidote_ci.errors import ConfigurationError
from antidote_ci.model import loading
from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.generation import describe_environment
from antidote_ci.model.store import JsonCache
from antidote_ci.records import Model, OnProgress, Progress, PromptRow

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ChoiceRequest:
    """Rows with their choices; `batch_size` answers go through the model at a time."""

    model: Model
    rows: list[PromptRow]
    batch_size: int
    cache_folder: Path | None = None
    """Folder of results that are never asked for twice."""


def choose_answers(request: ChoiceRequest, report: OnProgress) -> list[int]:
    """The position of each row's likeliest choice as the assistant's answer in the model's own chat template.

    The likelihood of a choice is the probability that the answer begins with it: the sum of the log-probabilities of
    its tokens, what lm-evaluation-harness calls `acc`. A mean over characters (`acc_norm`) favours long choices instead
    (https://proceedings.mlr.press/v306/oostermeijer26a.html) and is no probability of anything. The first of equals
    wins. Raises ConfigurationError for a choice that is the beginning of another, which by this measure could
    never lose to it.
    """
    tokenizer = loading.load_tokenizer(request.model)
    rows = encode_choices(tokenizer, [(row.prompt, [each.strip() for each in row.choices]) for row in request.rows])
    for row, choices in zip(request.rows, rows, strict=True):
        _require_distinct_choices(row, choices)
    store = JsonCache(request.cache_folder) if request.cache_folder else None
    weights = loading.model_fingerprint(request.model) if store else None
    key = JsonCache.key("choices", weights, asdict(describe_environment(tokenizer, request.batch_size, 0)), rows)
    known: list[int] | None = store.get(key) if store else None
    if known is not None:
        return known
    network = loading.load_cached_model(request.model)
    flat = [choice for choices in rows for choice in choices]
    likelihoods = iter(log_likelihoods(network, tokenizer, flat, request.batch_size, report))
    chosen = []
    for choices in rows:
        of_row = [next(likelihoods) for _ in choices]
        chosen.append(of_row.index(max(of_row)))
    if store:
        store.put(key, chosen)
    return chosen


def log_likelihoods(
    network: Any,  # noqa: ANN401 - transformers is untyped
    tokenizer: Any,  # noqa: ANN401
    rows: Sequence[TokenPair],
    batch_size: int,
    report: OnProgress,
) -> list[float]:
    """log p(answer | prompt) of each row, in nats: the sum over the answer's tokens, in float32."""
    import torch

    inputs = _group_inputs(rows)
    found = [0.0] * len(rows)
    ordered = sorted(inputs, key=len, reverse=True)
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        # What predicts an answer's first token is the last of its prompt.
        columns = max(1 + len(ids) - len(rows[position][0]) for ids in batch for position in inputs[ids])
        with torch.inference_mode():
            scores = compute_last_logits(network, tokenizer, batch, columns).float().log_softmax(dim=-1)
        for of_input, ids in zip(scores, batch, strict=True):
            for position in inputs[ids]:
                prompt, answer = rows[position]
                first = columns - len(ids) + len(prompt) - 1
                found[position] = float(of_input[range(first, first + len(answer)), answer].sum())
        report(Progress("choices", start + len(batch), len(ordered)))
    return found


def _group_inputs(rows: Sequence[TokenPair]) -> dict[tuple[int, ...], list[int]]:
    """What goes through the model, with the positions of the rows that are read off it.

    Nothing is predicted after an answer's last token, so that is left out; and what begins another input, as a prompt
    does whose answers have one token or several, has no pass of its own.
    """
    whole = {at: (*prompt, *answer[:-1]) for at, (prompt, answer) in enumerate(rows) if answer}
    inputs: dict[tuple[int, ...], list[int]] = {}
    longest: tuple[int, ...] = ()
    # In this order an input that begins others comes right after one of them.
    for position in sorted(whole, key=whole.__getitem__, reverse=True):
        ids = whole[position]
        if longest[: len(ids)] != ids:
            longest = ids
        inputs.setdefault(longest, []).append(position)
    return inputs


def encode_choices(tokenizer: Any, asked_for: Sequence[tuple[str, Sequence[str]]]) -> list[list[TokenPair]]:  # noqa: ANN401
    """Each prompt with each of its answers as token ids, parted where the token ids of all of them part.

    An answer is encoded together with its prompt, since a tokenizer may merge the answer's first characters with the
    template's last; with one cut for all answers to a prompt, such a merge is the answer's own and no other's.
    """
    opened = render_conversations(tokenizer, [single_turn(prompt) for prompt, _ in asked_for])
    found = []
    for text, (_, answers) in zip(opened, asked_for, strict=True):
        ids = encode_texts(tokenizer, [text, *(text + answer for answer in answers)])
        shortest = min(map(len, ids))
        cut = next((at for at in range(shortest) if len({each[at] for each in ids}) > 1), shortest)
        cut = max(1, cut)  # a model predicts nothing before its first token
        found.append([(each[:cut], each[cut:]) for each in ids[1:]])
    return found


def compute_last_logits(
    network: Any,  # noqa: ANN401 - transformers is untyped
    tokenizer: Any,  # noqa: ANN401
    inputs: Sequence[Sequence[int]],
    columns: int,
) -> "torch.Tensor":
    """[rows, columns, vocabulary] in the network's own precision: what follows each of the last `columns` tokens."""
    padded = tokenizer.pad({"input_ids": list(map(list, inputs))}, return_tensors="pt").to(network.device)
    mask = padded["attention_mask"]
    logits: torch.Tensor = network(
        input_ids=padded["input_ids"],
        attention_mask=mask,
        position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
        use_cache=False,
        logits_to_keep=columns,
    ).logits
    return logits


def _require_distinct_choices(row: PromptRow, choices: Sequence[TokenPair]) -> None:
    for (at, (_, one)), (_, (_, other)) in permutations(enumerate(choices), 2):
        if other[: len(one)] == one:
            raise ConfigurationError(
                f"the choice {row.choices[at]!r} is the beginning of another choice of the same task row",
                cause="the shorter of two such choices is always the likelier",
                hint="name the choices by letters in the prompt, and choose among the letters",
            )
