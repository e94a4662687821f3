"""The command line: each command parses its options, calls one function and ends with an exit code.

Nothing heavy is imported before a command needs it, so that `--help` is instant.
"""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from antidote_ci import DOCUMENTATION, __version__
from antidote_ci.cli.checks import calibrate, doctor, verify
from antidote_ci.cli.compare import compare
from antidote_ci.cli.ending import VERBOSITY, handle_exit
from antidote_ci.cli.init import init
from antidote_ci.cli.repair import repair
from antidote_ci.cli.run import evaluate, run
from antidote_ci.cli.webhook import handle_event, list_, register, remove, serve, webhook_app
from antidote_ci.report.console import Verbosity, write_stdout
from antidote_ci.report.text import link_documents

HELP_NAMES = {"help_option_names": ["-h", "--help"]}
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show results and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also show requests and where errors were raised.")]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP_NAMES,
    epilog=f"-q and -v may also follow a command. Documentation: {DOCUMENTATION}",
)
judge_app = typer.Typer(help="Calibrate a judge.", no_args_is_help=True)


@app.callback(invoke_without_command=True)
def main(
    quiet: Quiet = False,
    verbose: Verbose = False,
    version: Annotated[bool, typer.Option("--version", "-V", help="Show the version.")] = False,
) -> None:
    """Measure how often a fine-tuned model complies with harmful prompts, and repair its weights."""
    VERBOSITY.set("verbose" if verbose else "quiet" if quiet else "normal")
    if version:
        with handle_exit():
            write_stdout(f"antidote-ci {__version__}\n")
        raise typer.Exit


class Command(TyperCommand):
    """A command that also accepts -q and -v, which `antidote-ci --help` shows."""

    def __init__(self, *arguments: Any, params: list[Any], **settings: Any) -> None:  # noqa: ANN401 - of TyperCommand
        general = typer.Typer()
        general.command()(set_general_options)
        hidden = [param for param in typer.main.get_command(general).params if param.name in ("quiet", "verbose")]
        super().__init__(*arguments, params=[*params, *hidden], **settings)


def _hidden_flag(name: str, letter: str, verbosity: Verbosity) -> Any:  # noqa: ANN401 - of typer.Option
    def set_verbosity(is_set: bool) -> None:
        if is_set:
            VERBOSITY.set(verbosity)

    return typer.Option(name, letter, hidden=True, expose_value=False, callback=set_verbosity)


def set_general_options(
    quiet: Annotated[bool, _hidden_flag("--quiet", "-q", "quiet")] = False,
    verbose: Annotated[bool, _hidden_flag("--verbose", "-v", "verbose")] = False,
) -> None:
    """Declare the options; their callbacks set them."""


def add_command(group: typer.Typer, command: Callable[..., None], name: str | None = None) -> None:
    """Add a command whose help is its docstring, with addresses of the documents that it names."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    text = link_documents("\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs))
    group.command(name, cls=Command, help=text, context_settings=HELP_NAMES)(command)


for command in (run, repair, evaluate, compare, verify):
    add_command(app, command)
app.add_typer(judge_app, name="judge")
add_command(judge_app, calibrate)
add_command(app, init)
add_command(app, doctor)
add_command(webhook_app, register)
add_command(webhook_app, list_, "list")
add_command(webhook_app, remove)
app.add_typer(webhook_app, name="webhook")
add_command(app, handle_event)
add_command(app, serve)
