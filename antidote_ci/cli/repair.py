"""The command `repair`."""

from pathlib import Path
from typing import Annotated

import typer

from antidote_ci import records
from antidote_ci.cli import options
from antidote_ci.cli.ending import handle_exit
from antidote_ci.records import Method
from antidote_ci.repair.methods import score_method
from antidote_ci.report.console import write_stdout


def repair(
    model: options.ModelArgument,
    method: Annotated[Method, options.option("--method", "How to select the weights to prune.", options.REPAIR)],
    dose: Annotated[float, options.option("--dose", "Share of each row or tensor, 0 to 1.", options.REPAIR)],
    revision: options.Revision = None,
    reference: options.ReferenceName = None,
    policy: options.PolicyFile = None,
    realignment: options.Realignment = None,
    benign: Annotated[
        str | None,
        options.option(
            "--benign",
            "Harmless prompts for `taylor` to preserve, in the form of --prompts of `run`.",
            options.PROMPTS,
            key="evaluation.benign",
            metavar="NAMES",
        ),
    ] = None,
    task: options.TaskFile = None,
    out: Annotated[
        Path, options.option("--out", "Folder for weights, scores and plan.", options.WHERE, metavar="FOLDER")
    ] = options.DEFAULT_REPAIR_OUT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Pull the weights, show the plan and exit.", rich_help_panel=options.WHERE)
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Write the manifest, or the plan, as JSON to stdout.", rich_help_panel=options.WHERE
        ),
    ] = False,
) -> None:
    """Repair MODEL with one method at one dose. No dose is searched and nothing is evaluated.

    Exit code 0: the repaired weights are in --out. The same command resumes an interrupted repair.

    More: docs/repair-command.md
    """
    with handle_exit("the same command resumes the repair") as console:
        from antidote_ci.pipeline import repair as pipeline
        from antidote_ci.pipeline.configuration import configure
        from antidote_ci.report import terminal

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
        repair_config = pipeline.RepairConfig(config, method, dose)
        if dry_run:
            plan = pipeline.plan_repair_command(repair_config, console)
            console.show(terminal.show_plan(plan))
            if as_json:
                write_stdout(records.to_json(plan))
            return
        manifest = pipeline.run_repair(repair_config, console)
        console.print(f"{sum(manifest.changed.values()):,} weights were changed; the model was not evaluated")
        console.print(f"weights: {out / 'model'}")
        if as_json:
            write_stdout(records.to_json(manifest))
