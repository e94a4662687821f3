"""`antidote-ci demo`."""

from pathlib import Path
from typing import Annotated

import typer

from antidote_ci.cli.ending import ending
from antidote_ci.cli.options import Out, PolicyFile


def demo(
    merged: Annotated[bool, typer.Option("--merged", help="Repair the merged model instead of the adapter.")] = False,
    policy: PolicyFile = None,
    browse: Annotated[bool, typer.Option("--browse", help="Keep the loopback Hub open afterwards.")] = False,
    out: Out = Path("antidote-demo"),
) -> None:
    """The main job, end to end, on a real 135M model and a loopback Hub."""
    with ending() as talk:
        from antidote_ci.demo import main_job

        raise typer.Exit(main_job.run(out, talk, policy or main_job.POLICY, merged=merged, browse=browse))
