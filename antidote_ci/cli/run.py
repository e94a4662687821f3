"""The commands `run` and `evaluate`."""

from typing import Annotated

import typer

from antidote_ci import records
from antidote_ci.cli import options
from antidote_ci.cli.ending import exit_with_verdict, handle_exit
from antidote_ci.errors import ConfigurationError
from antidote_ci.policy import RunConfig, override_section, read_policy
from antidote_ci.report.console import write_stdout


def run(
    model: options.ModelArgument,
    revision: options.Revision = None,
    reference: options.ReferenceName = None,
    policy: options.PolicyFile = None,
    threshold: options.Threshold = None,
    prompts: options.Prompts = None,
    benign: options.BenignPrompts = None,
    realignment: options.Realignment = None,
    method: options.MethodName = None,
    frontier: options.Frontier = None,
    task: options.TaskFile = None,
    judge: options.Judge = None,
    calibration: options.CalibrationFile = None,
    server: options.Server = None,
    accept_licence: options.AcceptLicence = None,
    publish: options.Publish = None,
    publish_to: options.PublishTo = None,
    accept_repair: options.AcceptRepair = None,
    keep_failed: options.KeepFailed = None,
    save_answers: options.SaveAnswers = None,
    no_cache: options.NoCache = False,
    on: options.Where = "here",
    out: options.Out = options.DEFAULT_OUT,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Evaluate MODEL. If it fails the policy, repair it, evaluate the repair, report and publish.

    Exit codes refer to the tested revision: 0 passes, or with --accept-repair a repair passes; 1 fails, and no repair
    passes (--keep-failed leaves its weights in --out); 2 usage or configuration; 3 infrastructure; 4 inconclusive; 5
    publish conflict; 6 unsafe to open; 7 fails, and a repair passes: it is in --out, and published if --publish or the
    policy asks for it.
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
            reference=reference,
            realignment=realignment,
            frontier=frontier,
            accept=accept_repair,
            keep_failed=keep_failed,
        )
        chosen = override_section(chosen, "publish", mode=publish, to=publish_to)
        from antidote_ci.pipeline.resolve import parse_model_names

        config = parse_model_names(RunConfig(model, revision, chosen, out, save_answers, no_cache))
        if on == "hf-jobs":
            from antidote_ci.jobs import job_estimate, submit

            if chosen.repair.keep_failed:
                raise ConfigurationError(
                    "--keep-failed is not supported on HF Jobs",
                    cause="the weights are lost when the Job ends",
                    hint="add --no-keep-failed, or run --on here",
                )
            if dry_run:
                job_estimate.show_estimate(console, submit.estimate_job("run", config), as_json=as_json)
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
            help="ORG/NAME on the Hub, a local folder as a path (./FOLDER), or a server: http://HOST:PORT/v1[#NAME].",
            metavar="MODEL",
        ),
    ],
    revision: options.Revision = None,
    reference: options.ReferenceName = None,
    policy: options.PolicyFile = None,
    threshold: options.Threshold = None,
    prompts: options.Prompts = None,
    benign: options.BenignPrompts = None,
    task: options.TaskFile = None,
    judge: options.Judge = None,
    calibration: options.CalibrationFile = None,
    server: options.Server = None,
    accept_licence: options.AcceptLicence = None,
    save_answers: options.SaveAnswers = None,
    no_cache: options.NoCache = False,
    on: options.Where = "here",
    out: options.Out = options.DEFAULT_OUT,
    as_json: options.Json = False,
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
        from antidote_ci.pipeline.resolve import parse_model_names

        config = parse_model_names(RunConfig(model, revision, chosen, out, save_answers, no_cache))
        if on == "hf-jobs":
            from antidote_ci.jobs import submit

            exit_with_verdict(console, submit.run_as_job("evaluate", config, console), out, as_json=as_json)
        from antidote_ci.pipeline import run as pipeline

        exit_with_verdict(console, pipeline.evaluate(config, console), out, as_json=as_json)
