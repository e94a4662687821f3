"""`antidote-ci run`."""

from typing import TYPE_CHECKING

from antidote_ci import records
from antidote_ci.cli.ending import handle_exit
from antidote_ci.cli.measuring import EvaluationOptions, build_policy, exit_with_verdict
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
from antidote_ci.policy import RunConfig, override_section
from antidote_ci.report.console import Console, write_stdout

if TYPE_CHECKING:
    from antidote_ci.pipeline.dry_run import DryRunForecast


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
    with handle_exit() as talk:
        named = EvaluationOptions(prompts, benign, task, judge, calibration, server, accept_licence)
        chosen = build_policy(policy, threshold, named)
        chosen = override_section(
            chosen,
            "repair",
            method=method,
            target=target,
            reference=reference,
            realignment=realignment,
            frontier=frontier,
            accept=accept_repair,
        )
        chosen = override_section(chosen, "publish", mode=publish, to=publish_to)
        config = RunConfig(model, revision, chosen, out, save_answers)
        if on == "hf-jobs":
            from antidote_ci.jobs import job_estimate, submit

            if dry_run:
                job_estimate.show_estimate(talk, submit.estimate_job("run", config), as_json=as_json)
                return
            exit_with_verdict(talk, submit.run_as_job("run", config, talk), out, as_json=as_json)
        if dry_run:
            from antidote_ci.pipeline import dry_run as forecast

            show_forecast(talk, forecast.estimate_run(config), as_json=as_json)
            return
        from antidote_ci.pipeline import run as pipeline

        exit_with_verdict(talk, pipeline.run(config, talk), out, as_json=as_json)


def show_forecast(console: Console, estimate: "DryRunForecast", *, as_json: bool) -> None:
    if as_json:
        write_stdout(records.to_json(estimate))
        return
    from antidote_ci.pipeline.dry_run import describe_forecast

    for line in describe_forecast(estimate):
        console.print(line)
