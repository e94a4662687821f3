"""One model, measured through the package: the same prompts, judge and decoding for every model of the bench."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory

from antidote_ci.checkpoint.files import display_name
from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import measure as evaluation
from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.evaluation.generators.transformers import TransformersGenerator
from antidote_ci.evaluation.judges.refusal import RefusalJudge
from antidote_ci.evaluation.measure import Evaluator, PromptSets
from antidote_ci.evaluation.prompts import drop_duplicates
from antidote_ci.evaluation.saved import AnswerLog
from antidote_ci.model.checkpoint_check import open_sandbox
from antidote_ci.model.likelihood import EncodeChoicesRequest
from antidote_ci.pipeline.evaluator import choose_likeliest
from antidote_ci.policy import Gate
from antidote_ci.records import Model, OnProgress, Progress, PromptRow
from antidote_ci.repair.taylor import MAX_TASK, sample_evenly
from antidote_ci.sandbox.client import Sandbox
from benchmarks.paper import embedding_drift
from benchmarks.paper.cost import Cost
from benchmarks.paper.data import Data
from benchmarks.paper.embedding_drift import ReferenceOutputs
from benchmarks.paper.records import Figures, Measured, TaskName

JUDGE = RefusalJudge.identity.name
"""Rules: what is called harmful here is an answer that does not decline."""
MEASURED_HARMLESS = 1000
"""Where the harmless prompts that are measured begin: after those of the alignment, before those of the repairs."""
DRIFT_PROMPTS = 100
"""Of the harmful ones, as many texts as the paper's code reads; a pass in float32 costs seconds a model."""
LOG = "child.log"


@dataclass(frozen=True)
class Counts:
    """How much is asked of a model."""

    harmful: int = 140
    harmless: int = 100
    task: int = 400
    """Rows, by the likelihood of their classes: no text is generated."""
    tokens: int = 48
    """The longest answer."""
    selection_harmful: int = 70
    selection_harmless: int = 60
    selection_task: int = 200
    """What a dose is chosen on: other prompts than those that measure it."""


@dataclass(frozen=True)
class Instruments:
    """What every model of one alignment is measured with."""

    sandbox: Sandbox
    evaluator: Evaluator
    prompts: PromptSets
    aligned: ReferenceOutputs
    work: Path
    """A folder for what does not stay."""


def prompts(data: Data, task: TaskName, counts: Counts) -> PromptSets:
    """What a model is asked. No wording twice, so that a share of the answers is one of the prompts."""
    return PromptSets(
        harmful=drop_duplicates(data.harmful_prompts(counts.harmful)),
        benign=drop_duplicates(map(PromptRow, data.harmless_prompts(MEASURED_HARMLESS, counts.harmless))),
        task=data.task_rows(task, counts.task),
    )


def selection(data: Data, task: TaskName, counts: Counts) -> PromptSets:
    """What chooses a dose: no wording of `prompts`, and no row that scoring reads."""
    measured, start = data.harmful_prompts(counts.harmful), MEASURED_HARMLESS + counts.harmless
    after = counts.task + MAX_TASK
    return PromptSets(
        harmful=drop_duplicates(data.harmful_prompts(counts.selection_harmful, other_than=measured)),
        benign=drop_duplicates(map(PromptRow, data.harmless_prompts(start, counts.selection_harmless))),
        task=data.task_rows(task, after + counts.selection_task)[after:],
    )


@contextmanager
def open_instruments(reference: Path, asked: PromptSets, work: Path, store: Path, tokens: int) -> Iterator[Instruments]:
    """Instruments for as long as models of the alignment `reference` are measured; `tokens` is the longest answer.

    What was asked before is in `store` and not asked again. The log of the process that runs models stays in `work`.
    """
    if not (asked.harmful and asked.benign and asked.task):
        raise ConfigurationError("harmful prompts, harmless ones and task rows are all needed to measure a model")
    if not embedding_drift.has_attention(Model(reference)):
        raise ConfigurationError(
            f"{display_name(reference)} has no attention module to measure drift in",
            cause="they are known by the names of their classes, which end in Attention",
            hint="take another model: --model",
        )
    work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work, prefix="aligned-") as name, open_sandbox(work / LOG) as sandbox:
        drifting = sample_evenly([row.prompt for row in asked.harmful], DRIFT_PROMPTS)
        aligned = embedding_drift.store_reference_outputs(Model(reference), drifting, Path(name))
        yield Instruments(sandbox, _build_evaluator(sandbox, AnswerStore(store), tokens), asked, aligned, work)


def measure(instruments: Instruments, model: Model, cost: Cost, choosing: PromptSets | None = None) -> Measured:
    """All figures of one model, and with `choosing` those that choose a dose. `cost` began when its making began.

    Neither the drift nor the choice is in the cost: they are the same whatever was made.
    """
    figures = _figures(instruments, model, instruments.prompts)
    seconds, peak_bytes = cost.seconds, cost.peak_bytes
    drift = embedding_drift.measure_drift(model, instruments.aligned)
    if not isfinite(drift):
        raise ConfigurationError(f"{display_name(model.adapter or model.folder)} computes no finite numbers")
    return Measured(
        **vars(figures),
        drift=drift,
        seconds=seconds,
        peak_bytes=peak_bytes,
        selection=_figures(instruments, model, choosing) if choosing else None,
    )


def _figures(instruments: Instruments, model: Model, asked: PromptSets) -> Figures:
    found = evaluation.evaluate_model(instruments.evaluator, model, asked, silent)
    if found.benign is None or found.task is None:
        raise ValueError("nothing harmless, or no task, was asked")
    outcomes = list(found.readings[0].outcomes.values())
    return Figures(
        harmful=outcomes.count("harmful"),
        asked=len(outcomes),
        accuracy=found.task.accuracy,
        over_refusal=found.benign.over_refusal,
        degenerate=found.benign.degenerate,
        degenerate_harmful=found.degenerate,
    )


def silent(_progress: Progress) -> None:
    """Ignore progress."""


def _build_evaluator(sandbox: Sandbox, store: AnswerStore, tokens: int) -> Evaluator:
    def likeliest(model: Model, rows: Sequence[PromptRow], on_progress: OnProgress) -> list[int]:
        return choose_likeliest(sandbox, store, EncodeChoicesRequest(model, list(rows)), on_progress)

    return Evaluator(
        generator=TransformersGenerator(sandbox, store),
        judges=(RefusalJudge(),),
        choose_answers=likeliest,
        gate=Gate(),  # the verdict is not used
        max_new_tokens=tokens,
        samples=1,
        seed=0,
        task_match="choice",
        calibrations={},
        log=AnswerLog(None),
    )
