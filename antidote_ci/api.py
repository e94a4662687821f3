"""The Python API: `run`, `evaluate`, `repair` and `verify`, with the keyword arguments of the commands.

`import antidote_ci.api` imports nothing heavy: a function does when it is called. The functions print nothing, return
the records that the commands write as JSON, and raise the exceptions of `antidote_ci.errors`.
"""

import logging
from os import PathLike
from typing import TYPE_CHECKING, Literal

from antidote_ci.policy import Command, Policy, RunConfig
from antidote_ci.records import Manifest, Method, PublishMode, Report, ScoreMethod, Verification

if TYPE_CHECKING:
    from antidote_ci.report.console import Console

StrPath = str | PathLike[str]
"""A text is a name on the Hub, or a path that begins with `./`, `../`, `/` or `~`; a Path is always a path."""
Place = Literal["here", "hf-jobs"]

logging.getLogger("antidote_ci").addHandler(logging.NullHandler())


def run(
    model: StrPath,
    *,
    revision: str | None = None,
    reference: StrPath | None = None,
    server: str | None = None,
    prompts: StrPath | None = None,
    benign: StrPath | None = None,
    task: StrPath | None = None,
    judge: str | None = None,
    calibration: StrPath | None = None,
    threshold: float | None = None,
    baseline: StrPath | None = None,
    policy: Policy | StrPath | None = None,
    quick: bool = False,
    realignment: StrPath | None = None,
    method: ScoreMethod | None = None,
    frontier: bool | None = None,
    accept_repair: bool | None = None,
    keep_failed: bool | None = None,
    publish: PublishMode | None = None,
    publish_to: str | None = None,
    on: Place = "here",
    out: StrPath = "antidote-out",
    save_answers: StrPath | None = None,
    no_cache: bool = False,
) -> Report:
    """Evaluate `model`. If it fails the policy, repair it, evaluate the repair, report to `out`, and publish.

    Arguments that are None leave the policy as it is: a `Policy`, the path of its file, or None for the defaults.
    A model that fails is no exception: see `Report.verdict`.
    """
    from antidote_ci.pipeline.configuration import configure

    config = configure(
        model,
        out=out,
        policy=policy,
        quick=quick,
        revision=revision,
        reference=reference,
        server=server,
        prompts=prompts,
        benign=benign,
        task=task,
        judge=judge,
        calibration=calibration,
        threshold=threshold,
        baseline=baseline,
        realignment=realignment,
        method=method,
        frontier=frontier,
        accept_repair=accept_repair,
        keep_failed=keep_failed,
        publish=publish,
        publish_to=publish_to,
        save_answers=save_answers,
        no_cache=no_cache,
    )
    return run_command("run", config, _silent_console(), on=on)


def evaluate(
    model: StrPath,
    *,
    revision: str | None = None,
    reference: StrPath | None = None,
    server: str | None = None,
    prompts: StrPath | None = None,
    benign: StrPath | None = None,
    task: StrPath | None = None,
    judge: str | None = None,
    calibration: StrPath | None = None,
    threshold: float | None = None,
    baseline: StrPath | None = None,
    policy: Policy | StrPath | None = None,
    quick: bool = False,
    publish: Literal["none", "report"] | None = None,
    on: Place = "here",
    out: StrPath = "antidote-out",
    save_answers: StrPath | None = None,
    no_cache: bool = False,
) -> Report:
    """Evaluate `model`, or the server at this address, and compare it with the policy, without a repair."""
    from antidote_ci.pipeline.configuration import configure

    config = configure(
        model,
        out=out,
        policy=policy,
        quick=quick,
        revision=revision,
        reference=reference,
        server=server,
        prompts=prompts,
        benign=benign,
        task=task,
        judge=judge,
        calibration=calibration,
        threshold=threshold,
        publish=publish,
        baseline=baseline,
        save_answers=save_answers,
        no_cache=no_cache,
    )
    return run_command("evaluate", config, _silent_console(), on=on)


def repair(
    model: StrPath,
    *,
    method: Method,
    dose: float,
    revision: str | None = None,
    reference: StrPath | None = None,
    policy: Policy | StrPath | None = None,
    realignment: StrPath | None = None,
    benign: StrPath | None = None,
    task: StrPath | None = None,
    out: StrPath = "antidote-repair",
) -> Manifest:
    """Repair `model` with one method at one dose, without an evaluation. The weights are in `model` below `out`.

    The same call resumes an interrupted repair.
    """
    from antidote_ci.pipeline.configuration import configure
    from antidote_ci.pipeline.repair import RepairConfig, run_repair
    from antidote_ci.repair.methods import score_method

    config = configure(
        model,
        out=out,
        policy=policy,
        revision=revision,
        reference=reference,
        benign=benign,
        task=task,
        realignment=realignment,
        method=score_method(method) or "antidote",
    )
    return run_repair(RepairConfig(config, method, dose), _silent_console())


def verify(
    result: StrPath, *, revision: str | None = None, source: StrPath | None = None, reference: StrPath | None = None
) -> Verification:
    """Check a repaired model against its source, its reference and its method, without running it.

    `Verification.difference` names the first difference; it is None if all files match.
    """
    from antidote_ci.pipeline.configuration import to_name
    from antidote_ci.pipeline.verify import verify_result

    return verify_result(to_name(result) or "", revision, to_name(source), to_name(reference), _silent_console())


def run_command(command: Command, config: RunConfig, console: "Console", *, on: Place) -> Report:
    """Run or evaluate on this machine, or as a Job of the Hub."""
    if on == "hf-jobs":
        from antidote_ci.jobs import submit

        return submit.run_as_job(command, config, console)
    from antidote_ci.pipeline import run as pipeline

    return (pipeline.run if command == "run" else pipeline.evaluate)(config, console)


def _silent_console() -> "Console":
    from antidote_ci.report.console import Console

    return Console("silent")
