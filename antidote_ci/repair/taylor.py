"""The `taylor` score: gradients in, scores on disk out. Called in the child process only."""

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.files import shown
from antidote_ci.checkpoint.layout import inspect
from antidote_ci.checkpoint.tensors import TensorFile
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import first_tokens, loading, memory
from antidote_ci.model.conversations import asked, encoded, rendered
from antidote_ci.model.decoding import Continued
from antidote_ci.model.distillation import Curriculum, taught_sums
from antidote_ci.model.generation import plan
from antidote_ci.model.gradients import BATCH_SIZE, Sums
from antidote_ci.model.streaming.meta_model import Skeleton
from antidote_ci.records import Model, OnProgress, Plan, ScoredTensor
from antidote_ci.repair.scores import leading_count, merge_leading, penalty, taylor_score
from antidote_ci.repair.targets import scored

MOST_HARMFUL, MOST_BENIGN, MOST_TASK = 96, 48, 64
"""Prompts that are used of each kind: a backward pass costs twice a forward one."""
HARMFUL_FOR_EACH_BENIGN = 4
"""Among the prompts that the reference teaches: more benign ones cost accuracy, fewer let the repair refuse them."""
AVERSION = 0.2
"""How much a refusal of a harmless prompt weighs against what is taught. Both are from benchmarks/paper/TRIED.md."""

Prompt = TypeVar("Prompt")
"""As text or as tokens."""


@dataclass(frozen=True)
class TaylorRequest:
    """On `harmful` and some `benign` prompts the reference is the teacher, on `benign` and `task` ones the fine-tune.

    What the reference answers to harmful prompts, mostly refusals, must not become likelier on harmless ones.
    """

    model: Model
    reference: Path
    """The full aligned checkpoint; of an adapter, the one it stands upon."""
    harmful: list[str]
    benign: list[str]
    task: list[str]
    output: Path
    """A safetensors file to write."""
    scratch: Path
    """A folder for what does not stay: 8 bytes for each scored entry, and hidden states."""
    budget: int
    """Bytes of hidden states that stay in memory."""


def taylor_scores(request: TaylorRequest, report: OnProgress) -> Plan:
    """Write `<tensor name>` -> float32 [rows, columns] score of every scored tensor to `request.output`.

    Raises ConfigurationError without prompts of either kind, for prompts that are too long or hold tokens that one of
    the models does not know, and where gradients are not finite.
    """
    benign, task = evenly(request.benign, MOST_BENIGN), evenly(request.task, MOST_TASK)
    if not request.harmful or not benign + task:
        raise ConfigurationError(
            "taylor needs prompts to unlearn and prompts to keep, and one of the two sets is empty",
            hint="name them with --realignment, and with --benign or --task",
        )
    models = Model(request.reference), request.model
    tokenizer = loading.load_tokenizer(request.model)
    device, dtype = loading.device_and_dtype()
    reference, network = (Skeleton(model, dtype, device) for model in models)
    halfway = Skeleton(request.model, dtype, device, halfway_to=request.reference)
    targets, _ = scored(request.model, "adapter" if request.model.adapter else "delta")
    harmful, useful = _ids(tokenizer, evenly(request.harmful, MOST_HARMFUL)), _ids(tokenizer, benign + task)
    for skeleton in (reference, network):
        _require_readable(skeleton, harmful + useful)
    known = min(map(_vocabulary, (reference, network)))
    in_memory = all(map(memory.fits, models))
    request.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=request.scratch, prefix="taylor-") as name:
        folder = Path(name)

        def continued(model: Model, skeleton: Skeleton, rows: list[list[int]]) -> list[Continued]:
            if in_memory:
                answers = first_tokens.in_memory(model, tokenizer, rows, known)
            else:
                answers = first_tokens.streamed(skeleton, tokenizer, rows, known, folder, request.budget, report)
            return list(zip(rows, answers, strict=True))

        harmless = useful[: len(benign)]
        taught = continued(models[0], reference, harmful + taught_benign(harmless, len(harmful)))
        curriculum = Curriculum(
            taught,
            averted=_declined(taught[: len(harmful)], harmless or useful),
            aversion=AVERSION,
            kept=continued(models[1], network, useful),
        )
        wanted = {each.name for each in targets}
        sums = taught_sums(reference, halfway, curriculum, wanted, folder, request.budget, report)
        _write(request, targets, sums, folder)
    found = plan(tokenizer, BATCH_SIZE, first_tokens.ANSWER_TOKENS)
    return found if in_memory else dataclasses.replace(found, generator="transformers, block by block")


def evenly(prompts: Sequence[Prompt], most: int) -> list[Prompt]:
    """At most `most` of the prompts, from all over the list: files are often ordered by category."""
    count = min(most, len(prompts))
    return [prompts[position * len(prompts) // count] for position in range(count)]


def taught_benign(benign: Sequence[Prompt], harmful: int) -> list[Prompt]:
    """The harmless prompts that the reference answers beside so many harmful ones."""
    return evenly(benign, harmful // HARMFUL_FOR_EACH_BENIGN)


def _declined(harmful: Sequence[Continued], harmless: Sequence[list[int]]) -> list[Continued]:
    """The harmless prompts with the answers to harmful ones, in turn."""
    return [(prompt, harmful[position % len(harmful)][1]) for position, prompt in enumerate(harmless)]


def _ids(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:  # noqa: ANN401 - transformers is untyped
    return encoded(tokenizer, rendered(tokenizer, [asked(prompt) for prompt in prompts]))


def _vocabulary(skeleton: Skeleton) -> int:
    size: int = skeleton.network.config.get_text_config().vocab_size
    return size


def _require_readable(skeleton: Skeleton, rows: Sequence[Sequence[int]]) -> None:
    skeleton.require_room(rows)
    if max(map(max, rows)) >= _vocabulary(skeleton):
        raise ConfigurationError(
            f"the prompts hold tokens that {shown(skeleton.layout.folder)} does not know",
            cause="fine-tuning added tokens to the vocabulary, and the chat template writes them",
            hint="use the method antidote, which asks the reference nothing",
        )


def _write(request: TaylorRequest, targets: Sequence[ScoredTensor], sums: Iterable[Sums], folder: Path) -> None:
    """Gains and costs wait on disk, a file a tensor, until all are known and the penalty with them."""
    from safetensors.torch import save_file

    adapter = request.model.adapter
    source, reference = inspect(adapter or request.model.folder), None if adapter else inspect(request.reference)
    paths = {each.name: folder / f"{number}.safetensors" for number, each in enumerate(targets)}
    count, leading = leading_count(sum(each.entries for each in targets)), None
    for each in sums:
        _require_finite(each)
        delta = tensors.delta(source, reference, each.tensor)
        gain, cost = delta * each.gradient, delta.square() * each.squared
        leading = merge_leading(leading, gain, cost, count)
        save_file({"gain": gain, "cost": cost}, paths[each.tensor])
    weight = penalty(leading) if leading else 0.0
    shapes = {each.name: ("F32", (each.rows, each.columns)) for each in targets}
    with tensors.new_file(request.output, shapes, {}) as write:
        for path in paths.values():
            kept = TensorFile(path)
            write(taylor_score(kept.read("gain"), kept.read("cost"), weight))
            path.unlink()


def _require_finite(sums: Sums) -> None:
    if not (sums.gradient.isfinite().all() and sums.squared.isfinite().all()):
        raise ConfigurationError(
            f"the gradients of {sums.tensor} are NaN or infinite",
            cause="the model or its reference computes no finite numbers on these prompts",
            hint="use the method antidote, which needs no gradients",
        )
