"""`antidote-ci run`."""

from typing import TYPE_CHECKING

from antidote_ci import records
from antidote_ci.cli.ending import ending
from antidote_ci.cli.measuring import Named, finish, measured_by
from antidote_ci.cli.options import (
    DEFAULT_OUT,
    AcceptLicence,
    AcceptRepair,
    BenignPrompts,
    CalibrationFile,
    DryRun,
    Frontier,
    Json,
    Judge,
    MethodName,
    ModelArgument,
    Out,
    PolicyFile,
    Prompts,
    Publish,
    PublishTo,
    Realignment,
    ReferenceName,
    Revision,
    SaveAnswers,
    Server,
    TargetName,
    TaskFile,
    Threshold,
    Where,
)
from antidote_ci.policy import RunConfig, override
from antidote_ci.report.console import Talk, data

if TYPE_CHECKING:
    from antidote_ci.pipeline.dry_run import Forecast


def run(
    model: ModelArgument,
    revision: Revision = None,
    reference: ReferenceName = None,
    policy: PolicyFile = None,
    threshold: Threshold = None,
    prompts: Prompts = None,
    benign: BenignPrompts = None,
    realignment: Realignment = None,
    method: MethodName = None,
    target: TargetName = None,
    frontier: Frontier = None,
    task: TaskFile = None,
    judge: Judge = None,
    calibration: CalibrationFile = None,
    server: Server = None,
    accept_licence: AcceptLicence = None,
    publish: Publish = None,
    publish_to: PublishTo = None,
    accept_repair: AcceptRepair = None,
    save_answers: SaveAnswers = None,
    on: Where = "here",
    out: Out = DEFAULT_OUT,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Measure MODEL and, when it fails, repair it, measure again, report and publish.

    Exit codes speak of the tested revision: 0 passes; 1 fails and no repair passes; 2 usage; 3 infrastructure; 4
    inconclusive; 5 publish conflict; 6 unsafe to open; 7 fails, and a repair passes and waits in --out.
    """
    with ending() as talk:
        named = Named(prompts, benign, task, judge, calibration, server, accept_licence)
        chosen = measured_by(policy, threshold, named)
        chosen = override(
            chosen,
            "repair",
            method=method,
            target=target,
            reference=reference,
            realignment=realignment,
            frontier=frontier,
            accept=accept_repair,
        )
        chosen = override(chosen, "publish", mode=publish, to=publish_to)
        config = RunConfig(model, revision, chosen, out, save_answers)
        if on == "hf-jobs":
            from antidote_ci.jobs import estimating, submit

            if dry_run:
                estimating.show(talk, submit.estimate("run", config), as_json=as_json)
                return
            finish(talk, submit.run("run", config, talk), out, as_json=as_json)
        if dry_run:
            from antidote_ci.pipeline import dry_run as forecast

            show(talk, forecast.forecast(config), as_json=as_json)
            return
        from antidote_ci.pipeline import run as pipeline

        finish(talk, pipeline.run(config, talk), out, as_json=as_json)


def show(talk: Talk, estimate: "Forecast", *, as_json: bool) -> None:
    if as_json:
        data(records.dump(estimate))
        return
    from antidote_ci.pipeline.dry_run import lines

    for line in lines(estimate):
        talk.say(line)
