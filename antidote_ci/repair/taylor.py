"""The `taylor` score: gradients in, scores on disk out. Called in the child process only."""

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.tensors import TensorFile
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import distillation, loading, memory
from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.distillation import DistillationData, distillation_gradients
from antidote_ci.model.generation import describe_environment
from antidote_ci.model.gradients import BATCH_SIZE, GradientSums
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.records import ComputeEnvironment, Model, OnProgress, ScoredTensor
from antidote_ci.repair.scores import cost_penalty, count_leading, merge_leading, taylor_score
from antidote_ci.repair.targets import list_scored

MAX_HARMFUL, MAX_BENIGN, MAX_TASK = 96, 48, 64
"""Prompts that are used of each kind: a backward pass costs twice a forward one."""
HARMFUL_PER_BENIGN = 4
"""Among the prompts that the reference teaches: more benign ones cost accuracy, fewer let the repair refuse them."""
UNLEARNING_WEIGHT = 0.2
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


def write_taylor_scores(request: TaylorRequest, report: OnProgress) -> ComputeEnvironment:
    """Write `<tensor name>` -> float32 [rows, columns] score of every scored tensor to `request.output`.

    Raises ConfigurationError without prompts of either kind, for prompts that are too long or hold tokens that one of
    the models does not know, and where gradients are not finite.
    """
    benign, task = sample_evenly(request.benign, MAX_BENIGN), sample_evenly(request.task, MAX_TASK)
    if not request.harmful or not benign + task:
        raise ConfigurationError(
            "taylor needs prompts to unlearn and prompts to keep, and one of the two sets is empty",
            hint="name them with --realignment, and with --benign or --task",
        )
    models = Model(request.reference), request.model
    tokenizer = loading.load_tokenizer(request.model)
    device, dtype = loading.select_device_and_dtype()
    reference, network = (MetaModel(model, dtype, device) for model in models)
    halfway = MetaModel(request.model, dtype, device, halfway_to=request.reference)
    targets, _ = list_scored(request.model, "adapter" if request.model.adapter else "delta")
    harmful, useful = (
        _encode_prompts(tokenizer, sample_evenly(request.harmful, MAX_HARMFUL)),
        _encode_prompts(tokenizer, benign + task),
    )
    for skeleton in (reference, network):
        _require_readable(skeleton, harmful + useful)
    known = min(map(_vocabulary_size, (reference, network)))
    in_memory = all(map(memory.fits_in_memory, models))
    request.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=request.scratch, prefix="taylor-") as name:
        folder = Path(name)

        def continued(model: Model, skeleton: MetaModel, rows: list[list[int]]) -> list[TokenPair]:
            if in_memory:
                answers = distillation.first_tokens_in_memory(model, tokenizer, rows, known)
            else:
                answers = distillation.first_tokens_streamed(
                    skeleton, tokenizer, rows, known, folder, request.budget, report
                )
            return list(zip(rows, answers, strict=True))

        harmless = useful[: len(benign)]
        taught = continued(models[0], reference, harmful + select_distilled_benign(harmless, len(harmful)))
        curriculum = DistillationData(
            taught,
            unlearned=_pair_refusals(taught[: len(harmful)], harmless or useful),
            unlearning_weight=UNLEARNING_WEIGHT,
            retained=continued(models[1], network, useful),
        )
        wanted = {each.name for each in targets}
        sums = distillation_gradients(reference, halfway, curriculum, wanted, folder, request.budget, report)
        _write_scores(request, targets, sums, folder)
    found = describe_environment(tokenizer, BATCH_SIZE, distillation.ANSWER_TOKENS)
    return found if in_memory else dataclasses.replace(found, generator="transformers, block by block")


def sample_evenly(prompts: Sequence[Prompt], most: int) -> list[Prompt]:
    """At most `most` of the prompts, from all over the list: files are often ordered by category."""
    count = min(most, len(prompts))
    return [prompts[position * len(prompts) // count] for position in range(count)]


def select_distilled_benign(benign: Sequence[Prompt], harmful: int) -> list[Prompt]:
    """The harmless prompts that the reference answers beside so many harmful ones."""
    return sample_evenly(benign, harmful // HARMFUL_PER_BENIGN)


def _pair_refusals(harmful: Sequence[TokenPair], harmless: Sequence[list[int]]) -> list[TokenPair]:
    """The harmless prompts with the answers to harmful ones, in turn."""
    return [(prompt, harmful[position % len(harmful)][1]) for position, prompt in enumerate(harmless)]


def _encode_prompts(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:  # noqa: ANN401 - transformers is untyped
    return encode_texts(tokenizer, render_conversations(tokenizer, [single_turn(prompt) for prompt in prompts]))


def _vocabulary_size(meta_model: MetaModel) -> int:
    size: int = meta_model.network.config.get_text_config().vocab_size
    return size


def _require_readable(meta_model: MetaModel, rows: Sequence[Sequence[int]]) -> None:
    meta_model.require_positions(rows)
    if max(map(max, rows)) >= _vocabulary_size(meta_model):
        raise ConfigurationError(
            f"the prompts hold tokens that {display_name(meta_model.layout.folder)} does not know",
            cause="fine-tuning added tokens to the vocabulary, and the chat template writes them",
            hint="use the method antidote, which asks the reference nothing",
        )


def _write_scores(
    request: TaylorRequest, targets: Sequence[ScoredTensor], sums: Iterable[GradientSums], folder: Path
) -> None:
    """Gains and costs wait on disk, a file a tensor, until all are known and the penalty with them."""
    from safetensors.torch import save_file

    adapter = request.model.adapter
    source, reference = (
        read_layout(adapter or request.model.folder),
        None if adapter else read_layout(request.reference),
    )
    paths = {each.name: folder / f"{number}.safetensors" for number, each in enumerate(targets)}
    count, leading = count_leading(sum(each.entries for each in targets)), None
    for each in sums:
        _require_finite(each)
        delta = tensors.read_delta(source, reference, each.tensor)
        gain, cost = delta * each.gradient, delta.square() * each.squared
        leading = merge_leading(leading, gain, cost, count)
        save_file({"gain": gain, "cost": cost}, paths[each.tensor])
    weight = cost_penalty(leading) if leading else 0.0
    shapes = {each.name: ("F32", (each.rows, each.columns)) for each in targets}
    with tensors.open_writer(request.output, shapes, {}) as write:
        for path in paths.values():
            kept = TensorFile(path)
            write(taylor_score(kept.read("gain"), kept.read("cost"), weight))
            path.unlink()


def _require_finite(sums: GradientSums) -> None:
    if not (sums.gradient.isfinite().all() and sums.squared.isfinite().all()):
        raise ConfigurationError(
            f"the gradients of {sums.tensor} are NaN or infinite",
            cause="the model or its reference computes no finite numbers on these prompts",
            hint="use the method antidote, which needs no gradients",
        )
