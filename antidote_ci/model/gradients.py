"""Gradients of a fine-tune, with its reference and itself as teachers. In memory; called in the child process only."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from antidote_ci.model.batching import length_sorted_batches
from antidote_ci.model.decoding import continuations
from antidote_ci.model.generation import Conversation, encoded, end_tokens, rendered

if TYPE_CHECKING:
    import torch

ANSWER_TOKENS = 8
"""Where an answer is decided: whether to refuse, what to answer. More only dilutes it."""
GENERATION_BATCH = 48
GRADIENT_BATCH = 8

Gradients = dict[str, "torch.Tensor"]
Continued = tuple[list[int], list[int]]
"""Token ids of a prompt, and of the answer's beginning."""


@dataclass(frozen=True)
class Batch:
    """Prompts with the beginnings of their answers, padded on the left: the answers end together."""

    tokens: dict[str, "torch.Tensor"]
    answer: "torch.Tensor"
    """Boolean [rows, tokens of the longest answer]: which of the last columns are of the answer."""


def beginnings(network: Any, tokenizer: Any, conversations: Sequence[Conversation]) -> list[Continued]:  # noqa: ANN401
    """Each conversation with the first tokens of the network's own greedy answer."""
    rows = encoded(tokenizer, rendered(tokenizer, conversations))
    from peft import PeftModel

    # An adapter's wrapper hides what its model's forward takes; its layers are in that model either way.
    plain = network.get_base_model() if isinstance(network, PeftModel) else network
    ends = end_tokens(plain, tokenizer)
    answers: dict[int, list[int]] = {}
    for batch in length_sorted_batches(rows, GENERATION_BATCH):
        found = continuations(plain, [rows[position] for position in batch], ANSWER_TOKENS, ends)
        answers.update(zip(batch, found, strict=True))
    return [(row, answers[position]) for position, row in enumerate(rows)]


def teacher_gradients(
    network: Any,  # noqa: ANN401 - transformers is untyped
    tokenizer: Any,  # noqa: ANN401
    teacher: Callable[[Batch], "torch.Tensor"],
    rows: Sequence[Continued],
    parameters: Gradients,
    report: Callable[[int], None],
) -> Gradients:
    """d KL(teacher || network) / dW in float32, the mean over rows of the mean over the answer's tokens."""
    import torch

    sums = {name: torch.zeros(weight.shape) for name, weight in parameters.items()}
    for batch in _batches(network, tokenizer, rows):
        with torch.no_grad():
            target = teacher(batch)
        divergence = (target.exp() * (target - log_probabilities(network, batch))).sum(dim=-1)
        share = batch.answer / batch.answer.sum(dim=1, keepdim=True)
        _add(sums, (divergence * share).sum() / len(rows), parameters, square=False)
        report(len(batch.answer))
    return sums


def diagonal_fisher(
    network: Any,  # noqa: ANN401 - transformers is untyped
    tokenizer: Any,  # noqa: ANN401
    rows: Sequence[Continued],
    parameters: Gradients,
    report: Callable[[int], None],
) -> Gradients:
    """The diagonal of the Fisher information in float32, a mean over rows.

    Squared gradients at labels drawn from the network's own distribution, so that a batch's square has the sum of its
    rows' squares as its expectation. https://arxiv.org/abs/1412.1193
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    sums = {name: torch.zeros(weight.shape) for name, weight in parameters.items()}
    for batch in _batches(network, tokenizer, rows):
        scores = log_probabilities(network, batch)
        drawn = torch.multinomial(scores.detach().exp().flatten(0, 1).cpu(), 1, generator=generator)
        chosen = scores.gather(-1, drawn.to(scores.device).reshape(*scores.shape[:2], 1)).squeeze(-1)
        _add(sums, (chosen * batch.answer).sum(), parameters, square=True)
        report(len(batch.answer))
    return {name: total / len(rows) for name, total in sums.items()}


def log_probabilities(network: Any, batch: Batch) -> "torch.Tensor":  # noqa: ANN401 - transformers is untyped
    """Float32 [rows, tokens of the longest answer, vocabulary] of what stands in the last columns."""
    columns = batch.answer.shape[1]
    logits = network(**batch.tokens, use_cache=False, logits_to_keep=columns + 1).logits
    result: torch.Tensor = logits[:, :-1].float().log_softmax(dim=-1)
    return result


def reference_of_adapter(network: Any) -> AbstractContextManager[Any]:  # noqa: ANN401 - peft is untyped
    """Within it, the network of an adapter answers as its base."""
    context: AbstractContextManager[Any] = network.disable_adapter()
    return context


def _batches(network: Any, tokenizer: Any, rows: Sequence[Continued]) -> Iterator[Batch]:  # noqa: ANN401
    import torch

    ordered = sorted(rows, key=lambda row: len(row[0]))
    for start in range(0, len(ordered), GRADIENT_BATCH):
        chunk = ordered[start : start + GRADIENT_BATCH]
        padded = tokenizer.pad({"input_ids": [[*prompt, *answer] for prompt, answer in chunk]}, return_tensors="pt")
        mask = padded["attention_mask"]
        longest = max(len(answer) for _, answer in chunk)
        answer = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for _, row in chunk])
        tokens = {
            "input_ids": padded["input_ids"],
            "attention_mask": mask,
            "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0),
        }
        moved = {name: value.to(network.device) for name, value in tokens.items()}
        yield Batch(moved, answer.to(network.device).bool())


def _add(sums: Gradients, loss: "torch.Tensor", parameters: Gradients, *, square: bool) -> None:
    import torch

    gradients = torch.autograd.grad(loss, list(parameters.values()))
    for name, gradient in zip(parameters, gradients, strict=True):
        value = gradient.float().cpu()
        sums[name] += value.square() if square else value
