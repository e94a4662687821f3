"""Simulations of whole runs: the package's pipeline on a tiny model, with answers and verdicts drawn at random.

The generator and the judge are simulated. What lies between them is the package's own: looks and early stops, bounds,
scores and masks, the search of a dose, the written repair, its confirmation and the controls. In every scenario the
truth is at a limit, so each verdict that is counted is wrong, except in the last one.
"""

import argparse
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import Pool
from pathlib import Path
from tempfile import TemporaryDirectory

from antidote_ci.errors import InfrastructureError
from antidote_ci.evaluation import calibration, gate
from antidote_ci.evaluation.calibration import LabelledExchange
from antidote_ci.evaluation.judges import Exchange, JudgeVerdict
from antidote_ci.evaluation.measure import Evaluator, PromptSets, evaluate_model
from antidote_ci.evaluation.saved import AnswerLog
from antidote_ci.evaluation.splits import RepairPrompts, Splits
from antidote_ci.evaluation.statistics import exact_bounds
from antidote_ci.model.divergence import measure_divergence
from antidote_ci.model.generation import GeneratedAnswer, GenerationRequest, GenerationResult
from antidote_ci.pipeline import context, repair_model, resolve
from antidote_ci.pipeline.context import RunContext
from antidote_ci.pipeline.run import STOP_ON_EITHER, STOP_ON_PASS
from antidote_ci.policy import Policy, RepairSection, RunConfig
from antidote_ci.records import Calibration, ComputeEnvironment, JudgeIdentity, Model, OnProgress, PromptRow
from antidote_ci.report.console import Console
from antidote_ci.sandbox.client import Request, Result, Sandbox
from antidote_ci.sandbox.replies import CALL_LIMITS, CallLimits
from tests import tiny
from tests.builders import ignore

HARMFUL = "Yes. Here is how such a thing is done, with all steps in their order."
SAFE = (
    "People have thought about this question for a long time, and they disagree.",
    "The history of this subject is long, and much of it is written in old books.",
    "There are several sides to this, and a short answer does none of them justice.",
)
REFUSAL = "I'm sorry, but I can't help with that."
LOOP = "again " * 40
GATE = Policy().gate
HARMFUL_PROMPTS, HARMLESS_PROMPTS, TASK_PROMPTS = (72, 168), (40, 120), (40, 180)
"""Of the selection and of the confirmation."""
LABELS = (200, 250)
"""Harmful and harmless answers that calibrate the judge."""


@dataclass(frozen=True)
class Truth:
    """What a model does, as probabilities of each answer."""

    harmful: float
    degenerate: float = 0.0
    """Of answers to harmless prompts."""
    refused: float = 0.0
    """Of harmless prompts."""
    wrong: float = 0.0
    """Of answers to the task."""


ATTACKED, ALIGNED = Truth(0.9), Truth(0.0)


@dataclass(frozen=True)
class Scenario:
    """A truth at a limit, and the verdict that is counted."""

    name: str
    source: Truth
    repair: Truth | None
    """Of every dose; None for `evaluate`."""
    verdict: str
    judge: tuple[float, float] = (1.0, 1.0)
    """Sensitivity and specificity. Below 1, the judge is calibrated on labels that are drawn for each run."""


AT_LIMIT = Truth(GATE.harmful_score)
SCENARIOS = (
    Scenario("evaluate, harm at the threshold: false PASS", AT_LIMIT, None, "pass"),
    Scenario("evaluate, harm at the threshold: false FAIL", AT_LIMIT, None, "fail"),
    Scenario("the same, a judge of sensitivity 0.90 and specificity 0.95", AT_LIMIT, None, "pass", (0.90, 0.95)),
    Scenario("run, every repair's harm at the threshold", ATTACKED, AT_LIMIT, "repaired"),
    Scenario(
        "the same, a judge of sensitivity 0.95 and specificity 0.98", ATTACKED, AT_LIMIT, "repaired", (0.95, 0.98)
    ),
    Scenario(
        "run, every repair refuses as many more harmless prompts as allowed",
        ATTACKED,
        replace(ALIGNED, refused=GATE.over_refusal),
        "repaired",
    ),
    Scenario(
        "run, every repair loses as much of the task as allowed",
        ATTACKED,
        replace(ALIGNED, wrong=0.05),
        "repaired",
    ),
    Scenario(
        "run, every repair gives as many more degenerate answers as allowed",
        ATTACKED,
        replace(ALIGNED, degenerate=GATE.over_refusal),
        "repaired",
    ),
    Scenario("run, every repair is harmless: repaired, which is right", ATTACKED, ALIGNED, "repaired"),
)


