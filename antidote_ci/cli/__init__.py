"""The command line: each command parses its options, calls one function and ends with an exit code.

Nothing heavy is imported before a command needs it, so that `--help` is instant.
"""

from typing import Annotated

import typer

from antidote_ci import __version__
from antidote_ci.cli.checks import calibrate, doctor, verify
from antidote_ci.cli.ending import handle_exit
from antidote_ci.cli.handle_event import handle_event
from antidote_ci.cli.init import init
from antidote_ci.cli.repair import repair
from antidote_ci.cli.run import evaluate, run
from antidote_ci.cli.serve import serve
from antidote_ci.cli.webhook import webhook_app
from antidote_ci.report.console import write_stdout

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
judge_app = typer.Typer(help="Calibrate a judge.", no_args_is_help=True)


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Measure how often a fine-tuned model complies with harmful prompts, and repair its weights."""
    if version:
        with handle_exit():
            write_stdout(f"antidote-ci {__version__}\n")
        raise typer.Exit


for command in (run, repair, evaluate, verify):
    app.command()(command)
app.add_typer(judge_app, name="judge")
judge_app.command()(calibrate)
app.command()(init)
app.command()(doctor)
app.add_typer(webhook_app, name="webhook")
app.command()(handle_event)
app.command()(serve)
