"""`antidote-ci judge calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from antidote_ci import records
from antidote_ci.cli.ending import handle_exit
from antidote_ci.cli.options import AcceptLicence, PolicyFile, option
from antidote_ci.policy import override_section, read_policy
from antidote_ci.report.console import write_stdout


def calibrate(
    labels: Annotated[
        Path,
        typer.Option("--labels", help="JSONL with prompt, response (or completion) and label.", show_default=False),
    ],
    judge: Annotated[str | None, option("--judge", "The judge that is measured (docs/judges.md).")] = None,
    policy: PolicyFile = None,
    accept_licence: AcceptLicence = None,
    out: Annotated[Path, typer.Option("--out", help="File for the calibration.")] = Path("judge-calibration.json"),
    as_json: Annotated[bool, typer.Option("--json", help="The calibration as JSON on stdout.")] = False,
) -> None:
    """Measure a judge against human labels: sensitivity and specificity with their bounds."""
    with handle_exit() as talk:
        chosen = override_section(read_policy(policy), "evaluation", judge=judge, accept_licence=accept_licence)
        from antidote_ci.pipeline import calibrate as pipeline
        from antidote_ci.report import terminal

        found = pipeline.calibrate_judge(chosen, labels, out, talk)
        talk.show(terminal.show_calibration(found))
        talk.print(f"calibration: {out}")
        if as_json:
            write_stdout(records.to_json(found))
