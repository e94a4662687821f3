"""One more dose of the search, against the evaluation of the same weights when they are in memory already.

A trial is all that the search does for a dose: it edits the model in memory, and evaluates it on the selection
prompts. The other side is a second evaluation of that model in the same child process with an empty store of answers.
Scores and masks exist before.
"""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from antidote_ci.evaluation import splits
from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.evaluation.generators.transformers import TransformersGenerator
from antidote_ci.evaluation.judges import catalog
from antidote_ci.evaluation.measure import PromptSets, evaluate_model
from antidote_ci.pipeline import candidates, context, resolve
from antidote_ci.pipeline.candidates import CandidateFactory, MethodMasks, RepairInput
from antidote_ci.pipeline.context import RunContext
from antidote_ci.policy import RunConfig, override_section, read_policy
from antidote_ci.records import Model
from antidote_ci.report.console import Console
from benchmarks.speed.paired import Line, ratios, seconds
from demo.build import BuildRequest, build_checkpoints
from demo.main_job import POLICY

DOSES = (0.02, 0.05)
"""Tried in turn, so that every trial changes weights."""


@dataclass(frozen=True)
class Search:
    """What a trial of a dose needs."""

    context: RunContext
    factory: CandidateFactory
    masks: MethodMasks
    prompts: PromptSets

    def evaluate(self, model: Model) -> None:
        """Evaluate `model` on the selection prompts with an empty store of answers."""
        with tempfile.TemporaryDirectory() as folder:
            generator = TransformersGenerator(self.context.sandbox, AnswerStore(Path(folder) / "answers"))
            evaluate_model(replace(self.context.evaluator, generator=generator), model, self.prompts, lambda _: None)


def run(count: int) -> list[Line]:
    """Two lines: for the demo's adapter and for its merged checkpoint."""
    lines = []
    for merged in (False, True):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            checkpoints = build_checkpoints(BuildRequest(folder / "models", merged=merged), lambda _: None)
            trials, evaluations = time_trials(checkpoints.finetune, checkpoints.reference, folder / "out", count)
        kind = "merged" if merged else "adapter"
        lines.append(Line(f"trying one more dose / its evaluation ({kind})", ratios(trials, evaluations), "<=", 1.05))
    return lines


def time_trials(model: Path, reference: Path, out: Path, count: int) -> tuple[list[float], list[float]]:
    """Seconds of `count` trials of `antidote`, and of one further evaluation of each of their models."""
    policy = override_section(read_policy(POLICY), "repair", reference=str(reference), method="antidote")
    config = RunConfig(str(model), None, policy, out, None, no_cache=True)
    prompts, console = splits.load_run_prompts(policy, {}), Console()
    source = resolve.pull_model(config.model, None, console.report, resolve.resolve_use(config))
    reference_source = resolve.find_reference(source, policy.repair.reference)
    pulled = resolve.resolve_reference(source, reference_source, console.report, resolve.resolve_use(config))
    repair_input = RepairInput(source, reference_source, pulled)
    judges = catalog.parse_judge_specs(policy.evaluation.judge)
    with context.open_context(config, console, judges, resolve.to_reported_model(source)) as run_context:
        work = run_context.work
        (work / "scores").mkdir()
        factory = candidates.build_factory(
            run_context,
            repair_input,
            prompts.repair_prompts,
            run_id=run_context.run_id,
            scores=work / "scores",
            masks=work / "masks",
            work=work / "candidates",
        )
        masks = candidates.build_method_masks(factory, "antidote", DOSES)
        search = Search(run_context, factory, masks, prompts.selection)
        time_trial(search, DOSES[-1])  # the first one loads the weights
        times = [time_trial(search, DOSES[turn % len(DOSES)]) for turn in range(count)]
    return [trial for trial, _ in times], [evaluation for _, evaluation in times]


def time_trial(search: Search, dose: float) -> tuple[float, float]:
    """Seconds of the trial of a dose, and of one further evaluation of its model."""
    trial = candidates.prepare_trial(search.factory, search.masks, dose)
    started = time.perf_counter()
    with trial as model:
        search.evaluate(model)
        evaluated = time.perf_counter()
        evaluation = seconds(lambda: search.evaluate(model))
        resumed = time.perf_counter()
    return evaluated - started + time.perf_counter() - resumed, evaluation
