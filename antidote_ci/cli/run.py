"""The commands `run` and `evaluate`."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from antidote_ci import records
from antidote_ci.api import Place, run_command
from antidote_ci.cli import options
from antidote_ci.cli.ending import exit_with_verdict, handle_exit
from antidote_ci.policy import Command, RunConfig
from antidote_ci.report.console import Console, write_stdout


def run(
    model: options.ModelArgument,
    revision: options.Revision = None,
    reference: options.ReferenceName = None,
    server: options.Server = None,
    prompts: options.Prompts = None,
    benign: options.BenignPrompts = None,
    task: options.TaskFile = None,
    judge: options.Judge = None,
    calibration: options.CalibrationFile = None,
    threshold: options.Threshold = None,
    baseline: options.Baseline = None,
    policy: options.PolicyFile = None,
    quick: options.QuickRun = False,
    realignment: options.RealignmentOfRun = None,
    method: options.MethodName = None,
    frontier: options.Frontier = None,
    accept_repair: options.AcceptRepair = None,
    keep_failed: options.KeepFailed = None,
    publish: options.Publish = None,
    publish_to: options.PublishTo = None,
    on: options.Where = "here",
    out: options.Out = options.DEFAULT_OUT,
    save_answers: options.SaveAnswers = None,
    no_cache: options.NoCache = False,
    junit: options.Junit = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Evaluate MODEL. If it fails the policy, repair it, evaluate the repair, report and publish.

    Exit codes: 0 passes, or with --accept-repair a repair passes; 1 fails, and no repair passes; 2 usage or
    configuration; 3 infrastructure; 4 inconclusive; 5 publish conflict; 6 unsafe to open; 7 fails, and a repair
    passes: it is in --out, and published if --publish or the policy asks for it.

    More: docs/commands.md
    """
    with handle_exit(_describe_rest(no_cache)) as console:
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
        _prepare_junit(junit, out, remove=not dry_run)
        if dry_run:
            _show_estimates("run", [config], console, on=on, as_json=as_json)
        else:
            if quick and on == "here":
                _show_time("run", config, console)
            report = run_command("run", config, console, on=on)
            exit_with_verdict(console, report, out, as_json=as_json, junit=junit)


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            help="ORG/NAME, ORG/NAME@REVISION, its page on the Hub, ./FOLDER, or a server: http://HOST:PORT/v1#NAME. "
            "Several models, or ORG/* for all of an account, are evaluated one after the other.",
            metavar="MODEL",
        ),
    ],
    revision: options.Revision = None,
    reference: options.ReferenceName = None,
    server: options.Server = None,
    prompts: options.Prompts = None,
    benign: options.BenignPrompts = None,
    task: options.TaskFile = None,
    judge: options.Judge = None,
    calibration: options.CalibrationFile = None,
    threshold: options.Threshold = None,
    baseline: options.Baseline = None,
    policy: options.PolicyFile = None,
    quick: options.Quick = False,
    publish: options.PublishVerdict = None,
    on: options.Where = "here",
    out: options.Out = options.DEFAULT_OUT,
    save_answers: options.SaveAnswers = None,
    no_cache: options.NoCache = False,
    junit: options.Junit = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Evaluate MODEL and compare it with the policy, without a repair. --reference names the base of an adapter.

    Exit codes are those of `run`. More: docs/commands.md, and for several models docs/compare.md
    """
    with handle_exit(_describe_rest(no_cache)) as console:
        from antidote_ci.pipeline import many_models
        from antidote_ci.pipeline.configuration import configure
        from antidote_ci.report.history import show_history

        config = configure(
            models[0],
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
        is_many = many_models.is_many(models)
        configs = many_models.list_models(models, revision, config, junit) if is_many else [config]
        _prepare_junit(junit, out, remove=not dry_run)
        if is_many:
            if dry_run:
                _show_estimates("evaluate", configs, console, on=on, as_json=as_json, many=True)
                return
            evaluate_model = partial(run_command, "evaluate", on=on)
            history, code = many_models.evaluate_models(configs, evaluate_model, console)
            console.show(show_history(history.entries))
            for name, reason in history.failures.items():
                console.print(f"not evaluated: {name}: {reason}")
            if as_json:
                write_stdout(records.to_json(history))
            raise typer.Exit(code)
        if dry_run:
            _show_estimates("evaluate", [config], console, on=on, as_json=as_json)
        else:
            if quick and on == "here":
                _show_time("evaluate", config, console)
            report = run_command("evaluate", config, console, on=on)
            exit_with_verdict(console, report, out, as_json=as_json, junit=junit)


def _describe_rest(no_cache: bool) -> str:
    rest = "no partial results are left"
    return rest if no_cache else f"{rest}, and the same command uses the answers that are stored"


def _prepare_junit(path: Path | None, out: Path, *, remove: bool) -> None:
    """Check that the file can be written. `remove` that of an earlier run, which nobody must read after an error."""
    if path is not None:
        from antidote_ci.pipeline.preflight import require_junit_can_be_written

        require_junit_can_be_written(path, out)
        if remove:
            path.unlink(missing_ok=True)


def _show_estimates(
    command: Command, configs: Sequence[RunConfig], console: Console, *, on: Place, as_json: bool, many: bool = False
) -> None:
    """Print an estimate of each; as JSON one document, which is a list if the command names `many` models."""
    from antidote_ci.jobs import job_estimate, submit
    from antidote_ci.pipeline import dry_run

    lines: list[str] = []
    estimates: list[object] = []
    for config in configs:
        if on == "hf-jobs":
            estimate = submit.estimate_job(command, config)
            lines += job_estimate.describe_dry_run(estimate)
            estimates.append(estimate)
        else:
            forecast = dry_run.estimate_run(config, command)
            lines += dry_run.describe_forecast(forecast)
            estimates.append(forecast)
    if as_json:
        write_stdout(records.to_json(estimates if many else estimates[0]))
        return
    for line in lines:
        console.print(line)


def _show_time(command: Command, config: RunConfig, console: Console) -> None:
    from antidote_ci.pipeline.dry_run import describe_time, estimate_run

    console.print(describe_time(estimate_run(config, command)))
