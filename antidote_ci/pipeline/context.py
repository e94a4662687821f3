"""A place to work, a child to work in and a ruler to measure with, for as long as one run lasts."""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from antidote_ci.evaluation.judges.named import JudgeSpec
from antidote_ci.evaluation.measure import Ruler
from antidote_ci.evaluation.saved import AnswerLog
from antidote_ci.model import opening
from antidote_ci.model.opening import OpeningRequest
from antidote_ci.pipeline import evaluator, output, resolve
from antidote_ci.pipeline.resolve import Tested
from antidote_ci.policy import RunConfig
from antidote_ci.records import Model
from antidote_ci.report.console import Talk
from antidote_ci.sandbox.client import Child


@dataclass(frozen=True)
class Setting:
    """What every step of a run works with."""

    config: RunConfig
    talk: Talk
    run_id: str
    work: Path
    child: Child
    ruler: Ruler
    tested: Tested


def require_usable(here: Setting, model: Model) -> None:
    """Tokenizer and template of a stranger's model are tried within limits before a weight is loaded.

    Raises UnsafeCheckpoint or ConfigurationError. A server opens what it serves itself.
    """
    if resolve.use_of(here.config) == "run" and here.tested.source.kind != "server":
        here.child.call(opening.require_usable, OpeningRequest(model), here.talk.report)


@contextmanager
def opened(config: RunConfig, talk: Talk, judges: Sequence[JudgeSpec], tested: Tested) -> Iterator[Setting]:
    """The setting of one run. Nothing is written before everything has been pulled, and no scraps are left."""
    with talk.step("pull the judge"):
        fetched = evaluator.fetch_judges(judges, config.policy.evaluation, talk.report)
    run_id = uuid.uuid4().hex
    work = config.out / f".work-{run_id}"
    with output.alone(config.out), AnswerLog(config.save_answers) as log:
        output.clear(config.out)
        work.mkdir(parents=True)
        try:
            with Child(config.out / output.LOG) as child:
                ruler = evaluator.ruler(config, fetched, child, work, log)
                yield Setting(config, talk, run_id, work, child, ruler, tested)
        finally:
            shutil.rmtree(work)
