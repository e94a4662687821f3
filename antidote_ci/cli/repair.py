"""The command `repair`."""

from pathlib import Path
from typing import Annotated

import typer

from antidote_ci import records
from antidote_ci.cli import options
from antidote_ci.cli.ending import handle_exit
from antidote_ci.policy import RunConfig, override_section, read_policy
from antidote_ci.records import Method
from antidote_ci.repair.methods import score_method
from antidote_ci.report.console import write_stdout


def repair(
    model: options.ModelArgument,
    method: Annotated[
        Method, options.option("--method", "How to select the weights to prune (docs/repair-command.md).")
    ],
    dose: Annotated[float, options.option("--dose", "Share of each row or tensor to prune, 0 to 1.")],
    revision: options.Revision = None,
    reference: options.ReferenceName = None,
    policy: options.PolicyFile = None,
    realignment: options.Realignment = None,
    benign: Annotated[
        str | None,
        options.option(
            "--benign", "Harmless prompts for `taylor` to preserve: names of prompt sets, a JSONL file, or `embedded`."
        ),
    ] = None,
    task: options.TaskFile = None,
    accept_licence: options.AcceptLicence = None,
    out: Annotated[Path, options.option("--out", "Folder for weights, scores and plan.")] = options.DEFAULT_REPAIR_OUT,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Download the weights, show the plan and exit.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write the manifest, or with --dry-run the plan, as JSON to stdout.")
    ] = False,
) -> None:
    """Repair MODEL with one method at one dose. No dose is searched and nothing is evaluated.

    Exit code 0: the repaired weights are in --out. The same command resumes an interrupted repair.
    """
    with handle_exit("the same command resumes the repair") as console:
        chosen = override_section(
            read_policy(policy), "evaluation", benign=benign, task=task, accept_licence=accept_licence
        )
        chosen = override_section(
            chosen,
            "repair",
            method=score_method(method) or "antidote",
            reference=reference,
            realignment=realignment,
        )
        from antidote_ci.pipeline import repair as pipeline
        from antidote_ci.pipeline.resolve import parse_model_names
        from antidote_ci.report import terminal

        config = pipeline.RepairConfig(parse_model_names(RunConfig(model, revision, chosen, out)), method, dose)
        if dry_run:
            plan = pipeline.plan_repair_command(config, console)
            console.show(terminal.show_plan(plan))
            if as_json:
                write_stdout(records.to_json(plan))
            return
        manifest = pipeline.run_repair(config, console)
        console.print(f"{sum(manifest.changed.values()):,} weights were changed; the model was not evaluated")
        console.print(f"weights: {out / 'model'}")
        if as_json:
            write_stdout(records.to_json(manifest))
