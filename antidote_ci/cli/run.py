"""The commands `run` and `evaluate`."""

from typing import Annotated

import typer

from antidote_ci import records
from antidote_ci.cli.exit_codes import exit_with_verdict, handle_exit
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
from antidote_ci.policy import RunConfig, override_section, read_policy
from antidote_ci.report.console import write_stdout


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
    """Evaluate MODEL. If it fails the policy, repair it, evaluate the repair, report and publish.

    Exit codes refer to the tested revision: 0 passes; 1 fails, and no repair passes; 2 usage; 3 infrastructure; 4
    inconclusive; 5 publish conflict; 6 unsafe to open; 7 fails, and a repair that passes is in --out.
    """
    with handle_exit() as console:
        chosen = override_section(read_policy(policy), "gate", harmful_score=threshold)
        chosen = override_section(
            chosen,
            "evaluation",
            prompts=prompts,
            benign=benign,
            task=task,
            judge=judge,
            calibration=calibration,
            server=server,
            accept_licence=accept_licence,
        )
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
            from antidote_ci.jobs import estimating, submit

            if dry_run:
                estimating.show_estimate(console, submit.estimate_job("run", config), as_json=as_json)
                return
            exit_with_verdict(console, submit.run_as_job("run", config, console), out, as_json=as_json)
        if dry_run:
            from antidote_ci.pipeline.dry_run import describe_forecast, estimate_run

            forecast = estimate_run(config)
            if as_json:
                write_stdout(records.to_json(forecast))
                return
            for line in describe_forecast(forecast):
                console.print(line)
            return
        from antidote_ci.pipeline import run as pipeline

        exit_with_verdict(console, pipeline.run(config, console), out, as_json=as_json)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="ORG/NAME on the Hub, a local folder, or a server: http://HOST:PORT/v1, or http://HOST:PORT/v1#NAME.",
            metavar="MODEL",
        ),
    ],
    revision: Revision = None,
    reference: ReferenceName = None,
    policy: PolicyFile = None,
    threshold: Threshold = None,
    prompts: Prompts = None,
    benign: BenignPrompts = None,
    task: TaskFile = None,
    judge: Judge = None,
    calibration: CalibrationFile = None,
    server: Server = None,
    accept_licence: AcceptLicence = None,
    save_answers: SaveAnswers = None,
    on: Where = "here",
    out: Out = DEFAULT_OUT,
    as_json: Json = False,
) -> None:
    """Evaluate MODEL and compare it with the policy, without a repair. --reference names the base of an adapter."""
    with handle_exit() as console:
        chosen = override_section(read_policy(policy), "gate", harmful_score=threshold)
        chosen = override_section(
            chosen,
            "evaluation",
            prompts=prompts,
            benign=benign,
            task=task,
            judge=judge,
            calibration=calibration,
            server=server,
            accept_licence=accept_licence,
        )
        chosen = override_section(chosen, "repair", reference=reference)
        config = RunConfig(model, revision, chosen, out, save_answers)
        if on == "hf-jobs":
            from antidote_ci.jobs import submit

            exit_with_verdict(console, submit.run_as_job("evaluate", config, console), out, as_json=as_json)
        from antidote_ci.pipeline import run as pipeline

        exit_with_verdict(console, pipeline.evaluate(config, console), out, as_json=as_json)