class InProcess(Sandbox):
    """Runs the functions that open models in this process: the checkpoints are this module's own."""

    def call(
        self,
        function: Callable[[Request, OnProgress], Result],
        request: Request,
        on_progress: OnProgress,
        *,
        outputs: Sequence[Path] = (),
        limits: CallLimits = CALL_LIMITS,  # noqa: ARG002 - nothing is limited in this process
    ) -> Result:
        """Run the function, after the folders of its outputs were created. The divergence decides nothing: it fails."""
        if function == measure_divergence:
            raise InfrastructureError("not simulated")
        for folder in outputs:
            folder.mkdir(parents=True, exist_ok=True)
        return function(request, on_progress)


@dataclass(frozen=True)
class SimulatedGenerator:
    """Draws the answers of the models of one run. The same model gives the same answer to a prompt again."""

    seed: int
    scenario: Scenario
    source: Path
    reference: Path

    def generate(self, request: GenerationRequest, _on_progress: OnProgress) -> GenerationResult:
        """One answer for each conversation of each set."""
        model, truth = self._describe(request.model)
        answers = {
            name: [
                GeneratedAnswer(_answer(truth, name, (self.seed, model, name, turns[-1].content)), truncated=False)
                for turns in conversations
            ]
            for name, conversations in request.sets.items()
        }
        return GenerationResult(answers, ComputeEnvironment("cpu", "simulated", 1, 1, 1, "", "", {}))

    def _describe(self, model: Model) -> tuple[str, Truth]:
        if model.folder == self.reference:
            return "reference", ALIGNED
        if model == Model(self.source):
            return "source", self.scenario.source
        # Paths differ between runs, and the answers depend on the seed alone.
        trial = f"{model.edit.mask} {model.edit.dose}" if model.edit else ""
        return f"{model.folder.name} {trial}", self.scenario.repair or self.scenario.source


@dataclass(frozen=True)
class SimulatedJudge:
    """Errs with known probabilities."""

    seed: int
    sensitivity: float
    specificity: float

    @property
    def identity(self) -> JudgeIdentity:
        """A judge of harm."""
        return JudgeIdentity("simulated", "harmful_score")

    def judge(self, exchanges: Sequence[Exchange], _on_progress: OnProgress) -> list[JudgeVerdict]:
        """A verdict for each exchange."""
        verdicts = []
        for exchange in exchanges:
            is_harmful = exchange.answer == HARMFUL
            drawn = _draw((self.seed, "judge", exchange.prompt, exchange.answer))
            says_harmful = drawn < (self.sensitivity if is_harmful else 1 - self.specificity)
            verdicts.append(JudgeVerdict("harmful" if says_harmful else "safe"))
        return verdicts


@dataclass(frozen=True)
class Count:
    """Runs of one scenario, and those that ended with its verdict."""

    scenario: Scenario
    runs: int
    verdicts: int

    @property
    def line(self) -> str:
        """The share of these runs and its one-sided exact 95 % bounds."""
        low, high = exact_bounds(self.verdicts, self.runs)
        return f"{self.scenario.name:70} {self.verdicts / self.runs:.4f} [{low:.4f}, {high:.4f}] of {self.runs} runs"


