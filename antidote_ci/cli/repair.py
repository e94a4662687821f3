"""`antidote-ci repair`."""

from pathlib import Path
from typing import Annotated

import typer

from antidote_ci import records
from antidote_ci.cli.ending import ending
from antidote_ci.cli.options import (
    DEFAULT_REPAIR_OUT,
    AcceptLicence,
    ModelArgument,
    PolicyFile,
    Realignment,
    ReferenceName,
    Revision,
    TargetName,
    TaskFile,
    option,
)
from antidote_ci.policy import RunConfig, override, read_policy
from antidote_ci.records import Method
from antidote_ci.repair.methods import score_of
from antidote_ci.report.console import data


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
    target: TargetName = None,
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
    with ending(left="the same command goes on from here") as talk:
        chosen = override(read_policy(policy), "evaluation", benign=benign, task=task, accept_licence=accept_licence)
        chosen = override(
            chosen,
            "repair",
            method=score_of(method) or "antidote",
            target=target,
            reference=reference,
            realignment=realignment,
        )
        from antidote_ci.pipeline import repair as pipeline
        from antidote_ci.report import terminal

        config = pipeline.RepairConfig(RunConfig(model, revision, chosen, out), method, dose)
        if dry_run:
            plan = pipeline.plan(config, talk)
            talk.show(terminal.plan(plan))
            if as_json:
                data(records.dump(plan))
            return
        manifest = pipeline.repair(config, talk)
        talk.say(f"{sum(manifest.changed.values()):,} entries are changed; nothing was measured")
        talk.say(f"weights: {out / 'model'}")
        if as_json:
            data(records.dump(manifest))
