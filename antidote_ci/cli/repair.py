"""`antidote-ci repair`."""

from pathlib import Path
from typing import Annotated

import typer

from antidote_ci import records
from antidote_ci.cli.ending import handle_exit
from antidote_ci.cli.options import (
    DEFAULT_REPAIR_OUT,
    AcceptLicence,
    ModelArgument,
    PolicyFile,
    Realignment,
    ReferenceName,
    Revision,
    TaskFile,
    option,
)
from antidote_ci.policy import RunConfig, override_section, read_policy
from antidote_ci.records import Method
from antidote_ci.repair.methods import score_method
from antidote_ci.report.console import write_stdout


def repair(
    model: ModelArgument,
    method: Annotated[Method, option("--method", "How entries are chosen (docs/repair-command.md).")],
    dose: Annotated[float, option("--dose", "How much goes: a share of each row or tensor, from 0 to 1.")],
    revision: Revision = None,
    reference: ReferenceName = None,
    policy: PolicyFile = None,
    realignment: Realignment = None,
    benign: Annotated[
        str | None,
        option("--benign", "Harmless prompts that `taylor` must keep answering: names of sets, a file, or `embedded`."),
    ] = None,
    task: TaskFile = None,
    accept_licence: AcceptLicence = None,
    out: Annotated[Path, option("--out", "Folder for weights, scores and plan.")] = DEFAULT_REPAIR_OUT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Pull the weights, show the plan, write nothing, and stop.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The manifest, or with --dry-run the plan, as JSON on stdout.")
    ] = False,
) -> None:
    """Repair MODEL by one method at one dose: no search, and nothing is measured.

    Exit code 0: the repaired weights are in --out. Killed anywhere, the same command goes on where it stopped.
    """
    with handle_exit(left="the same command goes on from here") as talk:
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
        from antidote_ci.report import terminal

        config = pipeline.RepairConfig(RunConfig(model, revision, chosen, out), method, dose)
        if dry_run:
            plan = pipeline.plan_repair_command(config, talk)
            talk.show(terminal.show_plan(plan))
            if as_json:
                write_stdout(records.to_json(plan))
            return
        manifest = pipeline.run_repair(config, talk)
        talk.print(f"{sum(manifest.changed.values()):,} entries are changed; nothing was measured")
        talk.print(f"weights: {out / 'model'}")
        if as_json:
            write_stdout(records.to_json(manifest))