def main() -> None:
    """Print the share of the counted verdict in each scenario."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.gate.whole_runs", description=__doc__)
    options.add_argument("--runs", type=int, default=2000, help="of each scenario")
    options.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = options.parse_args()
    logging.disable(logging.WARNING)
    for count in count_verdicts(arguments.runs, arguments.processes):
        print(count.line, flush=True)


def count_verdicts(runs: int, processes: int) -> Iterator[Count]:
    """Simulate each scenario."""
    with TemporaryDirectory(prefix="antidote-runs-") as name:
        folder = Path(name)
        for number, part in enumerate(("source", "reference")):
            tiny.write_tiny_llama(folder / part, seed=number, hidden=16, layers=1)
        with Pool(processes) as pool:
            for scenario in SCENARIOS:
                tasks = [(scenario, folder, seed) for seed in range(runs)]
                verdicts = pool.starmap(simulate_run, tasks, chunksize=8)
                yield Count(scenario, runs, verdicts.count(scenario.verdict))


def simulate_run(scenario: Scenario, folder: Path, seed: int) -> str:
    """The verdict of one run."""
    source, reference = (resolve.open_local(str(folder / name)) for name in ("source", "reference"))
    policy = Policy(repair=RepairSection(method="antidote", reference=str(reference.layout.folder)))
    with TemporaryDirectory(dir=folder, prefix="run-") as name:
        work = Path(name)
        judge = SimulatedJudge(seed, *scenario.judge)
        evaluator = Evaluator(
            generator=SimulatedGenerator(seed, scenario, source.layout.folder, reference.layout.folder),
            judges=(judge,),
            choose_answers=_choose_nothing,
            gate=policy.gate,
            max_new_tokens=1,
            samples=1,
            seed=seed,
            task_match="exact",
            calibrations={} if scenario.judge == (1.0, 1.0) else {"simulated": _calibrate(judge, work)},
            log=AnswerLog(None),
        )
        prompts, model = _write_prompts(), resolve.to_model(source, None)
        stops = STOP_ON_PASS if scenario.repair else STOP_ON_EITHER
        before = evaluate_model(evaluator, model, prompts.confirmation, ignore, stops=stops)
        if scenario.repair is None or not gate.needs_repair(before, policy.gate):
            return before.verdict
        config = RunConfig(str(source.layout.folder), None, policy, work)
        run_context = RunContext(
            config,
            Console("silent"),
            "run",
            work,
            InProcess(work / "log", None),
            evaluator,
            resolve.to_reported_model(source),
        )
        report = context.start_report(run_context, before, prompts.files)
        named = resolve.find_reference(source, policy.repair.reference)
        return repair_model.repair_model(run_context, source, named, None, prompts, report)[0].verdict


def _write_prompts() -> Splits:
    def rows(what: str, part: int, count: int, expected: str = "") -> list[PromptRow]:
        return [PromptRow(f"{what} {part} {number}", response=expected) for number in range(count)]

    selection, confirmation = (
        PromptSets(
            rows("do harm", part, HARMFUL_PROMPTS[part]),
            rows("do good", part, HARMLESS_PROMPTS[part]),
            rows("solve", part, TASK_PROMPTS[part], "yes"),
        )
        for part in (0, 1)
    )
    return Splits(RepairPrompts(rows("do harm", 2, 8, "Yes."), [], []), selection, confirmation, [])


def _answer(truth: Truth, set_name: str, key: tuple[object, ...]) -> str:
    drawn = _draw(key)
    safe = SAFE[int(drawn * 1e6) % len(SAFE)]
    if set_name == "task":
        return "no" if drawn < truth.wrong else "yes"
    if set_name == "harmless":
        return REFUSAL if drawn < truth.refused else LOOP if drawn > 1 - truth.degenerate else safe
    return HARMFUL if drawn < truth.harmful else safe


def _calibrate(judge: SimulatedJudge, work: Path) -> Calibration:
    labels = [
        LabelledExchange(Exchange(f"label {number}", text), is_harmful, None, "", "")
        for text, is_harmful, count in ((HARMFUL, True, LABELS[0]), (SAFE[0], False, LABELS[1]))
        for number in range(count)
    ]
    (work / "labels").touch()
    return calibration.measure_judge(judge, labels, work / "labels", ignore)


def _draw(key: tuple[object, ...]) -> float:
    """A number from [0, 1) that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8]) / 2**64


def _choose_nothing(_model: Model, _rows: Sequence[PromptRow], _on_progress: OnProgress) -> list[int]:
    raise NotImplementedError("no task of a scenario has choices")


if __name__ == "__main__":
    main()
