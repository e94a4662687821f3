"""Per-run context (work directory, sandbox, evaluator) and the result of a run with its report."""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from antidote_ci import __version__, records
from antidote_ci.evaluation.judges.named import JudgeSpec
from antidote_ci.evaluation.measure import Evaluator
from antidote_ci.evaluation.saved import AnswerLog
from antidote_ci.model import opening
from antidote_ci.model.opening import TokenizerCheckRequest
from antidote_ci.pipeline import evaluator, output, resolve
from antidote_ci.pipeline.resolve import ReportedModel
from antidote_ci.policy import RunConfig
from antidote_ci.records import (
    ControlResult,
    Divergence,
    DoseAttempt,
    Drift,
    Evaluation,
    Evaluations,
    FrontierPoint,
    Model,
    PairedChange,
    PromptSetRecord,
    PublishResult,
    RepairResult,
    Report,
    ReportedReference,
    RunVerdict,
)
from antidote_ci.report.console import Console
from antidote_ci.sandbox.client import Sandbox


@dataclass(frozen=True)
class RunContext:
    """What every step of a run uses."""

    config: RunConfig
    console: Console
    run_id: str
    work: Path
    sandbox: Sandbox
    evaluator: Evaluator
    reported_model: ReportedModel


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run, before it is written as a report."""

    verdict: RunVerdict
    reason: str
    before: Evaluation
    reference_source: ReportedReference | None = None
    reference: Evaluation | None = None
    after: Evaluation | None = None
    repair: RepairResult | None = None
    attempts: tuple[DoseAttempt, ...] = ()
    controls: tuple[ControlResult, ...] = ()
    frontier: tuple[FrontierPoint, ...] = ()
    paired: tuple[PairedChange, ...] = ()
    divergence: Divergence | None = None
    drift: Drift | None = None
    notes: tuple[str, ...] = ()
    repaired: Path | None = None
    """Folder of the repaired weights, if they pass."""


@contextmanager
def open_context(
    config: RunConfig,
    console: Console,
    judges: Sequence[JudgeSpec],
    reported_model: ReportedModel,
    *,
    resume: bool = False,
) -> Iterator[RunContext]:
    """Lock the output folder, start the sandbox and build the evaluator.

    The output of an earlier run is removed, unless `resume` keeps it. The work directory is removed at the end.
    """
    fetched = []
    if judges:
        with console.step("pull the judge"):
            fetched = evaluator.fetch_judges(judges, config.policy.evaluation, console.report)
    run_id = uuid.uuid4().hex
    work = config.out / f".work-{run_id}"
    with output.lock_output(config.out), AnswerLog(config.save_answers) as log:
        output.clear_output(config.out, keep_results=resume)
        work.mkdir(parents=True)
        try:
            with Sandbox(config.out / output.LOG_FILE) as sandbox:
                run_evaluator = evaluator.build_evaluator(config, fetched, sandbox, work, log)
                yield RunContext(config, console, run_id, work, sandbox, run_evaluator, reported_model)
        finally:
            shutil.rmtree(work)


def require_loadable(context: RunContext, model: Model) -> None:
    """Open tokenizer and chat template within the limits of the sandbox, before weights are loaded.

    Raises UnsafeCheckpoint or ConfigurationError. A model behind a server is opened by that server, not here.
    """
    if resolve.resolve_use(context.config) == "run" and context.reported_model.source.kind != "server":
        context.sandbox.call(opening.check_tokenizer, TokenizerCheckRequest(model), context.console.report)


def build_report(context: RunContext, result: RunResult, prompts: list[PromptSetRecord]) -> Report:
    """The report of a run that has not been published yet."""
    policy = context.config.policy
    return Report(
        schema_version=records.SCHEMA_VERSION,
        tool_version=__version__,
        run_id=context.run_id,
        verdict=result.verdict,
        exit_code=output.to_exit_code(result.verdict, accepted=policy.repair.accept),
        reason=result.reason,
        source=context.reported_model.source,
        reference=result.reference_source,
        policy_sha256=policy.sha256(),
        policy=policy.flat(),
        prompts=prompts,
        evaluations=Evaluations(result.before, result.reference, result.after),
        attempts=list(result.attempts),
        repair=result.repair,
        controls=list(result.controls),
        publish=PublishResult("none"),
        notes=[*output.collect_notes(context.reported_model, result.repaired), *result.notes],
        seconds=context.console.seconds,
        licence=context.reported_model.licence,
        paired=list(result.paired),
        divergence=result.divergence,
        drift=result.drift,
        calibrations=list(context.evaluator.calibrations.values()),
        frontier=list(result.frontier),
    )
