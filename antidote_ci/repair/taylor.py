"""Write the `taylor` scores: prompts and two models in, scores on disk out. Called in the child process only."""

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from antidote_ci.checkpoint import tensors
from antidote_ci.checkpoint.files import display_name
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.tensors import TensorFile
from antidote_ci.errors import ConfigurationError
from antidote_ci.model import distillation, loading, memory
from antidote_ci.model.conversations import NO_SETTINGS, describe_template, encode_prompts, find_thought_marks
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.distillation import DistillationData, distillation_gradients
from antidote_ci.model.generation import describe_environment
from antidote_ci.model.gradients import BATCH_SIZE, GradientSums
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.records import ChatSettings, ComputeEnvironment, Model, OnProgress, ScoredTensor
from antidote_ci.repair.scores import cost_penalty, count_leading, leading_stride, merge_leading, taylor_score
from antidote_ci.repair.targets import list_scored

MAX_HARMFUL, MAX_BENIGN, MAX_TASK = 96, 48, 64
"""Prompts of each kind that are used: a backward pass costs twice a forward pass."""
HARMFUL_PER_BENIGN = 4
"""Harmful prompts per distilled benign one: more benign ones cost accuracy, fewer cause refusals."""
FLOAT32 = 4
UNLEARNING_WEIGHT = 0.2
"""Weight of refusals of harmless prompts in the loss. Both constants are from benchmarks/paper/TRIED.md."""

Prompt = TypeVar("Prompt")
"""A text, or its tokens."""


@dataclass(frozen=True)
class TaylorRequest:
    """The arguments of `write_taylor_scores`.

    The reference is the teacher on `harmful` and some `taught` prompts, the fine-tune on `benign` and `task` prompts.
    The reference's answers to harmful prompts, mostly refusals, must not become more likely on harmless ones.
    """

    model: Model
    reference: Model
    """The full aligned checkpoint; for an adapter its base."""
    harmful: list[str]
    benign: list[str]
    taught: list[str]
    """Harmless prompts that the reference answers."""
    task: list[str]
    output: Path
    """The safetensors file to write."""
    scratch: Path
    """A folder for temporary files: `estimate_scratch` and hidden states."""
    budget: int
    """Bytes of hidden states that stay in memory, and of the float32 sums of gradients."""
    chat: ChatSettings = NO_SETTINGS


def write_taylor_scores(request: TaylorRequest, on_progress: OnProgress) -> ComputeEnvironment:
    """Write the float32 score [rows, columns] of every scored tensor, by name, to `request.output`.

    Raises ConfigurationError without prompts of either kind, for prompts that are too long or hold tokens that one of
    the models does not have, and when gradients are not finite.
    """
    benign, task = sample_evenly(request.benign, MAX_BENIGN), sample_evenly(request.task, MAX_TASK)
    if not request.harmful or not benign + task:
        raise ConfigurationError(
            "taylor needs prompts to unlearn and prompts to keep, and one of the two sets is empty",
            hint="name them with --realignment, and with --benign or --task",
        )
    models = request.reference, request.model
    tokenizer = loading.load_cached_tokenizer(request.model)
    device, dtype = loading.select_device_and_dtype()
    reference, fine_tune = (MetaModel(model, dtype, device) for model in models)
    halfway = MetaModel(request.model, dtype, device, halfway_to=request.reference.folder)
    scored, _ = list_scored(request.model)
    if describe_template(tokenizer, request.chat.template_arguments).thoughts == "open":
        raise _thought_error(request.model)
    harmful = encode_prompts(tokenizer, sample_evenly(request.harmful, MAX_HARMFUL), request.chat)
    taught = encode_prompts(tokenizer, select_taught(request.taught, len(harmful)), request.chat)
    useful = encode_prompts(tokenizer, benign + task, request.chat)
    for meta_model in (reference, fine_tune):
        _require_readable(meta_model, harmful + taught + useful)
    vocabulary = min(reference.vocabulary, fine_tune.vocabulary)
    in_memory = all(map(memory.fits_in_memory, models))
    request.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=request.scratch, prefix="taylor-") as name:
        folder = Path(name)

        def with_answers(model: Model, meta_model: MetaModel, prompts: list[list[int]]) -> list[TokenPair]:
            if in_memory:
                answers = distillation.first_tokens_in_memory(model, tokenizer, prompts, vocabulary)
            else:
                answers = distillation.first_tokens_streamed(
                    meta_model, tokenizer, prompts, vocabulary, folder, request.budget, on_progress
                )
            return list(zip(prompts, answers, strict=True))

        harmless = useful[: len(benign)]
        distilled = with_answers(models[0], reference, harmful + taught)
        start = find_thought_marks(tokenizer).start
        thoughts = [tokenizer.decode(answer).lstrip().startswith(start) for _, answer in distilled]
        if 2 * sum(thoughts) > len(thoughts):
            raise _thought_error(request.model)
        data = DistillationData(
            distilled,
            unlearned=_pair_refusals(distilled[: len(harmful)], harmless or useful),
            unlearning_weight=UNLEARNING_WEIGHT,
            retained=with_answers(models[1], fine_tune, useful),
        )
        names = {tensor.name for tensor in scored}
        sums = distillation_gradients(reference, halfway, data, names, folder, request.budget, on_progress)
        _write_scores(request, scored, sums, folder)
    environment = describe_environment(tokenizer, BATCH_SIZE, distillation.ANSWER_TOKENS)
    return environment if in_memory else dataclasses.replace(environment, generator="transformers, block by block")


