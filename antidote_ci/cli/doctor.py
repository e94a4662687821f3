"""`antidote-ci doctor`."""

import typer

from antidote_ci.cli.ending import handle_exit
from antidote_ci.cli.options import DEFAULT_OUT, AcceptLicence, Judge, Out, PolicyFile
from antidote_ci.errors import InfrastructureError
from antidote_ci.policy import override_section, read_policy
from antidote_ci.report.console import write_stdout


def doctor(
    policy: PolicyFile = None,
    judge: Judge = None,
    accept_licence: AcceptLicence = None,
    out: Out = DEFAULT_OUT,
) -> None:
    """Say what this machine can do, and what to do about what it lacks. Nothing is downloaded or written.

    Exit code 3 where a run of a model of the Hub would not work.
    """
    with handle_exit():
        from antidote_ci import doctor as examination

        chosen = override_section(read_policy(policy), "evaluation", judge=judge, accept_licence=accept_licence)
        stopped = False
        for each in examination.run_checks(chosen, out):
            stopped |= each.needed and each.advice is not None
            mark = "ok" if each.advice is None else "LACKS" if each.needed else "without"
            write_stdout(f"{mark:<9}{each.name:<12}{each.value}\n")
            if each.advice is not None:
                write_stdout(f"{'':<21}{each.advice}\n")
        if stopped:
            raise typer.Exit(InfrastructureError.exit_code)
