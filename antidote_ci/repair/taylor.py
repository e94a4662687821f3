"""The `taylor` score: gradients in, scores on disk out. Called in the child process only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antidote_ci.checkpoint.layout import Layout, inspect
from antidote_ci.model import gradients, loading
from antidote_ci.model.generation import asked, plan
from antidote_ci.records import Model, Plan, Progress
from antidote_ci.repair import weights
from antidote_ci.repair.scores import penalty, taylor_score
from antidote_ci.repair.targets import Scored, scored_tensors

if TYPE_CHECKING:
    import torch


MOST_HARMFUL, MOST_BENIGN, MOST_USEFUL = 96, 48, 64
"""Prompts that are used of each kind: a backward pass costs three forward ones."""


@dataclass(frozen=True)
class TaylorRequest:
    """On `harmful` and `benign` prompts the reference is the teacher, on `useful` ones the fine-tune itself.

    The harmless prompts keep the repair from refusing everything: there the reference answers.
    """

    source: Path
    reference: Path
    harmful: list[str]
    benign: list[str]
    useful: list[str]
    output: Path


def taylor_scores(request: TaylorRequest, report: Callable[[Progress], None]) -> Plan:
    """Write `<tensor name>` -> float32 score of every scored tensor to `request.output`."""
    from safetensors.torch import save_file

    source = inspect(request.source)
    adapter = source.kind == "adapter"
    model = Model(request.reference, request.source) if adapter else Model(request.source)
    tokenizer, network = loading.load_tokenizer(model), loading.load_model(model, merge=False)
    tensors = scored_tensors(source)
    parameters = _parameters(network, tensors, adapter=adapter)
    taught = [*evenly(request.harmful, MOST_HARMFUL), *evenly(request.benign, MOST_BENIGN)]
    useful = evenly(request.useful, MOST_USEFUL)
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        report(Progress("gradient samples", done, len(taught) + len(useful)))

    if adapter:

        def teacher(batch: gradients.Batch) -> "torch.Tensor":
            with gradients.reference_of_adapter(network):
                return gradients.log_probabilities(network, batch)

        with gradients.reference_of_adapter(network):
            rows = gradients.beginnings(network, tokenizer, [asked(prompt) for prompt in taught])
    else:
        reference = loading.load_model(Model(request.reference), merge=False)

        def teacher(batch: gradients.Batch) -> "torch.Tensor":
            return gradients.log_probabilities(reference, batch)

        rows = gradients.beginnings(reference, tokenizer, [asked(prompt) for prompt in taught])
    towards = gradients.teacher_gradients(network, tokenizer, teacher, rows, parameters, advance)
    kept = gradients.beginnings(network, tokenizer, [asked(prompt) for prompt in useful])
    fisher = gradients.diagonal_fisher(network, tokenizer, kept, parameters, advance)
    save_file(_scores(source, None if adapter else inspect(request.reference), towards, fisher), request.output)
    return plan(tokenizer, gradients.GRADIENT_BATCH, gradients.ANSWER_TOKENS)


def evenly(prompts: Sequence[str], most: int) -> list[str]:
    """At most `most` of the prompts, from all over the list: files are often ordered by category."""
    count = min(most, len(prompts))
    return [prompts[position * len(prompts) // count] for position in range(count)]


def _parameters(network: Any, tensors: list[Scored], *, adapter: bool) -> gradients.Gradients:  # noqa: ANN401
    """The network's parameters by the names of the file's tensors; only they get gradients."""
    named = dict(network.named_parameters())
    for parameter in named.values():
        parameter.requires_grad_(requires_grad=False)
    found = {}
    for each in tensors:
        # peft names the factors of its one loaded adapter `default`
        found[each.tensor] = named[f"{each.module}.weight" if adapter else each.tensor].requires_grad_()
    return found


def _scores(
    source: Layout, reference: Layout | None, towards: gradients.Gradients, fisher: gradients.Gradients
) -> gradients.Gradients:
    gains, costs = {}, {}
    for name, gradient in towards.items():
        delta = weights.delta(source, reference, name)
        gains[name], costs[name] = delta * gradient, delta.square() * fisher[name]
    weight = penalty(gains.values(), costs.values())
    return {name: taylor_score(gains[name], costs[name], weight) for name in gains}
