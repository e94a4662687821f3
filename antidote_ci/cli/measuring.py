"""What `run` and `evaluate` share: the policy that their options make, and how they end."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import typer

from antidote_ci import records
from antidote_ci.policy import Policy, override, read_policy
from antidote_ci.report.console import Talk, data


@dataclass(frozen=True)
class Named:
    """What `run` and `evaluate` measure with, by the names of the policy's keys."""

    prompts: str | None
    benign: str | None
    task: str | None
    judge: str | None
    calibration: str | None
    server: str | None
    accept_licence: bool | None


def measured_by(path: Path | None, threshold: float | None, named: Named) -> Policy:
    """The policy file with these options put into it."""
    policy = override(read_policy(path), "gate", harmful_score=threshold)
    return override(policy, "evaluation", **dataclasses.asdict(named))


def finish(talk: Talk, report: records.Report, out: Path, *, as_json: bool) -> NoReturn:
    """Say what was found, and end with the exit code that it means."""
    from antidote_ci.pipeline.output import MODEL
    from antidote_ci.report import statements, terminal

    talk.show(terminal.comparison(report))
    talk.say(statements.verdict(report))
    if report.attempts and report.verdict == "fail":
        talk.say(report.reason)
    for line in report.publish.notes:
        talk.say(line)
    if report.publish.url:
        talk.say(f"published: {report.publish.url}")
    weights = out / MODEL
    if report.verdict == "repaired" and weights.is_dir():
        talk.say(f"weights: {weights}, which antidote-ci verify {out} checks without running them")
    talk.say(f"report: {out / 'report.html'}")
    if report.verdict == "repaired" and report.exit_code:
        talk.say(f"exit {report.exit_code}: the repair waits; {_further(report)}")
    if as_json:
        data(records.dump(report))
    raise typer.Exit(report.exit_code)


def _further(report: records.Report) -> str:
    """What to add to the same command."""
    accept = "--accept-repair ends with 0"
    if report.source.revision is None or report.publish.url:
        return f"{accept}."
    return f"--publish pull-request offers it on the Hub, and {accept}."
