"""What `run` and `evaluate` share: the policy that their options make, and how they end."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import typer

from antidote_ci import records
from antidote_ci.policy import Policy, override_section, read_policy
from antidote_ci.report.console import Console, write_stdout


@dataclass(frozen=True)
class EvaluationOptions:
    """What `run` and `evaluate` measure with, by the names of the policy's keys."""

    prompts: str | None
    benign: str | None
    task: str | None
    judge: str | None
    calibration: str | None
    server: str | None
    accept_licence: bool | None


def build_policy(path: Path | None, threshold: float | None, named: EvaluationOptions) -> Policy:
    """The policy file with these options put into it."""
    policy = override_section(read_policy(path), "gate", harmful_score=threshold)
    return override_section(policy, "evaluation", **dataclasses.asdict(named))


def exit_with_verdict(console: Console, report: records.Report, out: Path, *, as_json: bool) -> NoReturn:
    """Say what was found, and end with the exit code that it means."""
    from antidote_ci.pipeline.output import MODEL_FOLDER
    from antidote_ci.report import statements, terminal

    console.show(terminal.show_comparison(report))
    console.print(statements.describe_verdict(report))
    if report.attempts and report.verdict == "fail":
        console.print(report.reason)
    for line in report.publish.notes:
        console.print(line)
    if report.publish.url:
        console.print(f"published: {report.publish.url}")
    weights = out / MODEL_FOLDER
    if report.verdict == "repaired" and weights.is_dir():
        console.print(f"weights: {weights}, which antidote-ci verify {out} checks without running them")
    console.print(f"report: {out / 'report.html'}")
    if report.verdict == "repaired" and report.exit_code:
        console.print(f"exit {report.exit_code}: the repair waits; {_next_command_hint(report)}")
    if as_json:
        write_stdout(records.to_json(report))
    raise typer.Exit(report.exit_code)


def _next_command_hint(report: records.Report) -> str:
    """What to add to the same command."""
    accept = "--accept-repair ends with 0"
    if report.source.revision is None or report.publish.url:
        return f"{accept}."
    return f"--publish pull-request offers it on the Hub, and {accept}."
