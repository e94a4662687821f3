"""Per-run context: work directory, sandbox and evaluator; and the report that the steps of a run complete."""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from antidote_ci import __version__, records
from antidote_ci.evaluation import gate, kinds
from antidote_ci.evaluation.judges.catalog import JudgeSpec
from antidote_ci.evaluation.measure import Evaluator
from antidote_ci.evaluation.saved import AnswerLog
from antidote_ci.model.checkpoint_check import open_sandbox
from antidote_ci.pipeline import comparison, evaluator, output
from antidote_ci.pipeline.resolve import ReportedModel
from antidote_ci.policy import RunConfig
from antidote_ci.records import Evaluation, Evaluations, PromptSetRecord, PublishResult, Report
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
    baseline: Report | None = None
    """Read before the work: the file may change during it."""


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
    baseline = comparison.read_baseline(config.policy.gate)
    fetched = []
    if judges:
        with console.step("pull the judge"):
            fetched = evaluator.fetch_judges(judges, console.report)
    run_id = uuid.uuid4().hex
    work = config.out / f".work-{run_id}"
    with output.lock_output(config.out), AnswerLog(config.save_answers) as log:
        output.clear_output(config.out, keep_results=resume)
        work.mkdir(parents=True)
        try:
            with open_sandbox(config.out / output.LOG_FILE) as sandbox:
                run_evaluator = evaluator.build_evaluator(config, fetched, sandbox, work, log)
                yield RunContext(config, console, run_id, work, sandbox, run_evaluator, reported_model, baseline)
        finally:
            shutil.rmtree(work)


def start_report(context: RunContext, before: Evaluation, prompts: list[PromptSetRecord]) -> Report:
    """The report after the evaluation of the model. A repair changes it, and `output.write_output` completes it."""
    policy = context.config.policy
    return Report(
        schema_version=records.SCHEMA_VERSION,
        tool_version=__version__,
        run_id=context.run_id,
        verdict=before.verdict,
        exit_code=output.to_exit_code(before.verdict, accepted=False),
        reason=gate.describe_verdict("the model", before),
        source=context.reported_model.source,
        reference=None,
        policy_sha256=policy.sha256(),
        policy=policy.flat(),
        prompts=prompts,
        evaluations=Evaluations(before),
        attempts=[],
        repair=None,
        controls=[],
        publish=PublishResult("none"),
        notes=[note] if (note := kinds.describe_single_kind(before.kinds)) else [],
        seconds=context.console.seconds,
        licence=context.reported_model.licence,
        calibrations=list(context.evaluator.calibrations.values()),
        protections=context.sandbox.protections,
    )