def estimate_scratch(scored: Sequence[ScoredTensor]) -> int:
    """Return the bytes of disk space that `write_taylor_scores` takes, hidden states and answers not included.

    The gain and the cost of every entry in float32, which are removed one tensor after another while the scores are
    written, and the scores of one tensor.
    """
    entries = [tensor.entries for tensor in scored]
    return FLOAT32 * (2 * sum(entries) + max(entries, default=0))


def sample_evenly(prompts: Sequence[Prompt], most: int) -> list[Prompt]:
    """Return at most `most` prompts, spread over the list: files are often ordered by category."""
    count = min(most, len(prompts))
    return [prompts[position * len(prompts) // count] for position in range(count)]


def select_taught(taught: Sequence[Prompt], harmful: int) -> list[Prompt]:
    """Return the harmless prompts that the reference teaches in addition to `harmful` harmful ones."""
    return sample_evenly(taught, harmful // HARMFUL_PER_BENIGN)


def _pair_refusals(harmful: Sequence[TokenPair], harmless: Sequence[list[int]]) -> list[TokenPair]:
    """Pair each harmless prompt with the answer to a harmful one, in turn."""
    return [(prompt, harmful[position % len(harmful)][1]) for position, prompt in enumerate(harmless)]


def _thought_error(model: Model) -> ConfigurationError:
    return ConfigurationError(
        f"taylor cannot repair {display_name(model.folder)} in a mode that thinks",
        cause="it reads the first tokens of the reference's answers, and here they are those of a thought",
        hint="turn thoughts off, such as chat_template_kwargs = { enable_thinking = false } in [evaluation] of the "
        "policy, or use --method antidote",
    )


def _require_readable(meta_model: MetaModel, prompts: Sequence[Sequence[int]]) -> None:
    meta_model.require_positions(prompts)
    if max(map(max, prompts)) >= meta_model.vocabulary:
        raise ConfigurationError(
            f"the prompts hold tokens that {display_name(meta_model.layout.folder)} does not have",
            cause="fine-tuning added tokens to the vocabulary, and the chat template uses them",
            hint="use the method antidote, which does not run the reference",
        )


def _write_scores(
    request: TaylorRequest, scored: Sequence[ScoredTensor], sums: Iterable[GradientSums], folder: Path
) -> None:
    """Store gains and costs on disk, one file per tensor, until all are known and with them the penalty."""
    from safetensors.torch import save_file

    adapter = request.model.adapter
    source = read_layout(adapter or request.model.folder)
    reference = None if adapter else read_layout(request.reference.folder)
    paths = {tensor.name: folder / f"{number}.safetensors" for number, tensor in enumerate(scored)}
    entries, leading = sum(tensor.entries for tensor in scored), None
    count, stride = count_leading(entries), leading_stride(entries)
    for tensor_sums in sums:
        if not (tensor_sums.gradient.isfinite().all() and tensor_sums.squared.isfinite().all()):
            raise ConfigurationError(
                f"the gradients of {tensor_sums.tensor} are NaN or infinite",
                cause="the model or its reference computes no finite numbers on these prompts",
                hint="use the method antidote, which needs no gradients",
            )
        delta = tensors.read_delta(source, reference, tensor_sums.tensor)
        gain, cost = delta * tensor_sums.gradient, delta.square() * tensor_sums.squared
        leading = merge_leading(leading, gain.flatten()[::stride], cost.flatten()[::stride], count)
        save_file({"gain": gain, "cost": cost}, paths[tensor_sums.tensor])
    penalty = cost_penalty(leading) if leading else 0.0
    shapes = {tensor.name: ("F32", (tensor.rows, tensor.columns)) for tensor in scored}
    with tensors.open_writer(request.output, shapes, {}) as write:
        for path in paths.values():
            parts = TensorFile(path)
            write(taylor_score(parts.read("gain"), parts.read("cost"), penalty))
            path.unlink()
