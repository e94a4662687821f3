"""The methods of the benchmark: each turns a dose into edited weights of one model in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from antidote_ci.checkpoint.tensors import TensorFile
from antidote_ci.evaluation import kinds
from antidote_ci.evaluation.measure import REFUSAL_TOKENS
from antidote_ci.evaluation.splits import RepairPrompts
from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.edits import unpack_mask
from antidote_ci.pipeline.candidates import CANDIDATES_PER_PROMPT, ScoringPrompts
from antidote_ci.records import Model, Progress, PromptRow, ScoreMethod
from antidote_ci.repair import masks
from antidote_ci.repair.methods import METHODS as PRODUCT_METHODS
from antidote_ci.repair.scores import wanda_score
from antidote_ci.repair.scoring import ScoreRequest, score_weights
from antidote_ci.repair.taylor import MAX_BENIGN, MAX_HARMFUL
from benchmarks.repair import baselines, gradients, two_teachers
from benchmarks.repair.networks import EditableModel, Factors
from benchmarks.repair.outcomes import REFUSED, measure_answers

BUDGET = 1 << 30
"""Bytes of hidden states that scoring keeps in memory; the package's default."""

ApplyDose = Callable[[float], None]
"""Edits the weights of the model in place."""


@dataclass(frozen=True)
class Problem:
    """One attack to repair."""

    model: EditableModel
    reference: Path
    adapter: Path
    prompts: RepairPrompts
    work: Path
    """A folder for scores."""


@dataclass(frozen=True)
class Method:
    """A method and the doses among which one is selected."""

    doses: tuple[float, ...]
    prepare: Callable[[Problem], ApplyDose]


def _prepare_product(problem: Problem, method: ScoreMethod) -> ApplyDose:
    """The package's own scores and masks, on the factors of the adapter."""
    prompts = problem.prompts
    chosen = choose_prompts(problem) if method == "taylor" else ScoringPrompts(prompts.realignment, [], [])
    request = ScoreRequest(
        model=Model(problem.reference, problem.adapter),
        source=problem.adapter,
        reference=None,
        target="adapter",
        method=method,
        rows=chosen.harmful,
        benign=[row.prompt for row in chosen.benign],
        taught=[row.prompt for row in chosen.taught],
        task=[row.prompt for row in problem.prompts.task],
        folder=problem.work,
        budget=BUDGET,
    )
    scores = score_weights(request, _ignore_progress)
    statistics = TensorFile(problem.work / f"{method}.safetensors")
    per = PRODUCT_METHODS[method].per or "row"
    names = problem.model.names

    def mask(name: str, weight: torch.Tensor, dose: float) -> torch.Tensor:
        values = statistics.read(name)
        score = wanda_score(weight, values) if method == "antidote" else values
        selected = unpack_mask(masks.pack_masks(score, per, [dose])[0], *weight.shape)
        return weight.masked_fill(selected, 0)

    def apply_dose(dose: float) -> None:
        edited = {
            path: Factors(mask(names[path][0], layer.a, dose), mask(names[path][1], layer.b, dose), layer.scaling)
            for path, layer in problem.model.factors.items()
        }
        problem.model.use_factors(edited)

    if len(scores.tensors) != 2 * len(names):
        raise ValueError("the adapter has other factors than those that are scored")
    return apply_dose


def choose_prompts(problem: Problem) -> ScoringPrompts:
    """The prompts that the package's `taylor` reads in a run: see `pipeline.candidates`."""
    prompts = problem.prompts
    harmful = kinds.mix_rows(prompts.realignment, prompts.varied, CANDIDATES_PER_PROMPT * MAX_HARMFUL)
    benign = kinds.mix_rows(prompts.benign, prompts.varied_benign, MAX_BENIGN)
    problem.model.use_reference()
    refused = [row for row, letter in zip(harmful, _ask(problem, harmful), strict=True) if letter == REFUSED]
    answered = [row for row, letter in zip(benign, _ask(problem, benign), strict=True) if letter != REFUSED]
    return ScoringPrompts(kinds.sample_kinds(refused, MAX_HARMFUL), answered, benign)


def _ask(problem: Problem, rows: list[PromptRow]) -> str:
    return measure_answers(problem.model, rows, REFUSAL_TOKENS)


def _prepare_scale(problem: Problem) -> ApplyDose:
    return lambda dose: problem.model.use_weights(baselines.scale(problem.model, dose))


def _prepare_random(problem: Problem) -> ApplyDose:
    def apply_dose(dose: float) -> None:
        edited = {}
        for path, layer in problem.model.factors.items():
            factors = []
            for name, weight in zip(problem.model.names[path], (layer.a, layer.b), strict=True):
                score = masks.random_score(weight.shape[0], weight.shape[1], name)
                selected = unpack_mask(masks.pack_masks(score, "row", [dose])[0], *weight.shape)
                factors.append(weight.masked_fill(selected, 0))
            edited[path] = Factors(factors[0], factors[1], layer.scaling)
        problem.model.use_factors(edited)

    return apply_dose


def _prepare_ceiling(problem: Problem) -> ApplyDose:
    """The dose is the number of steps of the two-teacher fine-tuning, on the prompts of `taylor`."""
    model, chosen = problem.model, choose_prompts(problem)
    model.use_reference()
    harmful = gradients.answer_with(model, encode_rows(model, chosen.harmful), 16)
    model.use_factors(model.factors)
    harmless = gradients.answer_with(model, encode_rows(model, chosen.benign), 24)
    task = gradients.answer_with(model, encode_rows(model, problem.prompts.task), 8)
    teachers: Mapping[str, tuple[list[TokenPair], bool]] = {
        "harmful": (harmful, True),
        "harmless": (harmless, False),
        "task": (task, False),
    }
    return lambda dose: model.use_factors(two_teachers.tune(model, teachers, two_teachers.Tuning(steps=int(dose))))


METHODS: Mapping[str, Method] = {
    "taylor": Method(
        PRODUCT_METHODS["taylor"].doses["adapter"][:8], lambda problem: _prepare_product(problem, "taylor")
    ),
    "antidote": Method((0.02, 0.05, 0.1, 0.2, 0.3), lambda problem: _prepare_product(problem, "antidote")),
    "scale": Method((0.3, 0.5, 0.6, 0.7, 0.8, 0.9), _prepare_scale),
    "random": Method((0.1, 0.3, 0.5, 0.7), _prepare_random),
    "two-teachers": Method((20, 40, 60), _prepare_ceiling),
}


def encode_rows(model: EditableModel, rows: list[PromptRow]) -> list[list[int]]:
    """The prompts as token ids in the model's chat template."""
    texts = render_conversations(model.tokenizer, [single_turn(row.prompt) for row in rows])
    return encode_texts(model.tokenizer, texts)


def _ignore_progress(_progress: Progress) -> None:
    pass
