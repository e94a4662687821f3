"""The methods of the benchmark: each turns a dose into edited weights of one model in memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from antidote_ci.checkpoint.tensors import TensorFile
from antidote_ci.evaluation.model_answers import REFUSAL_TOKENS
from antidote_ci.evaluation.splits import RepairPrompts
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.edits import unpack_mask
from antidote_ci.pipeline.scoring_inputs import ScoringPrompts, choose_scoring_prompts
from antidote_ci.records import Grouping, Model, Progress, PromptRow, ScoreMethod
from antidote_ci.repair import masks
from antidote_ci.repair.methods import METHODS as PRODUCT_METHODS
from antidote_ci.repair.scores import wanda_score
from antidote_ci.repair.scoring import ScoreRequest, score_weights
from benchmarks.repair import baselines, two_teachers
from benchmarks.repair.networks import EditableModel, Factors
from benchmarks.repair.outcomes import REFUSED, answer_prompts, measure_answers

BUDGET = 1 << 30
"""Bytes of hidden states that scoring keeps in memory; the package's default."""

CEILING_STEPS = (20, 40, 60)
"""The doses of the two-teacher fine-tuning."""

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
    train_unaligned: Callable[[], Path]
    """Trains an adapter of the reference on the attack's harmful rows alone, and returns its folder."""


@dataclass(frozen=True)
class Method:
    """A method and the doses among which one is selected."""

    doses: tuple[float, ...]
    """From the weakest edit to the strongest."""
    prepare: Callable[[Problem], ApplyDose]


def _prepare_product(problem: Problem, method: ScoreMethod) -> ApplyDose:
    """The package's own scores and masks, on the factors of the adapter."""
    prompts = problem.prompts
    chosen = choose_prompts(problem) if method == "taylor" else ScoringPrompts(prompts.realignment, [], [])
    request = ScoreRequest(
        model=Model(problem.reference, problem.adapter),
        reference=None,
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
    if len(scores.tensors) != 2 * len(problem.model.names):
        raise ValueError("the adapter has other factors than those that are scored")

    def score(name: str, weight: torch.Tensor) -> torch.Tensor:
        values = statistics.read(name)
        return wanda_score(weight, values) if method == "antidote" else values

    return lambda dose: _zero_entries(problem.model, score, scores.per, dose)


def choose_prompts(problem: Problem) -> ScoringPrompts:
    """The prompts that the package's `taylor` reads in a run."""
    model = problem.model
    model.use_reference()

    def find_refused(rows: Sequence[PromptRow]) -> list[bool]:
        return [letter == REFUSED for letter in measure_answers(model, rows, REFUSAL_TOKENS)]

    return choose_scoring_prompts(problem.prompts, problem.prompts.realignment, find_refused)


def _prepare_scale(problem: Problem) -> ApplyDose:
    """W_ref + (1 - dose) (W - W_ref): WiSE-FT, https://arxiv.org/abs/2109.01903."""
    model = problem.model
    return lambda dose: model.use_weights(
        {path: weight.float() + (1 - dose) * model.delta(path) for path, weight in model.reference.items()}
    )


def _prepare_resta(problem: Problem) -> ApplyDose:
    unaligned = EditableModel(problem.reference, problem.train_unaligned())
    return lambda dose: baselines.change_deltas(
        problem.model, lambda path, delta: baselines.resta(delta, unaligned.delta(path), dose)
    )


def _prepare_safe_delta(problem: Problem) -> ApplyDose:
    refusals = _answer_as_reference(problem)
    products = baselines.measure_products(problem.model, refusals)
    return lambda dose: baselines.change_deltas(
        problem.model, lambda path, delta: baselines.safe_delta(delta, products[path], dose)
    )


def _prepare_rollback(problem: Problem) -> ApplyDose:
    refusals = _answer_as_reference(problem)
    problem.model.use_factors(problem.model.factors)
    gradients = baselines.measure_gradients(problem.model, refusals)
    return lambda dose: baselines.change_deltas(
        problem.model, lambda path, delta: baselines.rollback(delta, gradients[path], dose)
    )


def _answer_as_reference(problem: Problem) -> list[TokenPair]:
    """The harmful prompts that `taylor` reads, with the first tokens of the reference's refusals."""
    chosen = choose_prompts(problem)
    problem.model.use_reference()
    return answer_prompts(problem.model, chosen.harmful, REFUSAL_TOKENS)


def _prepare_random(problem: Problem) -> ApplyDose:
    def score(name: str, weight: torch.Tensor) -> torch.Tensor:
        return masks.random_score(weight.shape[0], weight.shape[1], name)

    return lambda dose: _zero_entries(problem.model, score, "row", dose)


def _zero_entries(
    model: EditableModel, score: Callable[[str, torch.Tensor], torch.Tensor], per: Grouping, dose: float
) -> None:
    """Set the entries of the factors with the highest score to zero."""

    def prune(name: str, weight: torch.Tensor) -> torch.Tensor:
        packed = masks.pack_masks(score(name, weight), per, [dose])[0]
        return weight.masked_fill(unpack_mask(packed, weight.shape[0], weight.shape[1]), 0)

    names = model.names
    model.use_factors(
        {
            path: Factors(prune(names[path][0], layer.a), prune(names[path][1], layer.b), layer.scaling)
            for path, layer in model.factors.items()
        }
    )


def _prepare_ceiling(problem: Problem) -> ApplyDose:
    """The dose is the number of steps of the two-teacher fine-tuning, on the prompts of `taylor`."""
    model, chosen = problem.model, choose_prompts(problem)
    model.use_reference()
    harmful = answer_prompts(model, chosen.harmful, 16)
    model.use_factors(model.factors)
    harmless = answer_prompts(model, chosen.benign, 24)
    task = answer_prompts(model, problem.prompts.task, 8)
    tuning = two_teachers.TwoTeacherTuning(
        model,
        [
            two_teachers.Teacher(harmful, of_reference=True, rows=8),
            two_teachers.Teacher(harmless, of_reference=False, rows=4),
            two_teachers.Teacher(task, of_reference=False, rows=4),
        ],
    )
    tuned: dict[float, Mapping[str, Factors]] = {}

    def apply_dose(dose: float) -> None:
        for steps in CEILING_STEPS:
            if steps <= dose and steps not in tuned:  # a fine-tuning does not go back
                tuned[steps] = tuning.advance(steps)
        model.use_factors(tuned[dose])

    return apply_dose


METHODS: Mapping[str, Method] = {
    "taylor": Method(
        PRODUCT_METHODS["taylor"].doses["adapter"][:8], lambda problem: _prepare_product(problem, "taylor")
    ),
    "antidote": Method((0.02, 0.05, 0.1, 0.2, 0.3), lambda problem: _prepare_product(problem, "antidote")),
    "scale": Method((0.3, 0.5, 0.6, 0.7, 0.8, 0.9), _prepare_scale),
    "random": Method((0.1, 0.3, 0.5, 0.7), _prepare_random),
    "two-teachers": Method(CEILING_STEPS, _prepare_ceiling),
    "resta": Method((0.2, 0.4, 0.6, 0.8, 1.0, 1.3), _prepare_resta),
    "safe-delta": Method((0.6, 0.4, 0.3, 0.2, 0.1, 0.05), _prepare_safe_delta),
    "rollback": Method((0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.005), _prepare_rollback),
}


def _ignore_progress(_progress: Progress) -> None:
    pass
