"""A place to work, a child to work in and a ruler to measure with, for as long as one run lasts."""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.evaluation.judges.named import JudgeSpec
from antidote_ci.evaluation.measure import Evaluator
from antidote_ci.evaluation.saved import AnswerLog
from antidote_ci.model.tokenizer_check import check_tokenizer
from antidote_ci.pipeline import evaluator, output, resolve
from antidote_ci.pipeline.resolve import ReportedModel
from antidote_ci.policy import RunConfig
from antidote_ci.records import Model
from antidote_ci.report.console import Console
from antidote_ci.sandbox.client import Sandbox


@dataclass(frozen=True)
class RunContext:
    """What every step of a run works with."""

    config: RunConfig
    console: Console
    run_id: str
    work: Path
    sandbox: Sandbox
    evaluator: Evaluator
    reported_model: ReportedModel


def require_loadable(context: RunContext, model: Model) -> None:
    """Tokenizer and template of a stranger's model are tried within limits before a weight is loaded.

    Raises UnsafeCheckpoint or ConfigurationError. A server opens what it serves itself.
    """
    if resolve.resolve_use(context.config) == "run" and context.reported_model.source.kind != "server":
        context.sandbox.call(check_tokenizer, model, context.console.report)


@contextmanager
def open_context(
    config: RunConfig, console: Console, judges: Sequence[JudgeSpec], tested: ReportedModel
) -> Iterator[RunContext]:
    """The setting of one run. Nothing is written before everything has been pulled, and no scraps are left."""
    with console.step("pull the judge"):
        fetched = evaluator.fetch_judges(judges, config.policy.evaluation, console.report)
    run_id = uuid.uuid4().hex
    work = config.out / f".work-{run_id}"
    with output.lock_output(config.out), AnswerLog(config.save_answers) as log:
        output.clear_output(config.out)
        work.mkdir(parents=True)
        try:
            with Sandbox(config.out / output.LOG_FILE) as child:
                ruler = evaluator.build_evaluator(config, fetched, child, work, log)
                yield RunContext(config, console, run_id, work, child, ruler, tested)
        finally:
            shutil.rmtree(work)
