"""The command `python -m demo`, which `make demo` runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from antidote_ci import environment
from antidote_ci.cli.ending import exit_code, handle_exit
from antidote_ci.cli.options import Out, PolicyFile

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def demo(
    merged: Annotated[bool, typer.Option("--merged", help="Repair the merged model instead of the adapter.")] = False,
    policy: PolicyFile = None,
    browse: Annotated[bool, typer.Option("--browse", help="Keep the loopback Hub running afterwards.")] = False,
    out: Out = Path("antidote-demo"),
) -> None:
    """Run the main job end to end on a real 135M model and a loopback Hub."""
    with handle_exit() as console:
        from demo import main_job

        raise typer.Exit(main_job.run_demo(out, console, policy or main_job.POLICY, merged=merged, browse=browse))


if __name__ == "__main__":
    environment.protect()
    sys.exit(exit_code(lambda: app(prog_name="python -m demo", standalone_mode=False), "python -m demo"))
