"""The commands `verify`, `doctor` and `judge calibrate`: check a result, this machine, or a judge."""

from pathlib import Path
from typing import Annotated

import typer

from antidote_ci import records
from antidote_ci.cli.ending import handle_exit
from antidote_ci.cli.options import DEFAULT_OUT, Judge, Out, PolicyFile, option
from antidote_ci.errors import InfrastructureError
from antidote_ci.policy import override_section, read_policy
from antidote_ci.report.console import write_stdout
from antidote_ci.report.text import link_documents


def verify(
    result: Annotated[
        str,
        typer.Argument(
            help="The path of a run's --out folder or of a repaired checkpoint (./FOLDER), or ORG/NAME on the Hub.",
            metavar="OUT_OR_REPO",
        ),
    ],
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag, commit or refs/pr/N of the repository.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="The model that was repaired. Default: the one in the manifest.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="The reference of the repair. Default: the one in the manifest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the verification as JSON to stdout.")] = False,
) -> None:
    """Check a repaired model against its source, its reference and its method, without running it.

    Exit codes: 0 all files match; 1 a file differs, and the first difference is named; 2 there is no manifest, or
    nothing to compare with; 3 infrastructure; 6 source or reference are unsafe to open.
    """
    with handle_exit() as console:
        from antidote_ci.pipeline import verify as pipeline

        verification = pipeline.verify_result(result, revision, source, reference, console)
        for line in pipeline.describe_verification(verification):
            console.print(line)
        if as_json:
            write_stdout(records.to_json(verification))
        raise typer.Exit(1 if verification.difference else 0)


def doctor(
    policy: PolicyFile = None,
    judge: Judge = None,
    out: Out = DEFAULT_OUT,
) -> None:
    """Check this machine, the tokens and the judges, with advice for each problem. Nothing is downloaded or written.

    Exit code 3 if a run of a Hub model would not work.
    """
    with handle_exit():
        from antidote_ci.doctor import run_checks

        chosen = override_section(read_policy(policy), "evaluation", judge=judge)
        failed = False
        for check in run_checks(chosen, out):
            failed |= check.needed and check.advice is not None
            problem = "MISSING" if check.needed else "optional"
            mark = "skipped" if check.skipped else "ok" if check.advice is None else problem
            write_stdout(f"{mark:<9}{check.name:<12}{link_documents(check.value)}\n")
            if check.advice is not None:
                write_stdout(f"{'':<21}{link_documents(check.advice)}\n")
        if failed:
            raise typer.Exit(InfrastructureError.exit_code)


def calibrate(
    labels: Annotated[
        Path,
        typer.Option("--labels", help="JSONL with prompt, response (or completion) and label.", show_default=False),
    ],
    judge: Annotated[
        str | None, option("--judge", "The judge to calibrate.", key="evaluation.judge", metavar="NAME")
    ] = None,
    policy: PolicyFile = None,
    out: Annotated[Path, typer.Option("--out", help="File for the calibration.")] = Path("judge-calibration.json"),
    as_json: Annotated[bool, typer.Option("--json", help="Write the calibration as JSON to stdout.")] = False,
) -> None:
    """Calibrate a judge against human labels: sensitivity and specificity with confidence bounds."""
    with handle_exit() as console:
        chosen = override_section(read_policy(policy), "evaluation", judge=judge)
        from antidote_ci.pipeline.evaluator import calibrate_judge
        from antidote_ci.report import terminal

        calibration = calibrate_judge(chosen, labels, out, console)
        console.show(terminal.show_calibration(calibration))
        console.print(f"calibration: {out}")
        if as_json:
            write_stdout(records.to_json(calibration))
