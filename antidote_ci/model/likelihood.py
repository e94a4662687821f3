"""Log-likelihoods of given answers, and choices among answers by them. Runs in the sandbox process only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

from antidote_ci.errors import ConfigurationError
from antidote_ci.model import Network, Tokenizer, loading
from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.generation import describe_environment
from antidote_ci.model.store import JsonCache
from antidote_ci.records import Model, OnProgress, Progress, PromptRow

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ChoiceRequest:
    """Rows with their choices. A batch has `batch_size` answers."""

    model: Model
    rows: list[PromptRow]
    batch_size: int
    cache_folder: Path | None = None
    """Folder for results, which are then computed once."""


def choose_answers(request: ChoiceRequest, report: OnProgress) -> list[int]:
    """The position of each row's most likely choice as the assistant's answer in the model's own chat template.

    The likelihood of a choice is the probability that the answer begins with it: the sum of the log-probabilities of
    its tokens, which lm-evaluation-harness calls `acc`. Its mean over characters (`acc_norm`) favours long choices
    (https://proceedings.mlr.press/v306/oostermeijer26a.html) and is not a log-probability. The first of equals wins.
    Raises ConfigurationError for a choice that is a prefix of another: it is never less likely.
    """
    tokenizer = loading.load_tokenizer(request.model)
    rows = encode_choices(tokenizer, [(row.prompt, [choice.strip() for choice in row.choices]) for row in request.rows])
    for row, choices in zip(request.rows, rows, strict=True):
        _require_distinct_choices(row, choices)
    store = JsonCache(request.cache_folder) if request.cache_folder else None
    weights = loading.model_fingerprint(request.model) if store else None
    key = JsonCache.key("choices", weights, asdict(describe_environment(tokenizer, request.batch_size, 0)), rows)
    stored: list[int] | None = store.get(key) if store else None
    if stored is not None:
        return stored
    network = loading.load_cached_model(request.model)
    pairs = [choice for choices in rows for choice in choices]
    likelihoods = iter(log_likelihoods(network, tokenizer, pairs, request.batch_size, report))
    chosen = []
    for choices in rows:
        row_likelihoods = [next(likelihoods) for _ in choices]
        chosen.append(row_likelihoods.index(max(row_likelihoods)))
    if store:
        store.put(key, chosen)
    return chosen


def log_likelihoods(
    network: Network, tokenizer: Tokenizer, rows: Sequence[TokenPair], batch_size: int, report: OnProgress
) -> list[float]:
    """log p(answer | prompt) of each row in nats: the sum over the answer's tokens, in float32."""
    import torch

    inputs = _group_inputs(rows)
    likelihoods = [0.0] * len(rows)
    ordered = sorted(inputs, key=len, reverse=True)
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        # The last token of a prompt predicts the first of its answer.
        columns = max(1 + len(ids) - len(rows[position][0]) for ids in batch for position in inputs[ids])
        with torch.inference_mode():
            scores = compute_last_logits(network, tokenizer, batch, columns).float().log_softmax(dim=-1)
        for input_scores, ids in zip(scores, batch, strict=True):
            for position in inputs[ids]:
                prompt, answer = rows[position]
                first = columns - len(ids) + len(prompt) - 1
                likelihoods[position] = float(input_scores[range(first, first + len(answer)), answer].sum())
        report(Progress("choices", start + len(batch), len(ordered)))
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


def encode_choices(tokenizer: Tokenizer, rows: Sequence[tuple[str, Sequence[str]]]) -> list[list[TokenPair]]:
    """Each prompt with each of its answers as token ids, split at the first token in which the answers differ.

    An answer is encoded together with its prompt, because a tokenizer may merge the answer's first characters with the
    template's last. With one split for all answers to a prompt, such a merged token belongs to the answer.
    """
    texts = render_conversations(tokenizer, [single_turn(prompt) for prompt, _ in rows])
    encoded = []
    for text, (_, answers) in zip(texts, rows, strict=True):
        ids = encode_texts(tokenizer, [text, *(text + answer for answer in answers)])
        shortest = min(map(len, ids))
        split = next((at for at in range(shortest) if len({row[at] for row in ids}) > 1), shortest)
        split = max(1, split)  # a model predicts nothing before its first token
        encoded.append([(row[:split], row[split:]) for row in ids[1:]])
    return encoded


def compute_last_logits(
    network: Network, tokenizer: Tokenizer, inputs: Sequence[Sequence[int]], columns: int
) -> "torch.Tensor":
    """Logits [rows, columns, vocabulary] at the last `columns` tokens of each input, in the network's dtype."""
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
    for (number, (_, prefix)), (_, (_, answer)) in permutations(enumerate(choices), 2):
        if answer[: len(prefix)] == prefix:
            raise ConfigurationError(
                f"the choice {row.choices[number]!r} is the beginning of another choice of the same task row",
                cause="of two such choices the shorter one is always at least as likely",
                hint="label the choices with letters in the prompt, and let the model choose a letter",
            )
