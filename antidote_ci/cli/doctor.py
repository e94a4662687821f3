"""`antidote-ci doctor`."""

import typer

from antidote_ci.cli.ending import ending
from antidote_ci.cli.options import DEFAULT_OUT, AcceptLicence, Judge, Out, PolicyFile
from antidote_ci.errors import InfrastructureError
from antidote_ci.policy import override, read_policy
from antidote_ci.report.console import data


def doctor(
    policy: PolicyFile = None,
    judge: Judge = None,
    accept_licence: AcceptLicence = None,
    out: Out = DEFAULT_OUT,
) -> None:
    """Say what this machine can do, and what to do about what it lacks. Nothing is downloaded or written.

    Exit code 3 where a run of a model of the Hub would not work.
    """
    with ending():
        from antidote_ci import doctor as examination

        chosen = override(read_policy(policy), "evaluation", judge=judge, accept_licence=accept_licence)
        stopped = False
        for each in examination.examine(chosen, out):
            stopped |= each.needed and each.advice is not None
            mark = "ok" if each.advice is None else "LACKS" if each.needed else "without"
            data(f"{mark:<9}{each.what:<12}{each.found}\n")
            if each.advice is not None:
                data(f"{'':<21}{each.advice}\n")
        if stopped:
            raise typer.Exit(InfrastructureError.exit_code)
