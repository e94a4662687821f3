"""`antidote-ci init`."""

from pathlib import Path
from typing import Annotated

import typer

from antidote_ci.cli.ending import handle_exit


def init(
    folder: Annotated[
        Path, typer.Argument(help="The root of your repository on GitHub.", metavar="FOLDER", show_default=False)
    ] = Path(),
    model: Annotated[
        str | None,
        typer.Option("--model", help="ORG/NAME: the workflow's model, unless a run names another."),
    ] = None,
) -> None:
    """Write a workflow and a commented antidote.toml into a repository. Never overwrites."""
    with handle_exit() as talk:
        from antidote_ci.cli import scaffold

        for path in scaffold.write_scaffold(folder, model):
            talk.print(f"wrote {path}")
        talk.print("next: the head of the workflow says which secrets it wants")
